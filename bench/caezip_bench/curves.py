"""Rate-distortion curves, and Bjøntegaard's two figures (BD-rate, BD-PSNR) between two of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MIN_POINTS = 2
FEW_POINTS = 4  # Bjøntegaard's own method takes four
GOOD_OVERLAP = 0.75  # of a curve's own range
METHOD = "akima"  # the one that the bjontegaard package's authors found most accurate


@dataclass(frozen=True)
class CurvePoint:
    """One point of a curve: ``bpp`` bits per pixel give ``value`` at this quality.

    ``value`` is what curves take of a metric, such as PSNR in dB: higher is better. Its
    unit is the metric's (`caezip_bench.metrics.Metric.unit`).
    """

    quality: float
    bpp: float
    value: float


@dataclass(frozen=True)
class BdRate:
    """How much larger (in percent; negative is smaller) files are at equal quality.

    ``rate_percent`` is None where it cannot be computed; ``reason`` then says why.
    The comparison covers the values ``low``…``high``, which is the share ``overlap_test``
    (0…1) of the tested curve's own range and ``overlap_anchor`` of the anchor's.
    ``quality_gain`` is BD-PSNR, and its like for other metrics: how much higher the value
    is at equal bpp, in the metric's unit; None if the curves have no bpp in common.
    """

    rate_percent: float | None
    reason: str | None = None
    low: float | None = None
    high: float | None = None
    overlap_test: float | None = None
    overlap_anchor: float | None = None
    warnings: tuple[str, ...] = ()
    quality_gain: float | None = None


def increasing(points: Sequence[CurvePoint], name: str) -> tuple[list[CurvePoint], list[str]]:
    """The points that no other beats, in order of quality, and a warning about the rest.

    A point is left out if another has no more bits and no less quality: only
    then is bpp a function of quality, which BD-rate integrates.
    """
    kept: list[CurvePoint] = []
    for point in sorted(points, key=lambda p: (p.bpp, -p.value, p.quality)):
        if not kept or point.value > kept[-1].value:
            kept.append(point)
    dropped = sorted(p.quality for p in points if p not in kept)
    if not dropped and len(kept) < len(points):  # the very same point twice
        return kept, [f"{name}: repeated points are left out"]
    if not dropped:
        return kept, []
    qualities = ", ".join(f"{quality:g}" for quality in dropped)
    return kept, [
        f"{name}: quality {qualities} left out, "
        "since another point has as few bits and is at least as good"
    ]


def bd_rate(
    anchor: Sequence[CurvePoint],
    test: Sequence[CurvePoint],
    *,
    anchor_name: str = "anchor",
    test_name: str = "test",
) -> BdRate:
    """BD-rate and BD-PSNR of ``test`` against ``anchor``, with Akima interpolation.

    By the `bjontegaard` package, after G. Bjøntegaard, "Calculation of average PSNR
    differences between RD-curves", VCEG-M33, 2001, and C. Herglotz et al., "The
    Bjøntegaard Bible", 2023: over the logarithm of bpp. Curves that cannot be compared
    give a `BdRate` with a reason; nothing is raised.
    """
    anchor_kept, warnings = increasing(anchor, anchor_name)
    test_kept, test_warnings = increasing(test, test_name)
    warnings = warnings + test_warnings
    for name, kept in ((anchor_name, anchor_kept), (test_name, test_kept)):
        if len(kept) < MIN_POINTS:
            reason = f"{name} has {len(kept)} usable points, at least {MIN_POINTS} are needed"
            return BdRate(None, reason, warnings=tuple(warnings))
        if len(kept) < FEW_POINTS:
            warnings.append(f"{name}: only {len(kept)} points, which makes BD-rate coarse")

    quality_gain = _quality_gain(anchor_kept, test_kept)
    anchor_low, anchor_high = anchor_kept[0].value, anchor_kept[-1].value
    test_low, test_high = test_kept[0].value, test_kept[-1].value
    low, high = max(anchor_low, test_low), min(anchor_high, test_high)
    if high <= low:
        reason = (
            f"no common range: {anchor_name} has {anchor_low:.2f} to {anchor_high:.2f}, "
            f"{test_name} {test_low:.2f} to {test_high:.2f}"
        )
        return BdRate(None, reason, warnings=tuple(warnings), quality_gain=quality_gain)
    overlap_anchor = (high - low) / (anchor_high - anchor_low)
    overlap_test = (high - low) / (test_high - test_low)
    for name, overlap in ((anchor_name, overlap_anchor), (test_name, overlap_test)):
        if overlap < GOOD_OVERLAP:
            warnings.append(
                f"{test_name} against {anchor_name}: BD-rate covers only "
                f"{overlap:.1%} of {name}'s range"
            )

    rate_percent = _bjontegaard("bd_rate", anchor_kept, test_kept)
    if not math.isfinite(rate_percent):
        reason = "the interpolation gave no number"
        return BdRate(None, reason, warnings=tuple(warnings), quality_gain=quality_gain)
    return BdRate(
        rate_percent,
        None,
        low,
        high,
        overlap_test,
        overlap_anchor,
        tuple(warnings),
        quality_gain,
    )


def _quality_gain(anchor: Sequence[CurvePoint], test: Sequence[CurvePoint]) -> float | None:
    """BD-PSNR of increasing curves; None if they have no bpp in common."""
    if min(anchor[-1].bpp, test[-1].bpp) <= max(anchor[0].bpp, test[0].bpp):
        return None
    gain = _bjontegaard("bd_psnr", anchor, test)
    return gain if math.isfinite(gain) else None


def _bjontegaard(
    function: Literal["bd_rate", "bd_psnr"],
    anchor: Sequence[CurvePoint],
    test: Sequence[CurvePoint],
) -> float:
    import bjontegaard

    value = getattr(bjontegaard, function)(
        [point.bpp for point in anchor],
        [point.value for point in anchor],
        [point.bpp for point in test],
        [point.value for point in test],
        method=METHOD,
        require_matching_points=False,
        min_overlap=0,  # its warning takes the union of both ranges; ours is above
    )
    return float(value)
