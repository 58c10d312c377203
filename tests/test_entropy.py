"""The entropy coder and its integer arithmetic, on small tables made for the purpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caezip.entropy import EntropyCoder, FrequencyTables, Integers, IntegerScales
from caezip.errors import CorruptError, WeightsError
from caezip.pretrained import load_model

HYPER_CHANNELS, LATENT_CHANNELS = 2, 3
qualities = st.integers(100, 10000) | st.sampled_from([100, 101, 5050, 9999, 10000])


def make_tables(count: int, seed: int, entries: int = 4) -> FrequencyTables:
    """``count`` tables of 2…``entries`` entries around 0, with frequencies from 1 up."""
    rng = np.random.default_rng(seed)
    parts, offsets = [], []
    for _ in range(count):
        size = int(rng.integers(2, entries + 1))
        parts.append(np.ones(size, np.int64))
        parts[-1][:-1] += rng.multinomial(65536 - size, np.full(size - 1, 1 / (size - 1)))
        offsets.append(-(size // 2))
    return FrequencyTables(
        np.concatenate(parts).astype(np.uint16),
        np.array([len(part) for part in parts], np.int32),
        np.array(offsets, np.int32),
    )


def make_scales(seed: int, bias: int = 0) -> IntegerScales:
    rng = np.random.default_rng(seed)
    return IntegerScales(
        rng.integers(-128, 128, (16 * LATENT_CHANNELS, HYPER_CHANNELS)).astype(np.int8),
        (bias + rng.integers(-4000, 8000, (3, LATENT_CHANNELS))).astype(np.int32),
        6,
    )


def make_coder(seed: int, bias: int = 0) -> EntropyCoder:
    hyper, latent = make_tables(HYPER_CHANNELS, seed), make_tables(64, seed + 1)
    return EntropyCoder(hyper, latent, make_scales(seed, bias))


def hyper_grid(grid: tuple[int, int]) -> tuple[int, int, int]:
    return HYPER_CHANNELS, -(-grid[0] // 4), -(-grid[1] // 4)


def round_trip(
    coder: EntropyCoder, z: Integers, residual: Integers, quality: int
) -> tuple[Integers, Integers, Integers]:
    """``(expected residual, decoded z, decoded residual)``."""
    grid = (residual.shape[1], residual.shape[2])
    indexes = coder.scales.indexes(z, quality, grid)
    stream = coder.encode(z, residual, indexes)
    return np.where(indexes > 0, residual, 0), *coder.decode(stream, quality, grid)


# -- there and back ----------------------------------------------------------


@given(
    seed=st.integers(0, 999),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    quality=qualities,
    spread=st.sampled_from([1, 3, 40, 127]),
    residual_spread=st.sampled_from([1, 5, 300, 32767]),
)
def test_integers_are_decoded_exactly_as_they_were_encoded(
    seed: int, height: int, width: int, quality: int, spread: int, residual_spread: int
) -> None:
    rng = np.random.default_rng(seed)
    grid = (height, width)
    z = rng.integers(-spread, spread + 1, hyper_grid(grid)).astype(np.int32)
    residual = rng.integers(-residual_spread, residual_spread + 1, (LATENT_CHANNELS, *grid))
    expected, z_decoded, decoded = round_trip(
        make_coder(seed), z, residual.astype(np.int32), quality
    )
    assert np.array_equal(z_decoded, z)
    assert np.array_equal(decoded, expected)


@pytest.mark.parametrize("z_value", [-127, 0, 127])
@pytest.mark.parametrize("value", [-32767, -1, 0, 1, 32767])
def test_the_most_extreme_symbols_are_coded(z_value: int, value: int) -> None:
    z = np.full(hyper_grid((6, 5)), z_value, np.int32)
    residual = np.full((LATENT_CHANNELS, 6, 5), value, np.int32)
    expected, z_decoded, decoded = round_trip(make_coder(1, bias=40_000), z, residual, 5000)
    assert np.array_equal(z_decoded, z)
    assert np.array_equal(decoded, expected)
    assert (expected == value).any()  # at least some are coded


def test_the_installed_weights_code_extreme_symbols_too() -> None:
    coder = load_model().coder
    rng = np.random.default_rng(0)
    z = rng.choice([-127, 0, 127], (coder.hyper_channels, 1, 1)).astype(np.int32)
    residual = rng.choice([-32767, 0, 1, 32767], (coder.latent_channels, 3, 2)).astype(np.int32)
    expected, z_decoded, decoded = round_trip(coder, z, residual, 10_000)
    assert np.array_equal(z_decoded, z)
    assert np.array_equal(decoded, expected)


def test_residuals_with_index_zero_cost_nothing_and_decode_to_zero() -> None:
    coder = make_coder(3, bias=-200_000)  # every index is 0
    z = np.zeros(hyper_grid((4, 4)), np.int32)
    expected, _, decoded = round_trip(coder, z, np.full((LATENT_CHANNELS, 4, 4), 9, np.int32), 100)
    assert not expected.any()
    assert not decoded.any()


# -- streams that no encoder writes ------------------------------------------


@pytest.mark.parametrize("stream", [b"", b"1234", b"1234567", b"123456789", bytes(10)])
def test_streams_of_impossible_lengths_are_refused(stream: bytes) -> None:
    with pytest.raises(CorruptError, match=r"tile stream: found \d+ bytes, .* multiples of 4"):
        make_coder(0).decode(stream, 5000, (4, 4))


@pytest.mark.parametrize("value", [-128, 128, 1000])
def test_hyper_latents_beyond_127_are_refused(value: int) -> None:
    coder = make_coder(0)
    z = np.full(hyper_grid((4, 4)), value, np.int32)
    indexes = np.zeros((LATENT_CHANNELS, 4, 4), np.uint8)
    stream = coder.encode(z, np.zeros(indexes.shape, np.int32), indexes)
    with pytest.raises(CorruptError, match=r"hyper-latent symbol: found one beyond .* ±127"):
        coder.decode(stream, 5000, (4, 4))


@pytest.mark.parametrize("value", [-32768, 32768, 100_000])
def test_residuals_beyond_32767_are_refused(value: int) -> None:
    coder = make_coder(0, bias=40_000)
    z = np.zeros(hyper_grid((4, 4)), np.int32)
    with pytest.raises(CorruptError, match=r"latent symbol: found one beyond .* ±32767"):
        round_trip(coder, z, np.full((LATENT_CHANNELS, 4, 4), value, np.int32), 5000)


# -- scale indexes -----------------------------------------------------------


def plain_indexes(
    scales: IntegerScales, z: Integers, quality: int, grid: tuple[int, int]
) -> list[list[list[int]]]:
    """FORMAT.md's formulas with Python's own integers, one position at a time."""
    weight, bias = scales.weight.tolist(), scales.bias.tolist()
    anchors = len(bias)
    p = (quality - 100) * (anchors - 1)
    low = min(p // 9900, anchors - 2)
    f = p - 9900 * low
    out = []
    for c in range(len(bias[0])):
        b = (bias[low][c] * (9900 - f) + bias[low + 1][c] * f + 4950) // 9900
        plane = []
        for row in range(grid[0]):
            line = []
            for column in range(grid[1]):
                weights = weight[16 * c + 4 * (row % 4) + column % 4]
                s = sum(
                    w * int(v) for w, v in zip(weights, z[:, row // 4, column // 4], strict=True)
                )
                rounded = (s + b + 2 ** (scales.shift - 1)) >> scales.shift
                line.append(min(max(rounded, 0), 63))
            plane.append(line)
        out.append(plane)
    return out


@settings(max_examples=100)
@given(
    seed=st.integers(0, 9999),
    anchors=st.integers(2, 8),
    shift=st.integers(1, 24),
    quality=qualities,
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    spread=st.sampled_from([0, 1, 5, 127]),
)
def test_scale_indexes_equal_plain_integer_arithmetic(
    seed: int, anchors: int, shift: int, quality: int, grid: tuple[int, int], spread: int
) -> None:
    rng = np.random.default_rng(seed)
    scales = IntegerScales(
        rng.integers(-128, 128, (16 * 2, 3)).astype(np.int8),
        # from a little below index 0 to a little above index 63
        rng.integers(-2 << shift, 66 << shift, (anchors, 2)).astype(np.int32),
        shift,
    )
    z = rng.integers(-spread, spread + 1, (3, -(-grid[0] // 4), -(-grid[1] // 4)))
    found = scales.indexes(z.astype(np.int32), quality, grid)
    assert found.dtype == np.uint8
    assert found.tolist() == plain_indexes(scales, z.astype(np.int32), quality, grid)


@pytest.mark.parametrize(
    ("quality", "index"),
    # a bias from 20 to 40 in 9,900 steps; with a shift of 1 the index is half of it, rounded up
    [(100, 10), (347, 10), (348, 11), (5050, 15), (9257, 19), (9258, 20), (10000, 20)],
)
def test_biases_are_interpolated_to_the_nearest_integer(quality: int, index: int) -> None:
    scales = IntegerScales(np.zeros((16, 1), np.int8), np.array([[20], [40]], np.int32), 1)
    assert scales.indexes(np.zeros((1, 1, 1), np.int32), quality, (1, 1)).tolist() == [[[index]]]


def test_the_bound_is_the_largest_sum_and_2_to_the_31_is_refused() -> None:
    weight = np.full((16, 2), -128, np.int8)
    products, half = 2 * 128 * 127, 1 << 9
    largest_bias = (1 << 31) - 1 - products - half
    bias = np.array([[largest_bias], [-largest_bias]], np.int32)
    scales = IntegerScales(weight, bias, 10)
    assert scales.largest_sum() == (1 << 31) - 1
    z = np.full((2, 1, 1), -127, np.int32)
    for quality in (100, 5000, 10000):
        assert scales.indexes(z, quality, (4, 4)).tolist() == plain_indexes(
            scales, z, quality, (4, 4)
        )
    with pytest.raises(WeightsError, match="its sums can exceed 31 bits"):
        IntegerScales(weight, np.array([[largest_bias + 1], [0]], np.int32), 10)
    with pytest.raises(WeightsError, match="its sums can exceed 31 bits"):
        IntegerScales(weight, np.array([[0], [-(1 << 31)]], np.int32), 10)


def test_the_installed_weights_stay_within_31_bits() -> None:
    assert load_model().coder.scales.largest_sum() < 1 << 31


@pytest.mark.parametrize(
    ("weight", "bias", "shift", "message"),
    [
        ((16, 2), (2, 1), 0, "shift: found 0, allowed are 1 to 24"),
        ((16, 2), (2, 1), 25, "shift: found 25, allowed are 1 to 24"),
        ((16, 2), (1, 1), 8, "must be matrices"),
        ((16, 2), (2,), 8, "must be matrices"),
        ((16,), (2, 1), 8, "must be matrices"),
        ((15, 2), (2, 1), 8, "differ in channels"),
        ((32, 2), (2, 1), 8, "differ in channels"),
    ],
)
def test_scale_predictors_of_wrong_shapes_are_refused(
    weight: tuple[int, ...], bias: tuple[int, ...], shift: int, message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        IntegerScales(np.zeros(weight, np.int8), np.zeros(bias, np.int32), shift)


# -- tables ------------------------------------------------------------------


def tables_of(*rows: list[int], lengths: list[int] | None = None) -> FrequencyTables:
    sizes = [len(row) for row in rows] if lengths is None else lengths
    return FrequencyTables(
        np.array([f for row in rows for f in row], np.uint16),
        np.array(sizes, np.int32),
        np.zeros(len(rows), np.int32),
    )


def test_cumulative_tables_run_from_0_to_65536() -> None:
    tables = tables_of([1, 65535], [30000, 30000, 5536])
    assert tables.cumulative() == [[0, 1, 65536], [0, 30000, 60000, 65536]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tables_of([1, 65534]), "does not sum to 65536"),
        (lambda: tables_of([1, 65535], [65535, 65535]), "does not sum to 65536"),
        (lambda: tables_of([0, 65535, 1]), "found a frequency of 0"),
        (lambda: tables_of([65535]), "at least two entries"),
        (lambda: tables_of(), "at least two entries"),
        (lambda: tables_of([1, 65535], lengths=[3]), "lengths do not add up"),
        (lambda: tables_of([1, 65535], lengths=[2, 2]), "lengths do not add up"),
        (lambda: tables_of([1, 65535], [1, 65535], lengths=[5, -1]), "at least two entries"),
    ],
)
def test_tables_that_are_no_tables_are_refused(make: Any, message: str) -> None:
    with pytest.raises(WeightsError, match=f"frequency tables: .*{message}"):
        make()


def test_tables_and_predictors_must_fit_each_other() -> None:
    hyper, latent, scales = make_tables(HYPER_CHANNELS, 0), make_tables(64, 1), make_scales(0)
    EntropyCoder(hyper, latent, scales)
    with pytest.raises(WeightsError, match="latent tables: found 63, allowed are 64"):
        EntropyCoder(hyper, make_tables(63, 1), scales)
    with pytest.raises(WeightsError, match="their count differs from the predictor's"):
        EntropyCoder(make_tables(HYPER_CHANNELS + 1, 0), latent, scales)
