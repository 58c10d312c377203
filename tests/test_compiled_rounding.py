"""The compiled loops choose an encoder's symbols as numpy does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from caezip.compiled import PassRounder, load_loops
from caezip.prediction import LatentPredictor
from caezip.quantisation import code_latent, coded_latent, savings_bits
from caezip.scales import checkerboard
from caezip.tile_passes import TilePasses
from passes import qualities, random_scales, scales_of

LOOPS = load_loops()
pytestmark = pytest.mark.skipif(LOOPS is None, reason="caezip was installed without a compiler")
Floats = NDArray[np.float32]


class MadeUpNetworks:
    """Means of the first channels: random ones, then what depends on what pass one coded."""

    def __init__(self, means: Floats) -> None:
        self._means = means

    def first_means(self, hyper_latent: Any, rate: float, grid: Any) -> tuple[None, Floats]:
        return None, self._means

    def second_means(self, features: None, first_steps: Floats, rate: float) -> Floats:
        return np.roll(first_steps, 1, axis=2) * np.float32(0.7) + self._means[::-1]


@given(
    seed=st.integers(0, 999),
    channels=st.integers(1, 5),
    features=st.sampled_from([0, 1, 5, 32]),
    predicted=st.integers(1, 5),
    height=st.integers(1, 9),
    width=st.integers(1, 9) | st.integers(126, 131),
    quality=qualities,
    spread=st.sampled_from([0.4, 2.0, 40.0, 60000.0]),
    weighed=st.booleans(),
)
def test_symbols_of_all_shapes_are_chosen_alike(
    seed: int,
    channels: int,
    features: int,
    predicted: int,
    height: int,
    width: int,
    quality: int,
    spread: float,
    weighed: bool,
) -> None:
    rng = np.random.default_rng(seed)
    scales = random_scales(rng, channels, features)
    z = rng.integers(-20, 21, (4, -(-height // 4), -(-width // 4))).astype(np.int32)
    shape = (channels, height, width)
    # many in the middle between two integers
    latent = (rng.integers(-4, 5, shape) / 2 * spread).astype(np.float32)
    latent += rng.choice(np.array([0, 0.3], np.float32), shape)
    means = rng.normal(0, 1, (min(predicted, channels), height, width)).astype(np.float32)
    worth = rng.exponential(8, channels).astype(np.float32) if weighed else None
    predictor = LatentPredictor(
        MadeUpNetworks(means),  # type: ignore[arg-type]  # a stand-in
        scales,
        z,
        quality,
        (height, width),
    )
    found, expected = (code(predictor, latent, worth) for code in (coded_latent, code_latent))
    assert found.shape == expected.shape
    for ours, theirs in zip(found.passes, expected.passes, strict=True):
        assert np.array_equal(ours[0].places, theirs[0].places)
        assert np.array_equal(ours[0].indexes, theirs[0].indexes)
        assert np.array_equal(ours[1], theirs[1])


def rounder(**parts: Any) -> PassRounder:
    assert LOOPS is not None
    whole: dict[str, Any] = {
        "scaled": np.ones((4, 5, 6), np.float32),
        "means": np.zeros((3, 5, 6), np.float32),
        "worth": np.ones(4, np.float32),
        "savings": savings_bits(),
    }
    return PassRounder(LOOPS, *{**whole, **parts}.values())


@pytest.mark.parametrize(
    "parts",
    [
        {"scaled": np.ones((4, 5, 6))},
        {"scaled": np.ones((4, 6, 5), np.float32).transpose(0, 2, 1)},
        {"means": np.zeros((5, 5, 6), np.float32)},
        {"means": np.zeros((3, 5, 5), np.float32)},
        {"worth": np.ones(3, np.float32)},
        {"savings": np.ones((64, 15), np.float32)},
        {"steps": np.ones((4, 5, 6), np.float32)},
    ],
    ids=["type", "order", "too many means", "means' grid", "worth", "savings", "steps"],
)
def test_arrays_that_do_not_fit_are_refused(parts: dict[str, Any]) -> None:
    rounder()
    with pytest.raises(ValueError, match=f"^{next(iter(parts))}: found "):
        rounder(**parts)


def test_only_what_belongs_to_the_latent_is_rounded_and_listed() -> None:
    assert LOOPS is not None
    scales = scales_of(4, 4, weight=np.ones((64, 4), np.int8), shift=1)
    z = np.full((4, 2, 2), 9, np.int32)
    steps = np.full((3, 5, 6), np.nan, np.float32)
    whole = rounder(steps=steps)
    whole.round_first(TilePasses(LOOPS, scales, z, 5000, (5, 6)))
    places, symbols, indexes = whole.listed()
    first = checkerboard(4, 5, 6)
    assert np.array_equal(places, np.flatnonzero(first))
    assert (symbols == 1).all()
    assert (indexes == indexes[0]).all()
    assert np.array_equal(steps, first[:3])
    with pytest.raises(ValueError, match=r"latent: found \(4, 5, 6\), allowed is \(4, 6, 5\)"):
        rounder().round_first(TilePasses(LOOPS, scales, z, 5000, (6, 5)))
