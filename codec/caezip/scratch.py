"""Arrays for what is needed for a moment, over and over."""

from __future__ import annotations

import math
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Scratch(local):
    """Arrays that the next call from the same thread gets again.

    Memory that is new has to be cleared by the system first, which takes longer than many a layer.
    """

    def __init__(self) -> None:
        self._memory: dict[str, NDArray[np.uint8]] = {}

    def array(self, name: str, kind: Any, *shape: int) -> NDArray[Any]:
        """Of any content. It is the caller's until the next call for ``name``."""
        size = math.prod(shape) * np.dtype(kind).itemsize
        memory = self._memory.get(name)
        if memory is None or memory.size < size:
            memory = self._memory[name] = np.empty(size, np.uint8)
        array: NDArray[Any] = memory[:size].view(kind).reshape(shape)
        return array
