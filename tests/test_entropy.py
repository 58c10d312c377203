"""The entropy coder, on small tables made for the purpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from caezip._rans import load_ans
from caezip.entropy import EntropyCoder
from caezip.errors import CorruptError, WeightsError
from caezip.frequency_tables import FrequencyTables
from caezip.hyper_prior import HYPER_TABLE_COUNT
from caezip.integers import Integers
from caezip.pretrained import load_model
from caezip.scales import IntegerScales
from decoders import decoded_both_ways, encoded_both_ways
from passes import coded_latent, prior_of, qualities, random_prior, scales_of

HYPER_CHANNELS, LATENT_CHANNELS = 4, 3


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

    def int8(*shape: int) -> NDArray[np.int8]:
        return rng.integers(-128, 128, shape).astype(np.int8)

    return IntegerScales(
        weight=int8(16 * LATENT_CHANNELS, HYPER_CHANNELS),
        bias=(bias + rng.integers(-4000, 8000, (3, LATENT_CHANNELS))).astype(np.int32),
        second_bias=rng.integers(-2000, 2000, (3, LATENT_CHANNELS)).astype(np.int32),
        evidence=int8(64, 32),
        across=int8(LATENT_CHANNELS, LATENT_CHANNELS),
        around=int8(LATENT_CHANNELS, 4),
        shift=6,
        evidence_shift=5,
    )


def make_coder(seed: int, bias: int = 0) -> EntropyCoder:
    hyper, latent = make_tables(HYPER_TABLE_COUNT, seed), make_tables(64, seed + 1)
    prior = random_prior(seed, HYPER_CHANNELS)
    return EntropyCoder(hyper, latent, make_scales(seed, bias), prior)


def hyper_grid(grid: tuple[int, int]) -> tuple[int, int, int]:
    return HYPER_CHANNELS, -(-grid[0] // 4), -(-grid[1] // 4)


def round_trip(
    coder: EntropyCoder, z: Integers, residual: Integers, quality: int
) -> tuple[Integers, Integers, Integers]:
    """``(expected residual, decoded z, decoded residual)``."""
    coded = coded_latent(coder.scales, z, residual, quality)
    stream = encoded_both_ways(coder, z, quality, coded.passes)
    found = decoded_both_ways(coder, stream, quality, (residual.shape[1], residual.shape[2]))
    return coded.symbols(), *found[:2]


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


def test_a_stream_holds_z_then_pass_one_then_pass_two() -> None:
    scales = scales_of(
        4,
        HYPER_CHANNELS,
        # with a shift of 1 and nothing else in the sums, an index is half of its bias
        bias=np.array([[10, 0, 18, 8]] * 2, np.int32),
        second_bias=np.array([[4, 6, -18, 0]] * 2, np.int32),
    )
    # with a shift of 1: means of 8, 0, -9 and 1 eighths, scale indexes 2, 0, 0 and 40
    prior = prior_of(4, second_bias=np.array([[16, 0, -18, 2, 4, -6, 0, 80]] * 2, np.int32))
    hyper, latent = make_tables(HYPER_TABLE_COUNT, 5), make_tables(64, 6)
    coder = EntropyCoder(hyper, latent, scales, prior)
    z = np.array([3, 0, -1, 5], np.int32).reshape(4, 1, 1)
    residual = np.arange(1, 17, dtype=np.int32).reshape(4, 2, 2)
    in_order = [
        # tables of scales and of what is left of means, 0, 0, -1 and 1; symbols less 1, 0, -1 and 0
        *[(8 * 2 + 4, 2), (4, 0), (4 - 1, 0), (8 * 31 + 4 + 1, 5)],
        # pass one: channel 0 at (0, 0) and (1, 1); channel 1 has index 0; 2 and 3 the others
        *[(256 + 5, 1), (256 + 5, 4), (256 + 9, 10), (256 + 9, 11), (256 + 4, 14), (256 + 4, 15)],
        # pass two, with indexes of its own: channel 2 has index 0
        *[(256 + 7, 2), (256 + 7, 3), (256 + 3, 6), (256 + 3, 7), (256 + 4, 13), (256 + 4, 16)],
    ]
    cdfs = hyper.cumulative() + latent.cumulative()
    stream = (
        load_ans()
        .RansEncoder()
        .encode_with_indexes(
            [symbol for _, symbol in in_order],
            [table for table, _ in in_order],
            cdfs,
            [len(cdf) for cdf in cdfs],
            [*hyper.offsets.tolist(), *latent.offsets.tolist()],
        )
    )
    assert (
        encoded_both_ways(coder, z, 5000, coded_latent(scales, z, residual, 5000).passes) == stream
    )
    z_decoded, decoded, _ = decoded_both_ways(coder, stream, 5000, (2, 2))
    assert np.array_equal(z_decoded, z)
    assert decoded.tolist() == [
        [[1, 2], [3, 4]],
        [[0, 6], [7, 0]],
        [[0, 10], [11, 0]],
        [[13, 14], [15, 16]],
    ]


# -- streams that no encoder writes ------------------------------------------


@pytest.mark.parametrize("stream", [b"", b"1234", b"1234567", b"123456789", bytes(10)])
def test_streams_of_impossible_lengths_are_refused(stream: bytes) -> None:
    with pytest.raises(CorruptError, match=r"tile stream: found \d+ bytes, .* multiples of 4"):
        decoded_both_ways(make_coder(0), stream, 5000, (4, 4))


@pytest.mark.parametrize("value", [-128, 128, 1000])
def test_hyper_latents_beyond_127_are_refused(value: int) -> None:
    coder = make_coder(0)
    z = np.full(hyper_grid((4, 4)), value, np.int32)
    stream = encoded_both_ways(coder, z, 5000, [])
    with pytest.raises(CorruptError, match=r"hyper-latent symbol: found one beyond .* ±127"):
        decoded_both_ways(coder, stream, 5000, (4, 4))


@pytest.mark.parametrize("value", [-32768, 32768, 100_000])
def test_residuals_beyond_32767_are_refused(value: int) -> None:
    coder = make_coder(0, bias=40_000)
    z = np.zeros(hyper_grid((4, 4)), np.int32)
    with pytest.raises(CorruptError, match=r"latent symbol: found one beyond .* ±32767"):
        round_trip(coder, z, np.full((LATENT_CHANNELS, 4, 4), value, np.int32), 5000)


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
    hyper, latent = make_tables(HYPER_TABLE_COUNT, 0), make_tables(64, 1)
    scales, prior = make_scales(0), random_prior(0, HYPER_CHANNELS)
    EntropyCoder(hyper, latent, scales, prior)
    with pytest.raises(WeightsError, match="latent tables: found 63, allowed are 64"):
        EntropyCoder(hyper, make_tables(63, 1), scales, prior)
    with pytest.raises(WeightsError, match="hyper-latent tables: found 255, allowed are 256"):
        EntropyCoder(make_tables(255, 0), latent, scales, prior)
    few = IntegerScales(**{**vars(scales), "weight": scales.weight[:, :3]})
    with pytest.raises(WeightsError, match="hyper-latent channels: found 3, allowed are 4 or more"):
        EntropyCoder(hyper, latent, few, random_prior(0, 3))
    with pytest.raises(WeightsError, match="its channels are not the scale predictor's"):
        EntropyCoder(hyper, latent, scales, random_prior(0, HYPER_CHANNELS + 1))
