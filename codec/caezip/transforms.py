"""The networks: analysis and synthesis transforms, hyperprior, means and scales.

Everything here is plain ``torch.nn``; nothing in this file decides what the
entropy coder reads: what does (`caezip.scale_network`, `caezip.hyper_prior_network`) is
replaced by integers once the weights are exported.

Shapes use ``B`` batch, ``H, W`` image size (multiples of 16), ``h, w = H/16,
W/16`` the latent grid, ``zh, zw = ceil(h/4), ceil(w/4)`` the hyper-latent grid.
``rate`` is a position in [0, 1] on the logarithmic lambda axis, one per image.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name torch documents
from torch import Tensor, nn

from caezip.blocks import (
    AnchorTable,
    ColouredPlanes,
    DepthwiseBlock,
    activation,
    pointwise,
    residual_block,
)
from caezip.config import (
    DEFAULT_TUNE,
    PATCH_SIZE,
    RENDER_STRIDE,
    ModelConfig,
    sizes_of_tune,
)
from caezip.hyper_prior import IntegerHyperPrior
from caezip.hyper_prior_network import HyperPrior, hyper_prior_state
from caezip.scale_network import ScalePredictor, scale_predictor_state
from caezip.scales import (
    HYPER_STRIDE,
    IntegerScales,
    checkerboard,
)


class RateGain(AnchorTable):
    """A positive gain per channel, interpolated in the log domain.

    The gain units of Cui et al. 2021, "Asymmetric Gained Deep Image Compression
    With Continuous Rate Adaptation".
    """

    def forward(self, rate: Tensor) -> Tensor:  # [B] -> [B, C, 1, 1]
        gain: Tensor = super().forward(rate).exp()
        return gain


class AnalysisTransform(nn.Module):
    """Image to latent: one linear map of each 16x16 patch, then residual blocks."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.analysis_channels
        self.embed = pointwise(3 * PATCH_SIZE**2, width)
        self.gain = RateGain(width, config.anchor_rates)
        self.blocks = nn.Sequential(
            *[DepthwiseBlock(width, *config.analysis_widths) for _ in range(config.analysis_blocks)]
        )
        self.project = pointwise(width, config.latent_channels)

    def forward(self, image: Tensor, rate: Tensor) -> Tensor:  # [B, 3, H, W] in [0, 1]
        patches = F.pixel_unshuffle(image - 0.5, PATCH_SIZE)  # [B, 768, h, w]
        features = self.embed(patches) * self.gain(rate).to(patches.dtype)
        latent: Tensor = self.project(self.blocks(features))
        return latent  # [B, latent_channels, h, w]


