"""Drawn training images: what photographs lack and people compress all the same.

Flat areas, gradients, text, windows and fine regular patterns. A model that saw
only photographs spends kilobytes on an empty page.
"""

from __future__ import annotations

import string

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

LETTERS = string.ascii_letters + string.digits + " .,;:-()    "


def draw_graphic(rng: np.random.Generator, size: int) -> Pixels:
    """A random drawing, uint8 ``[size, size, 3]``."""
    kind = rng.choice(("flat", "gradient", "page", "pattern"), p=(0.15, 0.25, 0.4, 0.2))
    if kind == "flat":
        return np.full((size, size, 3), _colour(rng), np.uint8)
    if kind == "gradient":
        return _gradient(rng, size)
    if kind == "page":
        return _page(rng, size)
    return _pattern(rng, size)


def _colour(rng: np.random.Generator) -> Colour:
    """Mostly black, white or gray, as screens and pages are."""
    if rng.random() < 0.5:
        level = int(rng.choice((0, 255, rng.integers(0, 256))))
        return (level, level, level)
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return (red, green, blue)


def _gradient(rng: np.random.Generator, size: int) -> Pixels:
    """A straight or round blend of two colours, half the time a dark one."""
    low, high = np.array(_colour(rng), float), np.array(_colour(rng), float)
    if rng.random() < 0.5:
        low, high = low * 0.2, high * 0.2
    y, x = np.mgrid[:size, :size] / size
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        position = (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)) / 1.42 + 0.5
    else:
        centre_x, centre_y = rng.random(2)
        position = np.hypot(x - centre_x, y - centre_y) / rng.uniform(0.5, 1.5)
    blend = np.clip(position, 0, 1)[:, :, None]
    pixels: Pixels = np.round(low + (high - low) * blend).astype(np.uint8)
    return pixels


def _page(rng: np.random.Generator, size: int) -> Pixels:
    """Boxes, lines and words on a plain ground."""
    image = Image.new("RGB", (size, size), _colour(rng))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 8)):
        left, right = sorted(rng.integers(0, size, 2).tolist())
        top, bottom = sorted(rng.integers(0, size, 2).tolist())
        outline = _colour(rng) if rng.random() < 0.5 else None
        draw.rectangle((left, top, right, bottom), fill=_colour(rng), outline=outline)
    for _ in range(rng.integers(0, 4)):
        draw.line(rng.integers(0, size, 4).tolist(), _colour(rng), int(rng.integers(1, 5)))
    if rng.random() < 0.8:
        points = int(rng.integers(9, 40))
        font = ImageFont.load_default(points)
        ink, left = _colour(rng), int(rng.integers(0, size // 2))
        for top in range(int(rng.integers(0, size)), size, int(points * 1.3)):
            words = "".join(rng.choice(list(LETTERS), rng.integers(1, 40)))
            draw.text((left, top), words, fill=ink, font=font)
    return np.asarray(image)


def _pattern(rng: np.random.Generator, size: int) -> Pixels:
    """Stripes or a chequerboard with a period of 2 to 32 pixels."""
    colours = np.array([_colour(rng), _colour(rng)], np.uint8)
    y, x = np.mgrid[:size, :size]
    half_period = int(rng.integers(1, 17))
    kind = rng.integers(0, 4)
    phases = (x // half_period, y // half_period, (x + y) // half_period)
    parity = phases[kind] % 2 if kind < 3 else (phases[0] + phases[1]) % 2
    return np.ascontiguousarray(colours[parity])
