"""How close decoded pixels are to the original, and how many bits they took.

`METRICS` lists the measures of closeness. To add one, write a function of two images
and a line there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caezip.errors import ParameterError
from caezip.image_io import Pixels

if TYPE_CHECKING:
    from torch import Tensor

Planes = NDArray[np.float32]

PEAK = 255
SSIM_WINDOW = 11  # pixels; the Gaussian window of the SSIM paper
MS_SSIM_MIN_SIDE = (SSIM_WINDOW - 1) * 2**4 + 1  # pixels; the window after four halvings
SSIMULACRA2_SCALES = 6
SSIMULACRA2_MIN_SIDE = 7 * 2**5 + 1  # pixels; 8 after five halvings, rounded up
SSIMULACRA2_KERNEL = (0.2646211055, 0.212928592, 0.1093353728, 0.03601111466, 0.00941436781)
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue


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
    return _psnr_db(float(np.mean(np.square(difference))))


def psnr_y_db(reference: Pixels, decoded: Pixels) -> float | None:
    """PSNR in dB of luma alone, ``Y = 0.299 R + 0.587 G + 0.114 B`` in 0…255.

    That is JPEG's luma: ITU-R BT.601 weights over the full range, ITU-T T.871 (2011),
    section 7, as in Pillow's ``convert("YCbCr")`` but not rounded. None if the lumas
    are identical. Raises ParameterError if the shapes differ.
    """
    _check_same_shape(reference, decoded)
    difference = (reference.astype(np.int32) - decoded) @ np.array(LUMA)
    return _psnr_db(float(np.mean(np.square(difference))))


def _psnr_db(mean_square: float) -> float | None:
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


def ssimulacra2(reference: Pixels, decoded: Pixels) -> float | None:
    """SSIMULACRA 2 (100 is identical, 90 visually lossless, below 0 very bad), version 2.1.

    J. Sneyers, "SSIMULACRA 2", 2023 (https://github.com/cloudinary/ssimulacra2), of pixels
    taken as sRGB. By the functions of the ``ssimulacra2`` package, but with the reference
    program's blur in place of the package's. None if a side is under 225 pixels, where the
    metric lacks some of the six scales that its weights are for. Raises ParameterError if
    the shapes differ.
    """
    _check_same_shape(reference, decoded)
    if min(reference.shape[:2]) < SSIMULACRA2_MIN_SIDE:
        return None
    from ssimulacra2 import ssimulacra2 as package

    score = package.Msssim()
    ours = _blurred_scales(reference.tobytes(), *reference.shape[:2])
    for (first, mean, square), second in zip(ours, _xyb_scales(decoded), strict=True):
        second_mean = _blurred(second)
        blurred = (mean, second_mean, square, _blurred(second**2), _blurred(first * second))
        scale = package.MsssimScale()
        scale.avg_ssim = package.ssim_map(*map(_channels_last, blurred))
        edges = (first, mean, second, second_mean)
        scale.avg_edgediff = package.edge_diff_map(*map(_channels_last, edges))
        score.scales.append(scale)
    return float(score.score())


@lru_cache(maxsize=1)  # one original is compared with what many codecs make of it
def _blurred_scales(data: bytes, height: int, width: int) -> list[tuple[Planes, Planes, Planes]]:
    """`_xyb_scales` of an image's bytes, with their blurred values and blurred squares."""
    pixels = np.frombuffer(data, np.uint8).reshape(height, width, 3)
    return [(scale, _blurred(scale), _blurred(scale**2)) for scale in _xyb_scales(pixels)]


def _xyb_scales(pixels: Pixels) -> Iterator[Planes]:
    """Six times ``[3, h, w]`` in the XYB colours of SSIMULACRA 2, each half as large."""
    from ssimulacra2 import ssimulacra2 as package

    light = package.srgb_to_linear(np.arange(PEAK + 1)).astype(np.float32)
    planes = light[np.ascontiguousarray(pixels.transpose(2, 0, 1))]
    for scale in range(SSIMULACRA2_SCALES):
        if scale:
            planes = _channels_first(package.downsample(_channels_last(planes), 2, 2))
        # the package takes [x, y, channel] here and gives [y, x, channel]
        yield _channels_first(package.make_positive_xyb(package.linear_rgb_to_xyb(planes.T)))


def _blurred(planes: Planes) -> Planes:
    """Gaussian of the reference program: zeros beyond the borders, sums of three cosines.

    D. Charalampidis, "Recursive implementation of the Gaussian filter using truncated
    cosine functions", 2016, for a deviation of 1.5 pixels, here as a plain convolution.
    The package's own blur mirrors the image at two of its borders, which moves scores by
    a point at medium quality and by several at low quality.
    """
    from scipy.ndimage import correlate1d

    kernel = [*SSIMULACRA2_KERNEL[:0:-1], *SSIMULACRA2_KERNEL]
    for axis in (1, 2):
        planes = correlate1d(planes, kernel, axis=axis, mode="constant")
    return planes


def _channels_last(planes: Planes) -> Planes:
    return planes.transpose(1, 2, 0)


def _channels_first(pixels: NDArray[np.floating[Any]]) -> Planes:
    """In memory too, which makes sums over each channel fast."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)


def _itself(value: float) -> float:
    return value


def _check_same_shape(reference: Pixels, decoded: Pixels) -> None:
    if reference.shape != decoded.shape or reference.ndim != 3 or reference.shape[2] != 3:
        raise ParameterError(
            f"image shapes: found {list(reference.shape)} and {list(decoded.shape)}, "
            "allowed are two equal [H, W, 3]"
        )


def _tensor(pixels: Pixels) -> Tensor:
    import torch

    samples = torch.from_numpy(pixels.astype(np.float32)).unsqueeze(0)
    return samples.permute(0, 3, 1, 2)  # channels last, which halves the time of SSIM


@dataclass(frozen=True)
class Metric:
    """One measure of closeness, and how it is averaged, drawn and named.

    ``measure`` takes the original and the decoded image, uint8 ``[H, W, 3]``; it is None
    if a side has fewer than ``smallest_side`` pixels, and for the two of PSNR where it is
    infinite. Higher is better for all. Values are averaged over images; ``curve_value`` of
    the mean is what curves and BD-rates take, in ``unit`` ("" if it has none), and None
    where it is infinite; ``curve`` says so in words. ``mean_unit`` and ``mean_style`` write
    the mean itself: what follows the title, and a format for the number.
    """

    name: str
    title: str
    unit: str
    curve: str
    axis_title: str
    smallest_side: int
    definition: str
    measure: Callable[[Pixels, Pixels], float | None]
    curve_value: Callable[[float], float | None] = _itself
    mean_unit: str = ""
    mean_style: str = "{:.2f}"


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="psnr_db",
            title="PSNR",
            unit="dB",
            curve="the mean",
            axis_title="PSNR of RGB (dB)",
            smallest_side=1,
            definition="PSNR of 8-bit RGB in dB, over pixels and channels together; per image, "
            "then mean over images; null if identical",
            measure=psnr_db,
            mean_unit=", dB",
        ),
        Metric(
            name="psnr_y_db",
            title="PSNR-Y",
            unit="dB",
            curve="the mean",
            axis_title="PSNR of luma (dB)",
            smallest_side=1,
            definition="PSNR in dB of luma as in JPEG (BT.601, full range, not rounded); per "
            "image, then mean over images; null if identical",
            measure=psnr_y_db,
            mean_unit=", dB",
        ),
        Metric(
            name="ssim",
            title="SSIM",
            unit="dB",
            curve="-10 log10(1 - mean)",
            axis_title="SSIM (dB, -10 log₁₀(1 - SSIM))",
            smallest_side=SSIM_WINDOW,
            definition="SSIM over RGB by pytorch_msssim; per image, then mean over images; null "
            f"under {SSIM_WINDOW} pixels a side",
            measure=ssim,
            curve_value=ms_ssim_db,
            mean_style="{:.4f}",
        ),
        Metric(
            name="ms_ssim",
            title="MS-SSIM",
            unit="dB",
            curve="-10 log10(1 - mean)",
            axis_title="MS-SSIM (dB, -10 log₁₀(1 - MS-SSIM))",
            smallest_side=MS_SSIM_MIN_SIDE,
            definition="MS-SSIM over RGB by pytorch_msssim; per image, then mean over images; "
            f"null under {MS_SSIM_MIN_SIDE} pixels a side",
            measure=ms_ssim,
            curve_value=ms_ssim_db,
            mean_style="{:.4f}",
        ),
        Metric(
            name="ssimulacra2",
            title="SSIMULACRA 2",
            unit="",
            curve="the mean",
            axis_title="SSIMULACRA 2",
            smallest_side=SSIMULACRA2_MIN_SIDE,
            definition="SSIMULACRA 2.1 of sRGB; per image, then mean over images; null under "
            f"{SSIMULACRA2_MIN_SIDE} pixels a side",
            measure=ssimulacra2,
        ),
    )
}
