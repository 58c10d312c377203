"""Scale predictors that tests make up, and what an encoder codes with them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from caezip.hyper_features import IntegerHyperFeatures
from caezip.hyper_prior import IntegerHyperPrior, seen_before
from caezip.integers import Integers
from caezip.quantisation import CodedLatent
from caezip.scales import Indexes, IntegerScales, TileScales

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


def random_scales(rng: np.random.Generator, channels: int, features: int = 0) -> IntegerScales:
    """Of all magnitudes, for a hyper-latent of 4 channels and so many features of it."""
    return scales_of(
        channels,
        4 + features,
        features=random_features(rng, 4, features) if features else None,
        weight=rng.integers(-128, 128, (16 * channels, 4 + features)).astype(np.int8),
        bias=rng.integers(-3000, 6000, (3, channels)).astype(np.int32),
        second_bias=rng.integers(-2000, 2000, (3, channels)).astype(np.int32),
        evidence=rng.integers(-128, 128, (64, 32)).astype(np.int8),
        across=rng.integers(-128, 128, (channels, channels)).astype(np.int8),
        around=rng.integers(-128, 128, (channels, 4)).astype(np.int8),
        shift=6,
        evidence_shift=5,
    )


def random_features(rng: np.random.Generator, channels: int, features: int) -> IntegerHyperFeatures:
    """Some are 0, some as large as they may be."""
    return IntegerHyperFeatures(
        rng.integers(-300, 301, (features, 9 * channels)).astype(np.int16),
        rng.integers(-9000, 9000, (3, features)).astype(np.int32),
        shift=7,
    )


def prior_of(channels: int, hidden: int = 1, **parts: Any) -> IntegerHyperPrior:
    """Nothing but zeros and shifts of 1, except for ``parts``: means of 0, the smallest scale."""
    whole = {
        "first": np.zeros((hidden, 8 * channels), np.int16),
        "first_bias": np.zeros((2, hidden), np.int32),
        "second": np.zeros((2 * channels, hidden), np.int16),
        "second_bias": np.zeros((2, 2 * channels), np.int32),
        "before": np.zeros((2 * channels, 2 * channels), np.int16),
        "first_shift": 1,
        "second_shift": 1,
    }
    return IntegerHyperPrior(**{**whole, **parts})


def random_prior(seed: int, channels: int, hidden: int = 5) -> IntegerHyperPrior:
    """Of all magnitudes: means and scales of its cells are all over their ranges."""
    rng = np.random.default_rng(seed)

    def int16(*shape: int) -> NDArray[np.int16]:
        return rng.integers(-300, 301, shape).astype(np.int16)

    return prior_of(
        channels,
        hidden,
        first=int16(hidden, 8 * channels),
        first_bias=rng.integers(-9000, 9000, (3, hidden)).astype(np.int32),
        second=int16(2 * channels, hidden),
        second_bias=rng.integers(-9000, 9000, (3, 2 * channels)).astype(np.int32),
        before=int16(2 * channels, 2 * channels) * seen_before(channels),
        first_shift=8,
        second_shift=10,
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
