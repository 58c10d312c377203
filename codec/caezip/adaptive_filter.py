"""A linear filter behind the synthesis transform, which encoders fit to each tile.

Wiener's filter, sent in the stream: Tsai et al. 2013, "Adaptive Loop Filtering for Video
Coding", without its classes and between all colours. It adds what sums and differences
of opposite neighbours tell of a pixel's error, so it leaves areas of one colour alone.

Images are float32 ``[H, W, 3]`` around [0, 1], in whole cells of 4x4 pixels.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from caezip.config import RENDER_STRIDE
from caezip.frequency_tables import filter_bits
from caezip.integers import Integers
from caezip.networks import Floats

# Rows: sum, red against blue, green against both; orthonormal, so that squared errors stay.
COLOURS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
STEPS = (1 / 128, 1 / 64, 1 / 64)  # of coefficients, by the colour that is read
# Rows down and columns right: one of each pair of opposite neighbours
OFFSETS = ((0, 1), (0, 2), (1, -1), (1, 0), (1, 1), (2, 0))
REACH = 2  # pixels
CELL = RENDER_STRIDE  # pixels: beyond its edges an image goes on with its outermost cells again
STRIP_ROWS = 16  # rows worked on at once, to stay near the processor
SWEEPS = 40  # over all coefficients, at most: few are needed
RIDGE = 1e-6  # of the mean energy: makes what nothing is known of solvable
SMALLEST_ENERGY = 1e-30


def kernel_of(coefficients: Integers) -> Floats:
    """What the filter adds to each colour as a convolution: ``[3, 3, 5, 5]``, written, read."""
    tables = coefficients.reshape(3, 3, len(OFFSETS), 2) * np.array(STEPS)[:, None, None]
    taps = np.zeros((3, 3, 2 * REACH + 1, 2 * REACH + 1))
    for number, (down, right) in enumerate(OFFSETS):
        both, between = tables[:, :, number, 0], tables[:, :, number, 1]
        taps[:, :, REACH + down, REACH + right] += both + between
        taps[:, :, REACH - down, REACH - right] += both - between
        taps[:, :, REACH, REACH] -= 2 * both
    kernel: Floats = np.einsum("or,oiyx,ic->rcyx", COLOURS, taps, COLOURS).astype(np.float32)
    return kernel


def cell_kernel_of(kernel: Floats, *, colour_first: bool = False) -> Floats:
    """The same for cells of 4x4 pixels: ``[48, 48, 3, 3]``.

    Their samples are in the order row, column, colour, or else colour, row, column.
    """
    cells = np.zeros((CELL, CELL, 3, CELL, CELL, 3, 3, 3), np.float32)
    for row, column in product(range(CELL), repeat=2):
        for y, x in product(range(-REACH, REACH + 1), repeat=2):
            (down, to_row), (right, to_column) = divmod(row + y, CELL), divmod(column + x, CELL)
            cells[row, column, :, to_row, to_column, :, 1 + down, 1 + right] = kernel[
                :, :, REACH + y, REACH + x
            ]
    if colour_first:
        cells = cells.transpose(2, 0, 1, 5, 3, 4, 6, 7)
    return cells.reshape(3 * CELL**2, 3 * CELL**2, 3, 3)


def grown_indexes(side: int) -> NDArray[np.intp]:
    """Which rows, or columns, stand for `REACH` more on both sides of an image's."""
    first, last = np.arange(CELL - REACH, CELL), np.arange(side - CELL, side - CELL + REACH)
    return np.concatenate([first, np.arange(side), last])


def filtered(image: Floats, kernel: Floats) -> Floats:
    """The image with what its neighbours add to each pixel."""
    side = range(2 * REACH + 1)
    taps = [(y, x) for y, x in product(side, side) if kernel[:, :, y, x].any()]
    if not taps:
        return image
    height, width = image.shape[:2]
    matrix = np.concatenate([kernel[:, :, row, column] for row, column in taps], axis=1)
    rows, columns = grown_indexes(height), grown_indexes(width)
    out = np.empty_like(image)
    for top in range(0, height, STRIP_ROWS):
        bottom = min(top + STRIP_ROWS, height)
        strip = image[rows[top : bottom + 2 * REACH]][:, columns].transpose(2, 0, 1)
        near = np.concatenate(
            [strip[:, y : y + bottom - top, x : x + width].reshape(3, -1) for y, x in taps]
        )
        added = (matrix @ near).reshape(3, bottom - top, width)
        np.add(image[top:bottom], added.transpose(1, 2, 0), out=out[top:bottom])
    return out


