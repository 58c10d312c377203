"""Numpy's matrix library has one thread while the codec works, and then as many as before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Barrier, Thread

import pytest

from caezip.matrix_threads import SharedLimit

# in a process of its own: other tests set the number of threads
PROGRAM = """
import os, sys
os.environ["OPENBLAS_NUM_THREADS"] = sys.argv[1]
import numpy as np
from threadpoolctl import ThreadpoolController
import caezip
from caezip import scales
openblas = ThreadpoolController().select(internal_api="openblas")
seen = []
products = scales.TileScales._products
def watched(self, *arguments):
    seen.extend(library["num_threads"] for library in openblas.info())
    return products(self, *arguments)
scales.TileScales._products = watched
before = openblas.info()
picture = np.arange(64 * 64 * 3).astype(np.uint8).reshape(64, 64, 3)
data = caezip.encode(picture)
caezip.decode(data)
try:
    caezip.decode(data[:-1])
except caezip.TruncatedError:
    seen.append("truncated")
assert openblas.info() == before, (openblas.info(), before)
print(*seen)
"""


@pytest.mark.parametrize("threads", ["3", "1"])
def test_products_of_a_call_stay_on_one_thread_and_nothing_is_changed_after_it(
    threads: str,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, threads], capture_output=True, text=True, check=True
    )
    *seen, last = done.stdout.split()
    assert last == "truncated"
    if seen == []:
        pytest.skip("numpy has another matrix library here")
    assert set(seen) == {"1"}


def test_the_last_to_go_restores_what_the_first_to_come_limited() -> None:
    events: list[str] = []

    @contextmanager
    def limit() -> Iterator[None]:
        events.append("limited")
        yield
        events.append("restored")

    shared = SharedLimit(limit)
    inside = Barrier(3)

    def work() -> None:
        with shared():
            inside.wait()

    threads = [Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    with shared():
        inside.wait()
        for thread in threads:
            thread.join()
        assert events == ["limited"]
    assert events == ["limited", "restored"]
    with pytest.raises(ValueError, match="wrong"), shared():
        raise ValueError("wrong")
    assert events == ["limited", "restored"] * 2
