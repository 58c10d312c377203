"""Numpy's matrix library on one thread while we work.

Its threads wait busily for their next product, on cores that the networks or the next tile
could use.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache
from threading import Lock
from typing import Any

Limit = Callable[[], AbstractContextManager[Any]]


class SharedLimit:
    """A context that many threads may be in: the first to come limits, the last to go restores."""

    def __init__(self, limit: Limit) -> None:
        self._limit, self._inside = limit, 0
        self._lock, self._restore = Lock(), ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._restore.enter_context(self._limit())
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._restore.close()


@cache
def _openblas() -> Any:
    """What controls it; looked for once, which takes 20 ms."""
    import numpy as np  # noqa: F401  # only libraries that are loaded are found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(internal_api="openblas")


_limit = SharedLimit(lambda: _openblas().limit(limits=1))


def one_matrix_thread() -> AbstractContextManager[None]:
    """Products of matrices stay on the thread that asks for them, in all of the process."""
    if os.environ.get("OPENBLAS_NUM_THREADS") == "1":  # as our commands have it from the start
        return nullcontext()
    return _limit()
