"""Tiles side by side: a thread of its own for each, instead of all threads for one.

Networks leave less of their time to waiting when each thread has its own tile, and
one tile's entropy coding runs beside another's networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

MOST_SIDE_BY_SIDE = 4  # each tile takes some 100 MB while it is worked on
Map = Callable[[Callable[[int], Any], Iterable[int]], list[Any]]


@contextmanager
def workers(threads: int | None, jobs: int) -> Iterator[Map]:
    """A parallel ``map`` over numbers, with at most ``threads`` (None: torch's setting).

    For a single job all threads are torch's; when there are more threads than tiles at
    once, each has several. Torch's setting is as before in the end.
    """
    before = torch.get_num_threads()
    threads = threads or before
    side_by_side = min(threads, jobs, MOST_SIDE_BY_SIDE)
    try:
        torch.set_num_threads(threads)
        if side_by_side == 1:
            yield lambda function, numbers: [function(number) for number in numbers]
            return
        with ThreadPoolExecutor(
            side_by_side,
            thread_name_prefix="caezip",
            # torch's setting is one per calling thread
            initializer=torch.set_num_threads,
            initargs=(threads // side_by_side,),
        ) as pool:
            yield lambda function, numbers: list(pool.map(function, numbers))
    finally:
        torch.set_num_threads(before)
