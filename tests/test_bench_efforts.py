"""``python -m caezip_bench.efforts`` with codecs whose sizes and seconds are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from caezip.errors import OutputError, ParameterError
from caezip.image_io import Pixels
from caezip_bench.efforts import main
from caezip_bench.peers import PEERS, JpegPeer, PeerOptions
from images import photo_like

pytestmark = pytest.mark.usefixtures("one_thread")
LOADING_S = 1000.0
OUTLIER_S = 50.0


class Clock:
    """Time that passes only when a codec says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class TimedPeer(JpegPeer):
    """JPEG 4:2:0 whose files are ``factor`` times as large, and whose calls take known times."""

    settings = "for tests"

    def __init__(
        self, name: str, clock: Clock, options: PeerOptions, factor: float, seconds: float
    ):
        super().__init__(name, "4:2:0")
        self.qualities = options.caezip_qualities
        self._clock, self._factor, self._seconds = clock, factor, seconds
        self._calls = 0

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        self._calls += 1
        megapixels = pixels.shape[0] * pixels.shape[1] / 1e6
        self._clock.now_s += LOADING_S if self._calls == 1 else self._seconds * megapixels
        if self._calls == 4:  # something else had the machine for a while
            self._clock.now_s += OUTLIER_S
        data = super().encode(pixels, quality)
        return data + bytes(round(len(data) * (self._factor - 1)))

    def decode(self, data: bytes) -> Pixels:
        self._clock.now_s += 7.0  # must not count as encoding
        return super().decode(data)


class CrashingPeer(TimedPeer):
    """Works only on the warm-up's square."""

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        if pixels.shape[0] != pixels.shape[1]:
            raise RuntimeError("out of memory")
        return super().encode(pixels, quality)


Peers = dict[int, TimedPeer]


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Peers:
    """The codecs that a run made, by effort: 1, 2, 6 and a crashing 9."""
    clock = Clock()
    made: Peers = {}
    monkeypatch.setattr("caezip_bench.runner.perf_counter", clock)

    def replace(effort: int, kind: type[TimedPeer], factor: float, seconds: float) -> None:
        def make(options: PeerOptions) -> TimedPeer:
            made[effort] = kind(f"caezip-e{effort}", clock, options, factor, seconds)
            return made[effort]

        monkeypatch.setitem(PEERS, f"caezip-e{effort}", make)

    replace(1, TimedPeer, 2.0, 0.5)
    replace(2, TimedPeer, 1.5, 2.0)
    replace(6, TimedPeer, 1.0, 100.0)
    replace(9, CrashingPeer, 1.0, 1.0)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for name, height, width in (("a.png", 100, 130), ("b.png", 90, 140)):
        Image.fromarray(photo_like(height, width)).save(images / name)
    return images


def _efforts(*arguments: object, catch: bool = True) -> Result:
    texts = [str(argument) for argument in arguments]
    return CliRunner().invoke(main, texts, catch_exceptions=catch)


def _rows(table: str) -> dict[str, list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells[2:]}


def test_the_table_has_sizes_and_seconds_of_each_effort(
    folder: Path, tmp_path: Path, peers: Peers
) -> None:
    output = tmp_path / "new" / "efforts.md"
    done = _efforts(
        folder, "-o", output, "--efforts", "6,2", "--qualities", "20,40,60,80", catch=False
    )
    assert done.exit_code == 0, done.output
    table = output.read_text("utf-8")
    assert done.stdout == table
    rows = _rows(table)
    assert list(rows) == ["1", "2", "6"]
    # other qualities of the same curve, so the interpolation differs a little
    against_jpeg = [float(row[0]) for row in rows.values()]
    assert against_jpeg == pytest.approx([100, 50, 0], abs=2)
    assert rows["1"][1] == "anchor"
    assert [float(rows[n][1]) for n in ("2", "6")] == pytest.approx([-25, -50], abs=0.1)
    assert [row[2] for row in rows.values()] == ["0.50", "2.00", "100.00"]
    assert [row[3] for row in rows.values()] == ["1", "0.25", "0.005"]


