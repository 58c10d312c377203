"""The runner and the averages: real files, failing codecs, unreadable images."""

from __future__ import annotations

import math
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caezip.errors import ImageError, ParameterError
from caezip.image_io import Pixels
from caezip_bench.metrics import METRICS
from caezip_bench.peers import JpegPeer, Peer, PeerOptions, PngPeer, WebpPeer, make_peers
from caezip_bench.runner import Measurement, RunResult, count_steps, find_images, run
from caezip_bench.summary import summarize


def textured(height: int, width: int, seed: int = 0) -> Pixels:
    """A gradient with noise, so that no lossy codec returns it unchanged."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(20, 200, width)[None, :, None] + np.linspace(0, 30, height)[:, None, None]
    noisy = ramp + rng.normal(0, 8, (height, width, 3))
    pixels: Pixels = np.clip(noisy, 0, 255).astype(np.uint8)
    return pixels


class FakePeer(Peer):
    """Stores raw pixels, less the lowest bits that ``quality`` says; may misbehave."""

    suffix = ".raw"
    settings = "for tests"

    def __init__(self, name: str = "fake", qualities: tuple[float | None, ...] = (3.0, 2.0, 1.0)):
        self.name = name
        self.qualities = qualities
        self.encoded = 0

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        self.encoded += 1
        step = 1 << int(quality or 0)
        rounded = (pixels // step * step).astype(np.uint8)
        height, width = pixels.shape[:2]
        return height.to_bytes(2, "big") + width.to_bytes(2, "big") + rounded.tobytes()

    def decode(self, data: bytes) -> Pixels:
        height, width = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
        return np.frombuffer(data, np.uint8, offset=4).reshape(height, width, 3)


class CrashingPeer(FakePeer):
    """Fails on images of one width."""

    def __init__(self, width: int, name: str = "crashing"):
        super().__init__(name)
        self._width = width

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        if pixels.shape[1] == self._width:
            raise RuntimeError("the device\n is on fire")
        return super().encode(pixels, quality)


class CroppingPeer(FakePeer):
    def decode(self, data: bytes) -> Pixels:
        return super().decode(data)[:-1]


class FloatPeer(FakePeer):
    def decode(self, data: bytes) -> Pixels:
        return super().decode(data).astype(np.float32)


class EmptyPeer(FakePeer):
    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        return b""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two readable images: a.png 40x32 in RGB, b.png 48x32 in gray."""
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(textured(32, 40)).save(images / "a.png")
    Image.fromarray(textured(32, 48)[:, :, 0]).save(images / "b.png")
    return images


def _run(folder: Path, *peers: Peer) -> RunResult:
    return run(find_images(folder), peers, folder=folder)


def test_every_image_codec_and_quality_is_measured(folder: Path) -> None:
    result = _run(folder, FakePeer(), PngPeer())
    assert result.images == ["a.png", "b.png"]
    assert result.failures == []
    assert [(row.image, row.codec, row.quality) for row in result.measurements] == [
        (image, codec, quality)
        for image in ("a.png", "b.png")
        for codec, quality in (("fake", 3.0), ("fake", 2.0), ("fake", 1.0), ("png", None))
    ]


def test_bpp_is_of_the_whole_file(folder: Path) -> None:
    row = _run(folder, FakePeer()).measurements[0]
    assert row.size_bytes == 4 + 32 * 40 * 3
    assert row.bpp == 8 * (4 + 32 * 40 * 3) / (32 * 40)


