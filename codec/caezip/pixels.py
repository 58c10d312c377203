"""Samples of images to tensors and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name torch documents
from numpy.typing import NDArray
from torch import Tensor

from caezip.config import PATCH_SIZE


def image_tensor(pixels: NDArray[Any]) -> Tensor:
    """RGB ``[H, W, 3]``, uint8 or uint16, to ``[1, 3, H', W']`` in [0, 1], in whole patches."""
    height, width = pixels.shape[:2]
    peak = np.iinfo(pixels.dtype).max
    samples = pixels.astype(np.float32)  # a copy; torch knows few operations on uint16
    image = torch.from_numpy(samples).permute(2, 0, 1)[None].contiguous().div_(float(peak))
    padding = (0, -width % PATCH_SIZE, 0, -height % PATCH_SIZE)
    return F.pad(image, padding, mode="replicate") if any(padding) else image


def image_pixels(image: Tensor, *, gray: bool, dtype: type[Any] = np.uint8) -> NDArray[Any]:
    """``[3, H, W]`` in [0, 1] to integers ``[H, W, 3]``, or to ``[H, W]`` by averaging."""
    if gray:
        image = image.mean(dim=0, keepdim=True)
    peak = float(np.iinfo(dtype).max)
    levels = image.mul(peak).round_().clamp_(0, peak).permute(1, 2, 0).contiguous()
    pixels: NDArray[Any] = levels.cpu().numpy().astype(dtype)
    return pixels[:, :, 0] if gray else pixels
