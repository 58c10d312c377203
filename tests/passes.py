"""Scale predictors that tests make up, and what an encoder codes with them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from caezip.quantisation import CodedLatent
from caezip.scales import Indexes, Integers, IntegerScales, TileScales

qualities = st.integers(100, 10000) | st.sampled_from([100, 101, 5050, 9999, 10000])


def scales_of(channels: int = 1, hyper_channels: int = 1, **parts: Any) -> IntegerScales:
    """Nothing but zeros and shifts of 1, except for ``parts``."""
    whole = {
        "weight": np.zeros((16 * channels, hyper_channels), np.int8),
        "bias": np.zeros((2, channels), np.int32),
        "second_bias": np.zeros((2, channels), np.int32),
        "evidence": np.zeros((64, 32), np.int8),
        "across": np.zeros((channels, channels), np.int8),
        "around": np.zeros((channels, 4), np.int8),
        "shift": 1,
        "evidence_shift": 1,
    }
    return IntegerScales(**{**whole, **parts})


def random_scales(rng: np.random.Generator, channels: int) -> IntegerScales:
    """Of all magnitudes, for a hyper-latent of 4 channels."""
    return scales_of(
        channels,
        4,
        weight=rng.integers(-128, 128, (16 * channels, 4)).astype(np.int8),
        bias=rng.integers(-3000, 6000, (3, channels)).astype(np.int32),
        second_bias=rng.integers(-2000, 2000, (3, channels)).astype(np.int32),
        evidence=rng.integers(-128, 128, (64, 32)).astype(np.int8),
        across=rng.integers(-128, 128, (channels, channels)).astype(np.int8),
        around=rng.integers(-128, 128, (channels, 4)).astype(np.int8),
        shift=6,
        evidence_shift=5,
    )


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
