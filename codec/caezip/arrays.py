"""What compiled functions are given: they read and write memory as they are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Values = TypeVar("Values", bound=np.generic)


def continued(array: NDArray[Values], unit: int, axis: int) -> NDArray[Values]:
    """The last row and column, of ``axis`` and the next, repeated to multiples of ``unit``.

    What numpy's own function for this does beside takes as long for small pictures as a network.
    """
    height, width = array.shape[axis : axis + 2]
    below, beside = -height % unit, -width % unit
    if not below and not beside:
        return array
    shape = (*array.shape[:axis], height + below, width + beside, *array.shape[axis + 2 :])
    out = np.empty(shape, array.dtype)

    def part(of: NDArray[Values], rows: slice, columns: slice) -> NDArray[Values]:
        return of[(slice(None),) * axis + (rows, columns)]

    whole, last = slice(None), slice(-1, None)
    part(out, slice(height), slice(width))[...] = array
    part(out, slice(height), slice(width, None))[...] = part(array, whole, last)
    part(out, slice(height, None), whole)[...] = part(out, slice(height - 1, height), whole)
    return out


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
