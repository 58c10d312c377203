"""Threads for the tiles of a picture: as many as allowed, kept, stopped when something fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Event, Lock, get_ident

import pytest

from caezip.errors import CorruptError
from caezip.workers import MOST_SIDE_BY_SIDE, Workers, in_this_thread


def test_results_are_in_the_order_of_the_numbers() -> None:
    workers = Workers(None)
    for threads, jobs in [(1, 9), (3, 1), (3, 9), (64, 2)]:
        with workers(threads, jobs) as each:
            assert each(lambda number: number**2, range(9)) == [n**2 for n in range(9)]
            assert each(lambda number: number, []) == []


@pytest.mark.parametrize(
    ("threads", "jobs", "expected"), [(1, 9, 1), (2, 9, 2), (9, 2, 2), (64, 64, MOST_SIDE_BY_SIDE)]
)
def test_so_many_run_at_a_time(threads: int, jobs: int, expected: int) -> None:
    together, most, running, lock = Barrier(expected, timeout=30), 0, 0, Lock()

    def job(number: int) -> None:
        nonlocal most, running
        with lock:
            running += 1
            most = max(most, running)
        together.wait()  # fewer would wait here for good
        with lock:
            running -= 1

    with Workers(None)(threads, jobs) as each:
        each(job, range(4 * expected))
    assert most == expected


def test_threads_are_kept_from_one_picture_to_the_next() -> None:
    workers, seen = Workers(None), []
    for _ in range(5):
        both = Barrier(2, timeout=30)

        def job(number: int, both: Barrier = both) -> int:
            both.wait()
            return get_ident()

        with workers(2, 2) as each:
            seen.append(frozenset(each(job, range(2))))
    assert len(set(seen)) == 1
    assert len(seen[0]) == 2


def test_each_takes_its_share_of_the_threads() -> None:
    limits: list[int] = []

    @contextmanager
    def limit(threads: int) -> Iterator[None]:
        limits.append(threads)
        yield

    workers = Workers(limit)
    with workers(6, 2) as each:
        each(abs, range(2))
    with workers(6, 1) as each:
        each(abs, range(2))
    assert limits == [3, 3, 6]  # a caller who does all is limited once


def test_the_first_numbers_error_is_raised_and_nothing_more_is_begun() -> None:
    begun, second_failed = [], Event()

    def job(number: int) -> None:
        begun.append(number)
        if number == 0:
            second_failed.wait(30)
        else:
            second_failed.set()
        raise CorruptError(f"tile {number}")

    with Workers(None)(2, 50) as each, pytest.raises(CorruptError, match="tile 0"):
        each(job, range(50))
    assert sorted(begun) == [0, 1]


def test_an_error_is_raised_at_once_and_the_others_are_waited_for_at_the_end() -> None:
    both_began, raised, ended = Barrier(2, timeout=30), Event(), Event()

    def job(number: int) -> None:
        both_began.wait()
        if number == 0:
            raise CorruptError("tile 0")
        raised.wait(30)  # as a tile whose refinement is told to stop
        ended.set()

    def fail() -> None:
        with Workers(None)(2, 2) as each:
            try:
                each(job, range(2))
            finally:
                assert not ended.is_set()
                raised.set()

    with pytest.raises(CorruptError, match="tile 0"):
        fail()
    assert ended.is_set()


def test_what_needs_others_waits_and_what_comes_later_does_not() -> None:
    """Two threads: 1 needs 0, which ends behind 2 and 3 only; these are begun meanwhile."""
    order: list[int] = []
    others_done = Event()

    def job(number: int) -> int:
        if number == 0:
            assert others_done.wait(30)
        order.append(number)
        if number == 3:
            others_done.set()
        return -number

    with Workers(None)(2, 9) as each:
        assert each(job, range(5), [(), (0,), (), (2,), (1, 3)]) == [0, -1, -2, -3, -4]
    assert order == [2, 3, 0, 1, 4]


def test_what_waits_for_something_that_failed_is_never_begun() -> None:
    begun: list[int] = []

    def job(number: int) -> None:
        begun.append(number)
        if number == 1:
            raise CorruptError("tile 1")

    for threads in (1, 2):
        begun.clear()
        with Workers(None)(threads, 9) as each, pytest.raises(CorruptError, match="tile 1"):
            each(job, range(4), [(), (), (1,), (0, 2)])
        assert sorted(begun) == [0, 1]


def test_a_thread_that_is_one_of_several_works_in_turn() -> None:
    def job(number: int) -> tuple[int, int]:
        return number, get_ident()

    with in_this_thread(7) as each:
        assert each(job, [3, 1], [(), (0,)]) == [(3, get_ident()), (1, get_ident())]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # what it is about
def test_a_forked_process_has_threads_of_its_own() -> None:
    workers = Workers(None)
    with workers(2, 2) as each:
        each(abs, range(2))
    child = os.fork()
    if not child:
        with ThreadPoolExecutor(1) as watch, workers(2, 2) as each:
            done = watch.submit(each, abs, [-1, -2])
            try:
                os._exit(0 if done.result(20) == [1, 2] else 1)
            except BaseException:
                os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
