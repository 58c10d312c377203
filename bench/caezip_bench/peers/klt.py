"""A linear codec, the mark for the networks: a Karhunen-Loève transform of 8x8 colour blocks.

Principal component analysis (PCA) finds the best linear transform there is. With a
uniform step, adaptive tables and the same entropy coder as caezip, it shows what the
non-linear autoencoder buys over it.

The basis and the frequency tables are in ``klt_model.npz``, which
`caezip_bench.peers.klt_training` makes from a folder of photographs.

A file: a header (`HEADER`), then one stream of `caezip`'s range coder: first which
frequency table each coefficient takes in each class of blocks, then the coefficients'
levels, coefficient by coefficient, strongest first.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caezip._rans import load_ans
from caezip.entropy import MIN_STREAM_BYTES
from caezip.errors import CorruptError, ImageError, ParameterError
from caezip.frequency_tables import PRECISION_BITS, FrequencyTables
from caezip.image_io import Pixels
from caezip_bench.peers.base import Peer, required_quality

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]

MODEL_FILE = Path(__file__).with_name("klt_model.npz")
BLOCK_SIDE = 8  # pixels
COEFFICIENTS = 3 * BLOCK_SIDE**2
CENTRE = 128.0  # taken off the samples
HEADER = struct.Struct("<HHBBBb")  # height, width, quality, coefficients, predicted, shift
MAX_SIDE = (1 << 16) - 1
MAX_PIXELS = 1 << 25  # the lists that the range coder takes grow with them
QUALITIES = (12.0, 18.0, 24.0, 30.0, 36.0, 42.0, 48.0, 54.0, 60.0)
MAX_QUALITY = 100
LARGEST_STEP = 512.0
QUALITIES_PER_HALF = 10  # that much more quality halves the step
ROUNDING = 1 / 3  # less than 1/2: a dead zone, 2/3 of a step to either side of zero
SHIFT_STEP = 1 / 128  # unit of the header's shift
PREDICTABLE = 8  # of the strongest coefficients, the header says which are predicted
MAX_LEVEL = (1 << 15) - 1

ESCAPE_BITS = 20  # about what a level beyond its table costs, besides the escape's frequency
CLASS_SHARES = (0.5, 0.8, 0.95)  # of the blocks are below, in order of activity
CLASSES = len(CLASS_SHARES) + 1


@dataclass(frozen=True)
class KltModel:
    """``basis`` float32 ``[192, 192]``, orthonormal rows, strongest first; frequency tables."""

    basis: Floats
    tables: FrequencyTables


@cache
def load_klt_model() -> KltModel:
    """The model that comes with the package."""
    with np.load(MODEL_FILE) as arrays:
        tables = FrequencyTables(arrays["frequencies"], arrays["lengths"], arrays["offsets"])
        return KltModel(arrays["basis"].astype(np.float32), tables)


class KltPeer(Peer):
    """The linear codec. ``quality`` is an integer, 0…100; 10 more halve the step."""

    name = "klt"
    suffix = ".klt"
    is_made_of_caezip = True
    settings = (
        "KLT of 8x8 RGB blocks learnt from photographs, uniform step with dead zone, "
        f"{CLASSES} classes of blocks, caezip's range coder"
    )
    qualities: tuple[float | None, ...] = QUALITIES

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        """Raises ParameterError for other qualities, ImageError for sides over 65,535."""
        quality = required_quality(quality)
        if quality not in range(MAX_QUALITY + 1):
            raise ParameterError(f"quality: found {quality:g}, allowed are integers from 0 to 100")
        height, width = pixels.shape[:2]
        if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
            raise ImageError(
                f"image: found {width}x{height} pixels, allowed are sides up to {MAX_SIDE} "
                f"and {MAX_PIXELS} pixels"
            )
        blocks = blocks_of(pixels)
        samples = blocks.reshape(COEFFICIENTS, -1)
        scaled = (load_klt_model().basis @ samples).reshape(blocks.shape) / step_of(quality)
        levels = quantised(scaled)
        coded = levels != 0
        shift = np.abs(scaled[coded]) - np.abs(levels[coded]) if coded.any() else np.zeros(1)
        predicted, residuals = _predict(levels)
        used = np.flatnonzero(residuals.any(axis=(1, 2)))
        count = int(used[-1]) + 1 if used.size else 0
        header = HEADER.pack(
            height, width, int(quality), count, predicted, round(float(shift.mean()) / SHIFT_STEP)
        )
        return header + (_encode_residuals(residuals[:count]) if count else b"")

    def decode(self, data: bytes) -> Pixels:
        """Raises CorruptError for bytes that no encoder writes."""
        if len(data) < HEADER.size:
            raise CorruptError(
                f"header: found {len(data)} bytes, at least {HEADER.size} are needed"
            )
        height, width, quality, count, predicted, shift = HEADER.unpack_from(data)
        if not 0 < height * width <= MAX_PIXELS or quality > MAX_QUALITY or count > COEFFICIENTS:
            raise CorruptError(
                f"header: found {width}x{height} pixels, quality {quality} and {count} "
                f"coefficients, allowed are 1 to {MAX_PIXELS}, 0 to {MAX_QUALITY} and "
                f"0 to {COEFFICIENTS}"
            )
        grid = (-(-height // BLOCK_SIDE), -(-width // BLOCK_SIDE))
        residuals = np.zeros((COEFFICIENTS, *grid), np.int32)
        if count:
            residuals[:count] = _decode_residuals(data[HEADER.size :], count, grid)
        levels = residuals
        for number in range(PREDICTABLE):
            if predicted >> number & 1:
                levels[number] = _unpredicted(residuals[number])
        scaled = levels + np.sign(levels) * np.float32(shift * SHIFT_STEP)
        coefficients = (scaled * step_of(quality)).astype(np.float32)
        samples = load_klt_model().basis.T @ coefficients.reshape(COEFFICIENTS, -1)
        return pixels_of(samples.reshape(coefficients.shape), height, width)


def step_of(quality: float) -> np.float32:
    """Width of a quantiser's cell, in units of the 8-bit samples."""
    return np.float32(LARGEST_STEP * 2 ** (-quality / QUALITIES_PER_HALF))


