"""Entropy coding of one tile, in integers only. No torch, no floating-point decision.

What the decoder reads depends on the tables and on the integer path below
alone, so a stream yields the same latents on every machine. FORMAT.md gives
the same rules in words.

Shapes: hyper-latent ``[Z, zh, zw]``, latent ``[C, h, w]``, with ``zh = ceil(h/4)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caezip._rans import load_ans
from caezip.errors import CorruptError, WeightsError

Integers = NDArray[np.int32]
Indexes = NDArray[np.uint8]
Cells = NDArray[np.intp]  # places in a grid that is read row by row

PRECISION_BITS = 16  # table frequencies sum to 2^16
HYPER_STRIDE = 4  # latent cells per hyper-latent cell and side
SCALE_COUNT = 64  # Gaussian tables
EVIDENCE_LEVELS = 32  # magnitudes that pass two tells apart, the last for all above
MAX_HYPER_SYMBOL = 127  # |z| is at most this
MAX_LATENT_SYMBOL = 32767  # |residual| is at most this
QUALITY_LOW, QUALITY_SPAN = 100, 9900  # hundredths: 1…100
MIN_STREAM_BYTES = 8  # the coder's final state
MAX_SYMBOL_BYTES = 6  # 5: escape 16 bits, count 4, value 20; one more for the coder's rounding
NEIGHBOURS = ((-1, 0), (0, -1), (0, 1), (1, 0))  # (row, column) of the cells around


@dataclass(frozen=True)
class FrequencyTables:
    """Ragged tables of symbol frequencies; the last entry of each is the escape.

    ``frequencies`` uint16, all tables one after the other, each summing to 2^16;
    ``lengths`` int32, entries per table; ``offsets`` int32, each table's first symbol.
    """

    frequencies: NDArray[np.uint16]
    lengths: Integers
    offsets: Integers

    def __post_init__(self) -> None:
        if len(self.lengths) != len(self.offsets) or int(self.lengths.sum()) != len(
            self.frequencies
        ):
            raise WeightsError("frequency tables: their lengths do not add up")
        if len(self.lengths) == 0 or int(self.lengths.min()) < 2:
            raise WeightsError("frequency tables: each needs at least two entries")
        if int(self.frequencies.min()) < 1:
            raise WeightsError("frequency tables: found a frequency of 0")
        sums = np.add.reduceat(self.frequencies.astype(np.int64), self._starts())
        if (sums != 1 << PRECISION_BITS).any():
            raise WeightsError("frequency tables: found one that does not sum to 65536")

    def _starts(self) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(self.lengths.astype(np.int64))[:-1]])

    def cumulative(self) -> list[list[int]]:
        """Per table: 0, running sums, 65536."""
        out = []
        for start, length in zip(self._starts(), self.lengths, strict=True):
            part = self.frequencies[start : start + length].astype(np.int64)
            out.append([0, *np.cumsum(part).tolist()])
        return out


def _cells_by_parity(height: int, width: int) -> tuple[Cells, Cells]:
    """The cells where row plus column is even, and those where it is odd."""
    odd = (np.arange(height)[:, None] + np.arange(width)) % 2
    return np.flatnonzero(odd == 0), np.flatnonzero(odd)


@lru_cache(maxsize=4)
def checkerboard(channels: int, height: int, width: int) -> NDArray[np.bool_]:
    """True where pass one codes the latent, false where pass two does: ``[C, h, w]``.

    After He et al. 2021, "Checkerboard Context Model for Efficient Learned Image
    Compression", with the two halves of the channels in opposite phase.
    """
    even = (np.arange(height)[:, None] + np.arange(width)) % 2 == 0
    first = np.empty((channels, height, width), np.bool_)
    first[: channels // 2], first[channels // 2 :] = even, ~even
    first.flags.writeable = False  # it is kept, and the same for all
    return first


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

    def sums(
        self, hyper_latent: Integers, quality_hundredths: int, grid: tuple[int, int]
    ) -> Integers:
        """Pass one's sums ``s`` before the shift, int32 ``[C, h, w]``."""
        channels = self.bias.shape[1]
        z_channels, zh, zw = hyper_latent.shape
        # floating-point products of integers: every partial sum is an integer that the
        # type can hold (see largest_sum), hence exact in any order, and BLAS is fast at it
        largest = int(np.abs(hyper_latent).max(initial=0)) * self._largest_weight_row
        kind = np.float32 if largest < 1 << 24 else np.float64
        product = self._weight_as(kind) @ hyper_latent.reshape(z_channels, -1).astype(kind)
        sums = np.empty((channels, zh, HYPER_STRIDE, zw, HYPER_STRIDE), np.int32)
        blocks = product.reshape(channels, HYPER_STRIDE, HYPER_STRIDE, zh, zw)
        np.copyto(sums.transpose(0, 2, 4, 1, 3), blocks, casting="unsafe")
        sums += _interpolated(self.bias, quality_hundredths)[:, None, None, None, None]
        cells = sums.reshape(channels, zh * HYPER_STRIDE, zw * HYPER_STRIDE)
        return np.ascontiguousarray(cells[:, : grid[0], : grid[1]])

    @cached_property
    def _largest_weight_row(self) -> int:
        return int(np.abs(self.weight.astype(np.int64)).sum(axis=1).max())

    def _weight_as(self, kind: type[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        return self._float32_weight if kind is np.float32 else self.weight.astype(kind)

    @cached_property
    def _float32_weight(self) -> NDArray[np.float32]:
        return self.weight.astype(np.float32)

    def indexes(self, sums: Integers) -> Indexes:
        """Table index of every latent, uint8 ``[C, h, w]``; 0 means "zero, not coded"."""
        indexes = sums + (1 << (self.shift - 1))
        indexes >>= self.shift
        return np.clip(indexes, 0, SCALE_COUNT - 1, out=indexes).astype(np.uint8)

    def second_indexes(
        self,
        sums: Integers,
        first_symbols: Integers,
        quality_hundredths: int,
        first_indexes: Indexes | None = None,
    ) -> Indexes:
        """Table indexes of pass two, uint8 ``[C, h, w]``, only valid where it codes.

        ``first_symbols``: int32 ``[C, h, w]``, ignored where pass two codes.
        ``first_indexes``: `indexes` of ``sums``, to save the time of computing them again.
        """
        if first_indexes is None:
            first_indexes = self.indexes(sums)
        channels, height, width = sums.shape
        evidence = self.evidence[:, 0].take(first_indexes)  # that of zeros, which most are
        others = np.flatnonzero(first_symbols)
        level = np.minimum(np.abs(first_symbols.ravel()[others]), EVIDENCE_LEVELS - 1)
        evidence.ravel()[others] = self.evidence[first_indexes.ravel()[others], level]
        evidence *= checkerboard(channels, height, width)
        # exact in float32 and in any order: partial sums stay below 2^24
        cells_by_parity = _cells_by_parity(height, width)
        total = self._across(evidence.reshape(channels, -1), *cells_by_parity).reshape(sums.shape)
        padded = np.zeros((channels, height + 2, width + 2), np.float32)
        padded[:, 1:-1, 1:-1] = evidence
        product = np.empty_like(total)
        for weights, (row, column) in zip(self.around.T, NEIGHBOURS, strict=True):
            cells = padded[:, 1 + row : 1 + row + height, 1 + column : 1 + column + width]
            np.multiply(cells, weights.astype(np.float32)[:, None, None], out=product)
            total += product
        gathered = total.astype(np.int32)
        gathered += 1 << (self.evidence_shift - 1)
        gathered >>= self.evidence_shift
        gathered += sums
        gathered += _interpolated(self.second_bias, quality_hundredths)[:, None, None]
        return self.indexes(gathered)

    def _across(
        self, evidence: NDArray[np.int8], even_cells: Cells, odd_cells: Cells
    ) -> NDArray[np.float32]:
        """``across @ evidence``, ``[C, cells]``: every cell gathers the other half's channels.

        In each cell one half of the channels was coded in pass one, and only the
        other half's sums are wanted; so cells are taken by parity of their place.
        """
        half, weights = len(evidence) // 2, self._float32_across
        total = np.zeros(evidence.shape, np.float32)
        for cells, seen, wanted in (
            (even_cells, slice(None, half), slice(half, None)),
            (odd_cells, slice(half, None), slice(None, half)),
        ):
            known = evidence[seen].take(cells, axis=1).astype(np.float32)
            total[wanted, cells] = weights[wanted, seen] @ known
        return total

    @cached_property
    def _float32_across(self) -> NDArray[np.float32]:
        return self.across.astype(np.float32)


def _interpolated(anchors: Integers, quality_hundredths: int) -> Integers:
    """Biases ``[C]`` between two anchors, in integers, rounded down after adding half."""
    last = len(anchors) - 1
    position = (quality_hundredths - QUALITY_LOW) * last
    low = min(position // QUALITY_SPAN, last - 1)
    fraction = position - low * QUALITY_SPAN
    table = anchors.astype(np.int64)
    blend = table[low] * (QUALITY_SPAN - fraction) + table[low + 1] * fraction
    bias: Integers = ((blend + QUALITY_SPAN // 2) // QUALITY_SPAN).astype(np.int32)
    return bias


class EntropyCoder:
    """Codes the integers of one tile with a model's tables."""

    def __init__(
        self, hyper: FrequencyTables, latent: FrequencyTables, scales: IntegerScales
    ) -> None:
        if len(latent.lengths) != SCALE_COUNT:
            raise WeightsError(
                f"latent tables: found {len(latent.lengths)}, allowed are {SCALE_COUNT}"
            )
        if scales.weight.shape[1] != len(hyper.lengths):
            raise WeightsError("hyper-latent tables: their count differs from the predictor's")
        self.hyper_channels = len(hyper.lengths)
        self.latent_channels = scales.bias.shape[1]
        self.scales = scales
        # hyper tables first, then the Gaussians: one list serves every call
        self._cdfs = hyper.cumulative() + latent.cumulative()
        self._cdf_sizes = [len(cdf) for cdf in self._cdfs]
        self._offsets = hyper.offsets.tolist() + latent.offsets.tolist()

    def _hyper_indexes(self, count: int) -> list[int]:
        indexes: list[int] = np.repeat(np.arange(self.hyper_channels), count).tolist()
        return indexes

    def encode(self, hyper_latent: Integers, residual: Integers, indexes: Indexes) -> bytes:
        """One stream: the hyper-latent, then each pass's residuals whose index is not 0.

        ``indexes``: pass one's where it codes, pass two's elsewhere.
        """
        symbols = hyper_latent.ravel().tolist()
        tables = self._hyper_indexes(hyper_latent[0].size)
        first = checkerboard(*indexes.shape)
        for mask in (first, ~first):
            coded = np.flatnonzero((indexes > 0) & mask)
            symbols += residual.ravel()[coded].tolist()
            tables += self._tables(indexes, coded)
        return (
            load_ans()
            .RansEncoder()
            .encode_with_indexes(symbols, tables, self._cdfs, self._cdf_sizes, self._offsets)
        )

    def _tables(self, indexes: Indexes, coded: Cells) -> list[int]:
        tables: list[int] = (indexes.ravel()[coded].astype(np.int32) + self.hyper_channels).tolist()
        return tables

    def decode(
        self, stream: bytes, quality_hundredths: int, grid: tuple[int, int]
    ) -> tuple[Integers, Integers]:
        """``(hyper_latent, residual)`` of a stream, exactly as they were encoded.

        Raises CorruptError for streams that no encoder writes. A stream that was
        altered but has a valid checksum may also decode to other integers.
        """
        if len(stream) < MIN_STREAM_BYTES or len(stream) % 4:
            raise CorruptError(
                f"tile stream: found {len(stream)} bytes, "
                f"allowed are multiples of 4 from {MIN_STREAM_BYTES}"
            )
        zh, zw = (-(-side // HYPER_STRIDE) for side in grid)
        symbols_at_most = self.latent_channels * grid[0] * grid[1] + self.hyper_channels * zh * zw
        longest = MIN_STREAM_BYTES + MAX_SYMBOL_BYTES * symbols_at_most
        if len(stream) > longest:
            raise CorruptError(
                f"tile stream: found {len(stream)} bytes, no tile of this size needs over {longest}"
            )
        decoder = load_ans().RansDecoder()
        padded = len(stream) + self._padding_bytes(len(stream), symbols_at_most)
        decoder.set_stream(stream.ljust(padded, b"\0"))
        symbols = decoder.decode_stream(
            self._hyper_indexes(zh * zw), self._cdfs, self._cdf_sizes, self._offsets
        )
        hyper_latent = _bounded(symbols, MAX_HYPER_SYMBOL, "hyper-latent").reshape(
            self.hyper_channels, zh, zw
        )
        scales = self.scales
        sums = scales.sums(hyper_latent, quality_hundredths, grid)
        residual = np.zeros(sums.shape, np.int32)
        first_indexes = scales.indexes(sums)
        here = checkerboard(*sums.shape)

        def decode_pass(indexes: Indexes, mask: NDArray[np.bool_]) -> None:
            coded = np.flatnonzero((indexes > 0) & mask)
            tables = self._tables(indexes, coded)
            symbols = decoder.decode_stream(tables, self._cdfs, self._cdf_sizes, self._offsets)
            residual.ravel()[coded] = _bounded(symbols, MAX_LATENT_SYMBOL, "latent")

        decode_pass(first_indexes, here)
        decode_pass(scales.second_indexes(sums, residual, quality_hundredths, first_indexes), ~here)
        return hyper_latent, residual

    def _padding_bytes(self, stream_bytes: int, symbols: int) -> int:
        """Zeros behind the stream, for a coder that does not check its input's end.

        A valid stream needs none. A forged one can make the coder read on. A symbol takes
        at most 16 bits from the coder's state, one behind an escape 4 more: 3 bytes are
        enough for what is read in their place. And each nibble of the stream can ask for
        15 nibbles behind an escape.
        """
        return 16 * stream_bytes + 3 * symbols + (1 << 16)


def _bounded(symbols: list[int], limit: int, field: str) -> Integers:
    values = np.fromiter(symbols, np.int32, len(symbols))
    if values.size and (values.max() > limit or values.min() < -limit):
        raise CorruptError(f"{field} symbol: found one beyond the allowed ±{limit}")
    return values
