"""Threads: tiles side by side, and what is loaded while something else is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Generic, TypeVar

from caezip.matrix_threads import one_matrix_thread

T = TypeVar("T")
MOST_SIDE_BY_SIDE = 4  # each tile takes some 50 MB while it is worked on
Map = Callable[[Callable[[int], Any], Iterable[int]], list[Any]]
Limit = Callable[[int], AbstractContextManager[None]]


@contextmanager
def workers(threads: int, jobs: int, limit: Limit | None) -> Iterator[Map]:
    """A parallel ``map`` over numbers, with at most ``threads``.

    ``limit`` is a context in which a call takes so many threads; with one, calls side
    by side share them out.
    """
    limit = limit or (lambda _: nullcontext())
    side_by_side = max(1, min(threads, jobs, MOST_SIDE_BY_SIDE))
    if side_by_side == 1:
        with one_matrix_thread(), limit(threads):
            yield lambda function, numbers: [function(number) for number in numbers]
        return

    def limited(function: Callable[[int], Any]) -> Callable[[int], Any]:
        def call(number: int) -> Any:
            with limit(threads // side_by_side):
                return function(number)

        return call

    pool = ThreadPoolExecutor(side_by_side, thread_name_prefix="caezip")
    with one_matrix_thread(), pool:
        yield lambda function, numbers: list(pool.map(limited(function), numbers))


class Loading(Generic[T]):
    """What ``make`` returns, made in a thread of its own; a call waits for it.

    Raises what ``make`` raised.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="caezip-loading")
        self._made = self._thread.submit(make)

    def __call__(self) -> T:
        return self._made.result()

    def then(self, function: Callable[[T], object]) -> None:
        """Call ``function`` with it once it is there, without waiting, if it ever is."""
        self._thread.submit(lambda: function(self._made.result()))
