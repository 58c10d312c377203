"""Scale indexes of a tile's latent: which table codes each symbol. In integers only.

What the decoder reads depends on this, so it is exact on every machine. FORMAT.md gives
the same rules in words.

Shapes: hyper-latent ``[Z, zh, zw]``, latent ``[C, h, w]``, with ``zh = ceil(h/4)``. Each pass
codes every other cell of the first half of the channels and the cells between of the
second half. So arrays here are of one half, and *packed*: ``[channels of the half, h,
ceil(w/2)]``, where column ``k`` of row ``r`` is the cell ``2k + (r + parity) % 2`` of that
row. With an odd ``w`` the last column of every other row is no cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caezip.errors import WeightsError
from caezip.hyper_features import IntegerHyperFeatures
from caezip.integers import (
    MAX_HYPER_SYMBOL,
    Integers,
    check_exported,
    exact_type,
    interpolated,
)

Indexes = NDArray[np.uint8]
Places = NDArray[np.int32]  # half the memory of numpy's own indexes
Floats = NDArray[np.float32]
WholeFloats = NDArray[Any]  # float32 or float64 that hold integers
SmallIntegers = NDArray[Any]  # int16 or int32

HYPER_STRIDE = 4  # latent cells per hyper-latent cell and side
SCALE_COUNT = 64  # Gaussian tables
EVIDENCE_LEVELS = 32  # magnitudes that pass two tells apart, the last for all above
MAX_LATENT_SYMBOL = 32767  # |residual| is at most this
NEIGHBOURS = ((-1, 0), (0, -1), (0, 1), (1, 0))  # (row, column) of the cells around
CHANNELS_AT_ONCE = 40  # few enough for a core's cache


def halves(channels: int) -> tuple[slice, slice]:
    """The channels whose even cells pass one codes, and those whose odd cells."""
    return slice(0, channels // 2), slice(channels // 2, channels)


@lru_cache(maxsize=4)
def checkerboard(channels: int, height: int, width: int) -> NDArray[np.bool_]:
    """True where pass one codes the latent, false where pass two does: ``[C, h, w]``.

    After He et al. 2021, "Checkerboard Context Model for Efficient Learned Image
    Compression", with the two halves of the channels in opposite phase.
    """
    even = (np.arange(height)[:, None] + np.arange(width)) % 2 == 0
    first = np.empty((channels, height, width), np.bool_)
    for half, cells in zip(halves(channels), (even, ~even), strict=True):
        first[half] = cells
    first.flags.writeable = False  # it is kept, and the same for all
    return first


@dataclass(frozen=True)
class Coded:
    """The symbols of one pass whose index is not 0, in the order of the stream.

    ``places`` int32 in the latent ``[C, h, w]`` read row by row, ascending; ``indexes`` uint8.
    """

    places: Places
    indexes: Indexes


@dataclass(frozen=True, eq=False)  # one is what it is: others are made of it once
class IntegerScales:
    """The scale predictor as exported: int8 weights, int32 biases, two shifts.

    Pass one: ``index = clamp((s + 2^(shift-1)) >> shift, 0, 63)`` with
    ``s = weight @ z + bias(quality)``, where ``z`` has its ``features`` behind it, if there are
    any. Pass two adds to ``s`` what pass one's symbols tell:
    ``second_bias(quality) + (across @ e + around * e) >> evidence_shift``,
    where ``e`` is ``evidence[index, |symbol|]`` where pass one coded and 0 elsewhere.

    ``weight`` int8 ``[C * 16, Z + F]``; ``bias`` and ``second_bias`` int32 ``[anchors, C]``;
    ``evidence`` int8 ``[64, 32]``; ``across`` int8 ``[C, C]``; ``around`` int8
    ``[C, 4]`` for the cells above, left, right and below.
    """

    weight: NDArray[np.int8]
    bias: Integers
    second_bias: Integers
    evidence: NDArray[np.int8]
    across: NDArray[np.int8]
    around: NDArray[np.int8]
    shift: int
    evidence_shift: int
    features: IntegerHyperFeatures | None = None

    def __post_init__(self) -> None:
        if self.bias.ndim != 2 or self.weight.ndim != 2 or len(self.bias) < 2:
            raise WeightsError("scale predictor: weight and bias must be matrices")
        channels = self.bias.shape[1]
        if self.weight.shape[0] != channels * HYPER_STRIDE**2:
            raise WeightsError("scale predictor: weight and bias differ in channels")
        expected = {
            "second_bias": self.bias.shape,
            "evidence": (SCALE_COUNT, EVIDENCE_LEVELS),
            "across": (channels, channels),
            "around": (channels, len(NEIGHBOURS)),
        }
        check_exported("scale predictor", self, expected, ("shift", "evidence_shift"))
        if self.features is not None and self.hyper_channels != self.features.channels:
            raise WeightsError("scale predictor: its channels are not those of its features")
        if self.largest_sum() >= 1 << 31:
            raise WeightsError("scale predictor: its sums can exceed 31 bits")
        if self.largest_evidence() >= 1 << 24:
            raise WeightsError("scale predictor: its sums of evidence can exceed 24 bits")

    def largest_evidence(self) -> int:
        """Bound on every partial sum of evidence, over all symbols the format allows."""
        rows = np.abs(self.across.astype(np.int64)).sum(axis=1)
        rows += np.abs(self.around.astype(np.int64)).sum(axis=1)
        return int(rows.max() * np.abs(self.evidence.astype(np.int64)).max())

    def largest_sum(self) -> int:
        """Bound on every intermediate value, over all symbols the format allows."""
        rows = np.abs(self.weight.astype(np.int64)).sum(axis=1) * MAX_HYPER_SYMBOL
        bias = np.abs(self.bias.astype(np.int64)).max()
        second = np.abs(self.second_bias.astype(np.int64)).max()
        rounding = (1 << (self.shift - 1)) + (1 << (self.evidence_shift - 1))
        return int(rows.max() + bias + second + rounding + self.largest_evidence())

    def biases(self, quality_hundredths: int) -> tuple[Integers, Integers]:
        """``[C]`` of pass one and of pass two at a quality, with `half_step`."""
        first: Integers = interpolated(self.bias, quality_hundredths) + np.int32(self.half_step)
        return first, first + interpolated(self.second_bias, quality_hundredths)

    @property
    def hyper_channels(self) -> int:
        """Of the hyper-latent."""
        inputs = self.weight.shape[1]
        return inputs if self.features is None else inputs - self.features.bias.shape[1]

    def seen(self, hyper_latent: Integers, quality_hundredths: int) -> Integers:
        """What ``weight`` is multiplied with: ``[Z + F, zh, zw]``, at most 127 each."""
        if self.features is None:
            return hyper_latent
        return self.features.beside(hyper_latent, quality_hundredths)

    @property
    def halves(self) -> tuple[slice, slice]:
        return halves(self.bias.shape[1])

    @cached_property
    def largest_weight_row(self) -> int:
        return int(np.abs(self.weight.astype(np.int64)).sum(axis=1).max())

    def packed_cells(self, half: int, parity: int) -> NDArray[np.int8]:
        """The weights of a half's cells of a parity: ``[channels of the half, 4 * 2, n]``."""
        stride, inputs = HYPER_STRIDE, self.weight.shape[1]
        cells = self.weight.reshape(-1, stride, stride, inputs)[self.halves[half]]
        rows = [cells[:, row, (row + parity) % 2 :: 2] for row in range(stride)]
        packed: NDArray[np.int8] = np.stack(rows, axis=1)
        return packed.reshape(len(cells), stride * stride // 2, inputs)

    @cached_property
    def packed_weights(self) -> dict[tuple[int, int], Floats]:
        """``[n, channels of the half * 4 * 2]`` by half and parity: the columns of its cells."""
        out = {}
        for half, parity in np.ndindex(2, 2):
            rows = self.packed_cells(half, parity).reshape(-1, self.weight.shape[1])
            out[half, parity] = np.ascontiguousarray(rows.T, np.float32)
        return out

    @cached_property
    def packed_across(self) -> tuple[Floats, Floats]:
        """By half: what its channels gather from those of the other."""
        first, second = self.halves
        across = self.across.astype(np.float32)
        return across[first, second], across[second, first]

    @cached_property
    def packed_around(self) -> tuple[SmallIntegers, SmallIntegers]:
        """By half: the weights of the four neighbours, ``[4, channels, 1, 1]``.

        int16 where sums of all four fit, which is twice as fast, else int32.
        """
        rows = np.abs(self.around.astype(np.int64)).sum(axis=1)
        largest = int(rows.max() * np.abs(self.evidence.astype(np.int64)).max())
        largest += self.half_evidence_step
        around = self.around.T[:, :, None, None].astype(np.int16 if largest < 1 << 15 else np.int32)
        first, second = self.halves
        return around[:, first], around[:, second]

    def exact_type(self, seen: Integers, addend: int = 0) -> type[np.floating[Any]]:
        """In which ``weight @ seen`` plus up to ``addend`` is exact, in any order."""
        return exact_type(seen, self.largest_weight_row, addend)

    @property
    def half_step(self) -> int:
        """With it, the shift rounds to the nearest."""
        return 1 << (self.shift - 1)

    @property
    def half_evidence_step(self) -> int:
        """With it, shifting a sum of evidence rounds it to the nearest."""
        return 1 << (self.evidence_shift - 1)


class TileScales:
    """The scale indexes of one tile, pass by pass."""

    def __init__(
        self,
        scales: IntegerScales,
        hyper_latent: Integers,
        quality_hundredths: int,
        grid: tuple[int, int],
    ) -> None:
        self._scales, self._grid, self._blocks = scales, grid, hyper_latent.shape[1:]
        self._channels = [half.stop - half.start for half in scales.halves]
        bias, second_bias = scales.biases(quality_hundredths)
        largest_bias = max(int(np.abs(values).max()) for values in (bias, second_bias))
        seen = scales.seen(hyper_latent, quality_hundredths)
        symbols = self._operand(seen, largest_bias)
        # pass one codes the cells of a half's own parity
        self._first = [self._first_indexes(symbols, half, bias) for half in (0, 1)]
        self._sums = [self._second_sums(symbols, half, second_bias) for half in (0, 1)]
        self._coded = [np.flatnonzero(indexes > 0) for indexes in self._first]
        self.first = self._as_coded(self._first, self._coded, 0)

    def second(self, first_symbols: Integers) -> Coded:
        """Pass two, given the symbols ``[n]`` of ``first``."""
        evidence = self._evidence(first_symbols)
        indexes = [self._second_indexes(half, evidence) for half in (0, 1)]
        return self._as_coded(indexes, [np.flatnonzero(half > 0) for half in indexes], 1)

    def _operand(self, seen: Integers, largest_bias: int) -> WholeFloats:
        """What weights and, in a further row, biases are multiplied with: ``[zh * zw, n + 1]``.

        Floating-point products of integers, and of integers times a power of two: every
        partial sum is one that the type can hold, hence exact in any order, and BLAS is fast at it.
        """
        channels, zh, zw = seen.shape
        symbols = np.ones((zh * zw, channels + 1), self._scales.exact_type(seen, largest_bias))
        symbols[:, :-1] = seen.reshape(channels, -1).T
        return symbols

    def _products(
        self,
        symbols: WholeFloats,
        cells: tuple[int, int],
        bias: Integers,
        step: float = 1.0,
    ) -> WholeFloats:
        """``weight @ z + bias`` times ``step``, of the half and parity ``cells``.

        ``[zh * zw, channels * 4 * 2]``: the hyper-latent's cells, and in each the latent's.
        """
        weights = self._scales.packed_weights[cells]
        matrix = np.empty((len(weights) + 1, weights.shape[1]), symbols.dtype)
        np.multiply(weights, step, out=matrix[:-1])
        own_bias = bias[self._scales.halves[cells[0]]]
        matrix[-1] = np.repeat(own_bias * step, HYPER_STRIDE * HYPER_STRIDE // 2)
        products: WholeFloats = symbols @ matrix
        return products

    def _packed(self, values: NDArray[Any], channels: int) -> NDArray[Any]:
        """What is laid out as `_products` are, ``[channels, h, ceil(w/2)]``."""
        height, width = self._grid
        zh, zw = self._blocks
        # two cells beside each other are moved as one thing
        pairs = values.view(f"u{2 * values.itemsize}").reshape(zh, zw, channels, HYPER_STRIDE)
        rows = np.ascontiguousarray(pairs.transpose(2, 0, 3, 1)).view(values.dtype)
        cells = rows.reshape(channels, zh * HYPER_STRIDE, zw * HYPER_STRIDE // 2)
        inside: NDArray[Any] = cells[:, :height, : -(-width // 2)]
        return inside

    def _first_indexes(self, symbols: WholeFloats, half: int, bias: Integers) -> Indexes:
        """Those of pass one, uint8, 0 where there is no cell."""
        sums = self._products(symbols, (half, half), bias, 2.0**-self._scales.shift)
        np.clip(sums, 0, SCALE_COUNT - 1, out=sums)
        indexes: Indexes = self._packed(sums.astype(np.uint8), self._channels[half])
        self._without_fillers(indexes, half)
        return indexes

    def _second_sums(self, symbols: WholeFloats, half: int, bias: Integers) -> Integers:
        """Those of pass two, without what pass one tells."""
        sums = self._products(symbols, (half, 1 - half), bias)
        return self._packed(sums.astype(np.int32), self._channels[half])

    def _without_fillers(self, packed: NDArray[Any], parity: int) -> None:
        """Write 0 where there is no cell."""
        if self._grid[1] % 2:
            packed[:, 1 - parity :: 2, -1] = 0

    def _as_coded(
        self, indexes: list[Indexes], coded: list[NDArray[np.intp]], first_parity: int
    ) -> Coded:
        places = _places(sum(self._channels), *self._grid)
        count = len(coded[0]) + len(coded[1])
        out = Coded(np.empty(count, np.int32), np.empty(count, np.uint8))
        start = 0
        for half, parity in enumerate((first_parity, 1 - first_parity)):
            end = start + len(coded[half])
            # every place is inside: "clip" only saves a copy
            places[half, parity].take(coded[half], out=out.places[start:end], mode="clip")
            indexes[half].take(coded[half], out=out.indexes[start:end], mode="clip")
            start = end
        return out

    def _evidence(self, first_symbols: Integers) -> list[SmallIntegers]:
        """What pass one tells, packed, by half; 0 where there is no cell."""
        table, out, start = self._scales.evidence.ravel(), [], 0
        for half, (indexes, coded) in enumerate(zip(self._first, self._coded, strict=True)):
            kind = self._scales.packed_around[half].dtype
            # what was not coded has the index 0, and is 0
            evidence = np.full(indexes.shape, table[0], kind)
            end = start + len(coded)
            levels = np.minimum(np.abs(first_symbols[start:end]), EVIDENCE_LEVELS - 1)
            levels += EVIDENCE_LEVELS * self.first.indexes[start:end].astype(np.int32)
            evidence.ravel()[coded] = table.take(levels)
            self._without_fillers(evidence, half)
            out.append(evidence)
            start = end
        return out

    def _second_indexes(self, half: int, evidence: list[SmallIntegers]) -> Indexes:
        """Those of pass two, uint8, 0 where there is no cell."""
        own, other = evidence[half], evidence[1 - half]
        # exact in float32 and in any order: partial sums stay below 2^24
        columns = other.reshape(len(other), math.prod(own.shape[1:])).astype(np.float32)
        across = (self._scales.packed_across[half] @ columns).reshape(own.shape)
        indexes = np.empty(own.shape, np.uint8)
        for start in range(0, len(own), CHANNELS_AT_ONCE):
            some = slice(start, start + CHANNELS_AT_ONCE)
            total = across[some].astype(np.int32)
            total += self._from_around(half, own[some], some)
            total >>= self._scales.evidence_shift
            total += self._sums[half][some]
            total >>= self._scales.shift
            indexes[some] = np.clip(total, 0, SCALE_COUNT - 1, out=total)
        self._without_fillers(indexes, 1 - half)
        return indexes

    def _from_around(self, half: int, own: SmallIntegers, some: slice) -> SmallIntegers:
        """``around * e`` at the cells that pass two codes of ``some`` channels, and half a step."""
        above, left, right, below = self._scales.packed_around[half][:, some]
        # the cells beside one in column k are in columns k and k + 1, or k - 1 and k
        left_rows, right_rows = slice(half, None, 2), slice(1 - half, None, 2)
        total = np.empty_like(own)
        np.multiply(own[:, left_rows], left, out=total[:, left_rows])
        np.multiply(own[:, right_rows], right, out=total[:, right_rows])
        total += self._scales.half_evidence_step
        total[:, left_rows, :-1] += own[:, left_rows, 1:] * right
        total[:, right_rows, 1:] += own[:, right_rows, :-1] * left
        total[:, 1:] += own[:, :-1] * above
        total[:, :-1] += own[:, 1:] * below
        return total


@lru_cache(maxsize=2)
def _places(channels: int, height: int, width: int) -> dict[tuple[int, int], Places]:
    """By half and parity, the place in the latent of every packed cell, flattened."""
    out = {}
    rows = np.arange(height)[:, None]
    for half, numbers in enumerate(halves(channels)):
        for parity in (0, 1):
            columns = 2 * np.arange(-(-width // 2)) + (rows + parity) % 2
            cells = (rows * width + columns).ravel()
            starts = height * width * np.arange(numbers.start, numbers.stop)
            out[half, parity] = (starts[:, None] + cells).ravel().astype(np.int32)
            out[half, parity].flags.writeable = False  # it is kept, and the same for all
    return out
