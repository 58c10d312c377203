"""Encoding to a file size, a rate or a PSNR instead of a quality."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from caezip.config import DEFAULT_TUNE
from caezip.container import MAX_QUALITY, MIN_QUALITY, QUALITY_UNIT
from caezip.errors import ParameterError, TargetError
from caezip.picture import Picture, Samples, as_picture
from caezip.pipeline import Codec
from caezip.tile_coder import DEFAULT_EFFORT


@dataclass(frozen=True)
class TargetResult:
    """The file that met the target, and the quality that made it."""

    data: bytes
    quality: float


def psnr_db(original: Samples, decoded: Samples) -> float:
    """Peak signal-to-noise ratio over all samples; infinite if they are equal."""
    error = original.astype(np.float64) - decoded
    mse = float(np.mean(error * error))
    peak = np.iinfo(original.dtype).max
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)


def encode_to_size(
    codec: Codec,
    image: Samples | Picture,
    size_bytes: int,
    *,
    effort: int = DEFAULT_EFFORT,
    tune: str = DEFAULT_TUNE,
) -> TargetResult:
    """The highest quality whose whole file has at most ``size_bytes``.

    ``effort`` and ``tune`` are those of `Codec.encode`, which runs about 14 times.
    Raises TargetError if even quality 1 is larger.
    """
    if size_bytes < 1:
        raise ParameterError(f"size: found {size_bytes} bytes, allowed are integers from 1")

    def fits(data: bytes) -> bool:
        return len(data) <= size_bytes

    return _search(
        lambda quality: codec.encode(image, quality=quality, effort=effort, tune=tune),
        fits,
        rising=False,
        failure=lambda data: (
            f"size: quality {MIN_QUALITY} gives {len(data)} bytes, "
            f"more than the {size_bytes} allowed"
        ),
    )


def encode_to_bpp(
    codec: Codec,
    image: Samples | Picture,
    bpp: float,
    *,
    effort: int = DEFAULT_EFFORT,
    tune: str = DEFAULT_TUNE,
) -> TargetResult:
    """The highest quality whose whole file has at most ``bpp`` bits per pixel."""
    if not (bpp > 0 and math.isfinite(bpp)):
        raise ParameterError(f"bpp: found {bpp}, allowed are numbers above 0")
    samples = as_picture(image).samples
    size_bytes = int(bpp * samples.shape[0] * samples.shape[1] / 8)
    try:
        return encode_to_size(codec, image, max(1, size_bytes), effort=effort, tune=tune)
    except TargetError as error:
        raise TargetError(f"bpp {bpp} is {size_bytes} bytes; {error}") from None


def encode_to_psnr(
    codec: Codec,
    image: Samples | Picture,
    target_db: float,
    *,
    effort: int = DEFAULT_EFFORT,
    tune: str = DEFAULT_TUNE,
) -> TargetResult:
    """The lowest quality whose decoded image has at least ``target_db`` PSNR.

    Raises TargetError if even quality 100 has less.
    """
    if not (target_db > 0 and math.isfinite(target_db)):
        raise ParameterError(f"PSNR: found {target_db} dB, allowed are numbers above 0")

    samples = as_picture(image).samples

    def quality_of(data: bytes) -> float:
        return psnr_db(samples, codec.decode_picture(data).samples)

    def reaches(data: bytes) -> bool:
        return quality_of(data) >= target_db

    return _search(
        lambda quality: codec.encode(image, quality=quality, effort=effort, tune=tune),
        reaches,
        rising=True,
        failure=lambda data: (
            f"PSNR: quality {MAX_QUALITY} gives {quality_of(data):.2f} dB, "
            f"less than the {target_db} asked for"
        ),
    )


def _search(
    encode_at: Callable[[float], bytes],
    accepts: Callable[[bytes], bool],
    *,
    rising: bool,
    failure: Callable[[bytes], str],
) -> TargetResult:
    """Bisect the quality, in the hundredths that the format stores.

    With ``rising`` the target holds from some quality up and the lowest is
    wanted; without, it holds up to some quality and the highest is wanted. The
    result is always one that was tried and accepted.
    """
    safe = (MAX_QUALITY if rising else MIN_QUALITY) * QUALITY_UNIT
    other = (MIN_QUALITY if rising else MAX_QUALITY) * QUALITY_UNIT

    def encode(hundredths: int) -> bytes:
        return encode_at(hundredths / QUALITY_UNIT)

    best = encode(safe)
    if not accepts(best):
        raise TargetError(failure(best))
    data = encode(other)
    if accepts(data):
        return TargetResult(data, other / QUALITY_UNIT)
    while abs(other - safe) > 1:
        middle = (safe + other) // 2
        data = encode(middle)
        if accepts(data):
            safe, best = middle, data
        else:
            other = middle
    return TargetResult(best, safe / QUALITY_UNIT)
