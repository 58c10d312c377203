"""Rounding that weighs bits against error, for one pass of the encoder."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from caezip.entropy import MAX_LATENT_SYMBOL, SCALE_COUNT, Indexes, Integers
from caezip.transforms import SCALE_MAX, SCALE_MIN

# Bits that a squared quantisation step of error is worth where the steps are
# optimal: lambda = -dR/dD at D = step^2 / 12 (Gray and Neuhoff 1998, "Quantization").
BITS_PER_SQUARED_STEP = 12 / (2 * math.log(2))
LARGEST_WEIGHED = 15  # symbols above are rounded as if they were this
LARGEST_SAVING_BITS = 20.0  # what an escape costs, about


def quantise(residual: NDArray[np.float32], indexes: Indexes) -> Integers:
    """The nearest integers, 0 where ``indexes`` is 0: not coded."""
    symbols = np.clip(np.rint(residual), -MAX_LATENT_SYMBOL, MAX_LATENT_SYMBOL)
    rounded: Integers = symbols.astype(np.int32)
    rounded *= indexes > 0
    return rounded


def quantise_with_dead_zone(residual: NDArray[np.float32], indexes: Indexes) -> Integers:
    """As `quantise`, but one step nearer to 0 where that saves more bits than it costs error.

    The choice of Sullivan and Wiegand 1998, "Rate-Distortion Optimization for Video
    Compression", between two candidates per symbol.
    """
    symbols = quantise(residual, indexes)
    magnitude = np.abs(symbols)
    excess = np.abs(residual) - magnitude  # -0.5…0.5
    threshold = _thresholds()[indexes, np.minimum(magnitude, LARGEST_WEIGHED)]
    symbols -= np.sign(symbols) * (excess < threshold)
    return symbols


@cache
def _thresholds() -> NDArray[np.float32]:
    """Excess over symbol ``q`` below which ``q - 1`` is the better one: [index, q]."""
    scales = np.geomspace(SCALE_MIN, SCALE_MAX, SCALE_COUNT)
    out = np.full((SCALE_COUNT, LARGEST_WEIGHED + 1), -1.0, np.float32)
    for index, scale in enumerate(scales):
        costs = [_bits(q, float(scale)) for q in range(LARGEST_WEIGHED + 1)]
        for q in range(1, LARGEST_WEIGHED + 1):
            saving = min(costs[q] - costs[q - 1], LARGEST_SAVING_BITS)
            # (excess + 1)^2 - excess^2 = 2 excess + 1 squared steps more error
            out[index, q] = (saving / BITS_PER_SQUARED_STEP - 1) / 2
    return out


def _bits(symbol: int, scale: float) -> float:
    """Code length of a symbol under a Gaussian that is integrated over its interval."""
    low, high = ((symbol + side) / (scale * math.sqrt(2)) for side in (-0.5, 0.5))
    probability = (math.erfc(low) - math.erfc(high)) / 2
    return -math.log2(max(probability, 2.0**-60))
