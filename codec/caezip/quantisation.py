"""From the latent to symbols: rounding, plain or weighing bits against error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from caezip.compiled import LARGEST_WEIGHED, PassRounder, load_loops
from caezip.config import SCALE_MAX, SCALE_MIN
from caezip.integers import MAX_HYPER_SYMBOL, Integers
from caezip.networks import Floats
from caezip.prediction import LatentPredictor
from caezip.scales import MAX_LATENT_SYMBOL, SCALE_COUNT, Coded, Indexes

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", NDArray[np.float32], "Tensor")

LARGEST_SAVING_BITS = 20.0  # what an escape costs, about
# The first linear layer of the synthesis transform overstates what a step does: the
# renderer after it attenuates. Between 0.5 and 1 saved most at equal PSNR on held-back photographs.
PRICE_FACTOR = 0.75
# What a squared step of error is worth in bits where it is not computed: what saved most
# at equal MS-SSIM on held-back photographs. At high rates theory says 12 / (2 ln 2) = 8.7
# (Gray and Neuhoff 1998, "Quantization"); channels that are mostly 0 have larger steps.
USUAL_BITS_PER_SQUARED_STEP = 24.0


def quantise(residual: Floats) -> Integers:
    """The nearest integers that the format can hold."""
    return _nearest(residual, MAX_LATENT_SYMBOL)


def quantise_hyper(hyper_latent: Floats) -> Integers:
    """As `quantise`, of a hyper-latent."""
    return _nearest(hyper_latent, MAX_HYPER_SYMBOL)


def _nearest(values: Floats, largest: int) -> Integers:
    return np.clip(np.rint(values), -largest, largest).astype(np.int32)


def quantise_with_dead_zone(residual: Floats, indexes: Indexes, worth: Floats) -> Integers:
    """As `quantise`, but one step nearer to 0 where that saves more bits than it costs error.

    The choice of Sullivan and Wiegand 1998, "Rate-Distortion Optimization for Video
    Compression", between two candidates per symbol. ``indexes`` are the symbols' scale
    indexes, ``worth`` their `bits_per_squared_step`; all three are ``[n]``.
    """
    symbols = quantise(residual)
    others = np.flatnonzero(symbols)  # zeros, which most are, stay
    chosen = symbols[others]
    magnitude = np.abs(chosen)
    # -0.5…0.5; like the sum below exact in float32
    excess = np.abs(residual[others]) - magnitude.astype(np.float32)
    rows = (LARGEST_WEIGHED + 1) * indexes[others].astype(np.intp)
    saving = savings_bits().take(rows + np.minimum(magnitude, LARGEST_WEIGHED))
    # (excess + 1)^2 - excess^2 = 2 excess + 1 squared steps more error
    symbols[others] -= np.sign(chosen) * (saving > worth[others] * (2 * excess + 1))
    return symbols


@dataclass(frozen=True)
class CodedLatent:
    """The symbols that are coded of a latent of a ``shape`` [C, h, w], pass by pass."""

    shape: tuple[int, ...]
    passes: tuple[tuple[Coded, Integers], ...]

    def symbols(self) -> Integers:
        """``[C, h, w]``, 0 where nothing is coded."""
        out = np.zeros(self.shape, np.int32)
        for coded, symbols in self.passes:
            out.ravel()[coded.places] = symbols
        return out

    def indexes(self) -> Indexes:
        """Scale indexes ``[C, h, w]``, 0 where nothing is coded."""
        out = np.zeros(self.shape, np.uint8)
        for coded, _ in self.passes:
            out.ravel()[coded.places] = coded.indexes
        return out


def coded_latent(predictor: LatentPredictor, scaled: Floats, worth: Floats | None) -> CodedLatent:
    """`code_latent`, by compiled loops where there are any: the same symbols, sooner."""
    loops = load_loops()
    if loops is None:
        return code_latent(predictor, scaled, worth)
    scaled = np.ascontiguousarray(scaled)
    passes, mean = predictor.passes(loops), predictor.first_mean
    steps = np.empty_like(mean)
    rounder = PassRounder(loops, scaled, mean, worth, savings_bits(), steps)
    rounder.round_first(passes)
    second = PassRounder(loops, scaled, predictor.second_mean(steps), worth, savings_bits())
    second.round_second(passes)
    listed = (part.listed() for part in (rounder, second))
    return CodedLatent(
        scaled.shape,
        tuple((Coded(places, indexes), symbols) for places, symbols, indexes in listed),
    )


def code_latent(predictor: LatentPredictor, scaled: Floats, worth: Floats | None) -> CodedLatent:
    """A latent in steps ``[C, h, w]``, rounded pass after pass; only what is coded is looked at.

    With a dead zone if ``worth`` [C] is given.
    """
    cells = scaled.shape[1] * scaled.shape[2]
    channel_ends = cells * np.arange(1, len(scaled) + 1)

    def rounded(coded: Coded, mean: Floats) -> Integers:
        residual = scaled.ravel()[coded.places]
        predicted = coded.places[: np.searchsorted(coded.places, mean.size)]
        residual[: len(predicted)] -= mean.ravel()[predicted]
        if worth is None:
            return quantise(residual)
        per_channel = np.diff(np.searchsorted(coded.places, channel_ends), prepend=0)
        return quantise_with_dead_zone(residual, coded.indexes, np.repeat(worth, per_channel))

    first = predictor.first
    symbols = rounded(first, predictor.first_mean)
    # what pass one decodes of the channels that have means, 0 elsewhere
    steps: Floats = predictor.first_mean * predictor.first_cells((scaled.shape[1], scaled.shape[2]))
    predicted = first.places[: np.searchsorted(first.places, steps.size)]
    steps.ravel()[predicted] += symbols[: len(predicted)]
    second = predictor.second(symbols)
    second_symbols = rounded(second, predictor.second_mean(steps))
    return CodedLatent(scaled.shape, ((first, symbols), (second, second_symbols)))


def bits_per_squared_step(
    columns: Array, inverse_gain: Array, lagrangian: Array | float, tune: str
) -> Array:
    """What the objective pays for a squared quantisation step of a channel.

    ``columns`` is the squared error in a patch of a unit of the channel's latent, see
    `caezip.pretrained.Model.error_energy`; the price is lambda times that of a step.
    "ssim" has no such formula. Arrays or tensors, of any shapes that fit.
    """
    if tune == "ssim":
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
