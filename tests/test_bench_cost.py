"""Measuring cost: pictures, the order of turns, what is left out, cold calls.

Seconds come from a worker that makes them up, except where all of it runs for real.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from caezip.errors import ImageError, ParameterError
from caezip_bench.cost import (
    CostFailure,
    CostOptions,
    cold,
    cost_json,
    cost_table_text,
    make_cost_peers,
    run_cost,
    runner,
    thread_counts,
)
from caezip_bench.cost.cold import cold_calls
from caezip_bench.cost.pictures import picture_of, read_photographs, size_of
from caezip_bench.cost.report import cost_rows
from caezip_bench.cost.result import DEFAULT_COST_PEERS, SMALL_MEGAPIXELS, describe_machine
from caezip_bench.cost.runner import nearest_quality
from caezip_bench.cost.worker import Coded, WorkerError
from caezip_bench.peers import Peer, PeerOptions
from cost_peers import DyingPeer, RawPeer
from images import noise, photo_like

# -- pictures ----------------------------------------------------------------


@pytest.mark.parametrize(("megapixels", "size"), [(0.4, (774, 516)), (50.0, (8660, 5774))])
def test_sizes_are_of_an_aspect(megapixels: float, size: tuple[int, int]) -> None:
    assert size_of(megapixels) == pytest.approx(size, abs=1)
    assert np.prod(size_of(megapixels)) == pytest.approx(megapixels * 1e6, rel=0.005)


def test_photographs_are_put_side_by_side() -> None:
    one, other = noise(20, 30, seed=1), noise(25, 40, seed=2)
    picture = picture_of([one, other], 70, 30)
    assert picture.shape == (30, 70, 3)
    assert np.array_equal(picture[:20, :30], one)
    assert np.array_equal(picture[:20, 30:60], other[2:22, 5:35])  # its middle
    assert np.array_equal(picture[:20, 60:], one[:, 10:20])
    assert np.array_equal(picture[20:, :30], other[7:17, 5:35])


def test_small_photographs_go_on_in_a_mirror() -> None:
    large, small = noise(20, 30, seed=1), noise(20, 12, seed=2)
    picture = picture_of([large, small], 60, 20)
    assert np.array_equal(picture[:, 30:42], small)
    assert np.array_equal(picture[:, 42:54], small[:, ::-1])
    assert np.array_equal(picture[:, 54:], small[:, :6])


def test_what_is_no_photograph_is_skipped(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.png", "b.png", "c.png", "d.png")]
    files[0].write_bytes(b"nothing")
    Image.fromarray(noise(63, 200)).save(files[1])
    for file in files[2:]:
        Image.fromarray(noise(100, 100)).save(file)
    photographs, names, skipped = read_photographs(files, least=1, megapixels=0.01)
    assert names == ["c.png"]  # which is enough
    assert [photo.shape for photo in photographs] == [(100, 100, 3)]
    assert [item.image for item in skipped] == ["a.png", "b.png"]
    assert skipped[1].reason == "a side is under 64 pixels"
    assert read_photographs(files, least=2, megapixels=0.01)[1] == ["c.png", "d.png"]
    assert read_photographs(files, least=1, megapixels=1)[1] == ["c.png", "d.png"]
    with pytest.raises(ImageError, match="none of 2 files is a photograph"):
        read_photographs(files[:2], least=1, megapixels=1)


# -- choices -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("bpp", "quality"), [(0.5, 50), (0.05, 10), (9, 90), (0.59, 50), (0.62, 70), (0.1, 10)]
)
def test_the_nearest_quality(bpp: float, quality: float) -> None:
    bpps: dict[float | None, float] = {10: 0.1, 30: 0.3, 50: 0.5, 70: 0.75, 90: 1.5}
    asked: list[float | None] = []

    def bpp_of(quality: float | None) -> float:
        asked.append(quality)
        return bpps[quality]

    assert nearest_quality(list(bpps), bpp_of, bpp) == quality
    assert len(asked) <= 3


def test_a_codec_without_qualities_is_not_searched() -> None:
    assert nearest_quality([None], lambda quality: 1 / 0, 0.5) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("seconds", 0), ("bpp", -1.0), ("sizes", (1.0, 0.0)), ("megapixels", float("nan"))],
)
def test_options_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=f"{name}: found .*, allowed is more than 0"):
        CostOptions(**{name: value})  # type: ignore[arg-type]


def test_no_cold_calls_may_be_asked_for() -> None:
    assert CostOptions(cold_runs=0).cold_runs == 0


def test_peers_are_made_for_one_core_and_for_all() -> None:
    peers, missing = make_cost_peers(PeerOptions(), ["png", "jpeg420"])
    assert set(peers) == set(thread_counts())
    assert 1 in peers
    assert all([peer.name for peer in made] == ["png", "jpeg420"] for made in peers.values())
    assert missing == []
    assert set(make_cost_peers(PeerOptions(threads=3), ["png"])[0]) == {3}
    with pytest.raises(ParameterError, match="peers: found gif"):
        make_cost_peers(PeerOptions(), ["gif"])


def test_default_peers_are_made_or_named_as_missing() -> None:
    peers, missing = make_cost_peers(PeerOptions(threads=1))
    assert {"caezip", "jpeg420", "webp"} <= {peer.name for peer in peers[1]}
    named = [peer.name for peer in peers[1]] + [item.name for item in missing]
    assert sorted(named) == sorted(DEFAULT_COST_PEERS)


# -- turns -------------------------------------------------------------------


class FakeWorker:
    """Codes in no time but says otherwise: a second for a megapixel, or ``slow`` times that."""

    log: ClassVar[list[tuple[str, int, str]]] = []  # codec, cores, what
    slow: ClassVar[dict[str, float]] = {}
    failing: ClassVar[dict[str, int]] = {}  # by codec, the pixels from which on it fails

    def __init__(self, peer: Peer, threads: int) -> None:
        self._peer, self._threads = peer, threads
        self.baseline_bytes = 1000
        self.log.append((peer.name, threads, "start"))

    def code(self, picture: Path, quality: float | None, *, limit_s: float) -> Coded:
        height, width = np.load(picture, mmap_mode="r").shape[:2]
        if width * height >= self.failing.get(self._peer.name, 10**9):
            raise WorkerError("broken")
        assert quality is not None
        self.log.append((self._peer.name, self._threads, f"{width * height / 1e6:.2g}"))
        taken_s = width * height / 1e6 * self.slow.get(self._peer.name, 1)
        size_bytes = round(quality / 100 * width * height / 8)
        return Coded(size_bytes, taken_s / 2, taken_s / 2, 3 * width * height)

    def close(self) -> None:
        self.log.append((self._peer.name, self._threads, "close"))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, str]]:
    monkeypatch.setattr(runner, "Worker", FakeWorker)
    monkeypatch.setattr(FakeWorker, "log", [])
    monkeypatch.setattr(FakeWorker, "slow", {})
    monkeypatch.setattr(FakeWorker, "failing", {})
    return FakeWorker.log


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photographs")
    files = [folder / f"{number}.png" for number in range(2)]
    for number, file in enumerate(files):
        Image.fromarray(photo_like(128, 192, seed=number)).save(file)
    return files


SMALL = CostOptions(megapixels=0.02, sizes=(0.06, 0.01), max_rounds=3, size_rounds=2, cold_runs=0)


def _peers(names: Sequence[str], threads: Sequence[int] = (1, 2)) -> Mapping[int, Sequence[Peer]]:
    return {count: [RawPeer(name) for name in names] for count in threads}


def test_codecs_take_turns(files: list[Path], log: list[tuple[str, int, str]]) -> None:
    result = run_cost(files, _peers("ab"), SMALL, clock=lambda: 0.0)
    measured = [(codec, threads) for codec, threads, what in log if what == "0.02"]
    assert measured == [("a", 2), ("b", 2), ("a", 1), ("b", 1)] * 3
    sizes = [(codec, threads, what) for codec, threads, what in log if what in ("0.01", "0.06")]
    turn = [("a", 2), ("b", 2)]
    assert sizes == [(*one, size) for _ in range(2) for size in ("0.01", "0.06") for one in turn]
    assert [sample.round for sample in result.samples][::4][:3] == [0, 1, 2]
    assert result.photographs == ["0.png", "1.png"]
    assert result.failures == []
    assert {sample.quality for sample in result.samples} == {40.0}  # of 0.4 bpp, near to 0.5


def test_the_sizes_are_measured_in_new_processes(
    files: list[Path], log: list[tuple[str, int, str]]
) -> None:
    run_cost(files, _peers("a"), SMALL, clock=lambda: 0.0)
    lives = [(threads, what) for _, threads, what in log if what in ("start", "close")]
    assert lives == [
        (2, "start"),
        (1, "start"),
        (2, "close"),
        (1, "close"),
        (2, "start"),
        (2, "close"),
        (2, "start"),
        (2, "close"),
    ]


def test_the_picture_that_starts_processes_outlasts_the_round_that_measures_its_size(
    files: list[Path], log: list[tuple[str, int, str]]
) -> None:
    sizes = (0.01, SMALL_MEGAPIXELS)
    result = run_cost(files, _peers("a", [1]), replace(SMALL, sizes=sizes), clock=lambda: 0.0)
    assert result.failures == []
    rounds = [sample.round for sample in result.samples if sample.series == "scaling"]
    assert rounds == [0, 0, 1, 1]


def test_a_failing_codec_does_not_take_the_others_with_it(
    files: list[Path], log: list[tuple[str, int, str]]
) -> None:
    FakeWorker.failing["a"] = 500_000
    FakeWorker.failing["b"] = 100
    options = CostOptions(
        megapixels=0.02, sizes=(0.01, 0.6), max_rounds=2, size_rounds=3, cold_runs=0
    )
    result = run_cost(files, _peers("abc", [1]), options, clock=lambda: 0.0)
    assert [(item.codec, item.reason) for item in result.failures] == [
        ("b", "broken"),
        ("a", "broken"),
    ]
    assert result.failures[0].doing == "starting"
    assert result.failures[1].doing == "scaling at 0.6 Mpx, round 1"
    samples = [(item.codec, round(item.megapixels, 2)) for item in result.samples]
    assert samples.count(("a", 0.02)) == 2
    assert samples.count(("a", 0.01)) == 1
    assert samples.count(("c", 0.6)) == 3
    assert {codec for codec, _ in samples} == {"a", "c"}
    assert len([what for _, _, what in log if what == "start"]) == 7
    assert len([what for _, _, what in log if what == "close"]) == 7


def test_slow_codecs_are_left_out_where_they_would_take_too_long(
    files: list[Path], log: list[tuple[str, int, str]]
) -> None:
    FakeWorker.slow.update(b=100.0, c=3000.0)
    options = CostOptions(
        megapixels=0.02,
        sizes=(0.01, 0.3),
        max_rounds=1,
        size_rounds=1,
        call_limit_s=20,
        cold_runs=0,
    )
    result = run_cost(files, _peers("abc", [1]), options, clock=lambda: 0.0)
    assert result.notes[-3:] == [
        "c on 1 core is left out from 0.02 Mpx on, where it would take about 60 s",
        "c on 1 core is left out from 0.01 Mpx on, where it would take about 30 s",
        "b on 1 core is left out from 0.3 Mpx on, where it would take about 30 s",
    ]
    samples = {(item.codec, round(item.megapixels, 2)) for item in result.samples}
    assert samples == {("a", 0.02), ("b", 0.02), ("a", 0.01), ("b", 0.01), ("a", 0.3)}


def test_it_ends_in_time(files: list[Path], log: list[tuple[str, int, str]]) -> None:
    """By a clock that is what the codecs say they take."""

    def clock() -> float:
        return sum(float(what) for _, _, what in log if what not in ("start", "close"))

    seen: list[float] = []
    options = CostOptions(
        seconds=20, megapixels=0.5, sizes=(0.1, 2.0), max_rounds=50, size_rounds=50, cold_runs=0
    )
    result = run_cost(
        files, _peers("ab", [1]), options, lambda share, doing: seen.append(share), clock=clock
    )
    rounds = 1 + max(item.round for item in result.samples if item.series == "throughput")
    assert 5 < rounds < 13
    assert 15 < clock() <= 20.5
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert result.notes[-1].startswith("the time was over at ")


def test_one_round_is_run_in_any_case(files: list[Path], log: list[tuple[str, int, str]]) -> None:
    ticks = iter(range(10**6))
    options = CostOptions(seconds=1, megapixels=0.02, sizes=(0.01,), cold_runs=0)
    result = run_cost(files, _peers("ab", [1]), options, clock=lambda: 100.0 * next(ticks))
    assert [(item.codec, item.round) for item in result.samples] == [("a", 0), ("b", 0)]
    assert result.notes[-1] == "the time was over at 0.01 Mpx in round 1 of 3"


def test_all_of_it_with_real_processes(files: list[Path]) -> None:
    peers: dict[int, list[Peer]] = {1: [RawPeer("raw"), DyingPeer("dying")]}
    options = CostOptions(
        megapixels=0.01, sizes=(0.01, 0.05), max_rounds=2, size_rounds=1, cold_runs=0
    )
    result = run_cost(files, peers, options)
    # what dies of 0.4 Mpx, on which qualities are chosen, is not measured at all
    assert [(item.codec, item.reason) for item in result.failures] == [
        ("dying", "its process ended with exit code 3")
    ]
    rows = cost_rows(result, "throughput")
    assert [(row.codec, row.encode_mpx_per_s.count) for row in rows] == [("raw", 2)]
    assert len(cost_rows(result, "scaling")) == 2
    text = cost_table_text(result)
    assert "- Failed: dying on 1 core, starting: its process ended with exit code 3." in text
    assert json.loads(cost_json(result))["throughput"][0]["codec"] == "raw"


# -- cold calls --------------------------------------------------------------


def test_cold_calls_take_turns_after_a_round_that_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    program = f"import sys; open({str(log)!r}, 'a').write(sys.argv[1] + '\\n')"
    monkeypatch.setattr(cold, "PROGRAM", program)
    calls = cold_calls(noise(8, 8), tmp_path, runs=2)
    assert [call.command for call in calls] == [
        "caezip --help",
        "caezip encode",
        "caezip info",
        "caezip decode",
    ]
    assert all(len(call.seconds) == 2 and min(call.seconds) > 0 for call in calls)
    assert log.read_text().split() == ["--help", "encode", "info", "decode"] * 3


def test_a_cold_call_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold, "PROGRAM", "import sys; sys.exit('no weights')")
    with pytest.raises(WorkerError, match="caezip --help: exit code 1: no weights"):
        cold_calls(noise(8, 8), tmp_path, runs=1)


def test_a_failing_command_is_recorded(
    files: list[Path], log: list[tuple[str, int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold, "PROGRAM", "import sys; sys.exit('no weights')")
    options = CostOptions(megapixels=0.02, sizes=(0.01,), max_rounds=1, cold_runs=1)
    result = run_cost(files, _peers("a", [1]), options, clock=lambda: 0.0)
    assert result.failures == [
        CostFailure("caezip", None, "cold calls", "caezip --help: exit code 1: no weights")
    ]
    assert result.cold == []
    assert result.samples


def test_the_program_of_cold_calls_is_the_command(tmp_path: Path) -> None:
    assert cold.seconds_of_command("caezip --help", ["--help"]) > 0
    with pytest.raises(WorkerError, match="caezip info: exit code "):
        cold.seconds_of_command("caezip info", ["info", str(tmp_path / "absent.cae")])


def test_a_busy_machine_is_noted(
    files: list[Path], log: list[tuple[str, int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = describe_machine() | {"load_average": 3.5, "usable_cores": 4}
    machine["can_confine_to_cores"] = False
    monkeypatch.setattr(runner, "describe_machine", lambda: machine)
    result = run_cost(files, _peers("a", [1]), SMALL, clock=lambda: 0.0)
    assert "the machine was busy before the run (load average 3.5)" in result.notes[0]
    assert "cannot confine a process to cores" in result.notes[1]
