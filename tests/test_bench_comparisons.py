"""The pictures of the HTML report: matched sizes, the very pixels, codecs that fail."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caezip.image_io import Pixels
from caezip_bench.comparisons import (
    MOST_CODECS,
    SHOWN_HEIGHT,
    SHOWN_WIDTH,
    Comparison,
    count_pictures,
    make_comparisons,
)
from caezip_bench.peers import Peer
from caezip_bench.runner import Measurement, RunResult
from images import photo_like

HEIGHT, WIDTH = 64, 96


class FakePeer(Peer):
    """Files of ``0.1 * 2**quality`` bpp, from which all but the four high bits come back."""

    suffix = ".fake"
    settings = "for tests"

    def __init__(self, name: str = "fake", qualities: Sequence[float] = (0.5, 1.5, 2.5, 3.5)):
        self.name = name
        self.qualities = tuple(qualities)
        self.coded: Pixels | None = None

    def bpp(self, quality: float) -> float:
        return 0.1 * math.pow(2, quality)

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        assert quality is not None
        self.coded = pixels
        height, width = pixels.shape[:2]
        return bytes(round(height * width * self.bpp(quality) / 8))

    def decode(self, data: bytes) -> Pixels:
        assert self.coded is not None
        pixels: Pixels = np.bitwise_and(self.coded, np.uint8(0xF0))
        return pixels


class BrokenPeer(FakePeer):
    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        raise RuntimeError("on\nfire")


class CroppingPeer(FakePeer):
    def decode(self, data: bytes) -> Pixels:
        return super().decode(data)[:-1]


class PickyPeer(FakePeer):
    """Knows its measured qualities only."""

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        if quality not in self.qualities:
            raise ValueError("no such quality")
        return super().encode(pixels, quality)


class LosslessPeer(FakePeer):
    lossless = True


def write_images(folder: Path, count: int, height: int = HEIGHT, width: int = WIDTH) -> list[Path]:
    files = [folder / f"{number}.png" for number in range(count)]
    for number, file in enumerate(files):
        Image.fromarray(photo_like(height, width, seed=number)).save(file)
    return files


def measured(files: Sequence[Path], peers: Sequence[FakePeer]) -> RunResult:
    """What a run would have found, with PSNR as the only metric that was asked for."""
    rows = [
        Measurement(
            image=file.name,
            width=WIDTH,
            height=HEIGHT,
            codec=peer.name,
            quality=quality,
            size_bytes=1,
            bpp=peer.bpp(quality),
            identical=False,
            psnr_db=30.0,
            encode_s=1.0,
            decode_s=1.0,
        )
        for file in files
        for peer in peers
        for quality in peer.qualities
        if quality is not None
    ]
    return RunResult(images=[file.name for file in files], measurements=rows)


def compared(
    folder: Path, peers: Sequence[FakePeer], targets_bpp: Sequence[float] = (0.4,)
) -> list[Comparison]:
    """Of one image."""
    files = write_images(folder, 1)
    result = measured(files, peers)
    return make_comparisons(files, peers, result, folder=folder, targets_bpp=targets_bpp)


def pixels_of(webp: bytes) -> Pixels:
    with Image.open(io.BytesIO(webp)) as image:
        return np.asarray(image.convert("RGB"))


def test_images_are_spread_over_the_run(tmp_path: Path) -> None:
    files = write_images(tmp_path, 7)
    peers = [FakePeer("one"), FakePeer("two"), LosslessPeer("png")]
    steps: list[int] = []
    comparisons = make_comparisons(
        files,
        peers,
        measured(files, peers),
        folder=tmp_path,
        images=3,
        targets_bpp=(0.2, 0.5),
        advance=steps.append,
    )
    assert [c.image for c in comparisons] == ["1.png", "1.png", "3.png", "3.png", "5.png", "5.png"]
    assert {c.target_bpp for c in comparisons} == {0.2, 0.5}
    assert all([p.codec for p in c.coded] == ["one", "two"] for c in comparisons)
    assert sum(steps) == count_pictures(peers, images=3, targets_bpp=(0.2, 0.5)) == 12


def test_qualities_between_the_measured_ones_reach_the_target(tmp_path: Path) -> None:
    for comparison in compared(tmp_path, [FakePeer()], (0.15, 0.3, 1.0)):
        assert comparison.coded[0].bpp == pytest.approx(comparison.target_bpp, rel=0.02)


def test_whole_qualities_stay_whole(tmp_path: Path) -> None:
    peer = FakePeer(qualities=(0.0, 2.0, 4.0))
    [comparison] = compared(tmp_path, [peer], (0.22,))
    assert comparison.coded[0].quality == 1
    assert comparison.coded[0].bpp == pytest.approx(0.2, rel=0.01)


def test_a_codec_without_the_quality_between_takes_a_measured_one(tmp_path: Path) -> None:
    [comparison] = compared(tmp_path, [PickyPeer()], (0.3,))
    assert comparison.coded[0].quality == 1.5


@pytest.mark.parametrize("target_bpp", [0.05, 3.0])
def test_sizes_that_a_codec_does_not_reach_are_left_out(tmp_path: Path, target_bpp: float) -> None:
    [comparison] = compared(tmp_path, [FakePeer()], (target_bpp,))
    assert comparison.coded == ()
    [reason] = comparison.left_out
    assert reason.startswith("fake: its nearest is ")


def test_an_end_of_the_range_near_the_target_is_taken(tmp_path: Path) -> None:
    [comparison] = compared(tmp_path, [FakePeer()], (0.12,))
    assert comparison.coded[0].quality == 0.5


def test_codecs_that_fail_are_left_out_and_the_others_stay(tmp_path: Path) -> None:
    peers = [BrokenPeer("broken"), CroppingPeer("cropping"), FakePeer("good")]
    [comparison] = compared(tmp_path, peers)
    assert [picture.codec for picture in comparison.coded] == ["good"]
    broken, cropping = comparison.left_out
    assert broken == "broken: failed, RuntimeError: on fire"
    assert cropping.startswith(
        "cropping: failed, ImageError: decoded image: found uint8 [63, 96, 3]"
    )


def test_a_codec_without_measurements_is_left_out(tmp_path: Path) -> None:
    files = write_images(tmp_path, 1)
    result = RunResult(images=["0.png"])
    comparisons = make_comparisons(files, [FakePeer()], result, folder=tmp_path)
    assert {c.left_out for c in comparisons} == {("fake: failed on this image",)}


def test_pictures_are_the_decoded_pixels_with_their_own_figures(tmp_path: Path) -> None:
    [comparison] = compared(tmp_path, [FakePeer()])
    original = photo_like(HEIGHT, WIDTH, seed=0)
    [picture] = comparison.coded
    assert np.array_equal(pixels_of(comparison.original), original)
    assert np.array_equal(pixels_of(picture.webp), (original & 0xF0))
    assert picture.size_bytes == round(picture.bpp * HEIGHT * WIDTH / 8)
    mse = np.mean((original.astype(float) - (original & 0xF0)) ** 2)
    assert picture.metrics == {"psnr_db": pytest.approx(10 * np.log10(255**2 / mse))}


def test_large_pictures_show_their_middle(tmp_path: Path) -> None:
    height, width = SHOWN_HEIGHT + 20, SHOWN_WIDTH + 11
    files = write_images(tmp_path, 1, height, width)
    result = measured(files, [FakePeer()])
    [comparison] = make_comparisons(
        files, [FakePeer()], result, folder=tmp_path, targets_bpp=(0.4,)
    )
    assert (comparison.width, comparison.height) == (width, height)
    assert (comparison.shown_width, comparison.shown_height) == (SHOWN_WIDTH, SHOWN_HEIGHT)
    middle = photo_like(height, width, seed=0)[10:-10, 5:-6]
    assert np.array_equal(pixels_of(comparison.original), middle)
    assert np.array_equal(pixels_of(comparison.coded[0].webp), middle & 0xF0)


def test_of_many_codecs_each_format_has_one(tmp_path: Path) -> None:
    peers = [FakePeer(f"variant-{number}") for number in range(MOST_CODECS)]
    other = FakePeer("other")
    other.suffix = ".other"
    [comparison] = compared(tmp_path, [*peers, other])
    assert [picture.codec for picture in comparison.coded] == ["variant-0", "other"]
    assert "variant-1: only one codec of each file format is shown" in comparison.left_out
    [comparison] = compared(tmp_path, peers)
    assert len(comparison.coded) == MOST_CODECS


def test_many_large_pictures_are_cut_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caezip_bench.comparisons.SHOWN_PIXELS", 2 * 300 * 200)
    files = write_images(tmp_path, 1, SHOWN_HEIGHT, SHOWN_WIDTH)
    result = measured(files, [FakePeer()])
    [comparison] = make_comparisons(
        files, [FakePeer()], result, folder=tmp_path, images=1, targets_bpp=(0.4,)
    )
    assert pixels_of(comparison.coded[0].webp).shape == (200, 300, 3)


def test_images_that_are_gone_are_left_out(tmp_path: Path) -> None:
    files = write_images(tmp_path, 2)
    result = measured(files, [FakePeer()])
    files[0].unlink()
    comparisons = make_comparisons(files, [FakePeer()], result, folder=tmp_path)
    assert {c.image for c in comparisons} == {"1.png"}
