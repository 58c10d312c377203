"""The residual blocks that the networks of `caezip.transforms` are made of.

Shapes use ``B`` batch, ``C`` channels, ``h, w`` the grid of cells that a block works on.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # the name torch documents
from torch import Tensor, nn


def activation(x: Tensor) -> Tensor:
    """Leaky ReLU with slope 1/8: cheap on a CPU, and exact to scale by."""
    return F.leaky_relu(x, 0.125)


def pointwise(inputs: int, outputs: int, gain: float = 1.0) -> nn.Conv2d:
    """A 1x1 convolution whose initial weights and biases are scaled by ``gain``."""
    conv = nn.Conv2d(inputs, outputs, 1)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.mul_(gain)
    return conv


class DepthwiseBlock(nn.Module):
    """Residual block: spatial mixing through a depthwise 3x3, then a pointwise MLP.

    The layout of the depth-conv blocks of DCVC-DC (Li, Li and Lu 2023), without
    gating. Both branches start small, so that a stack of blocks starts as the
    identity and the linear transform around it is what training begins from.
    ``mixed`` and ``hidden`` are the channels inside of the two, usually ``channels`` and twice
    as many.
    """

    def __init__(
        self,
        channels: int,
        mixed: int | None = None,
        hidden: int | None = None,
        branch_gain: float = 0.05,
    ) -> None:
        super().__init__()
        mixed, hidden = mixed or channels, hidden or 2 * channels
        self.mix_in = pointwise(channels, mixed)
        self.depthwise = nn.Conv2d(mixed, mixed, 3, padding=1, groups=mixed)
        self.mix_out = pointwise(mixed, channels, branch_gain)
        self.expand = pointwise(channels, hidden)
        self.reduce = pointwise(hidden, channels, branch_gain)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, h, w] -> [B, C, h, w]
        x = x + self.mix_out(self.depthwise(activation(self.mix_in(x))))
        out: Tensor = x + self.reduce(activation(self.expand(x)))
        return out


class LeanBlock(nn.Module):
    """Residual block: a depthwise 3x3, then a pointwise MLP, two thirds of `DepthwiseBlock`.

    The layout of ConvNeXt (Liu et al. 2022, "A ConvNet for the 2020s", section 2.6), without
    normalisation. ``hidden`` are the channels inside of the MLP, usually twice as many.
    """

    def __init__(self, channels: int, hidden: int | None = None, branch_gain: float = 0.05) -> None:
        super().__init__()
        hidden = hidden or 2 * channels
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.expand = pointwise(channels, hidden)
        self.reduce = pointwise(hidden, channels, branch_gain)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, h, w] -> [B, C, h, w]
        out: Tensor = x + self.reduce(activation(self.expand(self.depthwise(x))))
        return out


class ColouredPlanes(nn.Module):
    """Latent channels to patches: each adds planes, times colours.

    Nearly all basis functions of the best linear transform of patches, the Karhunen-Loève
    transform, are of one of three colours, and so are those that training makes of them: with a
    plane for each channel, and a few more, a third of a layer's multiplications are enough.
    """

    colour_of: Tensor

    def __init__(self, channels: int, pixels: int, planes: int) -> None:
        super().__init__()
        self.planes = nn.Parameter(torch.randn(pixels, planes, 1, 1) / channels**0.5)
        self.colours = nn.Parameter(torch.eye(3))  # rows: red, green and blue of each
        # 1 where a channel has a plane of a colour; planes are in the order of its rows
        number = torch.arange(planes)
        channel, further = number % channels, number // channels
        colour_of = torch.zeros(channels, 3)
        colour_of[channel, (channel + further) % 3] = 1
        self.register_buffer("colour_of", colour_of)
        self.bias = nn.Parameter(torch.zeros(3 * pixels))

    @property
    def weight(self) -> Tensor:
        """As of one 1x1 convolution: ``[3 * pixels, C, 1, 1]``."""
        channel, colour = self.colour_of.nonzero(as_tuple=True)
        added = self.colours[colour].T[:, None] * self.planes[:, :, 0, 0]  # [3, pixels, planes]
        whole = added.new_zeros(*added.shape[:2], len(self.colour_of)).index_add(2, channel, added)
        return whole.flatten(0, 1)[:, :, None, None]

    def forward(self, latent: Tensor) -> Tensor:  # [B, C, h, w] -> [B, 3 * pixels, h, w]
        return F.conv2d(latent, self.weight, self.bias)


def residual_block(channels: int, hidden: int | None = None, *, lean: bool) -> nn.Module:
    """Whichever of the two, with ``hidden`` channels inside of its MLP."""
    return LeanBlock(channels, hidden) if lean else DepthwiseBlock(channels, hidden=hidden)


class AnchorTable(nn.Module):
    """A vector per anchor rate, interpolated linearly between the anchors."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(anchors, channels))

    def forward(self, rate: Tensor) -> Tensor:  # [B] -> [B, C, 1, 1]
        anchors = self.table.shape[0]
        position = rate * (anchors - 1)
        low = position.floor().clamp(0, anchors - 2).long()
        fraction = (position - low).unsqueeze(1)
        vectors = self.table[low] * (1 - fraction) + self.table[low + 1] * fraction
        return vectors[:, :, None, None]
