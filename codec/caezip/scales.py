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

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caezip.errors import WeightsError

Integers = NDArray[np.int32]
Indexes = NDArray[np.uint8]
Places = NDArray[np.int32]  # half the memory of numpy's own indexes
Floats = NDArray[np.float32]

HYPER_STRIDE = 4  # latent cells per hyper-latent cell and side
SCALE_COUNT = 64  # Gaussian tables
EVIDENCE_LEVELS = 32  # magnitudes that pass two tells apart, the last for all above
MAX_HYPER_SYMBOL = 127  # |z| is at most this
QUALITY_LOW, QUALITY_SPAN = 100, 9900  # hundredths: 1…100
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


@dataclass(frozen=True)
class IntegerScales:
    """The scale predictor as exported: int8 weights, int32 biases, two shifts.

    Pass one: ``index = clamp((s + 2^(shift-1)) >> shift, 0, 63)`` with
    ``s = weight @ z + bias(quality)``. Pass two adds to ``s`` what pass one's
    symbols tell: ``second_bias(quality) + (across @ e + around * e) >> evidence_shift``,
    where ``e`` is ``evidence[index, |symbol|]`` where pass one coded and 0 elsewhere.

    ``weight`` int8 ``[C * 16, Z]``; ``bias`` and ``second_bias`` int32 ``[anchors, C]``;
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
        for name, shape in expected.items():
            found = getattr(self, name).shape
            if found != shape:
                raise WeightsError(f"scale predictor {name}: found {found}, allowed is {shape}")
        for name in ("shift", "evidence_shift"):
            value = getattr(self, name)
            if not 1 <= value <= 24:
                raise WeightsError(f"scale predictor {name}: found {value}, allowed are 1 to 24")
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

    @property
    def halves(self) -> tuple[slice, slice]:
        return halves(self.bias.shape[1])

    @cached_property
    def largest_weight_row(self) -> int:
        return int(np.abs(self.weight.astype(np.int64)).sum(axis=1).max())

    @cached_property
    def packed_weights(self) -> dict[tuple[int, int], Floats]:
        """``[Z, channels of the half * 4 * 2]`` by half and parity: the columns of its cells."""
        stride, hyper_channels = HYPER_STRIDE, self.weight.shape[1]
        cells = self.weight.reshape(-1, stride, stride, hyper_channels)
        out = {}
        for half, channels in enumerate(self.halves):
            for parity in (0, 1):
                rows = [cells[channels, row, (row + parity) % 2 :: 2] for row in range(stride)]
                weights = np.stack(rows, axis=1).reshape(-1, hyper_channels).T
                out[half, parity] = np.ascontiguousarray(weights, np.float32)
        return out

    @cached_property
    def packed_across(self) -> tuple[Floats, Floats]:
        """By half: what its channels gather from those of the other."""
        first, second = self.halves
        across = self.across.astype(np.float32)
        return across[first, second], across[second, first]

    @cached_property
    def packed_around(self) -> tuple[Floats, Floats]:
        """By half: the weights of the four neighbours, ``[4, channels, 1]``."""
        around = self.around.T.astype(np.float32)[:, :, None]
        first, second = self.halves
        return around[:, first], around[:, second]

    @cached_property
    def evidence_of_zero(self) -> bytes:
        """By index, as `bytes.translate` reads it, which is the fastest to look up many."""
        return self.evidence[:, 0].tobytes().ljust(256, b"\0")


class TileScales:
    """The scale indexes of one tile, pass by pass."""

    def __init__(
        self,
        scales: IntegerScales,
        hyper_latent: Integers,
        quality_hundredths: int,
        grid: tuple[int, int],
    ) -> None:
        self._scales, self._grid = scales, grid
        self._channels = [half.stop - half.start for half in scales.halves]
        half_step = 1 << (scales.shift - 1)  # with it, the shift rounds to the nearest
        bias = interpolated(scales.bias, quality_hundredths) + half_step
        second_bias = bias + interpolated(scales.second_bias, quality_hundredths)
        products = self._products(hyper_latent)
        # pass one codes the cells of a half's own parity
        self._first = [
            self._indexes(products[half, half] + bias[channels, None, None], half)
            for half, channels in enumerate(scales.halves)
        ]
        self._sums = [
            products[half, 1 - half] + second_bias[channels, None, None]
            for half, channels in enumerate(scales.halves)
        ]
        self._coded = [np.flatnonzero(indexes > 0) for indexes in self._first]
        self.first = self._as_coded(self._first, self._coded, 0)

    def second(self, first_symbols: Integers) -> Coded:
        """Pass two, given the symbols ``[n]`` of ``first``."""
        evidence = self._evidence(first_symbols)
        indexes = []
        for half in (0, 1):
            # exact in float32 and in any order: partial sums stay below 2^24
            total = self._gathered(half, evidence).astype(np.int32)
            total += 1 << (self._scales.evidence_shift - 1)
            total >>= self._scales.evidence_shift
            total += self._sums[half]
            indexes.append(self._indexes(total, 1 - half))
        return self._as_coded(indexes, [np.flatnonzero(half > 0) for half in indexes], 1)

    def _products(self, hyper_latent: Integers) -> dict[tuple[int, int], Integers]:
        """``weight @ z``, packed, by half and parity."""
        z_channels, zh, zw = hyper_latent.shape
        # floating-point products of integers: every partial sum is an integer that the
        # type can hold (see largest_sum), hence exact in any order, and BLAS is fast at it
        largest = int(np.abs(hyper_latent).max(initial=0)) * self._scales.largest_weight_row
        kind: type[np.floating[Any]] = np.float32 if largest < 1 << 24 else np.float64
        symbols = hyper_latent.reshape(z_channels, -1).T.astype(kind)
        height, width = self._grid
        out = {}
        for (half, parity), weights in self._scales.packed_weights.items():
            product = (symbols @ weights.astype(kind, copy=False)).astype(np.int32)
            # two cells beside each other are moved as one thing
            pairs = product.view(np.int64).reshape(zh, zw, self._channels[half], HYPER_STRIDE)
            rows = np.ascontiguousarray(pairs.transpose(2, 0, 3, 1)).view(np.int32)
            cells = rows.reshape(self._channels[half], zh * HYPER_STRIDE, zw * HYPER_STRIDE // 2)
            out[half, parity] = cells[:, :height, : -(-width // 2)]
        return out

    def _indexes(self, sums: Integers, parity: int) -> Indexes:
        """Table indexes uint8, 0 where there is no cell. Overwrites ``sums``."""
        sums >>= self._scales.shift
        indexes = np.clip(sums, 0, SCALE_COUNT - 1, out=sums).astype(np.uint8)
        self._without_fillers(indexes, parity)
        return indexes

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

    def _evidence(self, first_symbols: Integers) -> list[Floats]:
        """What pass one tells, packed, by half; 0 where there is no cell."""
        out, start = [], 0
        for half, (indexes, coded) in enumerate(zip(self._first, self._coded, strict=True)):
            # most symbols are 0
            zeros = indexes.tobytes().translate(self._scales.evidence_of_zero)
            evidence = np.frombuffer(zeros, np.int8).astype(np.float32).reshape(indexes.shape)
            symbols = first_symbols[start : start + len(coded)]
            start += len(coded)
            others = np.flatnonzero(symbols)
            level = np.minimum(np.abs(symbols[others]), EVIDENCE_LEVELS - 1)
            places = coded[others]
            table = self._scales.evidence.ravel()
            rows = EVIDENCE_LEVELS * indexes.take(places).astype(np.intp)
            evidence.ravel()[places] = table.take(rows + level)
            self._without_fillers(evidence, half)
            out.append(evidence)
        return out

    def _gathered(self, half: int, evidence: list[Floats]) -> Floats:
        """``across @ e + around * e`` at the cells that pass two codes of a half."""
        own, other = evidence[half], evidence[1 - half]
        height, width = own.shape[1:]
        flat = own.reshape(len(own), height * width)
        cells = other.reshape(len(other), height * width)
        total: Floats = self._scales.packed_across[half] @ cells
        above, left, right, below = self._scales.packed_around[half]
        for start in range(0, len(own), CHANNELS_AT_ONCE):
            some = slice(start, start + CHANNELS_AT_ONCE)
            products = flat[some] * above[some]
            total[some, width:] += products[:, :-width]
            np.multiply(flat[some], below[some], out=products)
            total[some, :-width] += products[:, width:]
            sums, shaped = (a.reshape(-1, height, width) for a in (total[some], products))
            # the cells beside one in column k are in columns k and k + 1, or k - 1 and k
            np.multiply(flat[some], left[some], out=products)
            sums[:, half::2] += shaped[:, half::2]
            sums[:, 1 - half :: 2, 1:] += shaped[:, 1 - half :: 2, :-1]
            np.multiply(flat[some], right[some], out=products)
            sums[:, half::2, :-1] += shaped[:, half::2, 1:]
            sums[:, 1 - half :: 2] += shaped[:, 1 - half :: 2]
        return total.reshape(own.shape)


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


def interpolated(anchors: Integers, quality_hundredths: int) -> Integers:
    """Biases ``[C]`` between two anchors, in integers, rounded down after adding half."""
    last = len(anchors) - 1
    position = (quality_hundredths - QUALITY_LOW) * last
    low = min(position // QUALITY_SPAN, last - 1)
    fraction = position - low * QUALITY_SPAN
    table = anchors.astype(np.int64)
    blend = table[low] * (QUALITY_SPAN - fraction) + table[low + 1] * fraction
    bias: Integers = ((blend + QUALITY_SPAN // 2) // QUALITY_SPAN).astype(np.int32)
    return bias
