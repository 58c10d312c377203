"""The integer arithmetic that decides which table codes each symbol, against FORMAT.md's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caezip.errors import WeightsError
from caezip.integers import Integers
from caezip.pretrained import load_model
from caezip.scales import IntegerScales, checkerboard
from passes import first_indexes, qualities, scales_of, second_indexes

# -- passes ------------------------------------------------------------------


def in_pass_one(channels: int, channel: int, row: int, column: int) -> bool:
    """FORMAT.md's definition."""
    parity = 0 if channel < channels // 2 else 1
    return (row + column) % 2 == parity


@given(channels=st.integers(1, 7), height=st.integers(1, 6), width=st.integers(1, 6))
def test_pass_one_is_a_checkerboard_with_the_channel_halves_in_opposite_phase(
    channels: int, height: int, width: int
) -> None:
    board = checkerboard(channels, height, width)
    assert board.dtype == np.bool_
    assert board.tolist() == [
        [[in_pass_one(channels, c, y, x) for x in range(width)] for y in range(height)]
        for c in range(channels)
    ]
    # what pass two relies on: all neighbours in its channel are known, and the other half here
    assert (board[:, 1:] != board[:, :-1]).all()
    assert (board[:, :, 1:] != board[:, :, :-1]).all()
    assert (board[channels // 2 :] == board[-1]).all()
    assert (board[: channels // 2] != board[-1]).all()


# -- scale indexes -----------------------------------------------------------

Cube = list[list[list[int]]]


def plain_bias(table: Integers, quality: int) -> list[int]:
    """FORMAT.md's ``t(quality)`` with Python's own integers, as all of what follows."""
    rows = table.tolist()
    anchors = len(rows)
    p = (quality - 100) * (anchors - 1)
    low = min(p // 9900, anchors - 2)
    f = p - 9900 * low
    return [
        (a * (9900 - f) + b * f + 4950) // 9900
        for a, b in zip(rows[low], rows[low + 1], strict=True)
    ]


def plain_index(scales: IntegerScales, value: int) -> int:
    return min(max((value + (1 << (scales.shift - 1))) >> scales.shift, 0), 63)


def plain_sums(scales: IntegerScales, z: Integers, quality: int, grid: tuple[int, int]) -> Cube:
    weight, symbols = scales.weight.tolist(), z.tolist()
    out = []
    for c, bias in enumerate(plain_bias(scales.bias, quality)):
        plane = []
        for row in range(grid[0]):
            line = []
            for column in range(grid[1]):
                weights = weight[16 * c + 4 * (row % 4) + column % 4]
                here = [plane_of_z[row // 4][column // 4] for plane_of_z in symbols]
                line.append(bias + sum(w * v for w, v in zip(weights, here, strict=True)))
            plane.append(line)
        out.append(plane)
    return out


def plain_indexes(scales: IntegerScales, z: Integers, quality: int, grid: tuple[int, int]) -> Cube:
    sums = plain_sums(scales, z, quality, grid)
    return [[[plain_index(scales, s) for s in line] for line in plane] for plane in sums]


def plain_second_index(
    scales: IntegerScales,
    sums: Cube,
    first_symbols: Cube,
    quality: int,
    position: tuple[int, int, int],
) -> int:
    channels, height, width = len(sums), len(sums[0]), len(sums[0][0])
    c, row, column = position

    def e(k: int, y: int, x: int) -> int:
        if not (0 <= y < height and 0 <= x < width and in_pass_one(channels, k, y, x)):
            return 0
        magnitude = min(abs(first_symbols[k][y][x]), 31)
        return int(scales.evidence[plain_index(scales, sums[k][y][x]), magnitude])

    above, left, right, below = scales.around[c].tolist()
    total = sum(a * e(k, row, column) for k, a in enumerate(scales.across[c].tolist()))
    total += above * e(c, row - 1, column) + below * e(c, row + 1, column)
    total += left * e(c, row, column - 1) + right * e(c, row, column + 1)
    shifted = (total + (1 << (scales.evidence_shift - 1))) >> scales.evidence_shift
    value = sums[c][row][column] + plain_bias(scales.second_bias, quality)[c] + shifted
    return plain_index(scales, value)


def assert_first_indexes_are_plain(
    scales: IntegerScales, z: Integers, quality: int, grid: tuple[int, int]
) -> None:
    """At pass one's positions; 0 at pass two's."""
    found = first_indexes(scales, z, quality, grid)
    expected = np.array(plain_indexes(scales, z, quality, grid))
    assert np.array_equal(found, np.where(checkerboard(*found.shape), expected, 0))


def assert_second_indexes_are_plain(
    scales: IntegerScales, z: Integers, first_symbols: Integers, quality: int
) -> None:
    """At pass two's positions; 0 at pass one's. Symbols that are not coded are 0."""
    grid = (first_symbols.shape[1], first_symbols.shape[2])
    symbols = np.where(first_indexes(scales, z, quality, grid) > 0, first_symbols, 0).tolist()
    values = plain_sums(scales, z, quality, grid)
    found = second_indexes(scales, z, first_symbols, quality)
    second = ~checkerboard(*found.shape)
    expected = [
        plain_second_index(scales, values, symbols, quality, (c, y, x))
        for c, y, x in np.argwhere(second).tolist()
    ]
    assert found[second].tolist() == expected
    assert not found[~second].any()


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
    scales = scales_of(
        2,
        3,
        weight=rng.integers(-128, 128, (16 * 2, 3)).astype(np.int8),
        # from a little below index 0 to a little above index 63
        bias=rng.integers(-2 << shift, 66 << shift, (anchors, 2)).astype(np.int32),
        second_bias=np.zeros((anchors, 2), np.int32),
        shift=shift,
    )
    z = rng.integers(-spread, spread + 1, (3, -(-grid[0] // 4), -(-grid[1] // 4)))
    assert_first_indexes_are_plain(scales, z.astype(np.int32), quality, grid)


@settings(max_examples=100)
@given(
    seed=st.integers(0, 9999),
    channels=st.integers(1, 5),
    anchors=st.integers(2, 4),
    # evidence moves indexes where the shifts are small: sums of it are below 2^18
    shift=st.integers(1, 8) | st.integers(1, 24),
    evidence_shift=st.integers(1, 8) | st.integers(1, 24),
    quality=qualities,
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    spread=st.sampled_from([0, 2, 40, 32767]),
)
def test_second_scale_indexes_equal_plain_integer_arithmetic(
    seed: int,
    channels: int,
    anchors: int,
    shift: int,
    evidence_shift: int,
    quality: int,
    grid: tuple[int, int],
    spread: int,
) -> None:
    rng = np.random.default_rng(seed)
    scales = scales_of(
        channels,
        2,
        weight=rng.integers(-128, 128, (16 * channels, 2)).astype(np.int8),
        bias=rng.integers(-2 << shift, 66 << shift, (anchors, channels)).astype(np.int32),
        second_bias=rng.integers(-9 << shift, 9 << shift, (anchors, channels)).astype(np.int32),
        evidence=rng.integers(-128, 128, (64, 32)).astype(np.int8),
        across=rng.integers(-128, 128, (channels, channels)).astype(np.int8),
        around=rng.integers(-128, 128, (channels, 4)).astype(np.int8),
        shift=shift,
        evidence_shift=evidence_shift,
    )
    z = rng.integers(-5, 6, (2, -(-grid[0] // 4), -(-grid[1] // 4))).astype(np.int32)
    symbols = rng.integers(-spread, spread + 1, (channels, *grid)).astype(np.int32)
    assert_second_indexes_are_plain(scales, z, symbols, quality)


def test_each_neighbour_has_its_own_weight_and_there_are_none_outside() -> None:
    evidence = np.zeros((64, 32), np.int8)
    evidence[1] = np.arange(32)
    scales = scales_of(
        bias=np.full((2, 1), 2, np.int32),  # index 1 in pass one
        evidence=evidence,
        around=np.array([[1, 2, 4, 8]], np.int8),
    )
    symbols = np.array([[[0, 1, 0], [-2, 0, 3], [0, -4, 0]]], np.int32)
    found = second_indexes(scales, np.zeros((1, 1, 1), np.int32), symbols, 5000)[0]
    # in the centre 1 * 1 + 2 * 2 + 4 * 3 + 8 * 4 = 49 of evidence: (2 + 50 // 2 + 1) // 2
    assert found[1, 1] == 14
    # in the corners, 4 * 1 + 8 * 2 = 20, 2 * 1 + 8 * 3 = 26, 1 * 2 + 4 * 4 = 18, 3 + 2 * 4 = 11
    assert found[[0, 0, 2, 2], [0, 2, 0, 2]].tolist() == [6, 8, 6, 4]


def test_magnitudes_above_31_count_as_31() -> None:
    evidence = np.zeros((64, 32), np.int8)
    evidence[:, 30:] = [10, 20]
    scales = scales_of(
        bias=np.full((2, 1), 2, np.int32),  # index 1 in pass one
        evidence=evidence,
        around=np.array([[0, 0, 2, 0]], np.int8),
    )
    z = np.zeros((1, 1, 1), np.int32)
    found = [
        int(second_indexes(scales, z, np.array([[[0, symbol]]], np.int32), 100)[0, 0, 0])
        for symbol in (29, 30, 31, 32, -31, -30, 32767, -32767)
    ]
    assert found == [1, 6, 11, 11, 11, 6, 11, 11]


@pytest.mark.parametrize(
    ("quality", "index"),
    # a bias from 20 to 40 in 9,900 steps; with a shift of 1 the index is half of it, rounded up
    [(100, 10), (347, 10), (348, 11), (5050, 15), (9257, 19), (9258, 20), (10000, 20)],
)
def test_biases_are_interpolated_to_the_nearest_integer(quality: int, index: int) -> None:
    z, table = np.zeros((1, 1, 1), np.int32), np.array([[20], [40]], np.int32)
    first = scales_of(bias=table)
    # with one channel, which is the second half, pass one codes odd cells
    assert first_indexes(first, z, quality, (1, 2)).tolist() == [[[0, index]]]
    second, nothing = scales_of(second_bias=table), np.zeros((1, 1, 2), np.int32)
    assert first_indexes(second, z, quality, (1, 2)).tolist() == [[[0, 0]]]
    assert second_indexes(second, z, nothing, quality).tolist() == [[[index, 0]]]


# -- bounds ------------------------------------------------------------------


def test_the_bound_is_the_largest_sum_and_2_to_the_31_is_refused() -> None:
    parts = {
        "weight": np.full((16, 2), -128, np.int8),
        "second_bias": np.array([[1000], [-1000]], np.int32),
        "evidence": np.full((64, 32), -128, np.int8),
        "around": np.full((1, 4), -128, np.int8),
        "shift": 10,
        "evidence_shift": 5,
    }
    products, halves, evidence = 2 * 128 * 127, (1 << 9) + (1 << 4), 4 * 128 * 128
    largest_bias = (1 << 31) - 1 - products - halves - evidence - 1000
    bias = np.array([[largest_bias], [-largest_bias]], np.int32)
    scales = scales_of(1, 2, bias=bias, **parts)
    assert scales.largest_sum() == (1 << 31) - 1
    for value in (-127, 127):
        z = np.full((2, 1, 1), value, np.int32)
        for quality in (100, 5000, 5050, 5100, 10000):
            assert_first_indexes_are_plain(scales, z, quality, (3, 3))
            assert_second_indexes_are_plain(scales, z, np.zeros((1, 3, 3), np.int32), quality)
    for beyond in (largest_bias + 1, -(1 << 31)):
        with pytest.raises(WeightsError, match="its sums can exceed 31 bits"):
            scales_of(1, 2, bias=np.array([[0], [beyond]], np.int32), **parts)


@pytest.mark.parametrize(
    ("sign", "bias", "index"),
    [
        # evidence of 2^24 - 1 is halved to 2^23, that of 1 - 2^24 to 1 - 2^23
        (-1, (1 << 17) - 1, 32),
        (-1, 1 << 17, 33),
        (1, (1 << 23) - 2 + (5 << 18) - (1 << 17), 4),
        (1, (1 << 23) - 1 + (5 << 18) - (1 << 17), 5),
    ],
)
def test_evidence_is_exact_up_to_its_bound(sign: int, bias: int, index: int) -> None:
    # 2^24 - 1 = 119 * (1097 * 128 + 57 + 4 * 128): 1,098 channels of the other half, 4 neighbours
    channels = 2200
    across, around = np.zeros((channels, channels), np.int8), np.zeros((channels, 4), np.int8)
    across[-1, :1097], across[-1, 1097], around[-1] = -128, -57, -128
    scales = scales_of(
        channels,
        bias=np.full((2, channels), bias, np.int32),
        evidence=np.full((64, 32), sign * 119, np.int8),
        across=across,
        around=around,
        shift=18,
    )
    assert scales.largest_evidence() == (1 << 24) - 1
    nothing = np.zeros((channels, 3, 3), np.int32)
    found = second_indexes(scales, np.zeros((1, 1, 1), np.int32), nothing, 5000)
    assert found[-1, 1, 1] == index


def test_evidence_that_can_reach_2_to_the_24_is_refused() -> None:
    channels = 1020  # 128 * (128 * 1020 + 128 * 4) = 2^24
    across, around = np.zeros((channels, channels), np.int8), np.zeros((channels, 4), np.int8)
    evidence = np.zeros((64, 32), np.int8)
    across[7], around[7], evidence[5, 3] = -128, -128, -128
    with pytest.raises(WeightsError, match="its sums of evidence can exceed 24 bits"):
        scales_of(channels, across=across, around=around, evidence=evidence)
    around[7, 2] = 127
    largest = scales_of(channels, across=across, around=around, evidence=evidence)
    assert largest.largest_evidence() == (1 << 24) - 128


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(("above", "kind"), [(4, np.int16), (5, np.int32)])
def test_neighbours_are_summed_in_int16_where_they_fit(
    sign: int, above: int, kind: type[np.signedinteger[Any]]
) -> None:
    # 127 * (4 + 127 + 127) and half a step of 2 are 2^15 - 1
    around = np.array([[sign * above, sign * 127, 0, sign * 127]], np.int8)
    scales = scales_of(
        around=around,
        evidence=np.full((64, 32), 127, np.int8),
        bias=np.full((2, 1), 1 << 17, np.int32),
        evidence_shift=1,
        shift=12,
    )
    assert {weights.dtype for weights in scales.packed_around} == {np.dtype(kind)}
    nothing = np.zeros((1, 3, 4), np.int32)
    assert_second_indexes_are_plain(scales, np.zeros((1, 1, 1), np.int32), nothing, 5000)


def test_the_installed_weights_stay_within_both_bounds() -> None:
    scales = load_model().coder.scales
    assert 0 < scales.largest_sum() < 1 << 31
    assert 0 < scales.largest_evidence() < 1 << 24


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"shift": 0}, " shift: found 0, allowed are 1 to 24"),
        ({"shift": 25}, " shift: found 25, allowed are 1 to 24"),
        ({"evidence_shift": 0}, "evidence_shift: found 0, allowed are 1 to 24"),
        ({"evidence_shift": 25}, "evidence_shift: found 25, allowed are 1 to 24"),
        ({"bias": (1, 2)}, "must be matrices"),
        ({"bias": (2,)}, "must be matrices"),
        ({"weight": (32,)}, "must be matrices"),
        ({"weight": (31, 3)}, "differ in channels"),
        ({"weight": (48, 3)}, "differ in channels"),
        ({"second_bias": (2, 3)}, r"second_bias: found \(2, 3\), allowed is \(2, 2\)"),
        ({"second_bias": (3, 2)}, r"second_bias: found \(3, 2\), allowed is \(2, 2\)"),
        ({"second_bias": ()}, r"second_bias: found \(\), allowed is \(2, 2\)"),
        ({"evidence": (63, 32)}, r"evidence: found \(63, 32\), allowed is \(64, 32\)"),
        ({"evidence": (64, 31)}, r"evidence: found \(64, 31\), allowed is \(64, 32\)"),
        ({"across": (2, 3)}, r"across: found \(2, 3\), allowed is \(2, 2\)"),
        ({"across": (1, 1)}, r"across: found \(1, 1\), allowed is \(2, 2\)"),
        ({"around": (2, 9)}, r"around: found \(2, 9\), allowed is \(2, 4\)"),
        ({"around": (4, 2)}, r"around: found \(4, 2\), allowed is \(2, 4\)"),
    ],
)
def test_scale_predictors_of_wrong_shapes_are_refused(parts: dict[str, Any], message: str) -> None:
    arrays = {
        name: np.zeros(value, np.int32 if "bias" in name else np.int8)
        if isinstance(value, tuple)
        else value
        for name, value in parts.items()
    }
    scales_of(2, 3)
    with pytest.raises(WeightsError, match=f"scale predictor.*{message}"):
        scales_of(2, 3, **arrays)
