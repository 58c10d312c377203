"""Judging a model on photographs that were held back from its training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pytorch_msssim import ms_ssim

from caezip.image_io import as_rgb, read_rgb
from caezip.training.objective import TrainingModel

VALIDATION_RATES = (0.0, 0.25, 0.5, 0.75, 1.0)
VALIDATION_CROP = 512  # pixels, from the middle of each photo
SMALLEST_MS_SSIM_SIDE = 160  # pixels; pytorch_msssim needs more


@torch.no_grad()
def validate(
    model: TrainingModel, photos: Sequence[Path], tune: str = "psnr"
) -> list[dict[str, float]]:
    """``rate``, ``bpp``, ``psnr_db`` and ``ms_ssim`` per rate: means over the photos' centres.

    ``tune`` decides how symbols are rounded.

    Photos with a side of 160 pixels or less have no MS-SSIM; without any other,
    ``ms_ssim`` is left out.
    """
    points = []
    images = []
    for path in photos:
        pixels = as_rgb(read_rgb(path))
        top = max(0, (pixels.shape[0] - VALIDATION_CROP) // 2)
        left = max(0, (pixels.shape[1] - VALIDATION_CROP) // 2)
        crop = pixels[top : top + VALIDATION_CROP, left : left + VALIDATION_CROP]
        crop = crop[: crop.shape[0] // 64 * 64, : crop.shape[1] // 64 * 64]
        if crop.size:
            images.append(torch.from_numpy(crop.copy()).permute(2, 0, 1)[None].float() / 255)
    for rate in VALIDATION_RATES:
        costs = [model(image, torch.tensor([rate]), tune=tune) for image in images]
        bpp = float(np.mean([float(c.bpp) for c in costs]))
        psnr_db = float(np.mean([-10 * math.log10(max(float(c.mse), 1e-10)) for c in costs]))
        point = {"rate": rate, "bpp": round(bpp, 4), "psnr_db": round(psnr_db, 3)}
        similarities = [
            float(ms_ssim(cost.decoded, image, data_range=1.0))
            for cost, image in zip(costs, images, strict=True)
            if min(image.shape[2:]) > SMALLEST_MS_SSIM_SIDE
        ]
        if similarities:
            point["ms_ssim"] = round(float(np.mean(similarities)), 5)
        points.append(point)
    return points
