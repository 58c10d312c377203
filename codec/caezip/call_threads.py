"""How many threads work side by side, and how many the networks take that each of them calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local

MOST_SIDE_BY_SIDE = 4  # each tile takes some 50 MB while it is worked on
_here = local()


def workers_for(threads: int, jobs: int) -> int:
    """How many of so many threads work on jobs side by side."""
    return max(1, min(threads, jobs, MOST_SIDE_BY_SIDE))


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Inside, networks that the caller's thread calls may take so many, if that is less work."""
    before = threads_here()
    _here.threads = threads
    try:
        yield
    finally:
        _here.threads = before


def threads_here() -> int | None:
    """The limit that the caller's thread is in, if any."""
    threads: int | None = getattr(_here, "threads", None)
    return threads
