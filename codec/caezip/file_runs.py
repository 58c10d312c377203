"""Many files, one after the other or in several processes, with a bar and a list of failures."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import click

from caezip.errors import CaeError
from caezip.file_jobs import STANDARD, exit_code_of, named, write_standard
from caezip.memory import return_freed_memory

QUEUED_PER_PROCESS = 2  # so that none waits for the next file


@dataclass(frozen=True)
class Product:
    """What became of one file."""

    data: bytes
    summary: str
    pixels: int
    source_bytes: int
    lost: tuple[str, ...] = ()  # a line for each thing that could not be saved


class Work(Protocol):
    """From a file's name to what is written for it. Can be sent to another process."""

    def __call__(self, source: str) -> Product:
        """Raises CaeError."""


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
    jobs: Sequence[tuple[str, str]],
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
    one = partial(_outcome, work, force)
    outcomes = _in_processes(jobs, work, processes, force) if processes > 1 else map(one, jobs)
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


def _outcome(work: Work, force: bool, job: tuple[str, str]) -> Outcome:
    from caezip.image_io import write_atomically

    source, target = job
    try:
        with named(source):
            product = work(source)
        if target == STANDARD:
            write_standard(product.data)
        else:
            write_atomically(Path(target), product.data, force=force)
    except CaeError as error:
        return Outcome(source, error=error)
    saved_bytes = product.source_bytes - len(product.data)
    line = f"{source} -> {target}: {product.summary}"
    return Outcome(source, line, product.pixels, saved_bytes, product.lost)


def _in_processes(
    jobs: Sequence[tuple[str, str]], work: Work, processes: int, force: bool
) -> Iterator[Outcome]:
    # importing these is a good part of the start of a call that needs no other process
    from caezip.processes import DIED, in_processes
    from caezip.processor import default_threads

    done = in_processes(
        partial(_outcome, work, force),
        jobs,
        jobs=processes,
        threads=max(1, default_threads() // processes),
        queued=QUEUED_PER_PROCESS,
        start=return_freed_memory,
        # an output that was written since the plan found none is overwritten by the same
        again=partial(_outcome, work, True),
    )
    for number, outcome in done:
        if outcome is DIED:
            source = jobs[number][0]
            yield Outcome(source, error=CaeError(f"{source}: the process that worked on it died"))
        else:
            yield outcome


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
