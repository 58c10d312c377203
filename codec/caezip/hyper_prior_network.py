"""The hyper-latent's prior in floating point, with gradients: for training and refinement.

`caezip.hyper_prior` is what coders run. Shapes are those of `caezip.transforms`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name torch documents
from numpy.typing import NDArray
from torch import Tensor, nn

from caezip.blocks import AnchorTable
from caezip.config import ModelConfig
from caezip.hyper_prior import (
    HYPER_SCALE_COUNT,
    KNOWN_CELLS,
    LARGEST_HIDDEN,
    LARGEST_SEEN,
    PHASES,
    IntegerHyperPrior,
    seen_before,
)
from caezip.integers import Integers

HIDDEN_CHANNELS = 64
HIDDEN_STEPS = 32  # exported hidden values count 32nds
MAGNITUDE_STEPS = 16  # as `caezip.hyper_prior.MAGNITUDES`
# The ends of the table of logistic scales, log-spaced between.
HYPER_SCALE_MIN, HYPER_SCALE_MAX = 0.08, 24.0
HYPER_INDEX_PER_NAT = (HYPER_SCALE_COUNT - 1) / math.log(HYPER_SCALE_MAX / HYPER_SCALE_MIN)
FIRST_SCALE = 1.0  # of a new prior
SMALLEST_LIKELIHOOD = 1e-9
LARGEST_INT16 = 32767


class HyperPrior(nn.Module):
    """Means and scales of the hyper-latent, from what is coded before each symbol.

    All of it is carried out in integers by coders. Scales are in nats above the smallest.
    """

    seen: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        outputs = 2 * config.hyper_latent_channels
        self.first = nn.Conv2d(4 * outputs, HIDDEN_CHANNELS, 1, bias=False)
        self.first_bias = AnchorTable(HIDDEN_CHANNELS, config.anchor_rates)
        self.second = nn.Conv2d(HIDDEN_CHANNELS, outputs, 1, bias=False)
        self.second_bias = AnchorTable(outputs, config.anchor_rates)
        self.before = nn.Conv2d(outputs, outputs, 1, bias=False)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.before.weight)
        with torch.no_grad():
            self.second_bias.table[:, outputs // 2 :] = math.log(FIRST_SCALE / HYPER_SCALE_MIN)
        mask = torch.from_numpy(seen_before(outputs // 2).astype(np.float32))
        self.register_buffer("seen", mask[:, :, None, None], persistent=False)

    def forward(self, symbols: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of scales of integers ``[B, Z, zh, zw]``, each of that shape."""
        values = symbols.clamp(-LARGEST_SEEN, LARGEST_SEEN)
        own = torch.cat([values, values.abs().log1p()], dim=1)
        zh, zw = symbols.shape[2:]
        padded = F.pad(own, (1, 1, 1, 0))
        around = [
            padded[:, :, 1 + down : 1 + down + zh, 1 + right : 1 + right + zw]
            for down, right in KNOWN_CELLS
        ]
        hidden = self.first(torch.cat(around, dim=1)) + self.first_bias(rate)
        hidden = hidden.clamp(0, LARGEST_HIDDEN / HIDDEN_STEPS)
        sums = self.second(hidden) + F.conv2d(own, self.before.weight * self.seen)
        mean, nats = (sums + self.second_bias(rate)).chunk(2, dim=1)
        return mean, nats + math.log(HYPER_SCALE_MIN)

    def bits(self, symbols: Tensor, rate: Tensor) -> Tensor:
        """Code lengths ``[B, Z, zh, zw]``, also between integers."""
        return logistic_bits(symbols, *self(symbols, rate))


def logistic_bits(symbols: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Code lengths of ``symbols`` under logistic distributions, in bits.

    Their mass within half a step, as that of Salimans et al. 2017, "PixelCNN++", section 2.1.
    """
    limits = math.log(HYPER_SCALE_MIN), math.log(HYPER_SCALE_MAX)
    sharpness = (-log_scale.clamp(*limits)).exp()
    distance = (symbols - mean).abs()
    mass = torch.sigmoid((0.5 - distance) * sharpness) - torch.sigmoid(
        (-0.5 - distance) * sharpness
    )
    return -mass.clamp_min(SMALLEST_LIKELIHOOD).log2()


def integer_hyper_prior_of(prior: HyperPrior) -> IntegerHyperPrior:
    """As coders run it."""

    def values(tensor: Tensor) -> NDArray[np.float64]:
        array: NDArray[np.float64] = tensor.detach().double().numpy()
        return array.reshape(array.shape[:2])

    units, outputs = _units(prior.second.weight.shape[0] // 2)
    first = values(prior.first.weight) * np.tile(units, len(KNOWN_CELLS))
    before = values(prior.before.weight * prior.seen) * units
    second, before = values(prior.second.weight) * outputs / HIDDEN_STEPS, before * outputs
    first_shift = _shift(first * HIDDEN_STEPS)
    second_shift = min(_shift(second), _shift(before))

    def integers(array: NDArray[np.float64], shift: int) -> Integers:
        rounded: Integers = np.round(array * 2.0**shift).astype(np.int32)
        return rounded

    def weights(array: NDArray[np.float64], shift: int) -> NDArray[np.int16]:
        return integers(array, shift).clip(-LARGEST_INT16, LARGEST_INT16).astype(np.int16)

    return IntegerHyperPrior(
        first=weights(first * HIDDEN_STEPS, first_shift),
        first_bias=integers(values(prior.first_bias.table) * HIDDEN_STEPS, first_shift),
        second=weights(second, second_shift),
        second_bias=integers(values(prior.second_bias.table) * outputs.T, second_shift),
        before=weights(before, second_shift),
        first_shift=first_shift,
        second_shift=second_shift,
    )


def _units(channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a unit of exported inputs is ``[2 Z]``, and units in one of outputs ``[2 Z, 1]``."""
    inputs, outputs = np.ones(2 * channels), np.full((2 * channels, 1), float(PHASES))
    inputs[channels:], outputs[channels:] = 1 / MAGNITUDE_STEPS, HYPER_INDEX_PER_NAT
    return inputs, outputs


def _shift(values: NDArray[np.float64]) -> int:
    """The finest power of two, of at most 12, in whose steps all values are int16."""
    largest = max(float(np.abs(values).max(initial=0)), 1e-6)
    return int(np.clip(math.floor(math.log2(LARGEST_INT16 / largest)), 1, 12))


def hyper_prior_state(prior: IntegerHyperPrior) -> dict[str, Tensor]:
    """A `HyperPrior`'s state from its exported form: what training goes on from."""
    units, outputs = _units(prior.channels)
    first_step = 2.0**-prior.first_shift / HIDDEN_STEPS
    second_step = 2.0**-prior.second_shift / outputs
    state = {
        "first.weight": prior.first * first_step / np.tile(units, len(KNOWN_CELLS)),
        "first_bias.table": prior.first_bias * first_step,
        "second.weight": prior.second * second_step * HIDDEN_STEPS,
        "second_bias.table": prior.second_bias * second_step.T,
        "before.weight": prior.before * second_step / units,
    }
    return {
        name: torch.from_numpy(array.astype(np.float32)).reshape(
            array.shape if name.endswith("table") else (*array.shape, 1, 1)
        )
        for name, array in state.items()
    }
