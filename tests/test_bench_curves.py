"""BD-rate on curves whose answer is known, and on curves that cannot be compared."""

from __future__ import annotations

import pytest

from caezip_bench.curves import CurvePoint, bd_rate, increasing

QUALITIES = (10.0, 30.0, 50.0, 70.0, 90.0)
BPPS = (0.1, 0.25, 0.5, 1.0, 2.0)
VALUES = (26.0, 29.0, 32.0, 35.5, 40.0)


def _curve(rate_factor: float = 1.0, shift: float = 0.0) -> list[CurvePoint]:
    return [
        CurvePoint(quality, bpp * rate_factor, value + shift)
        for quality, bpp, value in zip(QUALITIES, BPPS, VALUES, strict=True)
    ]


def test_a_curve_against_itself_is_zero() -> None:
    rate = bd_rate(_curve(), _curve())
    assert rate.rate_percent == pytest.approx(0, abs=1e-9)
    assert (rate.low, rate.high) == (26.0, 40.0)
    assert (rate.overlap_test, rate.overlap_anchor) == (1.0, 1.0)
    assert rate.warnings == ()


@pytest.mark.parametrize(("factor", "percent"), [(0.5, -50), (2.0, 100), (0.9, -10)])
def test_scaled_rates_give_that_percentage(factor: float, percent: float) -> None:
    assert bd_rate(_curve(), _curve(factor)).rate_percent == pytest.approx(percent)


def test_the_order_and_number_of_points_do_not_matter() -> None:
    sparse = [point for point in _curve(0.5) if point.quality != 50]
    rate = bd_rate(_curve()[::-1], sparse)
    assert rate.rate_percent == pytest.approx(-50, abs=1)


def test_curves_without_a_common_range_are_not_compared() -> None:
    rate = bd_rate(_curve(), _curve(shift=20), anchor_name="jpeg", test_name="new")
    assert rate.rate_percent is None
    assert rate.reason == "no common range: jpeg has 26.00 to 40.00, new 46.00 to 60.00"


def test_a_small_overlap_is_compared_with_a_warning() -> None:
    rate = bd_rate(_curve(), _curve(shift=7), anchor_name="jpeg", test_name="new")
    assert rate.rate_percent is not None
    assert (rate.low, rate.high) == (33.0, 40.0)
    assert (rate.overlap_test, rate.overlap_anchor) == (0.5, 0.5)
    assert "new against jpeg: BD-rate covers only 50.0% of new's range" in rate.warnings
    assert "new against jpeg: BD-rate covers only 50.0% of jpeg's range" in rate.warnings


@pytest.mark.parametrize("points", [[], _curve()[:1]])
def test_too_few_points(points: list[CurvePoint]) -> None:
    rate = bd_rate(_curve(), points, test_name="new")
    assert rate.rate_percent is None
    assert rate.reason is not None
    assert rate.reason.startswith(f"new has {len(points)} usable points")


def test_two_points_are_enough_but_coarse() -> None:
    rate = bd_rate(_curve()[:2], _curve(0.5)[:2])
    assert rate.rate_percent == pytest.approx(-50)
    assert any("only 2 points" in warning for warning in rate.warnings)


def test_points_that_others_beat_are_left_out_by_name() -> None:
    worse = CurvePoint(60, 0.7, 31.0)  # more bits than quality 50, less quality
    kept, warnings = increasing([*_curve(), worse], "new")
    assert kept == _curve()
    assert len(warnings) == 1
    assert warnings[0].startswith("new: quality 60 left out")
    rate = bd_rate(_curve(), [worse, *_curve(0.5)], test_name="new")
    assert rate.rate_percent == pytest.approx(-50)
    assert len(rate.warnings) == 1


def test_repeated_points_count_once() -> None:
    kept, warnings = increasing(_curve() + _curve(), "new")
    assert kept == _curve()
    assert warnings == ["new: repeated points are left out"]
    same_but_for_quality = CurvePoint(55, BPPS[2], VALUES[2])
    kept, warnings = increasing([*_curve(), same_but_for_quality], "new")
    assert kept == _curve()
    assert warnings[0].startswith("new: quality 55 left out")


@pytest.mark.parametrize("shift", [1.5, -0.5])
def test_shifted_values_give_that_gain(shift: float) -> None:
    rate = bd_rate(_curve(), _curve(shift=shift))
    assert rate.quality_gain == pytest.approx(shift)


def test_the_gain_covers_the_bpp_that_both_have() -> None:
    straight = [CurvePoint(q, bpp, 10 * q) for q, bpp in enumerate((0.25, 0.5, 1.0, 2.0), 1)]
    # 4 more at 0.5 bpp, 0 more at 1 bpp, in between straight over log(bpp)
    tilted = [CurvePoint(1, 0.5, 24), CurvePoint(2, 1.0, 30)]
    assert bd_rate(straight, tilted).quality_gain == pytest.approx(2)


def test_a_gain_needs_common_bpp_and_a_rate_common_values() -> None:
    above = bd_rate(_curve(), _curve(shift=20))
    assert above.rate_percent is None
    assert above.quality_gain == pytest.approx(20)
    aside = bd_rate(_curve(), _curve(100))
    assert aside.rate_percent == pytest.approx(9900)
    assert aside.quality_gain is None
    assert bd_rate(_curve(), _curve()[:1]).quality_gain is None