class SynthesisTransform(nn.Module):
    """Latent to image: blocks at 1/16, then, unless it has no blocks, a pointwise renderer at 1/4.

    The renderer's stream holds the 4x4 pixels of each cell as 48 channels. The
    latent fills it linearly (``content``), the blocks add to it (``detail``) and
    steer its MLPs (``modulations``: scale, shift and output gate).

    A lean decoder's blocks work on the first channels of the latent themselves, times a gain
    that tells them the rate and is taken back behind them, and ``content`` is all of the rest.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, pixels = config.synthesis_channels, 3 * RENDER_STRIDE**2
        cells = (PATCH_SIZE // RENDER_STRIDE) ** 2
        lean_blocks, hidden = config.has_lean_synthesis, config.synthesis_hidden_width
        self.stream_channels = width
        self.gain = RateGain(width, config.anchor_rates)
        self.blocks = nn.Sequential(
            *[
                residual_block(width, hidden, lean=lean_blocks)
                for _ in range(config.synthesis_blocks)
            ]
        )
        lean, latent = config.lean_decoder, config.latent_channels
        self.content = (
            ColouredPlanes(latent, PATCH_SIZE**2, config.plane_count)
            if lean
            else pointwise(latent, cells * pixels)
        )
        self.embed = None if lean else pointwise(latent, width)
        self.detail = None if lean else pointwise(width, cells * pixels, 0.001)
        self.modulations = nn.ModuleList(
            [pointwise(width, 3 * pixels) for _ in range(config.renderer_blocks)]
        )
        self.expand = nn.ModuleList(
            [pointwise(pixels, 2 * pixels) for _ in range(config.renderer_blocks)]
        )
        self.reduce = nn.ModuleList(
            [pointwise(2 * pixels, pixels, 0.005) for _ in range(config.renderer_blocks)]
        )
        self.render = nn.Conv2d(pixels, pixels, 3, padding=1) if self.expand else None

    def forward(
        self, latent: Tensor, rate: Tensor, reduction: int = 1, filter_kernel: Tensor | None = None
    ) -> Tensor:
        """The image of ``[B, latent_channels, h, w]``; each sample is the mean of a square.

        From a quarter down, of what the linear layers make, which comes close for less. An
        image that is not reduced can be filtered: ``filter_kernel`` [48, 48, 3, 3] is
        `caezip.adaptive_filter.cell_kernel_of`'s, in the order of pixel shuffles.
        """
        cells = PATCH_SIZE // RENDER_STRIDE
        if reduction >= RENDER_STRIDE:
            return self._reduced(F.pixel_shuffle(self.content(latent), cells), reduction) + 0.5
        patches, features = self._patches(latent, self.gain(rate).to(latent.dtype))
        x = F.pixel_shuffle(patches, cells)  # [B, 48, 4h, 4w]
        for modulate, expand, reduce in zip(
            self.modulations, self.expand, self.reduce, strict=True
        ):
            modulation = F.interpolate(modulate(features), scale_factor=cells, mode="nearest")
            scale, shift, gate = modulation.chunk(3, dim=1)
            x = x + gate * reduce(activation(expand(x * (1 + scale) + shift)))
        if reduction > 1:
            return self._reduced(x, reduction) + 0.5
        y = x if self.render is None else self.render(x)  # [B, 48, 4h, 4w]
        if filter_kernel is not None:
            with torch.autocast(y.device.type, enabled=False):  # too fine for bfloat16
                around = F.pad(y.float(), (1, 1, 1, 1), mode="replicate")
                y = y + F.conv2d(around, filter_kernel)
        image: Tensor = F.pixel_shuffle(y, RENDER_STRIDE) + 0.5
        return image  # [B, 3, H / reduction, W / reduction]

    def _patches(self, latent: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        """Patches ``[B, 768, h, w]`` and the features of the blocks ``[B, width, h, w]``."""
        if self.embed is None or self.detail is None:
            stream, rest = latent.tensor_split([self.stream_channels], dim=1)
            stream = self.blocks(stream * gain) / gain
            return self.content(torch.cat([stream, rest], dim=1)), stream
        features = self.blocks(self.embed(latent) * gain)
        return self.content(latent) + self.detail(features), features

    def _reduced(self, x: Tensor, reduction: int) -> Tensor:
        """The means of what `render` makes of ``x``, by a smaller layer: `render` is linear."""
        if self.render is None:
            return F.avg_pool2d(F.pixel_shuffle(x, RENDER_STRIDE), reduction)
        kept, pooled = max(1, RENDER_STRIDE // reduction), max(1, reduction // RENDER_STRIDE)
        squares = (3, kept, RENDER_STRIDE // kept, kept, RENDER_STRIDE // kept)
        weight, bias = (
            parameter.view(*squares, *parameter.shape[1:]).mean(dim=(2, 4)).flatten(0, 2)
            for parameter in self.render.parameters()  # its weight, then its bias
        )
        return F.avg_pool2d(F.pixel_shuffle(F.conv2d(x, weight, bias, padding=1), kept), pooled)


class HyperAnalysis(nn.Module):
    """Latent to hyper-latent, a quarter of its grid (Ballé et al. 2018)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.hyper_analysis_width
        self.layers = nn.Sequential(
            pointwise(config.latent_channels, width),
            DepthwiseBlock(width),
            nn.Conv2d(width, width, 2, stride=2),
            DepthwiseBlock(width),
            nn.Conv2d(width, config.hyper_latent_channels, 2, stride=2),
        )
        self.gain = RateGain(config.hyper_latent_channels, config.anchor_rates)

    def forward(self, latent: Tensor, rate: Tensor) -> Tensor:  # [B, latent_channels, h, w]
        pad_h, pad_w = -latent.shape[2] % HYPER_STRIDE, -latent.shape[3] % HYPER_STRIDE
        if pad_h or pad_w:
            latent = F.pad(latent, (0, pad_w, 0, pad_h), mode="replicate")
        hyper_latent: Tensor = self.layers(latent).float() * self.gain(rate)
        return hyper_latent  # [B, hyper_latent_channels, zh, zw]


