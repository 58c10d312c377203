"""Many files, in one process or several, with a bar and a list of failures.

While one file is coded the next is read, and what was made of the last is written.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import click

from caezip.errors import CaeError
from caezip.file_jobs import STANDARD, exit_code_of, named, write_standard
from caezip.memory import return_freed_memory

Job = tuple[str, str]  # a file, and what is written for it
QUEUED_PER_PROCESS = 2  # so that none waits for the next files
# Files that a process is given at once, if they are small: to ask for each takes as long as to
# write it. The others' progress is shown, and there are enough for all processes.
GROUP_FILES, GROUP_BYTES, GROUPS_PER_PROCESS = 16, 1 << 20, 8


@dataclass(frozen=True)
class Product:
    """What became of one file."""

    data: bytes
    summary: str
    pixels: int
    source_bytes: int
    lost: tuple[str, ...] = ()  # a line for each thing that could not be saved


class Work(Protocol):
    """From a file's name to what is written for it, in three steps, each of which raises CaeError.

    They may run in different threads, one file in each. Can be sent to another process.
    """

    def read(self, source: str) -> Any:
        """What is coded."""

    def code(self, source: str, read: Any) -> Any:
        """What takes the networks."""

    def finish(self, source: str, coded: Any) -> Product:
        """What is written."""


@dataclass(frozen=True)
class Outcome:
    """How one file went: a line of text, or the error."""

    source: str
    line: str = ""
    pixels: int = 0
    saved_bytes: int = 0
    lost: tuple[str, ...] = ()
    error: CaeError | None = None


def run(
    jobs: Sequence[Job],
    work: Work,
    *,
    processes: int = 1,
    force: bool,
    quiet: bool,
    skipped: int = 0,
    many: bool = False,
) -> bool:
    """Do ``work`` on every ``(source, target)``; report each failure in a line.

    With ``many`` files the failures are listed once more at the end, where they are seen.
    Exits with the first failure's code; else tells whether nothing was lost. Several
    processes have a codec each.
    """
    return_freed_memory()
    processes = min(processes, len(jobs))
    outcomes = (
        _in_processes(jobs, work, processes, force)
        if processes > 1
        else _outcomes(work, jobs, force=force)
    )
    failed: list[Outcome] = []
    is_whole = True
    with _Bar(len(jobs), quiet) as bar:
        for outcome in outcomes:
            for line in outcome.lost:
                is_whole = False
                bar.say(f"caezip: {outcome.source}: lost: {line}")
            if outcome.error is not None:
                failed.append(outcome)
                bar.say(f"caezip: {outcome.error}")
            elif not bar.is_shown and not quiet:
                click.echo(outcome.line, err=True)
            bar.advance(outcome)
    if skipped and not quiet:
        click.echo(f"caezip: {skipped} skipped, their outputs exist", err=True)
    if failed and many:
        names = "".join(f"\n  {outcome.source}" for outcome in failed)
        click.echo(f"caezip: {len(failed)} of {len(jobs)} files failed:{names}", err=True)
    if failed and failed[0].error is not None:
        sys.exit(exit_code_of(failed[0].error))
    return is_whole


def _outcomes(work: Work, jobs: Sequence[Job], *, force: bool) -> Iterator[Outcome]:
    """Of one file after the other, each read while the one before it is coded."""
    if len(jobs) < 2:  # no other for which a thread would be worth its start
        for job in jobs:
            yield _File(work, job, force).read().code().finish()
        return
    last: Future[Outcome] | None = None
    try:
        with _one_thread("reading") as reading, _one_thread("writing") as writing:
            ahead = reading.submit(_File(work, jobs[0], force).read)
            for number in range(len(jobs)):
                file = ahead.result()
                if number + 1 < len(jobs):
                    ahead = reading.submit(_File(work, jobs[number + 1], force).read)
                file.code()
                _keep_what_is_loaded()
                if last is not None:
                    yield last.result()  # so that no more than one waits to be written
                last = writing.submit(file.finish)
            if last is not None:
                yield last.result()
    finally:
        if last is not None:  # a process that is told to end may have been told while it waited
            wait([last])


@cache
def _keep_what_is_loaded() -> None:
    """What a process has once it has coded a file stays: the collector of cycles, which looked at
    all of it again and again, took 5% of the time of small pictures."""
    gc.freeze()


def _one_thread(name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix=f"caezip-{name}")


class _File:
    """The steps of one file. After an error, which is its outcome, the others do nothing."""

    def __init__(self, work: Work, job: Job, force: bool) -> None:
        self._work, self._force = work, force
        self._source, self._target = job
        self._made: Any = None  # by the step before
        self._error: CaeError | None = None

    def read(self) -> _File:
        self._do(lambda: self._work.read(self._source))
        return self

    def code(self) -> _File:
        self._do(lambda: self._work.code(self._source, self._made))
        return self

    def finish(self) -> Outcome:
        self._do(lambda: self._work.finish(self._source, self._made))
        self._do(self._written, nullcontext())  # what says its own name
        if self._error is not None:
            return Outcome(self._source, error=self._error)
        product: Product = self._made
        return Outcome(
            self._source,
            f"{self._source} -> {self._target}: {product.summary}",
            product.pixels,
            product.source_bytes - len(product.data),
            product.lost,
        )

    def _written(self) -> Product:
        from caezip.image_io import write_atomically

        product: Product = self._made
        if self._target == STANDARD:
            write_standard(product.data)
        else:
            write_atomically(Path(self._target), product.data, force=self._force)
        return product

    def _do(
        self, step: Callable[[], Any], context: AbstractContextManager[None] | None = None
    ) -> None:
        if self._error is None:
            try:
                with context or named(self._source):
                    self._made = step()
            except CaeError as error:
                self._error, self._made = error, None


def _in_processes(
    jobs: Sequence[Job], work: Work, processes: int, force: bool
) -> Iterator[Outcome]:
    # importing these is a good part of the start of a call that needs no other process
    from caezip.processes import DIED, in_processes
    from caezip.processor import default_threads

    groups = _groups(jobs, processes)
    done = in_processes(
        partial(_group, work, force),
        groups,
        jobs=processes,
        threads=max(1, default_threads() // processes),
        queued=QUEUED_PER_PROCESS,
        start=return_freed_memory,
        # an output that was written since the plan found none is overwritten by the same
        again=partial(_group, work, True),
    )
    suspects: list[Job] = []
    for number, outcomes in done:
        if outcomes is not DIED:
            yield from outcomes
        elif len(groups[number]) > 1:
            suspects += groups[number]
        else:
            ((source, _),) = groups[number]
            yield Outcome(source, error=CaeError(f"{source}: the process that worked on it died"))
    for job in suspects:  # whose groups died: each alone
        yield from _in_processes([job], work, 1, True)


def _group(work: Work, force: bool, jobs: Sequence[Job]) -> list[Outcome]:
    return list(_outcomes(work, jobs, force=force))


def _groups(jobs: Sequence[Job], processes: int) -> list[list[Job]]:
    """Files that follow each other."""
    most = max(1, min(GROUP_FILES, len(jobs) // (GROUPS_PER_PROCESS * processes)))
    groups: list[list[Job]] = []
    room = 0
    for job in jobs:
        size = _size_bytes(job[0])
        if not groups or len(groups[-1]) == most or size > room:
            groups.append([])
            room = GROUP_BYTES
        groups[-1].append(job)
        room -= size
    return groups


def _size_bytes(source: str) -> int:
    try:
        return Path(source).stat().st_size
    except OSError:  # standard input; and reading will say what is wrong with others
        return GROUP_BYTES


class _Bar:
    """Files, Mpx/s, saved bytes and the time left; only on a terminal, for several files."""

    def __init__(self, files: int, quiet: bool) -> None:
        self.is_shown = files > 1 and not quiet and sys.stderr.isatty()
        self._files = files
        self._pixels = self._saved_bytes = 0
        self._started_s = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> _Bar:
        if self.is_shown:
            from tqdm import tqdm

            self._bar = tqdm(total=self._files, unit="file", smoothing=0.1)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            click.echo(line, err=True)

    def advance(self, outcome: Outcome) -> None:
        self._pixels += outcome.pixels
        self._saved_bytes += outcome.saved_bytes
        if self._bar is None:
            return
        speed_mpx = self._pixels / 1e6 / max(time.monotonic() - self._started_s, 1e-9)
        self._bar.set_postfix_str(
            f"{speed_mpx:.1f} Mpx/s, saved {self._saved_bytes / 1e6:.1f} MB", refresh=False
        )
        self._bar.update(1)