def fitted(decoded: Floats, original: Floats, bits_per_squared_error: float) -> Integers:
    """Coefficients ``[108]`` that bring ``decoded`` nearer to ``original`` than their bits cost.

    The original, ``[h, w, 3]``, may lack rows and columns at the end of ``decoded``. All
    zero if none are worth it. ``bits_per_squared_error``: of one sample, in [0, 1].
    """
    normal, target = _moments(decoded, original)
    bits = filter_bits()
    chosen = np.stack([_minimised(normal, row, bits_per_squared_error, bits) for row in target])
    coefficients: Integers = chosen.astype(np.int32).ravel()
    better = filtered(decoded, kernel_of(coefficients))
    gain = _squared_error(decoded, original) - _squared_error(better, original)
    if bits_per_squared_error * gain > bits[np.abs(coefficients)].sum():
        return coefficients
    return np.zeros_like(coefficients)


def _squared_error(decoded: Floats, original: Floats) -> float:
    """Of all samples of the original, as decoders clamp them."""
    height, width = original.shape[:2]
    errors = decoded[:height, :width].clip(0, 1) - original
    return float(np.vdot(errors, errors))


def _moments(decoded: Floats, original: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums over pixels of what coefficients multiply: by itself [36, 36], and by errors [3, 36]."""
    height, width = original.shape[:2]
    rows, columns = grown_indexes(decoded.shape[0]), grown_indexes(decoded.shape[1])
    columns = columns[: width + 2 * REACH]
    colours = COLOURS.astype(np.float32)
    steps = np.repeat(STEPS, 2 * len(OFFSETS)).astype(np.float32)
    normal, target = np.zeros((len(steps), len(steps))), np.zeros((3, len(steps)))
    for top in range(0, height, STRIP_ROWS):
        bottom = min(top + STRIP_ROWS, height)
        seen = decoded[rows[top : bottom + 2 * REACH]][:, columns]
        here = seen[REACH:-REACH, REACH:-REACH]
        planes = np.tensordot(colours, seen, (1, 2))

        terms = np.empty((3, len(OFFSETS), 2, bottom - top, width), np.float32)
        for number, (down, right) in enumerate(OFFSETS):
            one, other = _moved(planes, down, right), _moved(planes, -down, -right)
            terms[:, number, 0] = one + other - 2 * _moved(planes, 0, 0)
            terms[:, number, 1] = one - other
        factors = terms.reshape(len(steps), -1) * steps[:, None]
        # as decoders clamp: white that overshoots has no error, and should not get one
        error = original[top:bottom] - here.clip(0, 1)
        errors = np.tensordot(colours, error, (1, 2)).reshape(3, -1)
        normal += factors @ factors.T
        target += errors @ factors.T
    return normal, target


def _moved(planes: Floats, down: int, right: int) -> Floats:
    """Each pixel's neighbour there, of planes ``[3, h, w]`` that reach `REACH` pixels beyond."""
    height, width = (side - 2 * REACH for side in planes.shape[1:])
    top, left = REACH + down, REACH + right
    return planes[:, top : top + height, left : left + width]


def _minimised(
    normal: NDArray[np.float64],
    target: NDArray[np.float64],
    worth: float,
    bits: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Whole numbers that cost least, one after the other given the rest: ``[36]``.

    ``bits``: code lengths of magnitudes from 0.
    """
    count, largest = len(target), len(bits) - 1
    allowed = np.arange(-largest, largest + 1)
    prices = bits[np.abs(allowed)]
    ridge = RIDGE * max(float(np.trace(normal)), SMALLEST_ENERGY) / count
    best = np.linalg.solve(normal + ridge * np.eye(count), target)
    chosen: NDArray[np.float64] = np.rint(best).clip(-largest, largest)
    slope = normal @ chosen - target
    for _ in range(SWEEPS):
        before = chosen.copy()
        for place in range(count):
            moves = allowed - chosen[place]
            errors = normal[place, place] * moves**2 + 2 * slope[place] * moves
            move = moves[np.argmin(worth * errors + prices)]
            slope += normal[:, place] * move
            chosen[place] += move
        if np.array_equal(chosen, before):
            break
    return chosen