class HyperSynthesis(nn.Module):
    """Decoded hyper-latent to the features from which the means are predicted."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.hyper_channels
        self.inverse_gain = RateGain(config.hyper_latent_channels, config.anchor_rates)
        self.layers = nn.Sequential(
            pointwise(config.hyper_latent_channels, 4 * width),
            nn.PixelShuffle(2),
            residual_block(width, lean=config.lean_decoder),
            pointwise(width, 4 * width),
            nn.PixelShuffle(2),
            residual_block(width, lean=config.lean_decoder),
        )

    def forward(self, hyper_symbols: Tensor, rate: Tensor, grid: tuple[int, int]) -> Tensor:
        features: Tensor = self.layers(hyper_symbols * self.inverse_gain(rate))
        return features[:, :, : grid[0], : grid[1]]  # [B, hyper_channels, h, w]


class ContextModel(nn.Module):
    """Means of the latent, in two checkerboard passes.

    Pass one codes half of the positions of the first half of the channels and the
    other half of the positions of the rest (`caezip.entropy.checkerboard`); pass
    two sees what pass one decoded. Means are in units of the latent before its gain, so that one
    network serves every rate.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hyper, predicted = config.hyper_channels, config.predicted_channels
        width = config.context_channels
        self.predicted, self.others = predicted, config.latent_channels - predicted
        self.first = pointwise(hyper, predicted, 0.1)
        self.second = nn.Sequential(
            pointwise(hyper + predicted, width),
            residual_block(width, lean=config.lean_decoder),
            pointwise(width, predicted, 0.1),
        )

    def first_mean(self, features: Tensor) -> Tensor:
        return self._of_all(self.first(features))  # [B, latent_channels, h, w]

    def second_mean(self, features: Tensor, first_latent: Tensor) -> Tensor:
        """``first_latent``: what pass one decoded, zero elsewhere."""
        seen = first_latent[:, : self.predicted].to(features.dtype)
        mean: Tensor = self.second(torch.cat([features, seen], dim=1))
        return self._of_all(mean)  # [B, latent_channels, h, w]

    def _of_all(self, mean: Tensor) -> Tensor:
        """Zeros for the channels whose means are not predicted."""
        return F.pad(mean, (0, 0, 0, 0, 0, self.others)) if self.others else mean


def pass_one(channels: int, height: int, width: int, device: torch.device) -> Tensor:
    """`checkerboard` as a tensor: 1.0 where pass one codes, [1, C, h, w]."""
    mask = checkerboard(channels, height, width)[None].astype(np.float32)
    return torch.from_numpy(mask).to(device)


def integers_state(scales: IntegerScales, prior: IntegerHyperPrior) -> dict[str, Tensor]:
    """What of a `CodecNetwork`'s state is exported as integers."""
    parts = {"scales": scale_predictor_state(scales), "hyper_prior": hyper_prior_state(prior)}
    return {
        f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()
    }


class CodecNetwork(nn.Module):
    """All learned parts of one model. See `caezip.pipeline` for how they are chained.

    A new one is random: `caezip.initialisation` makes it a block transform codec.
    """

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or sizes_of_tune(DEFAULT_TUNE)
        self.analysis = AnalysisTransform(config)
        self.synthesis = SynthesisTransform(config)
        self.hyper_analysis = HyperAnalysis(config)
        self.hyper_synthesis = HyperSynthesis(config)
        self.hyper_prior = HyperPrior(config)
        self.context = ContextModel(config)
        self.scales = ScalePredictor(config)
        self.latent_gain = RateGain(config.latent_channels, config.anchor_rates)
        self.latent_inverse_gain = RateGain(config.latent_channels, config.anchor_rates)
