"""Entropy coding of one tile, in integers only. No torch, no floating-point decision.

What the decoder reads depends on the tables and on `caezip.scales` alone, so a
stream yields the same latents on every machine. FORMAT.md gives the same rules in words.

Shapes: hyper-latent ``[Z, zh, zw]``, latent ``[C, h, w]``, with ``zh = ceil(h/4)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from caezip._rans import RansDecoder, load_ans
from caezip.compiled import CoderTables, StreamDecoder, SymbolBeyondLimitError, load_loops
from caezip.compiled_passes import decoded_latent
from caezip.errors import CorruptError, WeightsError
from caezip.scales import (
    HYPER_STRIDE,
    MAX_HYPER_SYMBOL,
    SCALE_COUNT,
    Coded,
    Integers,
    IntegerScales,
    TileScales,
)

PRECISION_BITS = 16  # table frequencies sum to 2^16
MAX_LATENT_SYMBOL = 32767  # |residual| is at most this
MIN_STREAM_BYTES = 8  # the coder's final state
# The coder makes room for one word of 32 bits a symbol and then writes two of state and at
# most half a word a symbol: with fewer symbols than this, more than there is room for.
MIN_HYPER_CHANNELS = 4
MAX_SYMBOL_BYTES = 6  # 5: escape 16 bits, count 4, value 20; one more for the coder's rounding
# Bytes turn into lists of integers and back several times as fast as other arrays do, so
# the coder sees symbols plus this: nearly all are bytes then.
SHIFT = 128
AT_ONCE = 1 << 14  # symbols that have to be bytes together
# How often a coefficient of `caezip.adaptive_filter` is 0, ±1, ±2 and so on, each sign, as
# counted in filters of training photographs, smoothed; the rest is the escape's.
FILTER_COEFFICIENTS = 108
MAX_FILTER_COEFFICIENT = 127
FILTER_FREQUENCIES = (
    *(38654, 5130, 2680, 1400, 900, 720, 600, 480, 370, 280, 205, 155, 115),
    *(88, 68, 53, 41, 32, 25, 20, 16, 14, 12, 11, 10),
)
NO_FILTER, FILTER = 0, 1  # the symbol in front of the coefficients


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


class _CoderTables(NamedTuple):
    """Tables as the coder reads them, which takes longer the more there are."""

    cdfs: list[list[int]]
    sizes: list[int]
    offsets: list[int]

    @classmethod
    def of(cls, tables: FrequencyTables) -> _CoderTables:
        cdfs = tables.cumulative()
        return cls(cdfs, [len(cdf) for cdf in cdfs], (tables.offsets + SHIFT).tolist())

    def up_to(self, last: int) -> _CoderTables:
        """Without the tables behind ``last``: those of large scales are long and rarely used."""
        end = last + 1
        return _CoderTables(self.cdfs[:end], self.sizes[:end], self.offsets[:end])

    def followed_by(self, others: _CoderTables) -> _CoderTables:
        return _CoderTables(
            self.cdfs + others.cdfs, self.sizes + others.sizes, self.offsets + others.offsets
        )


@cache
def _filter_tables() -> _CoderTables:
    """First that of the symbol in front, then that of coefficients."""
    whole = 1 << PRECISION_BITS
    largest = len(FILTER_FREQUENCIES) - 1
    both_signs = [*FILTER_FREQUENCIES[:0:-1], *FILTER_FREQUENCIES]
    coefficients = [*both_signs, whole - sum(both_signs)]
    front = [whole // 2, whole // 2 - 1, 1]
    return _CoderTables.of(
        FrequencyTables(
            np.array([*front, *coefficients], np.uint16),
            np.array([len(front), len(coefficients)], np.int32),
            np.array([NO_FILTER, -largest], np.int32),
        )
    )


@cache
def filter_bits() -> NDArray[np.float64]:
    """Code length of a filter's coefficient by its magnitude, ``[MAX_FILTER_COEFFICIENT + 1]``."""
    cdf, offset = _filter_tables().cdfs[1], _filter_tables().offsets[1] - SHIFT
    return _code_lengths(cdf, offset, np.arange(MAX_FILTER_COEFFICIENT + 1))


def _code_lengths(cdf: list[int], offset: int, symbols: NDArray[np.int64]) -> NDArray[np.float64]:
    """In bits, of ``symbols`` under a table of cumulative frequencies."""
    lengths = PRECISION_BITS - np.log2(np.diff(cdf))
    last = len(lengths) - 1  # the escape
    entries = symbols - offset
    bits: NDArray[np.float64] = lengths[np.where((entries < 0) | (entries > last), last, entries)]
    # behind an escape: how many nibbles, and these (FORMAT.md, "Escapes")
    beyond = np.where(entries < 0, -2 * entries - 1, 2 * (entries - last))
    nibbles = np.ceil(np.log2(np.maximum(beyond, 0) + 1) / 4)
    bits += np.where((entries < 0) | (entries >= last), 4 + 4 * nibbles, 0)
    return bits


