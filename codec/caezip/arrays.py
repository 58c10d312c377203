"""What compiled functions are given: they read and write memory as they are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class KeptArrays:
    """Copies of arrays that structures point to, as long as this is there."""

    def __init__(self) -> None:
        self._arrays: list[NDArray[Any]] = []

    def address_of(self, array: NDArray[Any]) -> int:
        """Of a copy without gaps that stays as it is."""
        self._arrays.append(np.array(array, order="C"))
        return self._arrays[-1].ctypes.data


def check_array(
    name: str,
    array: NDArray[Any],
    kind: type[Any],
    shape: Sequence[int],
    *,
    whole: int | None = None,
) -> None:
    """Nothing else may reach them. Raises ValueError.

    Of the array the last ``whole`` axes have to lie without gaps, or, if it is None, all.
    """
    cut = 0 if whole is None else array.ndim - whole
    gapless = array[(0,) * cut] if array.size else array
    if array.dtype != kind or array.shape != tuple(shape) or not gapless.flags.c_contiguous:
        raise ValueError(
            f"{name}: found {array.dtype} {array.shape} {array.strides}, "
            f"allowed is {np.dtype(kind)} {tuple(shape)}"
        )
