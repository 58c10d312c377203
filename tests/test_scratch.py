"""Arrays that are used again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np

from caezip.scratch import Scratch


def test_the_same_memory_comes_back_as_long_as_it_is_enough() -> None:
    scratch = Scratch()
    first = scratch.array("one", np.float32, 3, 4)
    first[...] = 7
    again = scratch.array("one", np.int16, 2, 5)
    assert again.shape == (2, 5)
    assert again.dtype == np.int16
    assert np.shares_memory(first, again)
    larger = scratch.array("one", np.float32, 13)
    assert not np.shares_memory(first, larger)
    assert (first.ravel()[5:] == 7).all()


def test_names_and_threads_have_their_own() -> None:
    scratch, both = Scratch(), Barrier(2)
    one, other = scratch.array("one", np.uint8, 9), scratch.array("other", np.uint8, 9)
    assert not np.shares_memory(one, other)

    def work(_: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        both.wait(10)
        return scratch.array("one", np.uint8, 9)

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(work, range(2))
    assert not np.shares_memory(first, second)
    assert not np.shares_memory(first, one)


def test_arrays_without_elements_are_possible() -> None:
    assert Scratch().array("none", np.float32, 0, 4).shape == (0, 4)
