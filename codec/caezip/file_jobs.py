"""Files in, files out: what ``caezip encode`` and ``caezip decode`` do around each file."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
GLIBC_MMAP_THRESHOLD = -3  # mallopt(3)
MMAP_THRESHOLD_BYTES = 1 << 20


def return_freed_memory() -> None:
    """Keep glibc from holding on to what the networks have freed, for programs of our own.

    Its threshold above which blocks go back to the system grows with use, to 32 MiB;
    decoding 12 Mpx then peaked at 1.2 GB instead of 0.7. Other allocators lack the call.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(GLIBC_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)


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


def plan(
    inputs: tuple[str, ...], output: str | None, suffix: str, force: bool
) -> Iterator[tuple[str, str]]:
    """``(source, target)`` pairs; refuses clashes before any work is done."""
    if inputs.count(STANDARD) > 1:
        raise ParameterError("standard input: found more than once, allowed is once")
    into_folder = output is not None and (
        len(inputs) > 1 or output.endswith("/") or Path(output).is_dir()
    )
    if len(inputs) > 1 and output == STANDARD:
        raise ParameterError("output -: allowed for one input only")
    if into_folder and output is not None and Path(output).is_file():
        raise OutputError(f"{output}: is a file, and several inputs need a folder")
    taken: dict[str, str] = {}
    for source in inputs:
        if output is not None and not into_folder:
            target = output
        elif source == STANDARD:
            if into_folder:
                raise ParameterError("standard input: its output needs a file name, give -o OUT")
            target = STANDARD
        else:
            path = Path(source)  # "." has no name; reading it will say what is wrong with it
            name = path.with_suffix(suffix) if path.name else path / f"image{suffix}"
            target = str(Path(output) / name.name if output is not None else name)
        if target != STANDARD and Path(target).resolve() in map(Path, taken):
            other = taken[str(Path(target).resolve())]
            raise ParameterError(
                f"output {target}: both {other} and {source} would be written to it"
            )
        taken[str(Path(target).resolve())] = source
        if target != STANDARD and not force and Path(target).exists():
            raise OutputError(f"{target}: exists already; --force overwrites it")
        yield source, target


def run(
    jobs: list[tuple[str, str]],
    work: Callable[[str], tuple[bytes, str]],
    *,
    force: bool,
    quiet: bool,
) -> None:
    """Do every job, report each failure in a line, exit with the first one's code."""
    return_freed_memory()
    from caezip.image_io import write_atomically

    targets = dict(jobs)

    def write(source: str) -> str:
        target = targets[source]
        with named(source):
            data, summary = work(source)
        if target == STANDARD:
            _write_standard(data)
        else:
            write_atomically(Path(target), data, force=force)
        return f"{source} -> {target}: {summary}"

    check(list(targets), write, quiet=quiet)


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


def _write_standard(data: bytes) -> None:
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
