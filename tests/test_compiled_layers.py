"""How layers are laid out for the compiled functions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from caezip.compiled_layers import runs_of

Weights = NDArray[np.int8]


def largest_sums(weights: Weights, steps: int) -> NDArray[np.int64]:
    """By eights of outputs and sixteens of inputs, over all levels: of so many steps by pairs."""
    outputs, inputs = weights.shape
    found = np.zeros((outputs // 8, inputs // 16), np.int64)
    for output, first in np.ndindex(outputs, inputs // (4 * steps)):
        here = weights[output, 4 * steps * first : 4 * steps * (first + 1)].astype(int)
        place = output // 8, first * steps // 4
        for pair in (0, 2):
            some = [here[4 * step + pair + k] for step in range(steps) for k in (0, 1)]
            for sign in (1, -1):
                levels = [255 if sign * weight > 0 else 0 for weight in some]
                total = abs(sum(np.multiply(some, levels)))
                found[place] = max(found[place], total)
    return found


@given(seed=st.integers(0, 999), largest=st.sampled_from([1, 20, 40, 64]))
def test_runs_are_as_long_as_16_bits_allow(seed: int, largest: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.integers(-largest, largest + 1, (16, 48)).astype(np.int8)
    fours, twos = (largest_sums(weights, steps) <= 255 * 128 for steps in (4, 2))
    assert np.array_equal(runs_of(weights), np.where(fours, 4, np.where(twos, 2, 1)))


@pytest.mark.parametrize(("value", "run"), [(16, 4), (17, 2), (32, 2), (33, 1), (64, 1), (-16, 4)])
def test_equal_weights_run_as_long_as_eight_of_them_fit(value: int, run: int) -> None:
    assert runs_of(np.full((16, 32), value, np.int8)).tolist() == [[run] * 2] * 2


def test_one_output_keeps_the_eight_it_is_one_of() -> None:
    weights = np.zeros((32, 32), np.int8)
    weights[9, 17:25] = 64  # outputs 8 to 15, inputs 16 to 31
    assert runs_of(weights).tolist() == [[4, 4], [4, 1], [4, 4], [4, 4]]
