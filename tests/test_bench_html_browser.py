"""The HTML report in a real browser: curves, tables, pictures, phone, dark mode, attacks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from browser import PHONE, TWO_FRAMES, chromium, opened
from caezip_bench.html_report import html_bytes
from reports import (
    ERRORS,
    METRICS,
    ORIGINAL,
    TITLES,
    sample_comparisons,
    sample_document,
    sample_published,
)
from test_bench_html import HOSTILE, hostile_document

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

MIDDLE_PIXEL = """
side => {
  const canvas = document.querySelector(`#${side}-layer canvas`);
  const context = canvas.getContext("2d");
  return [...context.getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data];
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything in it."""
    path = tmp_path_factory.mktemp("html") / "report.html"
    path.write_bytes(html_bytes(sample_document(), sample_comparisons(), sample_published()))
    return path


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Page]:
    with opened(browser, file) as page:
        yield page


def drawn(page: Page) -> list[str]:
    """The names of the curves that are drawn, sorted."""
    names = page.locator(".curve").evaluate_all("curves => curves.map(c => c.dataset.series)")
    return sorted(names)


def points(page: Page, codec: str) -> str:
    found = page.locator(f'.curve[data-series="{codec}"] polyline').get_attribute("points")
    assert found is not None
    return found


def await_pixel(page: Page, side: str, value: int) -> None:
    """Wait until this is the gray value in the middle of a side's canvas."""
    # not wait_for_function, whose polling is an eval that the page's policy forbids
    for _ in range(100):
        if page.evaluate(MIDDLE_PIXEL, side)[0] == value:
            break
        page.wait_for_timeout(50)
    assert page.evaluate(MIDDLE_PIXEL, side) == [value, value, value, 255]


def box_of(found: Locator) -> tuple[float, float, float, float]:
    """Left, top, width and height in the viewport."""
    box = found.bounding_box()
    assert box is not None
    return box["x"], box["y"], box["width"], box["height"]


def divider_percent(page: Page) -> int:
    return int(page.locator("#divider").get_attribute("aria-valuenow") or -1)


def test_each_metric_has_its_curves(page: Page) -> None:
    codecs = ["caezip", "caezip-ssim", "jpeg420", "webp"]
    seen = set()
    for metric, title in zip(METRICS, TITLES, strict=True):
        page.check(f"#metrics input[value={metric}]")
        published = ["VTM"] if metric == "psnr_db" else []
        assert drawn(page) == sorted(codecs + published)
        assert title in (page.locator(".axes").text_content() or "")
        labels = page.locator(".axes text").all_text_contents()
        seen.add((points(page, "caezip"), tuple(labels)))
    assert len(seen) == len(METRICS)


def test_the_legend_takes_curves_away_and_brings_them_back(page: Page) -> None:
    chip = page.locator("#legend button", has_text="webp")
    chip.click()
    assert chip.get_attribute("aria-pressed") == "false"
    assert "webp" not in drawn(page)
    page.keyboard.press("Enter")  # the chip keeps the focus
    assert "webp" in drawn(page)
    page.locator("#legend button", has_text="1 more").click()
    page.locator("#legend button", has_text="somebody's").click()
    assert "somebody's" in drawn(page)


def test_published_curves_are_dashed_and_marked(page: Page) -> None:
    lines = page.locator(".curve.published polyline")
    assert lines.count() == 1
    assert lines.get_attribute("stroke-dasharray")
    assert (
        page.locator('.curve[data-series="webp"] polyline').get_attribute("stroke-dasharray")
        is None
    )
    assert "published, not run here" in page.locator("#legend").inner_text()


def test_the_pointer_finds_points(page: Page) -> None:
    tooltip = page.locator(".tooltip")
    assert tooltip.is_hidden()
    left, top, width, height = box_of(page.locator('.curve[data-series="webp"] path').nth(2))
    page.mouse.move(left + width / 2, top + height / 2)
    text = tooltip.inner_text()
    assert re.search(r"webp\s+quality 60\s+0\.280 bpp\s+PSNR 34\.00 dB", text)
    page.mouse.move(5, 5)
    assert tooltip.is_hidden()


def test_arrow_keys_go_from_point_to_point(page: Page) -> None:
    page.locator("#plot svg").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "quality 40" in page.locator(".tooltip").inner_text()
    page.keyboard.press("ArrowDown")
    assert "caezip-ssim" in page.locator(".tooltip").inner_text()
    page.keyboard.press("Escape")
    assert page.locator(".tooltip").is_hidden()


def test_a_narrower_window_draws_the_curves_anew(page: Page) -> None:
    before = points(page, "caezip")
    page.set_viewport_size({"width": 700, "height": 800})
    page.evaluate(TWO_FRAMES)
    assert points(page, "caezip") != before
    right = page.evaluate("document.querySelector('#plot').getBoundingClientRect().right")
    left, _, width, _ = box_of(page.locator('.curve[data-series="caezip"]'))
    assert left + width <= right


def test_tables_sort_by_number_and_by_name(page: Page) -> None:
    table = page.locator("table.sortable").first

    def codecs() -> list[str]:
        return table.locator("tbody th").all_inner_texts()

    before = codecs()
    table.get_by_role("button", name="encode, Mpx/s").click()
    assert codecs() == ["webp", "caezip", "caezip-ssim", "jpeg420", "png"]
    table.get_by_role("button", name="encode, Mpx/s").click()
    assert codecs() == ["jpeg420", "caezip", "caezip-ssim", "webp", "png"]  # png has none
    headers = table.locator("thead th")
    sorts = headers.evaluate_all("ths => ths.map(th => th.getAttribute('aria-sort'))")
    assert sorts.count("descending") == 1
    table.get_by_role("button", name="codec").click()
    assert codecs() == sorted(before)


def test_the_slider_moves_by_mouse_and_by_keyboard(page: Page) -> None:
    left, top, width, height = box_of(page.locator("#stage"))
    assert divider_percent(page) == 50
    page.mouse.move(left + width / 2, top + height / 2)
    page.mouse.down()
    page.mouse.move(left + width * 0.3, top + height / 2, steps=3)
    page.mouse.up()
    assert divider_percent(page) == 30
    page.mouse.move(left + width * 0.9, top + height / 2)  # the button is up
    assert divider_percent(page) == 30
    clip = page.locator("#right-layer").evaluate("layer => layer.style.clipPath")
    assert re.fullmatch(r"inset\(0(px)? 0(px)? 0(px)? (29|30)(\.\d+)?%\)", clip)
    for key, percent in (("ArrowRight", 32), ("PageUp", 42), ("Home", 0), ("End", 100)):
        page.keyboard.press(key)
        assert divider_percent(page) == percent


def test_either_side_shows_any_codec(page: Page) -> None:
    await_pixel(page, "left", ORIGINAL)
    await_pixel(page, "right", ORIGINAL + ERRORS["caezip"])
    page.select_option("#left", "jpeg420")
    await_pixel(page, "left", ORIGINAL + ERRORS["jpeg420"])
    caption = page.locator("#left-caption").inner_text()
    for fact in (
        "jpeg420",
        "0.505 bpp",
        "12.3 kB",
        "quality 33",
        "PSNR 30.13 dB",
        "SSIMULACRA 2 −12.25",
        "MS-SSIM 0.9877",
    ):
        assert fact in caption
    assert "n/a" not in caption  # SSIM was not measured
    page.select_option("#target", "0.15")
    await_pixel(page, "left", ORIGINAL)
    assert "jpeg420: its nearest is 0.300 bpp" in page.locator("#left-out").inner_text()
    page.select_option("#target", "0.5")
    await_pixel(page, "left", ORIGINAL + ERRORS["jpeg420"])  # as it was asked for
    page.select_option("#image", "three.png")
    assert "three.png" in (page.locator("#left-layer canvas").get_attribute("aria-label") or "")


def test_differences_are_eight_times_as_large(page: Page) -> None:
    await_pixel(page, "right", ORIGINAL + ERRORS["caezip"])
    page.check("#difference")
    await_pixel(page, "left", 0)
    await_pixel(page, "right", 8 * ERRORS["caezip"])
    page.select_option("#right", "jpeg420")
    await_pixel(page, "right", 255)
    page.uncheck("#difference")
    await_pixel(page, "right", ORIGINAL + ERRORS["jpeg420"])


def test_zoom_enlarges_pixels_and_a_drag_moves_the_picture(page: Page) -> None:
    await_pixel(page, "right", ORIGINAL + ERRORS["caezip"])
    canvas = page.locator("#right-layer canvas")
    widths = []
    for zoom in ("1", "2", "4"):
        page.check(f"#zoom input[value='{zoom}']")
        widths.append(box_of(canvas)[2])
    assert widths == [96, 192, 384]
    assert canvas.evaluate("c => getComputedStyle(c).imageRendering") == "pixelated"
    # a stage as small as a phone's, so that the picture is larger
    page.set_viewport_size({"width": 330, "height": 700})
    page.locator("#stage.pannable").wait_for()
    page.locator("#stage").scroll_into_view_if_needed()
    left, top, width, height = box_of(page.locator("#stage"))
    before = box_of(canvas)
    page.mouse.move(left + width * 0.8, top + height / 2)
    page.mouse.down()
    page.mouse.move(left + width * 0.8 - 20, top + height / 2)
    page.mouse.up()
    after = box_of(canvas)
    assert after[0] == pytest.approx(before[0] - 20, abs=1)
    assert divider_percent(page) == 50
    page.locator("#divider").focus()
    page.keyboard.press("Shift+ArrowLeft")
    assert box_of(canvas)[0] > after[0]
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    right_edge = box_of(canvas)[0] + box_of(canvas)[2]
    assert right_edge == pytest.approx(left + width, abs=1)  # and no further


def test_summary_curves_and_pictures_are_on_one_screen(page: Page) -> None:
    await_pixel(page, "right", ORIGINAL + ERRORS["caezip"])
    curves, stage = box_of(page.locator("#plot")), box_of(page.locator("#stage"))
    assert page.locator(".card").count() == 4
    assert curves[0] + curves[2] <= stage[0]
    assert stage[1] + stage[3] <= 800
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_a_phone_has_one_column_and_no_sideways_scrolling(browser: Browser, file: Path) -> None:
    with opened(browser, file, viewport=PHONE, has_touch=True, is_mobile=True) as page:
        await_pixel(page, "right", ORIGINAL + ERRORS["caezip"])
        for fold in page.locator("summary").all():
            fold.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        curves, slider = box_of(page.locator("#curves")), box_of(page.locator("#slider"))
        assert curves[1] + curves[3] <= slider[1]
        page.locator("#stage").scroll_into_view_if_needed()
        left, top, width, height = box_of(page.locator("#stage"))
        page.touchscreen.tap(left + width * 0.25, top + height / 2)
        assert divider_percent(page) == pytest.approx(25, abs=1)


def test_dark_mode_is_dark(browser: Browser, file: Path) -> None:
    def brightness(page: Page, what: str) -> float:
        colour = page.evaluate(f"getComputedStyle(document.body).{what}")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3

    with opened(browser, file, color_scheme="light") as page:
        assert brightness(page, "backgroundColor") > 200
        assert brightness(page, "color") < 60
    with opened(browser, file, color_scheme="dark") as page:
        assert brightness(page, "backgroundColor") < 60
        assert brightness(page, "color") > 200


@pytest.mark.parametrize("policy", [True, False])
def test_hostile_names_are_shown_and_do_not_run(
    browser: Browser, tmp_path: Path, policy: bool
) -> None:
    report = html_bytes(hostile_document(), sample_comparisons(), sample_published())
    if not policy:  # escaping has to do without it
        report, removed = re.subn(rb"<meta http-equiv=[^>]*>", b"", report)
        assert removed == 1
    file = tmp_path / "<report> & 'quotes'.html"
    file.write_bytes(report)
    with opened(browser, file) as page:
        assert page.evaluate("window.hacked") is None
        assert page.locator("img").count() == 0
        assert f"caezip{HOSTILE}".split("\u2028")[0] in page.locator("#legend").inner_text()


def test_without_pictures_there_is_no_slider(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_bytes(html_bytes(sample_document(), [], []))
    with opened(browser, file) as page:
        assert page.locator("#slider").is_hidden()
        assert drawn(page) == ["caezip", "caezip-ssim", "jpeg420", "webp"]
        assert box_of(page.locator("#plot"))[2] > 1000
