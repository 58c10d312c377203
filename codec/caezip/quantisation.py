"""From the latent to symbols: rounding, plain or weighing bits against error."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caezip.entropy import MAX_LATENT_SYMBOL, SCALE_COUNT, Indexes, Integers, checkerboard
from caezip.prediction import LatentPredictor
from caezip.transforms import SCALE_MAX, SCALE_MIN, CodecNetwork, lambda_of_rate

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


def quantise(residual: NDArray[np.float32], indexes: Indexes) -> Integers:
    """The nearest integers, 0 where ``indexes`` is 0: not coded."""
    symbols = np.clip(np.rint(residual), -MAX_LATENT_SYMBOL, MAX_LATENT_SYMBOL)
    rounded: Integers = symbols.astype(np.int32)
    rounded *= indexes > 0
    return rounded


def quantise_with_dead_zone(
    residual: NDArray[np.float32], indexes: Indexes, worth: NDArray[np.float32]
) -> Integers:
    """As `quantise`, but one step nearer to 0 where that saves more bits than it costs error.

    The choice of Sullivan and Wiegand 1998, "Rate-Distortion Optimization for Video
    Compression", between two candidates per symbol. ``worth``: `bits_per_squared_step`
    of each channel, ``[C]``.
    """
    symbols = quantise(residual, indexes)
    magnitude = np.abs(symbols)
    excess = np.abs(residual) - magnitude  # -0.5…0.5
    saving = savings_bits()[indexes, np.minimum(magnitude, LARGEST_WEIGHED)]
    # (excess + 1)^2 - excess^2 = 2 excess + 1 squared steps more error
    symbols -= np.sign(symbols) * (saving > worth[:, None, None] * (2 * excess + 1))
    return symbols


def code_latent(
    predictor: LatentPredictor, scaled: Tensor, worth: NDArray[np.float32] | None
) -> tuple[Integers, Indexes]:
    """Symbols and scale indexes ``[C, h, w]`` of a latent ``[1, C, h, w]``, pass after pass.

    With a dead zone if ``worth`` is given.
    """

    def symbols_of(mean: Tensor, indexes: Indexes) -> Integers:
        residual = (scaled - mean)[0].cpu().numpy()
        if worth is None:
            return quantise(residual, indexes)
        return quantise_with_dead_zone(residual, indexes, worth)

    first = symbols_of(predictor.first_mean, predictor.first_indexes)
    second_indexes = predictor.second_indexes(first)
    decoded = torch.from_numpy(first).to(scaled.device)[None].float() + predictor.first_mean
    second = symbols_of(predictor.second_mean(decoded), second_indexes)
    here = checkerboard(*first.shape)
    return np.where(here, first, second), np.where(here, predictor.first_indexes, second_indexes)


def bits_per_squared_step(network: CodecNetwork, rate: Tensor, tune: str) -> Tensor:
    """What the objective pays per channel for a squared quantisation step: [B, C, 1, 1].

    Lambda times the squared error in the picture that one step makes through the
    linear part of the synthesis transform; "ssim" has no such formula.
    """
    inverse_gain = network.latent_inverse_gain(rate).detach()
    if tune != "psnr":
        return torch.full_like(inverse_gain, USUAL_BITS_PER_SQUARED_STEP)
    columns = network.synthesis.content.weight.detach()[:, :, 0, 0].square().sum(dim=0)
    # mean squared error is a mean over three channels, rate is per pixel
    price = lambda_of_rate(rate)[:, None, None, None] * 255**2 / 3
    worth: Tensor = PRICE_FACTOR * price * columns[None, :, None, None] * inverse_gain.square()
    return worth


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