class EntropyCoder:
    """Codes the integers of one tile with a model's tables."""

    def __init__(
        self, hyper: FrequencyTables, latent: FrequencyTables, scales: IntegerScales
    ) -> None:
        if len(latent.lengths) != SCALE_COUNT:
            raise WeightsError(
                f"latent tables: found {len(latent.lengths)}, allowed are {SCALE_COUNT}"
            )
        if len(hyper.lengths) < MIN_HYPER_CHANNELS:
            raise WeightsError(
                f"hyper-latent tables: found {len(hyper.lengths)}, "
                f"allowed are {MIN_HYPER_CHANNELS} or more"
            )
        if scales.weight.shape[1] != len(hyper.lengths):
            raise WeightsError("hyper-latent tables: their count differs from the predictor's")
        self.hyper_channels = len(hyper.lengths)
        self.latent_channels = scales.bias.shape[1]
        self.scales = scales
        self._hyper, self._latent = _CoderTables.of(hyper), _CoderTables.of(latent)

    def hyper_bits(self) -> NDArray[np.float32]:
        """Code length of each hyper-latent symbol, ``[Z, 2 * MAX_HYPER_SYMBOL + 1]``."""
        symbols = np.arange(-MAX_HYPER_SYMBOL, MAX_HYPER_SYMBOL + 1)
        tables = zip(self._hyper.cdfs, self._hyper.offsets, strict=True)
        rows = [_code_lengths(cdf, offset - SHIFT, symbols) for cdf, offset in tables]
        return np.stack(rows).astype(np.float32)

    def _hyper_indexes(self, count: int) -> NDArray[np.intp]:
        return np.repeat(np.arange(self.hyper_channels), count)

    def encode(
        self,
        hyper_latent: Integers,
        passes: Sequence[tuple[Coded, Integers]],
        filter_coefficients: Integers | None = None,
    ) -> bytes:
        """One stream: the hyper-latent, then each pass's symbols whose index is not 0.

        ``passes``: what each codes, see `TileScales`, and its symbols ``[n]``. In files
        that have filters, ``filter_coefficients`` [108], maybe all 0, come last.
        """
        latent = self._latent.up_to(max((_largest(coded) for coded, _ in passes), default=0))
        hyper = self._hyper_indexes(hyper_latent[0].size) + len(latent.sizes)
        symbols, tables = _listed(hyper_latent.ravel()), hyper.tolist()
        for coded, values in passes:
            symbols += _listed(values)
            tables += list(coded.indexes.tobytes())
        used, encoder = latent.followed_by(self._hyper), load_ans().RansEncoder()
        if filter_coefficients is not None:
            front = len(used.sizes)
            used = used.followed_by(_filter_tables())
            if filter_coefficients.any():
                symbols += [FILTER + SHIFT, *_listed(filter_coefficients)]
                tables += [front] + [front + 1] * FILTER_COEFFICIENTS
            else:
                symbols.append(NO_FILTER + SHIFT)
                tables.append(front)
        return encoder.encode_with_indexes(symbols, tables, used.cdfs, used.sizes, used.offsets)

    def decode(
        self,
        stream: bytes,
        quality_hundredths: int,
        grid: tuple[int, int],
        *,
        has_filter: bool = False,
    ) -> tuple[Integers, Integers, Integers]:
        """``(hyper_latent, residual, filter_coefficients)`` of a stream, as they were encoded.

        Without filters, which a file's header announces, coefficients are 0.

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
        symbols_at_most += (1 + FILTER_COEFFICIENTS) * has_filter
        longest = MIN_STREAM_BYTES + MAX_SYMBOL_BYTES * symbols_at_most
        if len(stream) > longest:
            raise CorruptError(
                f"tile stream: found {len(stream)} bytes, no tile of this size needs over {longest}"
            )
        if (loops := load_loops()) is not None:
            compiled = StreamDecoder(loops, stream)
            return self._decode_compiled(compiled, quality_hundredths, grid, has_filter=has_filter)
        decoder = load_ans().RansDecoder()
        padded = len(stream) + self._padding_bytes(len(stream), symbols_at_most)
        decoder.set_stream(stream.ljust(padded, b"\0"))
        tables = self._hyper_indexes(zh * zw).tolist()
        hyper = self._hyper
        symbols = decoder.decode_stream(tables, hyper.cdfs, hyper.sizes, hyper.offsets)
        hyper_latent = _bounded(symbols, MAX_HYPER_SYMBOL, "hyper-latent").reshape(
            self.hyper_channels, zh, zw
        )
        scales = TileScales(self.scales, hyper_latent, quality_hundredths, grid)
        residual = np.zeros((self.latent_channels, *grid), np.int32)

        def decode_pass(coded: Coded) -> Integers:
            latent = self._latent.up_to(_largest(coded))
            tables = list(coded.indexes.tobytes())
            symbols = decoder.decode_stream(tables, latent.cdfs, latent.sizes, latent.offsets)
            values = _bounded(symbols, MAX_LATENT_SYMBOL, "latent")
            residual.ravel()[coded.places] = values
            return values

        decode_pass(scales.second(decode_pass(scales.first)))
        return hyper_latent, residual, _filter_of(decoder) if has_filter else _no_filter()

    def _decode_compiled(
        self,
        decoder: StreamDecoder,
        quality_hundredths: int,
        grid: tuple[int, int],
        *,
        has_filter: bool,
    ) -> tuple[Integers, Integers, Integers]:
        """What `decode` returns, or what it raises."""
        hyper_tables, latent_tables, filter_tables = self._compiled_tables
        zh, zw = (-(-side // HYPER_STRIDE) for side in grid)
        field, limit = "hyper-latent", MAX_HYPER_SYMBOL
        try:
            numbers = self._hyper_indexes(zh * zw).astype(np.uint16)
            symbols = decoder.symbols(hyper_tables, numbers, limit)
            hyper_latent = symbols.reshape(self.hyper_channels, zh, zw)
            field, limit = "latent", MAX_LATENT_SYMBOL
            residual = decoded_latent(
                decoder, latent_tables, self.scales, hyper_latent, quality_hundredths, grid, limit
            )
            if not has_filter:
                return hyper_latent, residual, _no_filter()
            field, limit = "filter", MAX_FILTER_COEFFICIENT
            (front,) = decoder.symbols(filter_tables, np.zeros(1, np.uint16), 1 << 30)
            if not _says_filter(int(front)):
                return hyper_latent, residual, _no_filter()
            numbers = np.ones(FILTER_COEFFICIENTS, np.uint16)
            return hyper_latent, residual, decoder.symbols(filter_tables, numbers, limit)
        except SymbolBeyondLimitError:
            raise _beyond(field, limit) from None

    @cached_property
    def _compiled_tables(self) -> tuple[CoderTables, CoderTables, CoderTables]:
        """The hyper-latent's, the latent's and those of filters."""
        hyper, latent, filters = (
            CoderTables(tables.cdfs, [offset - SHIFT for offset in tables.offsets])
            for tables in (self._hyper, self._latent, _filter_tables())
        )
        return hyper, latent, filters

    def _padding_bytes(self, stream_bytes: int, symbols: int) -> int:
        """Zeros behind the stream, for a coder that does not check its input's end.

        A valid stream needs none. A forged one can make the coder read on. A symbol takes
        at most 16 bits from the coder's state, one behind an escape 4 more: 3 bytes are
        enough for what is read in their place. And each nibble of the stream can ask for
        15 nibbles behind an escape.
        """
        return 16 * stream_bytes + 3 * symbols + (1 << 16)


def _no_filter() -> Integers:
    return np.zeros(FILTER_COEFFICIENTS, np.int32)


def _filter_of(decoder: RansDecoder) -> Integers:
    """What is left of a stream behind the latent."""
    tables = _filter_tables()
    (front,) = decoder.decode_stream([0], tables.cdfs, tables.sizes, tables.offsets)
    if not _says_filter(front - SHIFT):
        return _no_filter()
    indexes = [1] * FILTER_COEFFICIENTS
    symbols = decoder.decode_stream(indexes, tables.cdfs, tables.sizes, tables.offsets)
    return _bounded(symbols, MAX_FILTER_COEFFICIENT, "filter")


def _says_filter(symbol: int) -> bool:
    if symbol not in (NO_FILTER, FILTER):
        raise CorruptError(
            f"filter: found the symbol {symbol}, allowed are {NO_FILTER} and {FILTER}"
        )
    return symbol == FILTER


def _beyond(field: str, limit: int) -> CorruptError:
    return CorruptError(f"{field} symbol: found one beyond the allowed ±{limit}")


def _largest(coded: Coded) -> int:
    return int(coded.indexes.max(initial=0))


def _listed(values: Integers) -> list[int]:
    """Symbols ``[n]`` as the coder sees them."""
    symbols: list[int] = []
    for start in range(0, len(values), AT_ONCE):
        shifted = values[start : start + AT_ONCE] + SHIFT
        if shifted.min() >= 0 and shifted.max() <= 255:
            symbols += list(shifted.astype(np.uint8).tobytes())
        else:
            symbols += shifted.tolist()
    return symbols


def _bounded(symbols: list[int], limit: int, field: str) -> Integers:
    """What the coder saw, as symbols ``[n]``. Raises CorruptError beyond ``limit``."""
    values = np.empty(len(symbols), np.int32)
    for start in range(0, len(symbols), AT_ONCE):
        part = symbols[start : start + AT_ONCE]
        try:
            # a bytearray is made in less than half of the time of bytes
            values[start : start + AT_ONCE] = np.frombuffer(bytearray(part), np.uint8)
        except ValueError:  # some are no bytes
            values[start : start + AT_ONCE] = np.fromiter(part, np.int32, len(part))
    values -= SHIFT
    if values.size and (values.max() > limit or values.min() < -limit):
        raise _beyond(field, limit)
    return values
