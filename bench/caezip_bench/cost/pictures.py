"""Photographs made into pictures of given sizes, for measuring cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caezip.errors import ImageError
from caezip.image_io import Pixels, read_rgb
from caezip_bench.runner import SkippedImage

SMALLEST_SIDE = 64  # pixels; of less, a picture would be more seams than photograph
ASPECT = 1.5  # width over height, a camera's


def read_photographs(
    files: Sequence[Path], *, least: int, megapixels: float
) -> tuple[list[Pixels], list[str], list[SkippedImage]]:
    """``(photographs, names, skipped)``: the first files that can be used.

    No more are read than it takes to have ``least`` photographs with ``megapixels``
    (10⁶ pixels) between them. Raises ImageError if there are none at all.
    """
    photographs: list[Pixels] = []
    names: list[str] = []
    skipped: list[SkippedImage] = []
    for file in files:
        try:
            pixels = read_rgb(file)
        except ImageError as error:
            skipped.append(SkippedImage(file.name, str(error).removeprefix(f"{file}: ")))
            continue
        if min(pixels.shape[:2]) < SMALLEST_SIDE:
            skipped.append(SkippedImage(file.name, f"a side is under {SMALLEST_SIDE} pixels"))
            continue
        photographs.append(pixels)
        names.append(file.name)
        total = sum(photo.shape[0] * photo.shape[1] for photo in photographs)
        if len(photographs) >= least and total >= megapixels * 1e6:
            break
    if not photographs:
        raise ImageError(f"none of {len(files)} files is a photograph that can be used")
    return photographs, names, skipped


def size_of(megapixels: float) -> tuple[int, int]:
    """``(width, height)`` of about so many megapixels (10⁶ pixels), 3:2."""
    height = round(math.sqrt(megapixels * 1e6 / ASPECT))
    return round(ASPECT * height), height


def picture_of(photographs: Sequence[Pixels], width: int, height: int) -> Pixels:
    """Photographs side by side in rows, over and over: uint8 RGB ``[height, width, 3]``.

    Nothing is scaled, which would change how well it compresses: each fills a cell of
    the first one's size, smaller ones go on in a mirror, of larger ones it is the middle.
    """
    cell_height, cell_width = photographs[0].shape[:2]
    picture = np.empty((height, width, 3), np.uint8)
    number = 0
    for top in range(0, height, cell_height):
        for left in range(0, width, cell_width):
            cell = picture[top : top + cell_height, left : left + cell_width]
            cell[:] = _fitted(photographs[number % len(photographs)], *cell.shape[:2])
            number += 1
    return picture


def _fitted(photograph: Pixels, height: int, width: int) -> Pixels:
    top = max(0, (photograph.shape[0] - height) // 2)
    left = max(0, (photograph.shape[1] - width) // 2)
    cut = photograph[top : top + height, left : left + width]
    missing = [(0, height - cut.shape[0]), (0, width - cut.shape[1]), (0, 0)]
    return np.pad(cut, missing, mode="symmetric")
