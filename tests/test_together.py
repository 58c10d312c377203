"""Calls that wait for each other run as one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from caezip.together import Together


def test_who_finds_nothing_running_runs_alone() -> None:
    runs: list[list[int]] = []

    def run(items: Sequence[int]) -> list[int]:
        runs.append(list(items))
        return [item**2 for item in items]

    together = Together(4)
    assert [together("a", run, n) for n in range(3)] == [0, 1, 4]
    assert runs == [[0], [1], [2]]


def test_who_waits_runs_with_others_of_the_kind() -> None:
    runs: list[list[int]] = []
    began, go_on = Event(), Event()

    def run(items: Sequence[int]) -> list[int]:
        runs.append(sorted(items))
        began.set()
        go_on.wait(30)
        return [-item for item in items]

    together = Together(4)
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(together, "a", run, 0)
        assert began.wait(30)
        others = [pool.submit(together, "a", run, n) for n in range(1, 8)]
        other_kind = pool.submit(together, "b", run, 100)
        while sum(map(len, together._waiting.values())) < 8:
            pass
        go_on.set()
        assert first.result() == 0
        assert [other.result() for other in others] == [-n for n in range(1, 8)]
        assert other_kind.result() == -100
    assert [0] in runs
    assert [100] in runs
    assert sorted(len(r) for r in runs if r not in ([0], [100])) == [3, 4]  # four at most
    assert sorted(n for r in runs for n in r) == [*range(8), 100]
    assert not together._waiting


def test_an_error_reaches_all_that_were_in_the_run_and_no_others() -> None:
    def run(items: Sequence[int]) -> list[int]:
        if any(item < 0 for item in items):
            raise ValueError(f"found {min(items)}")
        return list(items)

    together = Together(4)
    with pytest.raises(ValueError, match="found -1"):
        together("a", run, -1)
    assert together("a", run, 1) == 1


def test_many_threads_get_their_own_results() -> None:
    together = Together(3)

    def run(items: Sequence[int]) -> list[int]:
        return [10 * item for item in items]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: together(n % 2, run, n), range(400)))
    assert results == [10 * n for n in range(400)]
