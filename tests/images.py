"""Pictures that the tests make for themselves, and how alike two of them are."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image

from caezip.image_io import Pixels
from caezip.picture import Samples


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    """The worst case of a codec: independent samples, RGB."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)


def smooth(height: int, width: int) -> Pixels:
    """Slow colour gradients, the best case of a codec."""
    rows = np.linspace(0, 1, height)[:, None]
    columns = np.linspace(0, 1, width)[None, :]
    channels = [
        40 + 150 * columns * np.ones_like(rows),
        60 + 120 * rows * np.ones_like(columns),
        200 - 80 * rows * columns,
    ]
    pixels: Pixels = np.stack(channels, axis=2).round().astype(np.uint8)
    return pixels


def photo_like(height: int, width: int, seed: int = 0) -> Pixels:
    """Gradients, hard edges, a fine texture and a little noise, as photographs have them."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    picture = smooth(height, width).astype(np.float64)
    disc = (rows - 0.4 * height) ** 2 + (columns - 0.6 * width) ** 2 < (0.25 * height) ** 2
    picture[disc] = 0.4 * picture[disc] + [90, 30, 10]
    picture[rows > 0.75 * height] *= 0.6
    stripes = 25 * np.sin(0.9 * columns + 0.35 * rows) * (columns < 0.4 * width)
    picture += stripes[:, :, None] + rng.normal(0, 4, (height, width, 3))
    pixels: Pixels = np.clip(picture, 0, 255).astype(np.uint8)
    return pixels


def gray_of(pixels: Pixels) -> Pixels:
    """``[H, W]``: the green channel."""
    return np.ascontiguousarray(pixels[:, :, 1])


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image file of Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def sixteen_bits(pixels: Pixels) -> Samples:
    """The same picture in uint16, with low bytes of its own."""
    low = np.random.default_rng(1).integers(0, 256, pixels.shape)
    samples: Samples = (pixels.astype(np.uint16) << 8) + low.astype(np.uint16)
    return samples


def psnr_db(one: Pixels, other: Pixels) -> float:
    """Peak signal-to-noise ratio; infinite for equal pictures."""
    mse = float(np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2))
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)
