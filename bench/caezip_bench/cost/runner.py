"""Measures all codecs in turns.

Every codec has a process of its own for each number of cores. Rounds go through all of
them (A B C A B C …) with one picture, so that whatever else the machine does meets them
alike: what is to be trusted are one run's ratios.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import log
from pathlib import Path
from time import perf_counter

import numpy as np

from caezip.errors import MissingDependencyError, UnknownModelError
from caezip.image_io import Pixels
from caezip_bench.cost.cold import cold_calls
from caezip_bench.cost.pictures import picture_of, read_photographs, size_of
from caezip_bench.cost.result import (
    DEFAULT_COST_PEERS,
    SMALL_MEGAPIXELS,
    CostFailure,
    CostOptions,
    CostResult,
    Sample,
    Series,
    describe_machine,
    thread_counts,
)
from caezip_bench.cost.worker import Coded, Worker, WorkerError
from caezip_bench.metrics import bits_per_pixel
from caezip_bench.peers import MissingPeer, Peer, PeerOptions, make_peers

THROUGHPUT_SHARE = 0.6  # of the time, the rest is for the scaling curve
HANG_FACTOR = 15  # times `CostOptions.call_limit_s`: then a call is given up
BUSY_LOAD = 0.3  # processes per core that ran before we did


def make_cost_peers(
    options: PeerOptions, names: Sequence[str] | None = None
) -> tuple[dict[int, list[Peer]], list[MissingPeer]]:
    """``(peers, missing)`` for `run_cost`: on `options.threads` cores, None for one and all.

    With ``names`` nothing may be missing: raises what `caezip_bench.peers.make_peers`
    raises. Without, `DEFAULT_COST_PEERS` are tried.
    """
    counts = thread_counts() if options.threads is None else (options.threads,)
    missing: list[MissingPeer] = []
    if names is None:
        names = []
        for name in DEFAULT_COST_PEERS:
            try:
                make_peers([name], options)
            except (MissingDependencyError, UnknownModelError) as error:
                missing.append(MissingPeer(name, str(error).removeprefix(f"{name}: ")))
            else:
                names.append(name)
    return {n: make_peers(names, replace(options, threads=n)) for n in counts}, missing


def run_cost(
    files: Sequence[Path],
    peers: Mapping[int, Sequence[Peer]],
    options: CostOptions | None = None,
    progress: Callable[[float, str], object] = lambda share, doing: None,
    *,
    clock: Callable[[], float] = perf_counter,
) -> CostResult:
    """Measure codecs on photographs; ``peers`` by number of cores, as of `make_cost_peers`.

    ``progress`` is told what share (0…1) of the time is over, and what is being done.
    ``clock``, in seconds, only decides when to stop. A codec that fails, dies or hangs
    is recorded, and the others go on. Raises ImageError if no file can be used.
    """
    options = options or CostOptions()
    everyone = [peer for threads in sorted(peers) for peer in peers[threads]]
    settings = {peer.name: peer.settings for peer in everyone}
    result = CostResult(options, describe_machine(), settings)
    _note_the_machine(result)
    photographs, result.photographs, result.skipped = read_photographs(
        files, least=options.pictures, megapixels=max(options.megapixels, *options.sizes)
    )
    with tempfile.TemporaryDirectory(prefix="caezip-cost-") as temporary:
        bench = _Bench(result, photographs, Path(temporary), progress, clock)
        if options.cold_runs:
            bench.cold_calls()
        bench.throughput(peers)
        bench.scaling(peers[max(peers)], max(peers))
    progress(1.0, "done")
    return result


@dataclass
class _Seat:
    """A codec's process; ``s_per_mpx`` is what a megapixel last took, both ways.

    That is of the largest picture so far: of small ones, what every call costs is most.
    """

    peer: Peer
    threads: int
    worker: Worker
    s_per_mpx: float = 0.0
    largest_mpx: float = 0.0

    @property
    def label(self) -> str:
        return f"{self.peer.name} on {self.threads} {'core' if self.threads == 1 else 'cores'}"


@dataclass(frozen=True)
class _Picture:
    file: Path
    width: int
    height: int

    @property
    def megapixels(self) -> float:
        return self.width * self.height / 1e6


class _Bench:
    """One run, whose findings go into ``result``."""

    def __init__(
        self,
        result: CostResult,
        photographs: Sequence[Pixels],
        folder: Path,
        progress: Callable[[float, str], object],
        clock: Callable[[], float],
    ) -> None:
        self._result = result
        self._options = result.options
        self._photographs = photographs
        self._folder = folder
        self._progress = progress
        self._clock = clock
        self._began = clock()
        self._small = self._picture(SMALL_MEGAPIXELS)
        self._qualities: dict[str, float | None] = {}
        self._seats: list[_Seat] = []

    def cold_calls(self) -> None:
        """Measure the command."""
        try:
            self._result.cold = cold_calls(
                np.load(self._small.file),
                self._folder,
                runs=self._options.cold_runs,
                weights_folder=self._options.weights_folder,
                tell=self._tell,
            )
        except WorkerError as error:
            self._result.failures.append(CostFailure("caezip", None, "cold calls", str(error)))

    def throughput(self, peers: Mapping[int, Sequence[Peer]]) -> None:
        """Measure every codec on each number of cores on pictures of one size."""
        options = self._options
        pictures = [self._picture(options.megapixels, first) for first in range(options.pictures)]
        used_s = self._clock() - self._began
        end_s = used_s + THROUGHPUT_SHARE * (options.seconds - used_s)
        try:
            # the most cores first, so that qualities are found fast
            for threads in sorted(peers, reverse=True):
                self._start(peers[threads], threads)
            self._leave_out_slow(options.megapixels)
            for number in range(options.max_rounds):
                picture = pictures[number % len(pictures)]
                if number and not self._fits(picture, end_s):
                    break
                self._round("throughput", number, picture)
        finally:
            self._stop()

    def scaling(self, peers: Sequence[Peer], threads: int) -> None:
        """Measure every codec on pictures of growing sizes, in new processes.

        Sizes grow so that a process's peak memory is that of the size it is at; every
        round begins with new ones.
        """
        rounds = self._options.size_rounds
        for number in range(rounds):
            failed = {(failure.codec, failure.threads) for failure in self._result.failures}
            try:
                self._start([peer for peer in peers if (peer.name, threads) not in failed], threads)
                for megapixels in sorted(set(self._options.sizes)):
                    self._leave_out_slow(megapixels)
                    if not self._seats:
                        break
                    picture = self._picture(megapixels)
                    if not self._fits(picture, self._options.seconds):
                        note = f"the time was over at {megapixels:g} Mpx in round {number + 1}"
                        self._result.notes.append(f"{note} of {rounds}")
                        return
                    self._round("scaling", number, picture)
                    if picture.file != self._small.file:  # which starts the next round's processes
                        picture.file.unlink()
            finally:
                self._stop()

    # -- processes -----------------------------------------------------------

    def _start(self, peers: Sequence[Peer], threads: int) -> None:
        """A warm process for each, with its quality chosen."""
        for peer in peers:
            doing = "starting"
            self._tell(f"{doing}: {peer.name}")
            try:
                seat = _Seat(peer, threads, Worker(peer, threads))
            except WorkerError as error:
                self._failed(peer, threads, doing, error)
                continue
            self._seats.append(seat)
            self._result.baseline_bytes[peer.name, threads] = seat.worker.baseline_bytes
            try:
                if peer.name not in self._qualities:
                    self._qualities[peer.name] = nearest_quality(
                        peer.qualities, partial(self._small_bpp, seat), self._options.bpp
                    )
                self._code(seat, self._small)  # loads what is loaded late
            except WorkerError as error:
                self._drop(seat, doing, error)

    def _stop(self) -> None:
        for seat in self._seats:
            seat.worker.close()
        self._seats.clear()

    def _drop(self, seat: _Seat, doing: str, error: WorkerError) -> None:
        self._failed(seat.peer, seat.threads, doing, error)
        self._remove(seat)

    def _remove(self, seat: _Seat) -> None:
        seat.worker.close()
        self._seats.remove(seat)

    def _failed(self, peer: Peer, threads: int, doing: str, error: WorkerError) -> None:
        self._result.failures.append(CostFailure(peer.name, threads, doing, str(error)))

    # -- measuring -----------------------------------------------------------

    def _round(self, series: Series, number: int, picture: _Picture) -> None:
        """All codecs, one after the other, on one picture."""
        for seat in list(self._seats):
            doing = f"{series} at {picture.megapixels:.2g} Mpx, round {number + 1}"
            self._tell(f"{doing}: {seat.label}")
            try:
                coded = self._code(seat, picture)
            except WorkerError as error:
                self._drop(seat, doing, error)
                continue
            self._result.samples.append(
                Sample(
                    series=series,
                    round=number,
                    codec=seat.peer.name,
                    threads=seat.threads,
                    quality=self._qualities[seat.peer.name],
                    width=picture.width,
                    height=picture.height,
                    size_bytes=coded.size_bytes,
                    encode_s=coded.encode_s,
                    decode_s=coded.decode_s,
                    peak_bytes=coded.peak_bytes,
                )
            )

    def _code(self, seat: _Seat, picture: _Picture) -> Coded:
        quality = self._qualities[seat.peer.name]
        coded = seat.worker.code(picture.file, quality, limit_s=self._limit_s)
        if picture.megapixels >= seat.largest_mpx:
            seat.largest_mpx = picture.megapixels
            seat.s_per_mpx = (coded.encode_s + coded.decode_s) / picture.megapixels
        return coded

    def _small_bpp(self, seat: _Seat, quality: float | None) -> float:
        coded = seat.worker.code(self._small.file, quality, limit_s=self._limit_s)
        return bits_per_pixel(coded.size_bytes, self._small.width, self._small.height)

    @property
    def _limit_s(self) -> float:
        return HANG_FACTOR * self._options.call_limit_s

    def _picture(self, megapixels: float, first: int = 0) -> _Picture:
        """A file with the photographs in order, beginning with that of the number ``first``."""
        width, height = size_of(megapixels)
        first %= len(self._photographs)
        photographs = [*self._photographs[first:], *self._photographs[:first]]
        file = self._folder / f"{megapixels:g}-{first}.npy"
        np.save(file, picture_of(photographs, width, height))
        return _Picture(file, width, height)

    # -- time ----------------------------------------------------------------

    def _leave_out_slow(self, megapixels: float) -> None:
        """Codecs that would take all the time are not measured from this size on."""
        for seat in list(self._seats):
            expected_s = seat.s_per_mpx * megapixels
            if expected_s > self._options.call_limit_s:
                left_out = f"{seat.label} is left out from {megapixels:g} Mpx on, "
                if not any(note.startswith(left_out) for note in self._result.notes):
                    took = f"where it would take about {expected_s:.0f} s"
                    self._result.notes.append(left_out + took)
                self._remove(seat)

    def _fits(self, picture: _Picture, end_s: float) -> bool:
        """Whether a round is expected to end before ``end_s`` seconds of the run are over."""
        round_s = sum(seat.s_per_mpx for seat in self._seats) * picture.megapixels
        return self._clock() - self._began + round_s <= end_s

    def _tell(self, doing: str) -> None:
        share = (self._clock() - self._began) / self._options.seconds
        self._progress(min(1.0, share), doing)


def nearest_quality(
    qualities: Sequence[float | None], bpp_of: Callable[[float | None], float], bpp: float
) -> float | None:
    """The quality whose ``bpp_of`` has the smallest ratio to ``bpp`` or from it.

    By bisection: ``qualities`` are in ascending order, and so are their files' sizes.
    """
    if len(qualities) == 1:
        return qualities[0]
    distances: dict[float | None, float] = {}
    low, high = 0, len(qualities)
    while low < high:
        middle = (low + high) // 2
        found = bpp_of(qualities[middle])
        distances[qualities[middle]] = abs(log(found / bpp))
        if found < bpp:
            low = middle + 1
        else:
            high = middle
    return min(distances, key=distances.__getitem__)


def _note_the_machine(result: CostResult) -> None:
    machine = result.machine
    load = machine["load_average"]
    if load is not None and load > BUSY_LOAD * machine["usable_cores"]:
        result.notes.append(
            f"the machine was busy before the run (load average {load:g}): "
            "speeds would be higher on an idle one"
        )
    if not machine["can_confine_to_cores"]:
        result.notes.append(
            "this system cannot confine a process to cores: on how many a codec really runs "
            "is up to it"
        )