def test_seconds_are_of_the_codec_s_own_calls(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0

    class SlowPeer(FakePeer):
        def encode(self, pixels: Pixels, quality: float | None) -> bytes:
            nonlocal now_s
            now_s += 8.0 * (quality or 0)
            return super().encode(pixels, quality)

        def decode(self, data: bytes) -> Pixels:
            nonlocal now_s
            now_s += 0.5
            return super().decode(data)

    monkeypatch.setattr("caezip_bench.runner.perf_counter", lambda: now_s)
    rows = _run(folder, SlowPeer(qualities=(3.0, 1.0))).measurements
    assert [(row.encode_s, row.decode_s) for row in rows] == [(24.0, 0.5), (8.0, 0.5)] * 2


def test_gray_images_are_measured_as_rgb(folder: Path) -> None:
    row = _run(folder, FakePeer()).measurements[-1]
    assert (row.image, row.width, row.height) == ("b.png", 48, 32)
    assert row.size_bytes == 4 + 32 * 48 * 3


@pytest.mark.parametrize(
    "peer", [JpegPeer("jpeg420", "4:2:0"), JpegPeer("jpeg444", "4:4:4"), WebpPeer()]
)
def test_more_quality_takes_more_bits_and_loses_less(folder: Path, peer: Peer) -> None:
    points = summarize(_run(folder, peer), [peer]).averages
    assert len(points) == len(peer.qualities)
    assert points[0].bpp < points[-1].bpp
    for metric in ("psnr_db", "psnr_y_db", "ssim"):
        assert points[0].metrics[metric].mean < points[-1].metrics[metric].mean


def test_chroma_subsampling_is_what_the_name_says(folder: Path) -> None:
    red_and_blue = np.zeros((32, 32, 3), np.uint8)
    red_and_blue[:, ::2, 0] = 255
    red_and_blue[:, 1::2, 2] = 255
    full, halved = JpegPeer("jpeg444", "4:4:4"), JpegPeer("jpeg420", "4:2:0")
    kept = full.decode(full.encode(red_and_blue, 95)).astype(int)
    blurred = halved.decode(halved.encode(red_and_blue, 95)).astype(int)
    assert abs(kept - red_and_blue).mean() < 20 < abs(blurred - red_and_blue).mean()


def test_png_is_lossless_and_has_no_psnr(folder: Path) -> None:
    peer = PngPeer()
    result = _run(folder, peer)
    assert all(row.identical and row.psnr_db is None for row in result.measurements)
    (point,) = summarize(result, [peer]).averages
    assert point.mean("psnr_db") is None
    assert point.bpp > 0


def test_a_crashing_codec_does_not_stop_the_run(folder: Path) -> None:
    crashing, fake = CrashingPeer(width=40), FakePeer()
    result = _run(folder, crashing, fake)
    (failure,) = result.failures  # the further qualities are not tried
    assert (failure.image, failure.codec, failure.quality) == ("a.png", "crashing", 3.0)
    assert failure.reason == "RuntimeError: the device is on fire"
    assert fake.encoded == 6
    assert {row.image for row in result.measurements if row.codec == "crashing"} == {"b.png"}


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (CroppingPeer(), r"shape \[31, 40, 3\], the original \[32, 40, 3\]"),
        (FloatPeer(), "float32, not a uint8 array"),
        (EmptyPeer(), "file is empty"),
    ],
)
def test_a_wrong_result_is_a_failure(folder: Path, peer: Peer, reason: str) -> None:
    result = _run(folder, peer)
    assert result.measurements == []
    assert len(result.failures) == 2
    assert re.search(reason, result.failures[0].reason)


def test_a_lossless_codec_that_loses_is_a_failure(folder: Path) -> None:
    liar = FakePeer()
    liar.lossless = True
    assert [f.reason for f in _run(folder, liar).failures] == [
        "a lossless codec returned different pixels"
    ] * 2


def test_unreadable_images_are_skipped_by_name(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"not a picture")
    peer = FakePeer()
    steps: list[int] = []
    files = find_images(folder)
    result = run(files, [peer], folder=folder, advance=steps.append)
    assert [skipped.image for skipped in result.skipped] == ["broken.png"]
    assert str(folder) not in result.skipped[0].reason
    assert result.images == ["a.png", "b.png"]
    assert sum(steps) == count_steps(files, [peer]) == 9
    notes = summarize(result, [peer]).notes
    assert any(note.startswith("1 of 3 files skipped: broken.png (") for note in notes)


def test_images_too_small_to_measure_are_skipped_by_name(folder: Path) -> None:
    Image.fromarray(textured(10, 300)).save(folder / "line.png")
    result = _run(folder, FakePeer(), PngPeer())
    (skipped,) = result.skipped
    assert skipped.image == "line.png"
    assert skipped.reason == "300x10 pixels, metrics need 11 a side"


