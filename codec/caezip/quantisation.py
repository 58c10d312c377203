"""From the latent to symbols: rounding, plain or weighing bits against error."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from caezip.config import SCALE_MAX, SCALE_MIN
from caezip.entropy import MAX_LATENT_SYMBOL, SCALE_COUNT, Indexes, Integers, checkerboard
from caezip.networks import Floats
from caezip.prediction import LatentPredictor

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", NDArray[np.float32], "Tensor")

LARGEST_WEIGHED = 15  # symbols above are rounded as if they were this
LARGEST_SAVING_BITS = 20.0  # what an escape costs, about
# The first linear layer of the synthesis transform overstates what a step does: the
# renderer after it attenuates. Between 0.5 and 1 saved most at equal PSNR on held-back photographs.
PRICE_FACTOR = 0.75
# What a squared step of error is worth in bits where it is not computed: about what
# weights tuned for PSNR have in the middle of their channels. At high rates theory says
# 12 / (2 ln 2) = 8.7 (Gray and Neuhoff 1998, "Quantization"); channels that are mostly 0
# have larger steps.
USUAL_BITS_PER_SQUARED_STEP = 16.0


def quantise(residual: Floats) -> Integers:
    """The nearest integers that the format can hold."""
    symbols = np.clip(np.rint(residual), -MAX_LATENT_SYMBOL, MAX_LATENT_SYMBOL)
    return symbols.astype(np.int32)


def quantise_with_dead_zone(residual: Floats, indexes: Indexes, worth: Floats) -> Integers:
    """As `quantise`, but one step nearer to 0 where that saves more bits than it costs error.

    The choice of Sullivan and Wiegand 1998, "Rate-Distortion Optimization for Video
    Compression", between two candidates per symbol. ``indexes`` are the symbols' scale
    indexes, ``worth`` their `bits_per_squared_step`; all three have one shape.
    """
    symbols = quantise(residual)
    magnitude = np.abs(symbols)
    excess = np.abs(residual) - magnitude  # -0.5…0.5
    saving = savings_bits()[indexes, np.minimum(magnitude, LARGEST_WEIGHED)]
    # (excess + 1)^2 - excess^2 = 2 excess + 1 squared steps more error
    symbols -= np.sign(symbols) * (saving > worth * (2 * excess + 1))
    return symbols


def code_latent(
    predictor: LatentPredictor, scaled: Floats, worth: Floats | None
) -> tuple[Integers, Indexes]:
    """Symbols and scale indexes ``[C, h, w]`` of a latent in steps, pass after pass.

    With a dead zone if ``worth`` is given.
    """
    symbols = np.zeros(scaled.shape, np.int32)
    indexes = np.zeros(scaled.shape, np.uint8)
    here = checkerboard(*scaled.shape)

    def code_pass(mean: Floats, table: Indexes, mask: NDArray[np.bool_]) -> None:
        """Fill in the symbols of one pass; only those that are coded are looked at."""
        coded = np.flatnonzero((table > 0) & mask)
        index = table.ravel()[coded]
        residual = scaled.ravel()[coded] - mean.ravel()[coded]
        if worth is None:
            symbols.ravel()[coded] = quantise(residual)
        else:
            price = worth[coded // (scaled.shape[1] * scaled.shape[2])]
            symbols.ravel()[coded] = quantise_with_dead_zone(residual, index, price)
        indexes.ravel()[coded] = index

    code_pass(predictor.first_mean, predictor.first_indexes, here)
    first_steps = np.where(here, symbols + predictor.first_mean, np.float32(0))
    second_indexes = predictor.second_indexes(symbols)
    code_pass(predictor.second_mean(first_steps), second_indexes, ~here)
    return symbols, indexes


def bits_per_squared_step(
    columns: Array, inverse_gain: Array, lagrangian: Array | float, tune: str
) -> Array:
    """What the objective pays for a squared quantisation step of a channel.

    ``columns`` is the squared error in a patch of a unit of the channel's latent, through
    the linear part of the synthesis transform; the price is lambda times that of a step.
    "ssim" has no such formula. Arrays or tensors, of any shapes that fit.
    """
    if tune != "psnr":
        return 0 * inverse_gain + USUAL_BITS_PER_SQUARED_STEP
    # mean squared error is a mean over three channels, rate is per pixel
    price = PRICE_FACTOR * lagrangian * (255**2 / 3)
    return price * columns * inverse_gain * inverse_gain


@cache
def savings_bits() -> NDArray[np.float32]:
    """Bits saved by coding ``q - 1`` instead of ``q``: ``[64, 16]``, by index and q."""
    scales = np.geomspace(SCALE_MIN, SCALE_MAX, SCALE_COUNT)
    out = np.full((SCALE_COUNT, LARGEST_WEIGHED + 1), -np.inf, np.float32)
    for index, scale in enumerate(scales):
        costs = [_bits(q, float(scale)) for q in range(LARGEST_WEIGHED + 1)]
        out[index, 1:] = np.minimum(np.diff(costs), LARGEST_SAVING_BITS)
    return out


def _bits(symbol: int, scale: float) -> float:
    """Code length of a symbol under a Gaussian that is integrated over its interval."""
    low, high = ((symbol + side) / (scale * math.sqrt(2)) for side in (-0.5, 0.5))
    probability = (math.erfc(low) - math.erfc(high)) / 2
    return -math.log2(max(probability, 2.0**-60))
