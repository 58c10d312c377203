"""Entropy coding of one tile with the compiled loops: the streams and integers of `caezip.entropy`.

What `caezip.scales` computes for each pass, indexes and evidence, the loops compute as they decode.
FORMAT.md has the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CDLL

import numpy as np
from numpy.typing import NDArray

from caezip.compiled import (
    LoopTables,
    StreamDecoder,
    StreamEncoder,
    SymbolBeyondLimitError,
)
from caezip.compiled_hyper_prior import CompiledHyperPrior
from caezip.errors import CorruptError
from caezip.frequency_tables import (
    FILTER,
    FILTER_COEFFICIENTS,
    MAX_FILTER_COEFFICIENT,
    NO_FILTER,
    CoderTables,
    filter_tables,
)
from caezip.hyper_prior import IntegerHyperPrior
from caezip.integers import MAX_HYPER_SYMBOL, Integers
from caezip.scales import HYPER_STRIDE, MAX_LATENT_SYMBOL, Coded, IntegerScales
from caezip.tile_passes import TilePasses


class CompiledCoder:
    """Codes the integers of one tile with a model's tables; see `caezip.entropy.EntropyCoder`."""

    def __init__(
        self,
        hyper: CoderTables,
        latent: CoderTables,
        scales: IntegerScales,
        prior: IntegerHyperPrior,
    ) -> None:
        self._hyper, self._latent, self._filters = (
            LoopTables(tables.cdfs, tables.offsets) for tables in (hyper, latent, filter_tables())
        )
        self._scales, self._prior = scales, CompiledHyperPrior(prior)

    def encode(
        self,
        loops: CDLL,
        hyper_latent: Integers,
        quality_hundredths: int,
        passes: Sequence[tuple[Coded, Integers]],
        filter_coefficients: Integers | None,
    ) -> bytes:
        """One stream: the hyper-latent, each pass's symbols, and filters' coefficients, if any."""
        parts = [(self._hyper, *self._prior.tables_of(loops, hyper_latent, quality_hundredths))]
        for coded, symbols in passes:
            parts.append((self._latent, coded.indexes.astype(np.uint16), symbols))
        if filter_coefficients is not None:
            has_one = bool(filter_coefficients.any())
            front = np.array([FILTER if has_one else NO_FILTER])
            symbols = np.concatenate([front, filter_coefficients] if has_one else [front])
            parts.append((self._filters, _filter_numbers(len(symbols)), symbols))
        encoder = StreamEncoder(loops, sum(len(symbols) for _, _, symbols in parts))
        for tables, numbers, symbols in reversed(parts):
            encoder.write_symbols(tables, numbers, np.ascontiguousarray(symbols, np.int32))
        return encoder.finished()

    def decode(
        self,
        loops: CDLL,
        stream: bytes,
        quality_hundredths: int,
        grid: tuple[int, int],
        *,
        has_filter: bool,
    ) -> tuple[Integers, Integers, Integers]:
        """``(hyper_latent, residual, filter_coefficients)``. Raises CorruptError."""
        decoder = StreamDecoder(loops, stream)
        blocks = -(-grid[0] // HYPER_STRIDE), -(-grid[1] // HYPER_STRIDE)
        field, limit = "hyper-latent", MAX_HYPER_SYMBOL
        try:
            hyper_latent = decoder.read_hyper_latent(
                self._hyper, self._prior, quality_hundredths, blocks
            )
            field, limit = "latent", MAX_LATENT_SYMBOL
            residual = _decoded_latent(
                decoder, self._latent, self._scales, hyper_latent, quality_hundredths, grid
            )
            coefficients = np.zeros(FILTER_COEFFICIENTS, np.int32)
            if has_filter:
                field, limit = "filter", MAX_FILTER_COEFFICIENT
                (front,) = decoder.read_symbols(self._filters, _filter_numbers(1), 1 << 30)
                if says_filter(int(front)):
                    numbers = _filter_numbers(1 + FILTER_COEFFICIENTS)[1:]
                    coefficients = decoder.read_symbols(self._filters, numbers, limit)
            return hyper_latent, residual, coefficients
        except SymbolBeyondLimitError:
            raise beyond(field, limit) from None


def _filter_numbers(count: int) -> NDArray[np.uint16]:
    """The table of the symbol in front, then that of coefficients."""
    return np.minimum(np.arange(count, dtype=np.uint16), np.uint16(1))


def says_filter(symbol: int) -> bool:
    """What the symbol in front of a filter says. Raises CorruptError."""
    if symbol not in (NO_FILTER, FILTER):
        raise CorruptError(
            f"filter: found the symbol {symbol}, allowed are {NO_FILTER} and {FILTER}"
        )
    return symbol == FILTER


def beyond(field: str, limit: int) -> CorruptError:
    """The error of a symbol that is too large."""
    return CorruptError(f"{field} symbol: found one beyond the allowed ±{limit}")


def _decoded_latent(
    decoder: StreamDecoder,
    tables: LoopTables,
    scales: IntegerScales,
    hyper_latent: Integers,
    quality_hundredths: int,
    grid: tuple[int, int],
) -> Integers:
    """The residuals int32 ``[C, h, w]`` that follow the hyper-latent in a stream.

    Raises SymbolBeyondLimitError.
    """
    limit, residual = MAX_LATENT_SYMBOL, np.zeros((scales.bias.shape[1], *grid), np.int32)
    passes = TilePasses(decoder.library, scales, hyper_latent, quality_hundredths, grid, residual)
    decoder.first_pass(tables, passes, limit)
    decoder.second_pass(tables, passes, limit)
    return residual
