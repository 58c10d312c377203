"""Runs every codec over every image, through real files, and measures the results."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from time import perf_counter

import numpy as np

from caezip.errors import ImageError
from caezip.image_io import IMAGE_KINDS, Pixels, image_files, read_rgb
from caezip.processes import DIED, in_processes
from caezip_bench.metrics import METRICS, SSIM_WINDOW, bits_per_pixel
from caezip_bench.peers import Peer
from caezip_bench.peers.checks import WrongResultError, checked_pixels, one_line

SMALLEST_SIDE = SSIM_WINDOW  # pixels; what is smaller has no SSIM either


@dataclass(frozen=True)
class Measurement:
    """One image coded by one codec at one quality (None: the codec has no such setting).

    ``bpp`` counts the whole file. Metrics are None if they were not asked for, if the
    image is too small for them, and PSNR also where it is infinite. ``encode_s`` and
    ``decode_s`` are wall seconds of the one call, without files: single samples, in
    which a first call's loading and whatever else the machine did are included.
    """

    image: str
    width: int
    height: int
    codec: str
    quality: float | None
    size_bytes: int
    bpp: float
    identical: bool
    encode_s: float
    decode_s: float
    psnr_db: float | None = None
    psnr_y_db: float | None = None
    ssim: float | None = None
    ms_ssim: float | None = None
    ssimulacra2: float | None = None

    def metric(self, name: str) -> float | None:
        """The value of one of `caezip_bench.metrics.METRICS`."""
        value: float | None = getattr(self, name)
        return value


@dataclass(frozen=True)
class Failure:
    """A codec that failed on an image; its further qualities were not tried there."""

    image: str
    codec: str
    quality: float | None
    reason: str


@dataclass(frozen=True)
class SkippedImage:
    """A file that could not be read as an image, or is too small to be measured."""

    image: str
    reason: str


@dataclass
class RunResult:
    """All that a run measured, in the order of the images, the codecs and the qualities.

    ``sha256`` is that of each image's file, so that a later run can tell whether it
    has the same images.
    """

    images: list[str] = field(default_factory=list)
    sha256: dict[str, str] = field(default_factory=dict)
    skipped: list[SkippedImage] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


@dataclass(frozen=True)
class Task:
    """One image to code with one codec at all of its qualities."""

    file: Path
    image: str  # its name in the results
    peer: Peer
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a `Task`: measurements up to the first failure, or a reason to skip."""

    sha256: str = ""
    skip_reason: str | None = None
    measurements: tuple[Measurement, ...] = ()
    failure: Failure | None = None


def find_images(
    folder: Path, *, recursive: bool = False, excluded: Path | None = None
) -> list[Path]:
    """Files in ``folder`` whose name ends like an image's, sorted; hidden ones are left out.

    ``excluded`` is one file not to take, such as the plot of an earlier run.
    Raises ImageError if there is none or the folder cannot be listed.
    """
    found = [
        path
        for path in image_files(folder, recursive=recursive)
        if excluded is None or path.resolve() != excluded.resolve()
    ]
    if not found:
        raise ImageError(f"{folder}: no images in this folder (looked for {IMAGE_KINDS})")
    return found


def count_steps(files: Sequence[Path], peers: Sequence[Peer]) -> int:
    """How often `run` encodes if nothing fails."""
    return len(files) * sum(len(peer.qualities) for peer in peers)


def run(
    files: Sequence[Path],
    peers: Sequence[Peer],
    *,
    folder: Path,
    metrics: Sequence[str] = tuple(METRICS),
    jobs: int = 1,
    threads: int | None = None,
    recall: Callable[[Task], Outcome | None] = lambda task: None,
    keep: Callable[[Task, Outcome], object] = lambda task, outcome: None,
    advance: Callable[[int], object] = lambda steps: None,
) -> RunResult:
    """Code, decode and measure each file with each codec; gray images as RGB.

    Images are named by their path below ``folder``. Images that are unreadable or
    have a side under `SMALLEST_SIDE` are skipped and a codec's failure ends only its
    work on that image; both are recorded. With ``jobs`` above 1, that many processes
    work side by side, each with ``threads`` threads; a codec that takes its process
    down is a failure like others. ``recall`` may know a task's outcome from an
    earlier run, and ``keep`` is told of each new one. ``advance`` is told how many of
    `count_steps` were done.
    """
    tasks = [
        Task(file, file.relative_to(folder).as_posix(), peer, tuple(metrics))
        for file in files
        for peer in peers
    ]
    outcomes: dict[int, Outcome] = {}
    left: list[int] = []
    for number, task in enumerate(tasks):
        known = recall(task)
        if known is None:
            left.append(number)
        else:
            outcomes[number] = known
            advance(len(task.peer.qualities))
    with closing(_worked([tasks[number] for number in left], jobs, threads)) as worked:
        for index, outcome in worked:
            outcomes[left[index]] = outcome
            keep(tasks[left[index]], outcome)
            advance(len(tasks[left[index]].peer.qualities))
    return _collected(tasks, [outcomes[number] for number in range(len(tasks))])