def test_only_the_metrics_asked_for_are_measured(folder: Path) -> None:
    peer = FakePeer(qualities=(3.0,))
    result = run(find_images(folder), [peer], folder=folder, metrics=["ssim"])
    assert all(row.ssim is not None and row.psnr_db is None for row in result.measurements)
    summary = summarize(result, [peer], metrics=["ssim"])
    assert set(summary.averages[0].metrics) == {"ssim"}
    assert {rate.metric for rate in summary.bd_rates} == {"ssim"}


def test_find_images_takes_only_visible_images(folder: Path) -> None:
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"")
    below = folder / "below"
    below.mkdir()
    (below / "c.JPG").write_bytes(b"")
    assert [path.name for path in find_images(folder)] == ["a.png", "b.png"]
    assert [path.name for path in find_images(folder, recursive=True)] == [
        "a.png",
        "b.png",
        "c.JPG",
    ]
    assert [path.name for path in find_images(folder, excluded=folder / "a.png")] == ["b.png"]


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no images in this folder"):
        find_images(tmp_path)
    with pytest.raises(ImageError, match="cannot be listed"):
        find_images(tmp_path / "absent")


def test_psnr_is_averaged_per_image(folder: Path) -> None:
    peer = FakePeer(qualities=(3.0,))
    result = _run(folder, peer)
    values = [row.psnr_db for row in result.measurements]
    assert None not in values
    (point,) = summarize(result, [peer]).averages
    assert point.images == 2
    assert point.mean("psnr_db") == pytest.approx(np.mean([v for v in values if v is not None]))


def test_averages_of_all_codecs_are_over_the_same_images(folder: Path) -> None:
    peers = [CrashingPeer(width=40), FakePeer()]
    summary = summarize(_run(folder, *peers), peers)
    assert summary.compared_images == ("b.png",)
    assert {point.codec for point in summary.averages} == {"crashing", "fake"}
    assert {point.images for point in summary.averages} == {1}
    assert "averages are over 1 of 2 images" in summary.notes
    assert any(note.startswith("crashing failed on 1 of 2 images") for note in summary.notes)


def test_a_codec_that_mostly_fails_does_not_take_images_from_the_others(folder: Path) -> None:
    peers = [CroppingPeer("cropping"), FakePeer()]
    summary = summarize(_run(folder, *peers), peers)
    assert summary.compared_images == ("a.png", "b.png")
    assert {point.codec for point in summary.averages} == {"fake"}
    assert "cropping is left out of the averages" in summary.notes


def test_images_returned_unchanged_are_left_out_of_the_averages(folder: Path) -> None:
    flat = np.full((32, 32, 3), 128, np.uint8)  # a multiple of every step of FakePeer
    Image.fromarray(flat).save(folder / "flat.png")
    peer = FakePeer()
    summary = summarize(_run(folder, peer), [peer])
    assert summary.compared_images == ("a.png", "b.png")
    assert any("flat.png" in note for note in summary.notes)
    assert all(point.mean("psnr_db") is not None for point in summary.averages)


def test_ms_ssim_is_averaged_over_the_images_that_have_it(folder: Path) -> None:
    Image.fromarray(textured(161, 162)).save(folder / "large.png")
    peer = FakePeer(qualities=(3.0,))
    result = _run(folder, peer)
    summary = summarize(result, [peer])
    (point,) = summary.averages
    large = result.measurements[-1]
    average = point.metrics["ms_ssim"]
    assert (point.images, average.images) == (3, 1)
    assert (average.mean, average.bpp) == (large.ms_ssim, large.bpp)
    assert average.curve_value == pytest.approx(-10 * math.log10(1 - average.mean))
    assert "MS-SSIM needs 161 pixels a side; without it: a.png, b.png" in summary.notes


def test_bd_rates_need_the_anchor(folder: Path) -> None:
    peer = FakePeer()
    rates = summarize(_run(folder, peer), [peer]).bd_rates
    assert [rate.bd_rate.reason for rate in rates] == ["jpeg420 was not run"] * len(METRICS)


