"""What an encoder hands to the entropy coder, for latents that tests make up."""

from __future__ import annotations

import numpy as np

from caezip.quantisation import CodedLatent
from caezip.scales import Indexes, Integers, IntegerScales, TileScales


def coded_latent(
    scales: IntegerScales, z: Integers, residual: Integers, quality: int
) -> CodedLatent:
    """The symbols of ``residual`` [C, h, w] that have an index above 0, pass by pass."""
    tile = TileScales(scales, z, quality, (residual.shape[1], residual.shape[2]))
    first_symbols = residual.ravel()[tile.first.places]
    second = tile.second(first_symbols)
    return CodedLatent(
        residual.shape,
        ((tile.first, first_symbols), (second, residual.ravel()[second.places])),
    )


def first_indexes(
    scales: IntegerScales, z: Integers, quality: int, grid: tuple[int, int]
) -> Indexes:
    """Pass one's indexes ``[C, h, w]``, 0 where pass two codes."""
    out = np.zeros((scales.bias.shape[1], *grid), np.uint8)
    first = TileScales(scales, z, quality, grid).first
    out.ravel()[first.places] = first.indexes
    return out


def second_indexes(
    scales: IntegerScales, z: Integers, first_symbols: Integers, quality: int
) -> Indexes:
    """Pass two's indexes ``[C, h, w]``, 0 where pass one codes."""
    out = np.zeros(first_symbols.shape, np.uint8)
    second, _ = coded_latent(scales, z, first_symbols, quality).passes[1]
    out.ravel()[second.places] = second.indexes
    return out
