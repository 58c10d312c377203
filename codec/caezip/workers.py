"""Threads: tiles side by side, and what is loaded while something else is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock
from typing import Any, Generic, TypeVar

from caezip.matrix_threads import one_matrix_thread

T = TypeVar("T")
MOST_SIDE_BY_SIDE = 4  # each tile takes some 50 MB while it is worked on
Map = Callable[[Callable[[int], Any], Iterable[int]], list[Any]]
Limit = Callable[[int], AbstractContextManager[None]]


class Workers:
    """Threads that work on a picture's tiles, kept from one picture to the next.

    What new threads allocate glibc takes from another arena each time, so that memory of earlier
    ones lies idle, and what is new has to be cleared. So they do all work, not the caller's.

    ``limit`` is a context in which a call takes so many threads; with one, calls side by side
    share them out.
    """

    def __init__(self, limit: Limit | None) -> None:
        self._limit = limit or (lambda _: nullcontext())
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    @contextmanager
    def __call__(self, threads: int, jobs: int) -> Iterator[Map]:
        """A parallel ``map`` over numbers, with at most ``threads``."""
        side_by_side = max(1, min(threads, jobs, MOST_SIDE_BY_SIDE))
        under_way: list[Future[None]] = []

        def side_by_side_map(function: Callable[[int], Any], numbers: Iterable[int]) -> list[Any]:
            def limited(number: int) -> Any:
                with self._limit(threads // side_by_side):
                    return function(number)

            work = _Work(limited, numbers)
            pool = self._threads(min(threads, MOST_SIDE_BY_SIDE))
            under_way.extend(pool.submit(work) for _ in range(side_by_side))
            try:
                return work.results()
            finally:
                work.stop()  # after an error, or Ctrl-C, nobody goes on with what nobody wants

        with one_matrix_thread():
            try:
                yield side_by_side_map
            finally:
                wait(under_way)

    def _threads(self, count: int) -> ThreadPoolExecutor:
        if self._pool is None or self._process != os.getpid():  # a fork has no threads
            self._pool = ThreadPoolExecutor(count, thread_name_prefix="caezip")
            self._process = os.getpid()
        return self._pool


class _Work:
    """A function of several numbers, computed by all threads that call this."""

    def __init__(self, function: Callable[[int], Any], numbers: Iterable[int]) -> None:
        self._function, self._numbers = function, list(numbers)
        self._results: list[Future[Any]] = [Future() for _ in self._numbers]
        self._places = iter(range(len(self._numbers)))
        self._handing_out = Lock()
        self._stopped = False

    def __call__(self) -> None:
        while (place := self._next()) is not None:
            try:
                self._results[place].set_result(self._function(self._numbers[place]))
            except BaseException as error:  # `results` raises it
                self._results[place].set_exception(error)
                self.stop()

    def _next(self) -> int | None:
        with self._handing_out:
            return None if self._stopped else next(self._places, None)

    def stop(self) -> None:
        with self._handing_out:
            self._stopped = True

    def results(self) -> list[Any]:
        """In the order of the numbers. Raises the first number's error, whichever came first."""
        # what comes before an error was begun before it, so there is nothing to wait for in vain
        return [result.result() for result in self._results]


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
