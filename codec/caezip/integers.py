"""What all exact parts of a decoder share: integers, their bounds, and tables by quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from caezip.errors import WeightsError

Integers = NDArray[np.int32]

MAX_HYPER_SYMBOL = 127  # |z| is at most this
QUALITY_LOW, QUALITY_SPAN = 100, 9900  # hundredths: 1…100


def check_exported(
    owner: str, parts: object, shapes: Mapping[str, tuple[int, ...]], shifts: Sequence[str]
) -> None:
    """Raise WeightsError unless arrays of ``parts`` have these shapes, and shifts are 1 to 24."""
    for name, shape in shapes.items():
        found = getattr(parts, name).shape
        if found != shape:
            raise WeightsError(f"{owner} {name}: found {found}, allowed is {shape}")
    for name in shifts:
        value = getattr(parts, name)
        if not 1 <= value <= 24:
            raise WeightsError(f"{owner} {name}: found {value}, allowed are 1 to 24")


def interpolated(anchors: Integers, quality_hundredths: int) -> Integers:
    """Biases ``[C]`` between two anchors, in integers, rounded down after adding half."""
    last = len(anchors) - 1
    position = (quality_hundredths - QUALITY_LOW) * last
    low = min(position // QUALITY_SPAN, last - 1)
    fraction = position - low * QUALITY_SPAN
    table = anchors.astype(np.int64)
    blend = table[low] * (QUALITY_SPAN - fraction) + table[low + 1] * fraction
    bias: Integers = ((blend + QUALITY_SPAN // 2) // QUALITY_SPAN).astype(np.int32)
    return bias


def exact_type(
    values: Integers, largest_row: int, addend: int = 0
) -> type[np.float32] | type[np.float64]:
    """In which a product with ``values`` plus up to ``addend`` is exact, in any order.

    ``largest_row``: what the magnitudes in a row of the other matrix add up to, at most.
    """
    largest = int(np.abs(values).max(initial=0)) * largest_row
    return np.float32 if largest + addend < 1 << 24 else np.float64
