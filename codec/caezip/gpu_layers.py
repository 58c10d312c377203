"""Layers as GPUs run them without a plan for each shape of picture.

cuDNN plans every convolution anew for a shape that it has not seen: on an NVIDIA H200 3 to 5 ms
for a 1x1, 250 ms for a depthwise 3x3, so that the first picture of each size took seconds.
Products of matrices and sums of shifted pictures need no plan. Nor do they round what they
multiply to 10 bits, as torch lets cuDNN do.
"""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F  # noqa: N812  # the name torch documents
from torch import Tensor, nn

from caezip.blocks import ColouredPlanes


def run_without_plans(network: nn.Module) -> None:
    """Change the convolutions of ``network`` so: the same function of the same parameters."""
    for layer in network.modules():
        if isinstance(layer, ColouredPlanes):
            layer.__class__ = _ColouredPlanes
        elif isinstance(layer, nn.Conv2d):
            if layer.kernel_size == layer.stride:
                layer.__class__ = _CellProduct
            elif layer.groups == layer.in_channels:
                layer.__class__ = _ShiftedSum
            else:
                layer.__class__ = _ShiftedProducts


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``[B, C, h, w]`` times ``[D, C]``, in every cell: ``[B, D, h, w]``."""
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


class _ColouredPlanes(ColouredPlanes):
    def forward(self, latent: Tensor) -> Tensor:  # [B, C, h, w] -> [B, 3 * pixels, h, w]
        return _product(latent, self.weight.flatten(1), self.bias)


class _CellProduct(nn.Conv2d):
    """A convolution of cells that do not overlap: 1x1, or 2x2 with a stride of 2."""

    def forward(self, x: Tensor) -> Tensor:  # [B, C, h, w] -> [B, D, h / side, w / side]
        side = self.kernel_size[0]
        cells = F.pixel_unshuffle(x, side) if side > 1 else x
        return _product(cells, self.weight.flatten(1), self.bias)


class _ShiftedSum(nn.Conv2d):
    """A depthwise 3x3."""

    def forward(self, x: Tensor) -> Tensor:  # [B, C, h, w] -> [B, C, h, w]
        out = torch.zeros_like(x, dtype=torch.float32)
        if self.bias is not None:
            out = out + self.bias.float()[:, None, None]
        weight = self.weight.float()
        for (row, column), seen in _shifted(x):
            out = torch.addcmul(out, seen.float(), weight[:, :, row, column, None])
        return out.to(x.dtype)


class _ShiftedProducts(nn.Conv2d):
    """A 3x3 between all channels."""

    def forward(self, x: Tensor) -> Tensor:  # [B, C, h, w] -> [B, D, h, w]
        parts = [
            _product(seen, self.weight[:, :, row, column], None)
            for (row, column), seen in _shifted(x)
        ]
        out = torch.stack(parts).sum(dim=0)
        return out if self.bias is None else out + self.bias.to(out.dtype)[:, None, None]


def _shifted(x: Tensor) -> list[tuple[tuple[int, int], Tensor]]:
    """What the nine places of a 3x3 kernel see of a picture with zeros around."""
    height, width = x.shape[2:]
    around = F.pad(x, (1, 1, 1, 1))
    places = product(range(3), range(3))
    return [(at, around[:, :, at[0] : at[0] + height, at[1] : at[1] + width]) for at in places]
