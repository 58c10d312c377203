"""The two measures of error that weights are tuned for, and encoders refine for."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812  # the name torch documents
from torch import Tensor

# Makes one lambda give similar rates under both measures. CompressAI trains pairs of
# models at lambdas that differ by this factor (its "Model Zoo" page: 0.0130 for MSE is
# 16.64 for MS-SSIM), with MSE in units of 255^2.
SSIM_WEIGHT = 1280.0
# of the error in levels: MS-SSIM alone is nearly blind to the colour of flat areas
MSE_SHARE = 0.02
SMALLEST_SSIM_SIDE = 176  # five halvings of a window of 11


def distortion(tune: str, decoded: Tensor, image: Tensor) -> Tensor:
    """Error per image ``[B]`` of images ``[B, 3, H, W]`` in [0, 1], to be multiplied by lambda.

    All but "ssim": 255^2 times the mean squared error. "ssim": mostly 1 - MS-SSIM (Wang,
    Simoncelli and Bovik 2003, "Multi-scale structural similarity").
    """
    squared: Tensor = 255**2 * (decoded - image).square().mean((1, 2, 3))
    if tune != "ssim":
        return squared
    from pytorch_msssim import ms_ssim

    missing = [max(0, SMALLEST_SSIM_SIDE - side) for side in image.shape[2:]]
    if any(missing):
        padding = (0, missing[1], 0, missing[0])
        decoded = F.pad(decoded, padding, mode="replicate")
        image = F.pad(image, padding, mode="replicate")
    similarity: Tensor = ms_ssim(decoded, image, data_range=1.0, size_average=False)
    return SSIM_WEIGHT * (1 - similarity) + MSE_SHARE * squared