def quantised(scaled: Floats) -> Integers:
    """Levels of coefficients that are measured in steps.

    With a dead zone: rounding a Laplacian's values down a little saves more bits than it
    costs in distortion (G. Sullivan, "Efficient scalar quantization of exponential and
    Laplacian random variables", 1996).
    """
    magnitudes = np.floor(np.abs(scaled) + np.float32(ROUNDING))
    levels: Integers = (np.sign(scaled) * magnitudes).astype(np.int32)
    return levels


def blocks_of(pixels: Pixels) -> Floats:
    """``[192, h, w]``: samples less 128 of ``[H, W, 3]``, the last row and column repeated."""
    height, width = pixels.shape[:2]
    padded = np.pad(
        pixels, ((0, -height % BLOCK_SIDE), (0, -width % BLOCK_SIDE), (0, 0)), mode="edge"
    )
    rows, columns = padded.shape[0] // BLOCK_SIDE, padded.shape[1] // BLOCK_SIDE
    cut = padded.reshape(rows, BLOCK_SIDE, columns, BLOCK_SIDE, 3).transpose(4, 1, 3, 0, 2)
    blocks: Floats = cut.reshape(COEFFICIENTS, rows, columns).astype(np.float32) - CENTRE
    return blocks


def pixels_of(blocks: Floats, height: int, width: int) -> Pixels:
    """The image whose blocks these are: the inverse of `blocks_of`."""
    rows, columns = blocks.shape[1:]
    cut = blocks.reshape(3, BLOCK_SIDE, BLOCK_SIDE, rows, columns).transpose(3, 1, 4, 2, 0)
    padded = cut.reshape(rows * BLOCK_SIDE, columns * BLOCK_SIDE, 3)
    samples = np.rint(padded[:height, :width] + np.float32(CENTRE))
    pixels: Pixels = np.clip(samples, 0, 255).astype(np.uint8)
    return pixels


def _predict(levels: Integers) -> tuple[int, Integers]:
    """``(predicted, residuals)``: which coefficients the blocks beside and above foretell.

    Those among the first `PREDICTABLE` whose residuals are smaller: in photographs the
    block's means. Bit k of ``predicted`` says so of coefficient k.
    """
    residuals = levels.copy()
    predicted = 0
    for number in range(PREDICTABLE):
        plane = levels[number]
        guess = np.zeros_like(plane)
        guess[1:, 1:] = (plane[1:, :-1] + plane[:-1, 1:]) >> 1
        guess[0, 1:], guess[1:, 0] = plane[0, :-1], plane[:-1, 0]
        if np.abs(plane - guess).sum() < np.abs(plane).sum():
            residuals[number] = plane - guess
            predicted |= 1 << number
    return predicted, residuals


def _unpredicted(residuals: Integers) -> Integers:
    """The plane ``[h, w]`` of levels that `_predict` took these residuals of."""
    rows: list[list[int]] = []
    for residual_row in residuals.tolist():
        row: list[int] = []
        for column, residual in enumerate(residual_row):
            if rows and row:
                guess = (row[-1] + rows[-1][column]) >> 1
            elif row:
                guess = row[-1]
            else:
                guess = rows[-1][0] if rows else 0
            row.append(guess + residual)
        rows.append(row)
    return np.array(rows, np.int64).astype(np.int32)


