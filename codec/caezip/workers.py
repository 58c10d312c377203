"""Threads: tiles side by side, and what is loaded while something else is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from threading import Condition
from typing import Any, Generic, Protocol, TypeVar

from caezip.matrix_threads import one_matrix_thread

T = TypeVar("T")
MOST_SIDE_BY_SIDE = 4  # each tile takes some 50 MB while it is worked on
Needs = Sequence[Sequence[int]]
Limit = Callable[[int], AbstractContextManager[None]]


def side_by_side(threads: int) -> int:
    """How many tiles, or parts of one, are worked on at once, with so many threads."""
    return min(threads, MOST_SIDE_BY_SIDE)


class Map(Protocol):
    """A parallel ``map`` over numbers, which are begun in their order.

    ``needs``: places among them, for each of them, that have to be done before it begins; they
    come before its own. Meanwhile others are begun whose needs are done.
    """

    def __call__(
        self, function: Callable[[int], Any], numbers: Iterable[int], needs: Needs | None = None, /
    ) -> list[Any]: ...


# What maps, given how many things there are to do side by side, at most.
Threads = Callable[[int], AbstractContextManager[Map]]


def in_turn(
    function: Callable[[int], Any], numbers: Iterable[int], _needs: Needs | None = None, /
) -> list[Any]:
    """A `Map` in the caller's thread."""
    return [function(number) for number in numbers]


@contextmanager
def in_this_thread(_jobs: int) -> Iterator[Map]:
    """`Threads` for a caller who is one of several already."""
    yield in_turn


class Workers:
    """Threads that work on a picture's tiles, kept from one picture to the next.

    What new threads allocate glibc takes from another arena each time, so that memory of earlier
    ones lies idle, and what is new has to be cleared. So they do all work, not the caller's.

    ``limit`` is a context in which a call takes so many threads; with one, calls side by side
    share them out. At most ``most`` run side by side.
    """

    def __init__(self, limit: Limit | None, most: int = MOST_SIDE_BY_SIDE) -> None:
        self._limit, self._most = limit or (lambda _: nullcontext()), most
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    @contextmanager
    def __call__(self, threads: int, jobs: int) -> Iterator[Map]:
        """What maps with at most ``threads``, and no more than ``jobs``."""
        at_once = max(1, min(threads, jobs, self._most))
        if at_once == 1:
            with self._limit(threads), one_matrix_thread():
                yield in_turn
            return
        under_way: list[Future[None]] = []

        def side_by_side_map(
            function: Callable[[int], Any], numbers: Iterable[int], needs: Needs | None = None, /
        ) -> list[Any]:
            def limited(number: int) -> Any:
                with self._limit(threads // at_once):
                    return function(number)

            work = _Work(limited, numbers, needs)
            pool = self._threads(min(threads, self._most))
            under_way.extend(pool.submit(work) for _ in range(at_once))
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

    def __init__(
        self, function: Callable[[int], Any], numbers: Iterable[int], needs: Needs | None
    ) -> None:
        self._function, self._numbers = function, list(numbers)
        self._results: list[Future[Any]] = [Future() for _ in self._numbers]
        self._needs = needs or [()] * len(self._numbers)
        self._waiting = list(range(len(self._numbers)))  # places, of what is not begun
        self._changed = Condition()

    def __call__(self) -> None:
        while (place := self._next()) is not None:
            try:
                result = self._function(self._numbers[place])
            except BaseException as error:  # `results` raises it
                self.stop()
                self._results[place].set_exception(error)
            else:
                self._results[place].set_result(result)
                with self._changed:
                    self._changed.notify_all()

    def _next(self) -> int | None:
        """The first place that can begin, once there is one; None if nothing is left to begin."""
        with self._changed:
            while self._waiting:
                for at, place in enumerate(self._waiting):
                    if all(self._results[need].done() for need in self._needs[place]):
                        return self._waiting.pop(at)
                self._changed.wait()
        return None

    def stop(self) -> None:
        with self._changed:
            for place in self._waiting:
                self._results[place].cancel()
            self._waiting.clear()
            self._changed.notify_all()

    def results(self) -> list[Any]:
        """In the order of the numbers. Raises the first number's error, whichever came first."""
        results = []
        for result in self._results:
            # what was not begun because of an error is not what there is to say
            with suppress(CancelledError):
                results.append(result.result())
        return results


class Loading(Generic[T]):
    """What ``make`` returns, made in a thread of its own; a call waits for it.

    Raises what ``make`` raised.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="caezip-loading")
        self._made = self._thread.submit(make)
        self._begun: set[Hashable] = set()

    def __call__(self) -> T:
        return self._made.result()

    def once(self, purpose: Hashable, function: Callable[[T], object]) -> None:
        """Call ``function`` with it when it is there, without waiting, if it ever is.

        For each ``purpose`` the first time only: to wake a thread takes as long as a small layer.
        """
        if purpose not in self._begun:
            self._begun.add(purpose)
            self._thread.submit(lambda: function(self._made.result()))
