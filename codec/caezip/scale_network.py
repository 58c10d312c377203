"""The scale predictor in floating point, with gradients: for training and refinement.

`caezip.scales` is what coders run. Shapes are those of `caezip.transforms`.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name torch documents
from numpy.typing import NDArray
from torch import Tensor, nn

from caezip.blocks import AnchorTable
from caezip.config import INDEX_PER_NAT, SCALE_MIN, ModelConfig
from caezip.hyper_features import LARGEST_FEATURE, IntegerHyperFeatures
from caezip.scales import EVIDENCE_LEVELS, HYPER_STRIDE, NEIGHBOURS, SCALE_COUNT, IntegerScales

FEATURE_STEPS = 4  # exported features of the hyper-latent count quarters
FEATURE_DEVIATION, FEATURE_BIAS = 0.04, 0.5  # of new ones
EVIDENCE_STEP = 4  # exported evidence counts 2^-4 nats, up to 127 of them


def scale_of_index(index: Tensor) -> Tensor:
    """Standard deviation of (fractional) table entry ``index``, log-spaced."""
    return SCALE_MIN * torch.exp(index / INDEX_PER_NAT)


def initial_evidence() -> Tensor:
    """Half the log ratio of a symbol's square to its variance, both damped: [64, 32]."""
    variance = scale_of_index(torch.arange(SCALE_COUNT))[:, None].square()
    square = torch.arange(EVIDENCE_LEVELS)[None, :].square()
    damping = 0.25 + 0.5 * variance
    return 0.5 * torch.log((square + damping) / (variance + damping))


class ScalePredictor(nn.Module):
    """Scale index of every latent, from integers that were coded before it.

    Pass one knows the hyper-latent: one linear layer and a bias per anchor rate. With
    ``hyper_feature_channels`` the layer also sees so many further channels, rectified sums of
    3x3 cells of the hyper-latent, which are rounded as it is.
    Pass two also knows pass one's symbols. A table turns each of them into
    evidence, how much larger or smaller it came out than its scale led to
    expect, and a linear layer sums the evidence of other channels in the same
    cell and of the same channel in the neighbouring cells.

    All of it can be carried out in integers; this float form is only for
    training. Weights and biases are in nats of scale, which keeps them near one.
    Indexes are unclamped here: `scale_of_index` continues the table smoothly at
    both ends.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        inputs, features = config.hyper_latent_channels, config.hyper_feature_channels
        self.features = nn.Conv2d(inputs, features, 3, padding=1, bias=False) if features else None
        self.features_bias = AnchorTable(features, config.anchor_rates) if features else None
        if self.features is not None and self.features_bias is not None:
            nn.init.normal_(self.features.weight, std=FEATURE_DEVIATION)
            nn.init.constant_(self.features_bias.table, FEATURE_BIAS)
        self.linear = nn.Conv2d(
            inputs + features, config.latent_channels * HYPER_STRIDE**2, 1, bias=False
        )
        nn.init.zeros_(self.linear.weight)
        self.bias = AnchorTable(config.latent_channels, config.anchor_rates)
        channels = config.latent_channels
        self.evidence = nn.Parameter(initial_evidence())  # [SCALE_COUNT, EVIDENCE_LEVELS]
        self.across = nn.Conv2d(channels, channels, 1, bias=False)
        self.around = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.second_bias = AnchorTable(channels, config.anchor_rates)
        nn.init.zeros_(self.across.weight)
        nn.init.constant_(self.around.weight, 0.05)

    def second(self, index: Tensor, first_symbols: Tensor, mask: Tensor, rate: Tensor) -> Tensor:
        """Index for pass two, given `forward`'s; ``mask`` is 1 where pass one codes."""
        row = index.detach().round().clamp(0, SCALE_COUNT - 1).long()
        level = first_symbols.detach().abs().clamp(max=EVIDENCE_LEVELS - 1).long()
        evidence = mask * self.evidence.flatten()[row * EVIDENCE_LEVELS + level]
        nats: Tensor = self.across(evidence) + self.around(evidence) + self.second_bias(rate)
        return index + INDEX_PER_NAT * nats  # [B, latent_channels, h, w]

    def seen(self, hyper_symbols: Tensor, rate: Tensor) -> Tensor:
        """What `linear` sees: ``[B, Z + F, zh, zw]``, rounded with the gradient of the identity."""
        if self.features is None or self.features_bias is None:
            return hyper_symbols
        sums = self.features(hyper_symbols) + self.features_bias(rate)
        steps = (FEATURE_STEPS * sums).clamp(0, LARGEST_FEATURE)
        steps = steps + (steps.round() - steps).detach()
        return torch.cat([hyper_symbols, steps / FEATURE_STEPS], dim=1)

    def forward(self, hyper_symbols: Tensor, rate: Tensor, grid: tuple[int, int]) -> Tensor:
        nats: Tensor = F.pixel_shuffle(
            self.linear(self.seen(hyper_symbols, rate)), HYPER_STRIDE
        ) + self.bias(rate)
        return INDEX_PER_NAT * nats[:, :, : grid[0], : grid[1]]  # [B, latent_channels, h, w]


def scale_predictor_state(scales: IntegerScales) -> dict[str, Tensor]:
    """A `ScalePredictor`'s state from its exported form: what training goes on from."""
    channels = scales.bias.shape[1]
    mixing_step = scales.evidence_shift + scales.shift - EVIDENCE_STEP

    def nats(values: NDArray[np.generic], exponent: int) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)) / (INDEX_PER_NAT * 2.0**exponent)

    weight = nats(scales.weight, scales.shift)[:, :, None, None]
    around = torch.zeros(channels, 1, 3, 3)
    for weights, (row, column) in zip(scales.around.T, NEIGHBOURS, strict=True):
        around[:, 0, 1 + row, 1 + column] = nats(weights, mixing_step)
    state = {
        "linear.weight": weight,
        "bias.table": nats(scales.bias, scales.shift),
        "second_bias.table": nats(scales.second_bias, scales.shift),
        "evidence": torch.from_numpy(scales.evidence.astype(np.float32)) / 2.0**EVIDENCE_STEP,
        "across.weight": nats(scales.across, mixing_step)[:, :, None, None],
        "around.weight": around,
    }
    if scales.features is not None:
        weight[:, scales.hyper_channels :] *= FEATURE_STEPS
        state |= _features_state(scales.features)
    return state


def _features_state(features: IntegerHyperFeatures) -> dict[str, Tensor]:
    step = 2.0**-features.shift / FEATURE_STEPS
    kernels = torch.from_numpy(features.weight.astype(np.float32)) * step
    return {
        "features.weight": kernels.view(len(kernels), 3, 3, -1).permute(0, 3, 1, 2).contiguous(),
        "features_bias.table": torch.from_numpy(features.bias.astype(np.float32)) * step,
    }
