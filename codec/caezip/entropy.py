"""Entropy coding of one tile, in integers only. No torch, no floating-point decision.

What the decoder reads depends on the tables and on `caezip.scales` alone, so a
stream yields the same latents on every machine. FORMAT.md gives the same rules in words.

Shapes: hyper-latent ``[Z, zh, zw]``, latent ``[C, h, w]``, with ``zh = ceil(h/4)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from caezip._rans import RansDecoder, load_ans
from caezip.compiled import load_loops
from caezip.compiled_coder import CompiledCoder, beyond, says_filter
from caezip.errors import CorruptError, WeightsError
from caezip.frequency_tables import (
    FILTER,
    FILTER_COEFFICIENTS,
    MAX_FILTER_COEFFICIENT,
    NO_FILTER,
    CoderTables,
    FrequencyTables,
    filter_tables,
)
from caezip.hyper_prior import HYPER_TABLE_COUNT, IntegerHyperPrior
from caezip.integers import MAX_HYPER_SYMBOL, Integers
from caezip.scales import (
    HYPER_STRIDE,
    MAX_LATENT_SYMBOL,
    SCALE_COUNT,
    Coded,
    IntegerScales,
    TileScales,
)

MIN_STREAM_BYTES = 8  # the coder's final state
# The coder makes room for one word of 32 bits a symbol and then writes two of state and at
# most half a word a symbol: with fewer symbols than this, more than there is room for.
MIN_HYPER_CHANNELS = 4
MAX_SYMBOL_BYTES = 6  # 5: escape 16 bits, count 4, value 20; one more for the coder's rounding
# Bytes turn into lists of integers and back several times as fast as other arrays do, so
# the coder sees symbols plus this: nearly all are bytes then.
SHIFT = 128
AT_ONCE = 1 << 14  # symbols that have to be bytes together


class EntropyCoder:
    """Codes the integers of one tile with a model's tables."""

    def __init__(
        self,
        hyper: FrequencyTables,
        latent: FrequencyTables,
        scales: IntegerScales,
        prior: IntegerHyperPrior,
    ) -> None:
        if len(latent.lengths) != SCALE_COUNT:
            raise WeightsError(
                f"latent tables: found {len(latent.lengths)}, allowed are {SCALE_COUNT}"
            )
        if len(hyper.lengths) != HYPER_TABLE_COUNT:
            raise WeightsError(
                f"hyper-latent tables: found {len(hyper.lengths)}, allowed are {HYPER_TABLE_COUNT}"
            )
        if prior.channels < MIN_HYPER_CHANNELS:
            raise WeightsError(
                f"hyper-latent channels: found {prior.channels}, "
                f"allowed are {MIN_HYPER_CHANNELS} or more"
            )
        if scales.hyper_channels != prior.channels:
            raise WeightsError("hyper-prior: its channels are not the scale predictor's")
        self.hyper_channels, self.latent_channels = prior.channels, scales.bias.shape[1]
        self.scales, self.prior = scales, prior
        self._tables = CoderTables.of(hyper), CoderTables.of(latent)
        self._hyper, self._latent = (tables.shifted(SHIFT) for tables in self._tables)

    def encode(
        self,
        hyper_latent: Integers,
        quality_hundredths: int,
        passes: Sequence[tuple[Coded, Integers]],
        filter_coefficients: Integers | None = None,
    ) -> bytes:
        """One stream: the hyper-latent, then each pass's symbols whose index is not 0.

        ``passes``: what each codes, see `TileScales`, and its symbols ``[n]``. In files
        that have filters, ``filter_coefficients`` [108], maybe all 0, come last.
        """
        if (loops := load_loops()) is not None:
            return self._compiled.encode(
                loops, hyper_latent, quality_hundredths, passes, filter_coefficients
            )
        latent = self._latent.up_to(max((_largest(coded) for coded, _ in passes), default=0))
        numbers, differences = self.prior.tables_of(hyper_latent, quality_hundredths)
        tables = (numbers.astype(np.intp) + len(latent.sizes)).tolist()
        symbols = _listed(differences)
        for coded, values in passes:
            symbols += _listed(values)
            tables += list(coded.indexes.tobytes())
        used, encoder = latent.followed_by(self._hyper), load_ans().RansEncoder()
        if filter_coefficients is not None:
            front = len(used.sizes)
            used = used.followed_by(filter_tables().shifted(SHIFT))
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
            return self._compiled.decode(
                loops, stream, quality_hundredths, grid, has_filter=has_filter
            )
        decoder = load_ans().RansDecoder()
        padded = len(stream) + self._padding_bytes(len(stream), symbols_at_most)
        decoder.set_stream(stream.ljust(padded, b"\0"))

        def read_group(numbers: NDArray[np.uint16]) -> Integers:
            tables = self._hyper.chosen(numbers)
            indexes = list(range(len(numbers)))
            symbols = decoder.decode_stream(indexes, tables.cdfs, tables.sizes, tables.offsets)
            return np.array(symbols, np.int64).clip(-(1 << 20), 1 << 20).astype(np.int32) - SHIFT

        hyper_latent = self.prior.decoded(read_group, quality_hundredths, (zh, zw))
        if np.abs(hyper_latent).max(initial=0) > MAX_HYPER_SYMBOL:
            raise beyond("hyper-latent", MAX_HYPER_SYMBOL)
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

    @cached_property
    def _compiled(self) -> CompiledCoder:
        return CompiledCoder(*self._tables, self.scales, self.prior)

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
    tables = filter_tables().shifted(SHIFT)
    (front,) = decoder.decode_stream([0], tables.cdfs, tables.sizes, tables.offsets)
    if not says_filter(front - SHIFT):
        return _no_filter()
    indexes = [1] * FILTER_COEFFICIENTS
    symbols = decoder.decode_stream(indexes, tables.cdfs, tables.sizes, tables.offsets)
    return _bounded(symbols, MAX_FILTER_COEFFICIENT, "filter")


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
        raise beyond(field, limit)
    return values