def test_the_remarks_say_what_was_measured(folder: Path, tmp_path: Path, peers: Peers) -> None:
    table = _efforts(
        folder, "-o", tmp_path / "t.md", "--efforts", "2", "--qualities", "20,40,60,80", catch=False
    ).stdout
    assert "- 2 images at the qualities 20, 40, 60, 80;" in table
    assert f"{torch.get_num_threads()} torch threads" in table
    assert f"- caezip-e2: {peers[2].settings}.\n" in table
    assert "- BD-rate of caezip-e2 against jpeg420: over " in table
    assert "- BD-rate of caezip-e2 against caezip-e1: over " in table
    assert "MS-SSIM" not in table


def test_loading_is_not_counted_and_images_are_limited(
    folder: Path, tmp_path: Path, peers: Peers
) -> None:
    arguments = ("--efforts", "2", "--qualities", "20,80", "--images", "1")
    table = _efforts(folder, "-o", tmp_path / "t.md", *arguments, catch=False).stdout
    assert "- 1 images at" in table
    # a median of two would show the loading
    assert [row[2] for row in _rows(table).values()] == ["0.50", "2.00"]
    assert "- Note: caezip-e2: only 2 points" in table
    assert table.count("caezip-e1: only 2 points") == 1


def test_an_effort_that_fails_is_named_and_has_no_numbers(
    folder: Path, tmp_path: Path, peers: Peers
) -> None:
    arguments = ("--efforts", "2,9", "--qualities", "20,40,60,80")
    table = _efforts(folder, "-o", tmp_path / "t.md", *arguments, catch=False).stdout
    assert _rows(table)["9"] == ["n/a"] * 4
    assert "caezip-e9 failed on 2 of 2 images: a.png (RuntimeError: out of memory)" in table
    assert float(_rows(table)["2"][1]) == pytest.approx(-25, abs=0.1)


def test_nothing_measured_is_exit_status_1(tmp_path: Path, peers: Peers) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    done = _efforts(tmp_path, "-o", tmp_path / "t.md", "--efforts", "1")
    assert done.exit_code == 1
    assert "broken.png" in done.stderr
    assert "no effort could be measured" in done.stderr
    assert not (tmp_path / "t.md").exists()


def test_an_existing_table_is_kept_unless_forced(
    folder: Path, tmp_path: Path, peers: Peers
) -> None:
    output = tmp_path / "t.md"
    output.write_text("precious")
    arguments = (folder, "-o", output, "--efforts", "1", "--qualities", "20,80", "--images", "1")
    with pytest.raises(OutputError, match="exists already"):
        _efforts(*arguments, catch=False)
    assert output.read_text() == "precious"
    assert peers[1]._calls == 0
    assert _efforts(*arguments, "--force", catch=False).exit_code == 0
    assert output.read_text("utf-8").startswith("| effort")


@pytest.mark.parametrize("value", ["0,2", "10", "2.5", "fast", ","])
def test_wrong_efforts_are_usage_errors(folder: Path, tmp_path: Path, value: str) -> None:
    done = _efforts(folder, "-o", tmp_path / "t.md", "--efforts", value)
    assert done.exit_code == 2
    assert "is not a list of integers from 1 to 9" in done.stderr


def test_qualities_out_of_range_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="found 101, allowed are numbers from 1 to 100"):
        _efforts(folder, "-o", tmp_path / "t.md", "--qualities", "50,101", catch=False)


def test_threads_are_limited(
    folder: Path, tmp_path: Path, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    limit: Callable[[int], None] = threads.append
    monkeypatch.setattr("torch.set_num_threads", limit)  # it outlasts the test
    arguments = ("--efforts", "1", "--qualities", "20,80", "--images", "1", "--threads", 3)
    assert _efforts(folder, "-o", tmp_path / "t.md", *arguments, catch=False).exit_code == 0
    assert threads == [3]
