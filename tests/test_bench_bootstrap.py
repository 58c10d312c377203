"""Bootstrap intervals of BD-rates, and that they rest on the same BD-rates as the tables."""

from __future__ import annotations

import math

import numpy as np
import pytest

from caezip.errors import ParameterError
from caezip_bench.bootstrap import CurveSamples, Floats, bd_rates_percent, rate_interval_percent
from caezip_bench.curves import CurvePoint, bd_rate
from caezip_bench.metrics import ms_ssim_db

QUALITIES = np.array([10.0, 30.0, 50.0, 70.0, 90.0])
BPP = np.array([0.1, 0.25, 0.5, 1.0, 2.0])
VALUES = np.array([26.0, 29.0, 32.0, 35.5, 40.0])


def _itself(value: float) -> float:
    return value


def _samples(images: int, factors: Floats | float = 1.0, shift: float = 0.0) -> CurveSamples:
    """Curves that differ in size between images, whose bpp are ``factors`` times as large."""
    rng = np.random.default_rng(3)
    sizes = rng.uniform(0.7, 1.4, (images, 1)) * np.broadcast_to(factors, images)[:, None]
    values = VALUES + rng.normal(0, 0.5, (images, 1)) + shift
    return CurveSamples(QUALITIES, sizes * BPP, values, _itself)


def _interval(anchor: CurveSamples, test: CurveSamples, seed: int = 0) -> tuple[float, float]:
    found = rate_interval_percent(anchor, test, seed=seed)
    assert found is not None
    return found


def _rate_of_all(anchor: CurveSamples, test: CurveSamples) -> float:
    """BD-rate of the curves averaged over all images."""
    means = [
        part.mean(axis=0, keepdims=True)
        for part in (anchor.bpp, anchor.values, test.bpp, test.values)
    ]
    return float(bd_rates_percent(*means)[0])


def _one_by_one(bpp: Floats, values: Floats) -> list[list[CurvePoint]]:
    return [
        [
            CurvePoint(number, x, y)
            for number, (x, y) in enumerate(zip(*pair, strict=True))
            if not math.isnan(y)
        ]
        for pair in zip(bpp.tolist(), values.tolist(), strict=True)
    ]


@pytest.mark.parametrize("points", [2, 3, 4, 5, 12])
def test_rates_are_those_of_the_package(points: int) -> None:
    rng = np.random.default_rng(points)
    shape = (40, points)

    def curves(more: float) -> tuple[Floats, Floats]:
        bpp = np.cumsum(rng.uniform(0.05, 0.4, shape), axis=1) * more
        # some points are beaten by others, so that rows differ in how many are left
        return bpp, 25 + np.cumsum(rng.normal(1.5, 1.2, shape), axis=1)

    anchor, test = curves(1.0), curves(0.8)
    test[1][rng.random(shape) < 0.1] = math.nan
    found = bd_rates_percent(*anchor, *test)
    compared = 0
    for rate, one, other in zip(found, _one_by_one(*anchor), _one_by_one(*test), strict=True):
        expected = bd_rate(one, other).rate_percent
        if expected is None:
            assert math.isnan(rate)
        else:
            assert rate == pytest.approx(expected, rel=1e-6)
            compared += 1
    assert compared >= 10


def test_straight_stretches_are_interpolated_as_by_the_package() -> None:
    straight = np.array([[0.0, 1.0, 2.0, 3.0, 5.0, 7.0]])
    bpp, bent = np.exp(straight / 3), np.exp(np.array([[0.2, 1.0, 1.8, 4.0, 4.1, 6.6]]) / 3)
    (found,) = bd_rates_percent(bpp, straight, bent, straight)
    (one,), (other,) = _one_by_one(bpp, straight), _one_by_one(bent, straight)
    assert found == pytest.approx(bd_rate(one, other).rate_percent, rel=1e-6)


def test_images_that_all_gain_alike_leave_nothing_open() -> None:
    low, high = _interval(_samples(12), _samples(12, 0.8))
    assert low == pytest.approx(-20)
    assert high == pytest.approx(-20)


def test_the_interval_covers_the_rate_and_shrinks_with_more_images() -> None:
    widths = []
    for images in (8, 128):
        factors = np.random.default_rng(5).uniform(0.6, 1.0, images)
        anchor, test = _samples(images), _samples(images, factors)
        low, high = _interval(anchor, test)
        assert low < _rate_of_all(anchor, test) < high
        assert -40 < low < high < 0
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_the_interval_is_that_of_the_mean_by_the_textbook() -> None:
    # without differences in size, a sample's BD-rate is the mean of its images' factors
    images = 100
    factors = np.random.default_rng(6).uniform(0.5, 0.9, images)
    curve = np.tile(BPP, (images, 1))
    values = np.tile(VALUES, (images, 1))
    anchor = CurveSamples(QUALITIES, curve, values, _itself)
    test = CurveSamples(QUALITIES, factors[:, None] * curve, values, _itself)
    low, high = _interval(anchor, test)
    error = 1.96 * factors.std() / math.sqrt(images)
    assert low == pytest.approx(100 * (factors.mean() - error - 1), abs=0.3)
    assert high == pytest.approx(100 * (factors.mean() + error - 1), abs=0.3)


def test_a_seed_gives_the_same_interval_again() -> None:
    anchor, test = _samples(10), _samples(10, np.linspace(0.6, 0.9, 10))
    assert _interval(anchor, test, seed=1) == _interval(anchor, test, seed=1)
    assert _interval(anchor, test, seed=1) != _interval(anchor, test, seed=2)


def test_curves_take_the_value_of_the_mean() -> None:
    similarities = 1 - 10 ** (-VALUES / 20)
    values = np.tile(similarities, (6, 1))
    bpp = np.outer(np.linspace(0.8, 1.2, 6), BPP)
    anchor = CurveSamples(QUALITIES, bpp, values, ms_ssim_db)
    test = CurveSamples(QUALITIES, 0.7 * bpp, values, ms_ssim_db)
    assert _interval(anchor, test)[0] == pytest.approx(-30)
    # infinite in dB: that point is left out
    values = values.copy()
    values[:, -1] = 1
    test = CurveSamples(QUALITIES, 0.7 * bpp, values, ms_ssim_db)
    assert _interval(anchor, test)[1] == pytest.approx(-30, abs=0.5)


def test_there_is_none_with_few_images_or_without_rates() -> None:
    assert rate_interval_percent(_samples(3), _samples(3, 0.8)) is None
    assert rate_interval_percent(_samples(4), _samples(4, 0.8)) is not None
    assert rate_interval_percent(_samples(8), _samples(8, shift=30)) is None


def test_there_is_none_if_many_resamples_have_no_rate() -> None:
    anchor, test = _samples(8), _samples(8, shift=15.0)
    assert math.isnan(_rate_of_all(anchor, test))
    # one image alone brings the curves together, and a third of the samples lack it
    test.values[0] -= 40
    assert math.isfinite(_rate_of_all(anchor, test))
    assert rate_interval_percent(anchor, test) is None


def test_samples_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ParameterError, match="found 5 and 6 images"):
        rate_interval_percent(_samples(5), _samples(6))
    with pytest.raises(ParameterError, match="two equal"):
        CurveSamples(QUALITIES, np.ones((4, 5)), np.ones((4, 4)), _itself)
    with pytest.raises(ParameterError, match="as many as qualities, 5"):
        CurveSamples(QUALITIES, np.ones((4, 4)), np.ones((4, 4)), _itself)
