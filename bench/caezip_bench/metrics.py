"""How close decoded pixels are to the original, and how many bits they took."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from caezip.errors import ParameterError
from caezip.image_io import Pixels

if TYPE_CHECKING:
    from torch import Tensor

PEAK = 255
SSIM_WINDOW = 11  # pixels; the Gaussian window of the SSIM paper
MS_SSIM_MIN_SIDE = (SSIM_WINDOW - 1) * 2**4 + 1  # pixels; the window after four halvings


def bits_per_pixel(size_bytes: int, width: int, height: int) -> float:
    """Bits per pixel (bpp) of a whole file: ``8 * size_bytes / (width * height)``."""
    return 8 * size_bytes / (width * height)


def psnr_db(reference: Pixels, decoded: Pixels) -> float | None:
    """Peak signal-to-noise ratio in dB of 8-bit RGB: ``10 log10(255² / MSE)``.

    The mean squared error runs over all pixels and the three channels together,
    as learned-compression papers have it. None if the pixels are identical,
    where PSNR is infinite. Raises ParameterError if the shapes differ.
    """
    _check_same_shape(reference, decoded)
    difference = reference.astype(np.int32) - decoded
    mean_square = float(np.mean(np.square(difference)))
    return None if mean_square == 0 else 10 * math.log10(PEAK**2 / mean_square)


def ssim(reference: Pixels, decoded: Pixels) -> float | None:
    """Structural similarity (-1…1, 1 is best) over RGB, mean of the channels.

    Wang et al., "Image quality assessment: from error visibility to structural
    similarity", 2004, with an 11x11 Gaussian window, by pytorch_msssim. None if a
    side is under 11 pixels. Raises ParameterError if the shapes differ.
    """
    _check_same_shape(reference, decoded)
    if min(reference.shape[:2]) < SSIM_WINDOW:
        return None
    import torch
    from pytorch_msssim import ssim as torch_ssim

    with torch.no_grad():
        return float(torch_ssim(_tensor(reference), _tensor(decoded), data_range=PEAK))


def ms_ssim(reference: Pixels, decoded: Pixels) -> float | None:
    """Multi-scale structural similarity (0…1, 1 is best) over RGB, mean of the channels.

    Wang et al., "Multiscale structural similarity for image quality assessment",
    2003, with its five scales and weights, by pytorch_msssim. None if a side has
    160 pixels or fewer. Raises ParameterError if the shapes differ.
    """
    _check_same_shape(reference, decoded)
    if min(reference.shape[:2]) < MS_SSIM_MIN_SIDE:
        return None
    import torch
    from pytorch_msssim import ms_ssim as torch_ms_ssim

    with torch.no_grad():
        return float(torch_ms_ssim(_tensor(reference), _tensor(decoded), data_range=PEAK))


def ms_ssim_db(value: float) -> float | None:
    """MS-SSIM in dB, ``-10 log10(1 - value)``, which spreads the values near 1.

    None for 1 and above, where it is infinite.
    """
    return None if value >= 1 else -10 * math.log10(1 - value)


def _check_same_shape(reference: Pixels, decoded: Pixels) -> None:
    if reference.shape != decoded.shape or reference.ndim != 3 or reference.shape[2] != 3:
        raise ParameterError(
            f"image shapes: found {list(reference.shape)} and {list(decoded.shape)}, "
            "allowed are two equal [H, W, 3]"
        )


def _tensor(pixels: Pixels) -> Tensor:
    import torch

    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(planes).unsqueeze(0)
