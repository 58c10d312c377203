"""The hyper-latent's prior: what it tells of each symbol, in integers and in floating point."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference_decoder
from caezip.compiled import load_loops
from caezip.compiled_hyper_prior import CompiledHyperPrior
from caezip.errors import WeightsError
from caezip.hyper_prior import (
    HYPER_TABLE_COUNT,
    IntegerHyperPrior,
    known,
    seen_before,
    seen_of,
)
from caezip.integers import Integers
from caezip.pretrained import load_model
from passes import prior_of, qualities, random_prior

LOOPS = load_loops()


def fields_of(prior: IntegerHyperPrior) -> dict[str, Any]:
    return {field.name: getattr(prior, field.name) for field in fields(prior)}


def tables_of(prior: IntegerHyperPrior, z: Integers, quality: int) -> list[tuple[int, int]]:
    numbers, symbols = prior.tables_of(z, quality)
    return list(zip(numbers.tolist(), symbols.tolist(), strict=True))


# -- what is seen ------------------------------------------------------------


def test_symbols_are_seen_as_values_and_magnitudes() -> None:
    seen = seen_of(np.array([0, 1, -2, 15, -16, 127], np.int32))
    assert seen[:6].tolist() == [0, 1, -2, 15, -15, 15]
    assert seen[6:].tolist() == [0, 11, 18, 44, 44, 44]


def test_cells_see_the_four_around_that_come_before() -> None:
    cells = np.arange(1.0, 7).reshape(1, 2, 3)
    left, above, above_left, above_right = known(cells)
    assert left.tolist() == [[0, 1, 2], [0, 4, 5]]
    assert above.tolist() == [[0, 0, 0], [1, 2, 3]]
    assert above_left.tolist() == [[0, 0, 0], [0, 1, 2]]
    assert above_right.tolist() == [[0, 0, 0], [2, 3, 0]]


def test_channels_see_the_groups_before_theirs() -> None:
    means = seen_before(20)[:20, :20]
    assert not means[:8].any()
    assert means[8:16].tolist() == [[True] * 8 + [False] * 12] * 8
    assert means[16:].tolist() == [[True] * 16 + [False] * 4] * 4
    assert np.array_equal(seen_before(20), np.tile(means, (2, 2)))


# -- means and scales --------------------------------------------------------


def test_a_mean_follows_a_value_on_the_left() -> None:
    # hidden is 32 times the value on the left, from 0 up; a mean of 8 eighths for 32
    first = np.zeros((1, 8 * 4), np.int16)
    first[0, 2] = 64  # channel 2, left
    second = np.zeros((8, 1), np.int16)
    second[1] = 2  # the mean of channel 1: hidden / 4 with a shift of 3
    prior = prior_of(4, first=first, second=second, first_shift=1, second_shift=3)
    z = np.zeros((4, 1, 3), np.int32)
    z[2] = [3, -5, 9]
    found = tables_of(prior, z, 5000)
    assert found[4 + 1] == (4, -3)  # 3 on the left: a mean of 24 eighths, and there is 0
    assert found[8 + 1] == (4, 0)  # -5 on the left: hidden is 0
    assert found[2] == (4, 3)
    assert found[8 + 2] == (4, 9)


def test_means_between_steps_have_tables_of_their_own() -> None:
    eighths = [3, 4, -4, -5]
    bias = np.array([[2 * m for m in eighths] + [2 * s for s in (0, 1, 31, 90)]] * 2, np.int32)
    found = tables_of(prior_of(4, second_bias=bias), np.zeros((4, 1, 1), np.int32), 5000)
    # 3 of 8 above 0; 4 above is as near to 1; -4 is as near to 0 as to -1; -5 is 3 above -1
    assert found == [(7, 0), (8 + 0, -1), (8 * 31 + 0, 0), (8 * 31 + 7, 1)]


def test_a_scale_follows_magnitudes_of_earlier_groups() -> None:
    before = np.zeros((24, 24), np.int16)
    before[12 + 9, 12 + 3] = 4  # the scale of channel 9 sees how large channel 3 is
    z = np.zeros((12, 1, 2), np.int32)
    z[3] = [-2, 100]
    found = tables_of(prior_of(12, before=before, second_shift=3), z, 5000)
    assert found[9] == (8 * 9 + 4, 0)  # 18 * 4 / 8
    assert found[12 + 9] == (8 * 22 + 4, 0)  # 44 * 4 / 8
    assert found[8] == (4, 0)


def test_biases_lie_between_anchors() -> None:
    bias = np.zeros((2, 8), np.int32)
    bias[1, 4:] = 40
    prior = prior_of(4, second_bias=bias)
    z = np.zeros((4, 1, 1), np.int32)
    assert [tables_of(prior, z, q)[0][0] for q in (100, 5050, 10_000)] == [4, 84, 164]


@pytest.mark.parametrize("sign", [-1, 1])
def test_means_stay_where_symbols_can_be(sign: int) -> None:
    bias = np.full((2, 8), sign * 1_000_000, np.int32)
    found = tables_of(prior_of(4, second_bias=bias), np.zeros((4, 1, 1), np.int32), 5000)
    assert found == [(4 + (248 if sign > 0 else 0), -127 * sign)] * 4


# -- every way to the same ---------------------------------------------------


@given(
    seed=st.integers(0, 999),
    channels=st.sampled_from([4, 7, 8, 9, 16, 20]),
    hidden=st.sampled_from([1, 5, 33]),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    spread=st.sampled_from([0, 1, 3, 20, 127]),
    quality=qualities,
)
def test_all_ways_find_the_same_tables(
    seed: int, channels: int, hidden: int, height: int, width: int, spread: int, quality: int
) -> None:
    prior = random_prior(seed, channels, hidden)
    rng = np.random.default_rng(seed)
    z = rng.integers(-spread, spread + 1, (channels, height, width)).astype(np.int32)
    expected = tables_of(prior, z, quality)
    assert {number for number, _ in expected} <= set(range(HYPER_TABLE_COUNT))

    weights: dict[str, Any] = {
        f"integer_hyper_prior.{name}": np.asarray(value) for name, value in fields_of(prior).items()
    }
    assert reference_decoder.listed_hyper(weights, z.astype(np.int64), quality) == expected

    left = list(expected)

    def read(numbers: Any) -> Integers:
        some, left[:] = left[: len(numbers)], left[len(numbers) :]
        assert numbers.tolist() == [number for number, _ in some]
        return np.array([symbol for _, symbol in some], np.int32)

    assert np.array_equal(prior.decoded(read, quality, (height, width)), z)
    assert not left

    if LOOPS is not None:
        numbers, symbols = CompiledHyperPrior(prior).tables_of(LOOPS, z, quality)
        assert list(zip(numbers.tolist(), symbols.tolist(), strict=True)) == expected


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize("quality", [100, 4321, 10_000])
def test_the_network_of_training_is_what_coders_run(quality: int) -> None:
    import torch

    from caezip.config import rate_of_quality
    from caezip.hyper_prior_network import (
        HYPER_INDEX_PER_NAT,
        HYPER_SCALE_MIN,
        HyperPrior,
        hyper_prior_state,
        integer_hyper_prior_of,
    )

    model = load_model()
    network = HyperPrior(model.sizes)
    network.load_state_dict(hyper_prior_state(model.coder.prior))
    again = integer_hyper_prior_of(network)
    for name, value in fields_of(model.coder.prior).items():
        assert np.array_equal(getattr(again, name), value), name

    rng = np.random.default_rng(1)
    z = np.round(rng.laplace(0, 1.5, (model.coder.hyper_channels, 5, 6))).astype(np.int32)
    numbers, symbols = model.coder.prior.tables_of(z, quality)
    with torch.no_grad():
        rate = torch.tensor([rate_of_quality(quality)])
        mean, log_scale = network(torch.from_numpy(z.astype(np.float32))[None], rate)
    in_order = [values[0].permute(1, 2, 0).flatten().numpy() for values in (mean, log_scale)]
    eighths = 8 * (z.transpose(1, 2, 0).ravel() - symbols) + numbers % 8 - 4
    assert np.abs(eighths / 8 - in_order[0]).max() < 0.25
    index = (in_order[1] - np.log(HYPER_SCALE_MIN)) * HYPER_INDEX_PER_NAT
    assert np.abs(numbers // 8 - index.clip(0, 31)).max() < 1


# -- weights that are none ---------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"first": np.zeros((1, 31), np.int16)}, r"first: found \(1, 31\), allowed is \(1, 32\)"),
        ({"first_bias": np.zeros((1, 1), np.int32)}, "must be matrices"),
        ({"second": np.zeros(8, np.int16)}, "must be matrices"),
        ({"second": np.zeros((7, 1), np.int16)}, "allowed is"),
        ({"second_bias": np.zeros((3, 8), np.int32)}, r"second_bias: found \(3, 8\)"),
        ({"before": np.zeros((8, 4), np.int16)}, r"before: found \(8, 4\)"),
        ({"before": np.eye(8, dtype=np.int16)}, "sees what is not known"),
        ({"first_shift": 0}, "first_shift: found 0, allowed are 1 to 24"),
        ({"second_shift": 25}, "second_shift: found 25, allowed are 1 to 24"),
        ({"second_bias": np.full((2, 8), 2**31 - 1, np.int32)}, "can exceed 31 bits"),
    ],
)
def test_priors_that_are_none_are_refused(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=f"hyper-prior.*{message}"):
        prior_of(4, **parts)


def test_sums_beyond_31_bits_are_refused() -> None:
    largest = np.full((8, 258), 32767, np.int16)
    with pytest.raises(WeightsError, match="can exceed 31 bits"):
        prior_of(4, 258, second=largest)
    prior_of(4, 256, second=largest[:, :256])