def test_bd_rate_of_the_anchor_under_another_name_is_zero(folder: Path) -> None:
    Image.fromarray(textured(230, 225)).save(folder / "a.png")
    Image.fromarray(textured(225, 240, seed=1)).save(folder / "b.png")
    peers = [JpegPeer("jpeg420", "4:2:0"), JpegPeer("same", "4:2:0"), PngPeer()]
    for peer in peers[:2]:
        peer.qualities = (20.0, 40.0, 60.0, 80.0)
    rates = summarize(_run(folder, *peers), peers).bd_rates
    assert [(rate.codec, rate.metric) for rate in rates] == [("same", name) for name in METRICS]
    nothing = [0.0] * len(METRICS)
    assert [rate.bd_rate.rate_percent for rate in rates] == pytest.approx(nothing, abs=1e-9)
    assert [rate.bd_rate.quality_gain for rate in rates] == pytest.approx(nothing, abs=1e-9)
    assert {rate.interval_percent for rate in rates} == {None}  # of two images there is none


def test_bd_rates_of_four_images_have_an_interval(folder: Path) -> None:
    for seed in range(4):
        Image.fromarray(textured(64, 72 + 16 * seed, seed)).save(folder / f"{seed}.png")
    peers = [JpegPeer("jpeg420", "4:2:0"), JpegPeer("jpeg444", "4:4:4")]
    for peer in peers:
        peer.qualities = (20.0, 40.0, 60.0, 80.0)
    result = run(find_images(folder), peers, folder=folder, metrics=["psnr_db"])
    (rate,) = summarize(result, peers, metrics=["psnr_db"]).bd_rates
    assert rate.interval_percent is not None
    assert rate.bd_rate.rate_percent is not None
    low, high = rate.interval_percent
    assert low < rate.bd_rate.rate_percent < high


class DyingPeer(FakePeer):
    """Takes its process with it, on images of one width."""

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        if pixels.shape[1] == 40:
            os._exit(3)
        return super().encode(pixels, quality)


def test_several_processes_give_the_same_and_survive_one_of_them(folder: Path) -> None:
    peers = [FakePeer(), CrashingPeer(width=48), DyingPeer("dying"), PngPeer()]
    steps: list[int] = []
    files = find_images(folder)
    parallel = run(
        files, peers, folder=folder, metrics=["psnr_db"], jobs=2, threads=1, advance=steps.append
    )
    alone = run(files, [peers[0], peers[1], peers[3]], folder=folder, metrics=["psnr_db"])
    assert sum(steps) == count_steps(files, peers)
    died = next(failure for failure in parallel.failures if failure.codec == "dying")
    assert (died.image, died.reason) == ("a.png", "its process died")
    others = [failure for failure in parallel.failures if failure.codec != "dying"]
    assert others == alone.failures

    def without_seconds(result: RunResult) -> list[Measurement]:
        return [
            replace(row, encode_s=0, decode_s=0)
            for row in result.measurements
            if row.codec != "dying"
        ]

    assert without_seconds(parallel) == without_seconds(alone)
    assert [row.image for row in parallel.measurements if row.codec == "dying"] == ["b.png"] * 3


def test_peers_are_made_by_name() -> None:
    peers = make_peers(["png", "caezip", "png"], PeerOptions(caezip_qualities=(90, 10, 90)))
    assert [peer.name for peer in peers] == ["png", "caezip"]
    assert peers[1].qualities == (10, 90)


@pytest.mark.parametrize(
    ("names", "qualities", "message"),
    [
        (["gif"], (50.0,), "peers: found gif, allowed are caezip, caezip-archive, caezip-ssim, "),
        ([], (50.0,), "peers: found none"),
        (["caezip"], (0.5,), "qualities: found 0.5, allowed are numbers from 1 to 100"),
        (["caezip"], (float("nan"),), "qualities: found nan"),
        (["caezip"], (), "qualities: found none"),
    ],
)
def test_wrong_peers_and_qualities_are_refused(
    names: list[str], qualities: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        make_peers(names, PeerOptions(caezip_qualities=qualities))
