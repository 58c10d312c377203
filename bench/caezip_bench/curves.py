"""Rate-distortion curves and the Bjøntegaard delta rate (BD-rate) between two of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MIN_POINTS = 2
FEW_POINTS = 4  # Bjøntegaard's own method takes four
GOOD_OVERLAP = 0.75  # of a curve's own range
METHOD = "akima"  # the one that the bjontegaard package's authors found most accurate


@dataclass(frozen=True)
class CurvePoint:
    """One point of a curve: ``bpp`` bits per pixel give ``value_db`` dB at this quality."""

    quality: float
    bpp: float
    value_db: float


@dataclass(frozen=True)
class BdRate:
    """How much larger (in percent; negative is smaller) files are at equal quality.

    ``rate_percent`` is None where it cannot be computed; ``reason`` then says why.
    The comparison covers ``low_db``…``high_db``, which is the share ``overlap_test``
    (0…1) of the tested curve's own range and ``overlap_anchor`` of the anchor's.
    """

    rate_percent: float | None
    reason: str | None = None
    low_db: float | None = None
    high_db: float | None = None
    overlap_test: float | None = None
    overlap_anchor: float | None = None
    warnings: tuple[str, ...] = ()


def increasing(points: Sequence[CurvePoint], name: str) -> tuple[list[CurvePoint], list[str]]:
    """The points that no other beats, in order of quality, and a warning about the rest.

    A point is left out if another has no more bits and no less quality: only
    then is bpp a function of quality, which BD-rate integrates.
    """
    kept: list[CurvePoint] = []
    for point in sorted(points, key=lambda p: (p.bpp, -p.value_db, p.quality)):
        if not kept or point.value_db > kept[-1].value_db:
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
    """BD-rate of ``test`` against ``anchor`` by the `bjontegaard` package, Akima interpolation.

    G. Bjøntegaard, "Calculation of average PSNR differences between RD-curves",
    VCEG-M33, 2001; C. Herglotz et al., "The Bjøntegaard Bible", 2023. Curves that
    cannot be compared give a `BdRate` with a reason; nothing is raised.
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

    anchor_low, anchor_high = anchor_kept[0].value_db, anchor_kept[-1].value_db
    test_low, test_high = test_kept[0].value_db, test_kept[-1].value_db
    low_db, high_db = max(anchor_low, test_low), min(anchor_high, test_high)
    if high_db <= low_db:
        reason = (
            f"no common range: {anchor_name} has {anchor_low:.2f} to {anchor_high:.2f} dB, "
            f"{test_name} {test_low:.2f} to {test_high:.2f} dB"
        )
        return BdRate(None, reason, warnings=tuple(warnings))
    overlap_anchor = (high_db - low_db) / (anchor_high - anchor_low)
    overlap_test = (high_db - low_db) / (test_high - test_low)
    for name, overlap in ((anchor_name, overlap_anchor), (test_name, overlap_test)):
        if overlap < GOOD_OVERLAP:
            warnings.append(
                f"{test_name} against {anchor_name}: BD-rate covers only "
                f"{overlap:.1%} of {name}'s range"
            )

    rate_percent = _bjontegaard(anchor_kept, test_kept)
    if not math.isfinite(rate_percent):
        return BdRate(None, "the interpolation gave no number", warnings=tuple(warnings))
    return BdRate(
        rate_percent, None, low_db, high_db, overlap_test, overlap_anchor, tuple(warnings)
    )


def _bjontegaard(anchor: Sequence[CurvePoint], test: Sequence[CurvePoint]) -> float:
    import bjontegaard

    value = bjontegaard.bd_rate(
        [point.bpp for point in anchor],
        [point.value_db for point in anchor],
        [point.bpp for point in test],
        [point.value_db for point in test],
        method=METHOD,
        require_matching_points=False,
        min_overlap=0,  # its warning takes the union of both ranges; ours is above
    )
    return float(value)