class _Activity:
    """What the coefficients decoded so far tell of each block's next one, in integers only.

    A block's activity is a fading sum of its levels' magnitudes; with its neighbours' it
    ranks the blocks, and the ranks are cut into classes.
    """

    def __init__(self, grid: tuple[int, int]) -> None:
        self._sums = np.zeros(grid, np.int32)

    def classes(self) -> NDArray[np.intp]:
        """The class of each block, 0 to 3, ``[h, w]``."""
        padded = np.pad(self._sums, 1)
        beside = padded[1:-1, :-2] + padded[1:-1, 2:] + padded[:-2, 1:-1] + padded[2:, 1:-1]
        activity = 2 * self._sums + beside
        places = [int(share * (activity.size - 1)) for share in CLASS_SHARES]
        cuts = np.partition(activity, places, axis=None)[places]
        classes: NDArray[np.intp] = np.searchsorted(cuts, activity)
        return classes

    def update(self, residuals: Integers) -> None:
        """Take in the coefficient just coded."""
        self._sums += 16 * np.minimum(np.abs(residuals), 64) - (self._sums >> 3)


def _encode_residuals(residuals: Integers) -> bytes:
    """One stream of the residuals ``[count, h, w]``: the tables' numbers, then each plane."""
    activity = _Activity((residuals.shape[1], residuals.shape[2]))
    numbers = np.zeros((len(residuals), CLASSES), np.int32)
    symbols: list[int] = []
    indexes: list[int] = []
    for plane, row in zip(residuals, numbers, strict=True):
        classes = activity.classes()
        for number in range(CLASSES):
            row[number] = _best_table(plane[classes == number])
        tables = row[classes]
        symbols += plane[tables > 0].tolist()
        indexes += tables[tables > 0].tolist()
        activity.update(plane)
    side = np.diff(numbers, axis=0, prepend=0).ravel().tolist()
    coder = _coder_tables()
    return (
        load_ans()
        .RansEncoder()
        .encode_with_indexes(
            side + symbols, [0] * len(side) + indexes, coder.cdfs, coder.sizes, coder.offsets
        )
    )


def _decode_residuals(stream: bytes, count: int, grid: tuple[int, int]) -> Integers:
    """The residuals ``[count, h, w]`` of a stream. Raises CorruptError."""
    if len(stream) < MIN_STREAM_BYTES or len(stream) % 4:
        raise CorruptError(
            f"stream: found {len(stream)} bytes, allowed are multiples of 4 from {MIN_STREAM_BYTES}"
        )
    decoder = load_ans().RansDecoder()
    # the coder does not see its input's end; see caezip.entropy for how far it may read
    padding = 16 * len(stream) + 8 * count * (grid[0] * grid[1] + CLASSES) + (1 << 16)
    decoder.set_stream(stream + bytes(padding))
    coder = _coder_tables()
    side = decoder.decode_stream([0] * (count * CLASSES), coder.cdfs, coder.sizes, coder.offsets)
    numbers = np.cumsum(np.array(side, np.int64).reshape(count, CLASSES), axis=0)
    if numbers.min() < 0 or numbers.max() >= len(coder.cdfs):
        raise CorruptError(f"table number: found one beyond the allowed 0 to {len(coder.cdfs) - 1}")
    activity = _Activity(grid)
    residuals = np.zeros((count, *grid), np.int32)
    for plane, row in zip(residuals, numbers.tolist(), strict=True):
        classes = activity.classes()
        coded = np.array(row)[classes] > 0
        symbols = decoder.decode_stream(
            classes[coded].tolist(),
            [coder.cdfs[number] for number in row],
            [coder.sizes[number] for number in row],
            [coder.offsets[number] for number in row],
        )
        plane[coded] = symbols
        if np.abs(plane).max() > MAX_LEVEL:
            raise CorruptError(f"level: found one beyond the allowed ±{MAX_LEVEL}")
        activity.update(plane)
    return residuals


@dataclass(frozen=True)
class _CoderTables:
    """The model's tables as the range coder takes them, and ``bits`` [tables, magnitudes].

    The last magnitude stands for all that are larger.
    """

    cdfs: list[list[int]]
    sizes: list[int]
    offsets: list[int]
    bits: NDArray[np.float64]


@cache
def _coder_tables() -> _CoderTables:
    tables = load_klt_model().tables
    cdfs = tables.cumulative()
    radii = (-tables.offsets).tolist()
    bits = np.empty((len(cdfs), max(radii) + 2))
    for row, cdf, radius in zip(bits, cdfs, radii, strict=True):
        costs = PRECISION_BITS - np.log2(np.diff(cdf))
        row[: radius + 1] = costs[radius:-1]
        row[radius + 1 :] = costs[-1] + ESCAPE_BITS
    return _CoderTables(cdfs, [len(cdf) for cdf in cdfs], tables.offsets.tolist(), bits)


def _best_table(symbols: Integers) -> int:
    """The number of the table that codes these in the fewest bits; 0: all are zero, not coded."""
    if not symbols.any():
        return 0
    bits = _coder_tables().bits
    counts = np.bincount(np.minimum(np.abs(symbols), bits.shape[1] - 1))
    return 1 + int(np.argmin(bits[1:, : len(counts)] @ counts))
