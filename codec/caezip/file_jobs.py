"""Files in, files out: names, exit codes, and what is said of each file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from caezip.errors import (
    BitstreamError,
    CaeError,
    CheckpointError,
    CorruptError,
    ImageError,
    NotCaeError,
    OutputError,
    ParameterError,
    TargetError,
    TrainingDataError,
    TruncatedError,
    UnsupportedError,
    WeightsError,
)

EXIT_CODES: list[tuple[type[CaeError], int, str]] = [
    (ParameterError, 2, "usage: an option or argument is wrong"),
    (ImageError, 3, "input: a picture is missing, unreadable or unsupported"),
    (TrainingDataError, 3, "input: a picture is missing, unreadable or unsupported"),
    (NotCaeError, 8, "stream: not a .cae file"),
    (TruncatedError, 9, "stream: it ends too early"),
    (CorruptError, 10, "stream: damaged or against the format's rules"),
    (UnsupportedError, 11, "stream: needs a newer caezip, or exceeds a limit"),
    (BitstreamError, 4, "stream: a .cae file is missing or unreadable"),
    (WeightsError, 5, "weights: they are missing, unknown or altered"),
    (CheckpointError, 5, "weights: they are missing, unknown or altered"),
    (OutputError, 6, "output: a file exists or cannot be written"),
    (TargetError, 7, "target: no quality reaches the size, bpp or PSNR asked for"),
    (CaeError, 1, "other: anything else, such as a missing package"),
]
STANDARD = "-"
CODED_SUFFIX = ".cae"


def exit_code_of(error: CaeError) -> int:
    """The process exit code that stands for an error's class."""
    return next(code for kind, code, _ in EXIT_CODES if isinstance(error, kind))


def read_bytes(source: str) -> bytes:
    if source == STANDARD:
        return sys.stdin.buffer.read()
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise BitstreamError(f"{source}: cannot be read: {error.strerror}") from None


@dataclass(frozen=True)
class Plan:
    """``(source, target)`` pairs, and how many inputs are left out since theirs exist."""

    jobs: list[tuple[str, str]]
    skipped: int


def plan(
    inputs: tuple[str, ...],
    output: str | None,
    suffix: str,
    *,
    force: bool,
    skip_existing: bool = False,
    recursive: bool = False,
) -> Plan:
    """What to read and where to write it; refuses clashes before any work is done."""
    if inputs.count(STANDARD) > 1:
        raise ParameterError("standard input: found more than once, allowed is once")
    folders = [source for source in inputs if recursive and Path(source).is_dir()]
    into_folder = output is not None and (
        len(inputs) > 1 or output.endswith("/") or Path(output).is_dir() or bool(folders)
    )
    if (len(inputs) > 1 or folders) and output == STANDARD:
        raise ParameterError("output -: allowed for one input only")
    if into_folder and output is not None and Path(output).is_file():
        raise OutputError(f"{output}: is a file, and several inputs need a folder")
    into = Path(output) if into_folder and output is not None else None
    pairs: list[tuple[str, str]] = []
    for source in inputs:
        if source in folders:
            pairs += _in_tree(Path(source), into, suffix)
        elif output is not None and into is None:
            pairs.append((source, output))
        else:
            pairs.append((source, _target_of(source, into, suffix)))
    taken: dict[str, str] = {}
    jobs: list[tuple[str, str]] = []
    for source, target in pairs:
        place = str(Path(target).resolve())
        if target != STANDARD and place in taken:
            raise ParameterError(
                f"output {target}: both {taken[place]} and {source} would be written to it"
            )
        taken[place] = source
        exists = target != STANDARD and Path(target).exists()
        if exists and skip_existing:
            continue
        if exists and not force:
            raise OutputError(f"{target}: exists already; --force overwrites it")
        jobs.append((source, target))
    return Plan(jobs, len(pairs) - len(jobs))


def _target_of(source: str, into: Path | None, suffix: str) -> str:
    if source == STANDARD:
        if into is not None:
            raise ParameterError("standard input: its output needs a file name, give -o OUT")
        return STANDARD
    path = Path(source)  # "." has no name; reading it will say what is wrong with it
    name = path.with_suffix(suffix) if path.name else path / f"image{suffix}"
    return str(into / name.name if into is not None else name)


def _in_tree(folder: Path, into: Path | None, suffix: str) -> Iterator[tuple[str, str]]:
    """The files below ``folder`` that can be read, each with its place in the tree ``into``."""
    if suffix == CODED_SUFFIX:
        from caezip.image_io import IMAGE_SUFFIXES

        wanted = IMAGE_SUFFIXES
    else:
        wanted = frozenset({CODED_SUFFIX})
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in wanted and path.is_file():
            target = path if into is None else into / path.relative_to(folder)
            yield str(path), str(target.with_suffix(suffix))


def check(sources: list[str], work: Callable[[str], str], *, quiet: bool) -> None:
    """Do ``work`` on each and print what it says or how it failed.

    Exits with the code of the first failure.
    """
    first_failure: CaeError | None = None
    for source in sources:
        try:
            summary = work(source)
            if not quiet:
                click.echo(summary, err=True)
        except CaeError as error:
            first_failure = first_failure or error
            click.echo(f"caezip: {error}", err=True)
    if first_failure is not None:
        sys.exit(exit_code_of(first_failure))


def write_standard(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:  # the reader went away, or its disk is full
        raise OutputError(f"standard output: cannot be written: {error.strerror}") from None


@contextmanager
def named(source: str) -> Iterator[None]:
    """Put the input's name before messages that lack it."""
    try:
        yield
    except CaeError as error:
        name = "standard input" if source == STANDARD else source
        if str(error).startswith(name):
            raise
        raise type(error)(f"{name}: {error}") from error