def _worked(
    tasks: Sequence[Task], jobs: int, threads: int | None
) -> Generator[tuple[int, Outcome], None, None]:
    """The tasks' numbers and outcomes as they come."""
    if jobs == 1:
        with _torch_threads(threads):
            for number, task in enumerate(tasks):
                yield number, work(task)
        return
    for number, outcome in in_processes(work, tasks, jobs=jobs, threads=threads):
        if outcome is DIED:
            task = tasks[number]
            failure = Failure(
                task.image, task.peer.name, task.peer.qualities[0], "its process died"
            )
            outcome = Outcome(sha256=file_sha256(task.file), failure=failure)
        yield number, outcome


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    """The caller's number again afterwards."""
    if threads is None:
        yield
        return
    from caezip.torch_networks import limited

    with limited(threads):
        yield


def work(task: Task) -> Outcome:
    """Measure one image with one codec. Raises nothing for bad images and bad codecs."""
    try:
        pixels, sha256 = _read(task.file)
    except ImageError as error:
        return Outcome(skip_reason=str(error).removeprefix(f"{task.file}: "))
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        reason = f"{width}x{height} pixels, metrics need {SMALLEST_SIDE} a side"
        return Outcome(skip_reason=reason)
    measurements = []
    failure = None
    with tempfile.TemporaryDirectory(prefix="caezip-bench-") as temporary:
        coded = Path(temporary) / f"coded{task.peer.suffix}"
        for quality in task.peer.qualities:
            try:
                measurements.append(_measured(task, pixels, quality, coded))
            except Exception as error:  # other people's codecs raise anything; the run survives
                failure = Failure(task.image, task.peer.name, quality, one_line(error))
                break
    return Outcome(sha256, None, tuple(measurements), failure)


@lru_cache(maxsize=1)  # the next task is mostly the same image with another codec
def _read(file: Path) -> tuple[Pixels, str]:
    return read_rgb(file), file_sha256(file)


@lru_cache(maxsize=1)
def file_sha256(file: Path) -> str:
    """Digest of a file's bytes, in hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _measured(task: Task, pixels: Pixels, quality: float | None, coded: Path) -> Measurement:
    """The image gone through the file ``coded``."""
    before = perf_counter()
    data = task.peer.encode(pixels, quality)
    encode_s = perf_counter() - before
    coded.write_bytes(data)
    size_bytes = coded.stat().st_size
    if size_bytes == 0:
        raise WrongResultError("the coded file is empty")
    data = coded.read_bytes()
    before = perf_counter()
    returned = task.peer.decode(data)
    decode_s = perf_counter() - before
    decoded = checked_pixels(task.peer, returned, pixels)
    identical = np.array_equal(decoded, pixels)
    height, width = pixels.shape[:2]
    return Measurement(
        image=task.image,
        width=width,
        height=height,
        codec=task.peer.name,
        quality=quality,
        size_bytes=size_bytes,
        bpp=bits_per_pixel(size_bytes, width, height),
        identical=identical,
        encode_s=encode_s,
        decode_s=decode_s,
        **{name: METRICS[name].measure(pixels, decoded) for name in task.metrics},
    )


def _collected(tasks: Sequence[Task], outcomes: Sequence[Outcome]) -> RunResult:
    result = RunResult()
    skipped: dict[str, SkippedImage] = {}
    for task, outcome in zip(tasks, outcomes, strict=True):
        if outcome.skip_reason is not None:  # every codec's task says so
            skipped.setdefault(task.image, SkippedImage(task.image, outcome.skip_reason))
            continue
        result.sha256.setdefault(task.image, outcome.sha256)
        result.measurements += outcome.measurements
        if outcome.failure is not None:
            result.failures.append(outcome.failure)
    result.images = list(result.sha256)
    result.skipped = list(skipped.values())
    return result
