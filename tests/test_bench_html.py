"""The HTML report's text, without a browser: what it says, and that nothing in it is markup."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from caezip_bench.html_report import html_bytes
from reports import sample_comparisons, sample_document, sample_published

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='hacked()'>\"&amp;\u2028é☃"


class Page(HTMLParser):
    """Elements, and the texts in each of those that are asked about."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self._open = ""
        self.feed(page.decode("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open not in ("script", "style"):
            self.texts.append(data.strip())

    @property
    def text(self) -> str:
        return "\n".join(text for text in self.texts if text)


def data_of(page: bytes) -> dict[str, Any]:
    """What the page's script draws from."""
    found = re.search(rb'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def report(document: dict[str, Any]) -> str:
    return Page(html_bytes(document, [], [])).text


def test_the_cards_say_how_much_smaller_and_how_fast() -> None:
    text = report(sample_document())
    assert "Files at equal PSNR\n50.5% smaller" in text
    assert "than jpeg420; 95% interval −52.5 to −48.5%" in text
    assert "caezip-ssim\u00a0−40.2%, webp\u00a0−30.0%" in text
    assert "Encoding\n2.0 Mpx/s\n20× slower than jpeg420, 2.0× faster than webp" in text
    assert "Decoding\n4.0 Mpx/s" in text


@pytest.mark.parametrize(
    ("jobs", "label"), [(1, "one sample per call\n"), (3, "one sample per call on a busy machine")]
)
def test_speeds_say_what_they_are(jobs: int, label: str) -> None:
    assert label in report(sample_document() | {"jobs": jobs})


def test_larger_files_and_rates_that_do_not_exist_are_named_so() -> None:
    document = sample_document()
    document["bd_rates"][0] |= {
        "rate_percent": 12.0,
        "rate_low_percent": None,
        "rate_high_percent": None,
    }
    text = report(document)
    assert "12.0% larger\nthan jpeg420; too few images for an interval" in text
    nothing = {"rate_percent": None, "reason": "no common range", "low": None, "high": None}
    nothing |= {"rate_low_percent": None, "rate_high_percent": None, "quality_gain": None}
    document["bd_rates"][0] |= nothing | {"overlap_test": None, "overlap_anchor": None}
    text = report(document)
    assert "Files at equal PSNR\nn/a" in text
    assert "no common range" in text


def test_a_run_without_caezip_or_without_peers_has_a_report() -> None:
    document = sample_document()
    for key, name in (("codecs", "name"), ("measurements", "codec"), ("averages", "codec")):
        document[key] = [row for row in document[key] if not row[name].startswith("caezip")]
    document["bd_rates"] = []
    text = report(document)
    assert "caezip was not run" in text
    assert "jpeg420" in text


def test_a_run_of_which_nothing_is_left_has_a_report() -> None:
    empty: dict[str, Any] = {"measurements": [], "averages": [], "bd_rates": []}
    text = report(sample_document() | empty | {"compared_images": [], "images": []})
    assert "Encoding\nn/a" in text


def test_tables_have_every_codec_with_ranges_speeds_and_warnings() -> None:
    document = sample_document()
    document["bd_rates"][2] |= {"overlap_test": 0.5, "warnings": ["covers only half"]}
    text = report(document)
    assert "webp\n−30.0†\n−32.0 to −28.0" in text
    assert "anchor\nanchor\nanchor\nanchor\nanchor\n0.100 to 0.800\n40.00\n80.00" in text
    assert "lossless\nlossless\nlossless\nlossless\nlossless\n12.500\nn/a\nn/a" in text
    assert "28.00 to 37.00 dB\n50%\n95%\ncovers only half" in text


def test_notes_failures_and_versions_are_there() -> None:
    text = report(sample_document())
    for said in (
        "avif444: no library",
        "torn.png: cannot be read",
        "webp on two.png at quality 20: ValueError: no",
        "caezip 1.2.3",
        "bpp: bits of the whole file per pixel",
        "processor: a processor",
        "MS-SSIM: curves show -10 log10(1 - mean)",
    ):
        assert said in text
    assert "absent" not in text


def test_published_curves_keep_their_sources() -> None:
    page = html_bytes(sample_document(), [], sample_published())
    assert "somebody's: learned; a paper; averages: means over images" in Page(page).text
    kinds = {series["name"]: series["kind"] for series in data_of(page)["series"]}
    assert kinds["VTM"] == "published"
    assert kinds["caezip"] == "own"
    assert kinds["webp"] == "peer"
    assert "png" not in kinds


def test_each_picture_is_in_the_file_once() -> None:
    comparisons = sample_comparisons()
    pictures = {comparison.original for comparison in comparisons}
    pictures |= {coded.webp for comparison in comparisons for coded in comparison.coded}
    data = data_of(html_bytes(sample_document(), comparisons, []))
    assert len(data["pictures"]) == len(set(data["pictures"])) == len(pictures)
    assert len(data["comparisons"]) == len(comparisons)


def hostile(value: Any) -> Any:
    """The same with every text made an attack, but for what programs go by."""
    if isinstance(value, dict):
        kept = ("metric", "created_utc")
        return {k: v if k in kept else hostile(v) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return value + HOSTILE if isinstance(value, str) else value


def hostile_document() -> dict[str, Any]:
    document = sample_document()
    names = [metric["name"] for metric in document["metrics"]]
    changed: dict[str, Any] = hostile(document)
    for metric, name in zip(changed["metrics"], names, strict=True):
        metric["name"] = name
    return changed


def test_no_text_becomes_markup() -> None:
    plain = Page(html_bytes(sample_document(), sample_comparisons(), sample_published()))
    document = hostile_document()
    page = html_bytes(document, sample_comparisons(), sample_published())
    attacked = Page(page)
    assert attacked.tags == plain.tags
    names = [name for name, _ in attacked.attributes]
    assert names == [name for name, _ in plain.attributes]
    assert data_of(page)["series"][0]["name"] == f"caezip{HOSTILE}"
    assert f"ValueError: no{HOSTILE}" in attacked.text


def test_names_that_are_no_text_do_no_harm() -> None:
    document = copy.deepcopy(sample_document())
    document["skipped"][0]["image"] = "caf\udce9.png"  # as Python has undecodable bytes
    assert b"caf?.png" in html_bytes(document, [], [])


def test_the_policy_lets_the_page_load_nothing() -> None:
    page = Page(html_bytes(sample_document(), sample_comparisons(), []))
    policies = [value for _, value in page.attributes if value and "default-src" in value]
    assert len(policies) == 1
    assert "default-src 'none'" in policies[0]
    assert "unsafe" not in policies[0]
    links = [value for name, value in page.attributes if name in ("href", "src")]
    assert links == ["data:,"]
