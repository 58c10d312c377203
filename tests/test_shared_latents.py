"""Latents of tiles: made once, by whoever needs them first, and given up with their last window."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from weakref import ref

import numpy as np
import pytest

from caezip.errors import CorruptError
from caezip.shared_latents import SharedLatents, TileLatent
from caezip.tiling import Box


def _latent(number: int) -> TileLatent:
    latent = np.full((1, 2, 2), number, np.float32)
    return TileLatent(Box(0, 0, 2, 2), latent, np.zeros((0, 2, 2), np.int32), None)


def test_each_is_made_once_and_given_up_with_its_last_window() -> None:
    made: list[int] = []

    def make(number: int) -> TileLatent:
        made.append(number)
        return _latent(number)

    windows = [(0, 1), (1, 2), (2,)]
    latents = SharedLatents(make, (tile for window in windows for tile in window))
    first, second = ref(latents.of(windows[0])[0]), ref(latents.of(windows[0])[1])
    latents.seen(windows[0])
    assert first() is None
    assert second() is not None
    assert {n: latent.latent.max() for n, latent in latents.of(windows[1]).items()} == {1: 1, 2: 2}
    latents.seen(windows[1])
    assert second() is None
    assert sorted(latents.of(windows[2])) == [2]
    assert made == [0, 1, 2]


def test_workers_begin_with_different_tiles_and_wait_for_each_others() -> None:
    both_began, made = Barrier(2, timeout=30), []

    def make(number: int) -> TileLatent:
        both_began.wait()  # one worker alone would never get further
        made.append(number)
        return _latent(number)

    latents = SharedLatents(make, [0, 1] * 2)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(latents.of, [(0, 1)] * 2))
    assert sorted(made) == [0, 1]
    assert found[0] == found[1]


def test_an_error_is_every_waiting_windows() -> None:
    began, fail = Event(), Event()

    def make(number: int) -> TileLatent:
        began.set()
        fail.wait(30)
        raise CorruptError(f"tile {number}")

    latents = SharedLatents(make, [3, 3])
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(latents.of, [3])
        began.wait(30)
        second = pool.submit(latents.of, [3])
        fail.set()
        for window in (first, second):
            with pytest.raises(CorruptError, match="tile 3"):
                window.result()
