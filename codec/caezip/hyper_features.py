"""What scales see of the hyper-latent around a cell, in integers only.

Scale indexes follow from the hyper-latent's symbols of one cell. Some models have further
channels beside them, rectified sums of the symbols of the cell and of the eight around it. What
the decoder reads depends on them, so they are exact on every machine. FORMAT.md gives the same
rules in words ("Scale indexes").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caezip.errors import WeightsError
from caezip.integers import (
    MAX_HYPER_SYMBOL,
    Integers,
    check_exported,
    exact_type,
    interpolated,
)

# (row, column) of the cells that a cell's features are sums of
AROUND = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1))
LARGEST_FEATURE = MAX_HYPER_SYMBOL


@dataclass(frozen=True)
class IntegerHyperFeatures:
    """As exported: with ``x`` [9 Z] the symbols of `AROUND`, 0 outside, and half a step in biases::

        features = clamp((weight @ x + bias(quality)) >> shift, 0, 127)

    ``weight`` int16 ``[F, 9 Z]``, ``bias`` int32 ``[anchors, F]``.
    """

    weight: NDArray[np.int16]
    bias: Integers
    shift: int

    def __post_init__(self) -> None:
        if self.bias.ndim != 2 or self.weight.ndim != 2 or len(self.bias) < 2:
            raise WeightsError("hyper-features: weight and bias must be matrices")
        shape = self.bias.shape[1], len(AROUND) * (self.weight.shape[1] // len(AROUND))
        check_exported("hyper-features", self, {"weight": shape}, ("shift",))
        bias = int(np.abs(self.bias.astype(np.int64)).max(initial=0))
        if self._largest_row * MAX_HYPER_SYMBOL + bias + self._half_step >= 1 << 31:
            raise WeightsError("hyper-features: their sums can exceed 31 bits")

    @property
    def channels(self) -> int:
        """Of the hyper-latent."""
        return self.weight.shape[1] // len(AROUND)

    @property
    def _half_step(self) -> int:
        return 1 << (self.shift - 1)

    @cached_property
    def _largest_row(self) -> int:
        return int(np.abs(self.weight.astype(np.int64)).sum(axis=1).max(initial=0))

    @cached_property
    def _exact(self) -> dict[type[np.floating[Any]], NDArray[Any]]:
        return {kind: self.weight.astype(kind) for kind in (np.float32, np.float64)}

    def rounding_bias(self, quality_hundredths: int) -> Integers:
        """``[F]``, with half a step of what is shifted away."""
        bias: Integers = interpolated(self.bias, quality_hundredths) + np.int32(self._half_step)
        return bias

    def beside(self, hyper_latent: Integers, quality_hundredths: int) -> Integers:
        """The hyper-latent ``[Z, zh, zw]`` with its features behind it: ``[Z + F, zh, zw]``."""
        channels, zh, zw = hyper_latent.shape
        bias = self.rounding_bias(quality_hundredths)
        kind = exact_type(hyper_latent, self._largest_row, int(np.abs(bias).max(initial=0)))
        padded = np.zeros((channels, zh + 2, zw + 2), kind)
        padded[:, 1:-1, 1:-1] = hyper_latent
        seen = np.empty((len(AROUND), channels, zh, zw), kind)
        for cells, (row, column) in zip(seen, AROUND, strict=True):
            cells[:] = padded[:, 1 + row : 1 + row + zh, 1 + column : 1 + column + zw]
        sums = self._exact[kind] @ seen.reshape(-1, zh * zw) + bias[:, None]
        features = (sums.astype(np.int32) >> self.shift).clip(0, LARGEST_FEATURE)
        return np.concatenate([hyper_latent, features.reshape(-1, zh, zw)])
