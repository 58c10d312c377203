"""How far a BD-rate depends on which images were taken: a bootstrap over the images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caezip.errors import ParameterError

Floats = NDArray[np.float64]

MIN_IMAGES = 4
PERCENTILES = (2.5, 97.5)
MIN_SHARE = 0.95  # of the resamples must have a BD-rate: a 95% interval cannot leave out more
FLAT = 1e-9  # of the largest: slopes that differ by less count as equal, as in scipy


@dataclass(frozen=True)
class CurveSamples:
    """A codec's curve on each image: ``qualities`` [Q], ``bpp`` and ``values`` [images, Q].

    All float64; images in the same order for all codecs. ``values`` are those of a metric
    and ``curve_value`` makes of their mean what curves take, None where it is infinite
    (see `caezip_bench.metrics.Metric`). Raises ParameterError for other shapes.
    """

    qualities: Floats
    bpp: Floats
    values: Floats
    curve_value: Callable[[float], float | None]

    def __post_init__(self) -> None:
        if self.bpp.ndim != 2 or self.bpp.shape != self.values.shape:
            raise ParameterError(
                f"curve samples: found shapes {list(self.bpp.shape)} and "
                f"{list(self.values.shape)}, allowed are two equal [images, qualities]"
            )
        if self.bpp.shape[1:] != self.qualities.shape:
            raise ParameterError(
                f"curve samples: found {self.bpp.shape[1]} points an image, "
                f"allowed are as many as qualities, {self.qualities.size}"
            )


def rate_interval_percent(
    anchor: CurveSamples, test: CurveSamples, *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """The 95% interval of the BD-rate of ``test`` against ``anchor``, in percent.

    The percentile bootstrap: B. Efron and R. Tibshirani, "An Introduction to the
    Bootstrap", 1993, chapter 13. Images are drawn with replacement, the same for both
    codecs, both curves are averaged over them, and 95% of the BD-rates of such samples
    lie between the two numbers. They tell how the mean depends on the choice of images,
    not how images differ. The same ``seed`` gives the same interval.

    None with fewer than four images, and when fewer than 95% of the samples have a
    BD-rate. Raises ParameterError if the codecs have different numbers of images.
    """
    images = len(anchor.bpp)
    if len(test.bpp) != images:
        raise ParameterError(
            f"curve samples: found {images} and {len(test.bpp)} images, allowed are equal numbers"
        )
    if images < MIN_IMAGES:
        return None
    rng = np.random.default_rng(seed)
    # how often each image is drawn is all that a mean depends on
    weights = rng.multinomial(images, np.full(images, 1 / images), size=resamples) / images
    rates = bd_rates_percent(*_averaged(anchor, weights), *_averaged(test, weights))
    rates = rates[np.isfinite(rates)]
    if len(rates) == 0 or len(rates) < MIN_SHARE * resamples:
        return None
    low, high = np.percentile(rates, PERCENTILES)
    return float(low), float(high)


def _averaged(samples: CurveSamples, weights: Floats) -> tuple[Floats, Floats]:
    """Mean bpp and curve values ``[resamples, Q]``; NaN where there is no value."""
    means = weights @ samples.values
    values = [samples.curve_value(mean) for mean in means.ravel().tolist()]
    return weights @ samples.bpp, np.array(values, np.float64).reshape(means.shape)


def bd_rates_percent(
    anchor_bpp: Floats, anchor_values: Floats, test_bpp: Floats, test_values: Floats
) -> Floats:
    """BD-rates ``[R]`` of R pairs of curves, as `caezip_bench.curves.bd_rate` has them.

    Each curve is a row of ``[R, Q]`` arrays. A loop over that function would take minutes
    for a bootstrap of all codecs and metrics; this one does all rows at once. Points whose
    value is NaN are left out; NaN stands for curves that cannot be compared.
    """
    curves = [_increasing(anchor_bpp, anchor_values), _increasing(test_bpp, test_values)]
    lows = [np.where(kept, values, math.inf).min(axis=1) for _, values, kept in curves]
    highs = [np.where(kept, values, -math.inf).max(axis=1) for _, values, kept in curves]
    low, high = np.maximum(*lows), np.minimum(*highs)
    # at least two points of each: a curve of one has no range
    compared = high > low
    rates = np.full(len(low), math.nan)
    if compared.any():
        anchor_mean, test_mean = (
            _mean_log_bpp(
                bpp[compared], values[compared], kept[compared], low[compared], high[compared]
            )
            for bpp, values, kept in curves
        )
        rates[compared] = 100 * np.expm1(test_mean - anchor_mean)
    return rates


def _increasing(bpp: Floats, values: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Rows in order of bpp, and which points no other beats: `caezip_bench.curves.increasing`."""
    order = np.lexsort((-values, bpp), axis=-1)
    bpp = np.take_along_axis(bpp, order, axis=1)
    values = np.take_along_axis(values, order, axis=1)
    values = np.where(np.isnan(values), -math.inf, values)
    best = np.maximum.accumulate(values, axis=1)
    kept = values > np.column_stack([np.full(len(best), -math.inf), best[:, :-1]])
    return bpp, values, kept


def _mean_log_bpp(
    bpp: Floats, values: Floats, kept: NDArray[np.bool_], low: Floats, high: Floats
) -> Floats:
    """Mean ``[R]`` of log(bpp) over the values from ``low`` to ``high`` [R]."""
    means = np.empty(len(low))
    for pattern in np.unique(kept, axis=0):
        rows = (kept == pattern).all(axis=1)
        means[rows] = _integral(
            values[rows][:, pattern], np.log(bpp[rows][:, pattern]), low[rows], high[rows]
        )
    means /= high - low
    return means


def _integral(x: Floats, y: Floats, low: Floats, high: Floats) -> Floats:
    """Integral ``[R]`` from ``low`` to ``high`` [R] of curves through x, y ``[R, P]``, P ≥ 2."""
    width = np.diff(x, axis=1)
    slope = np.diff(y, axis=1) / width
    tangent = _akima_tangents(slope) if x.shape[1] > 2 else np.repeat(slope, 2, axis=1)
    left, right = tangent[:, :-1], tangent[:, 1:]
    square = (3 * slope - 2 * left - right) / width
    cube = (left + right - 2 * slope) / width**2

    def integral_to(place: Floats) -> Floats:
        t = np.clip(place[:, None] - x[:, :-1], 0, width)
        areas: Floats = t * (y[:, :-1] + t * (left / 2 + t * (square / 3 + t * cube / 4)))
        return areas

    total: Floats = (integral_to(high) - integral_to(low)).sum(axis=1)
    return total


def _akima_tangents(slope: Floats) -> Floats:
    """Tangents ``[R, P]`` at the points between whose neighbours ``slope`` [R, P - 1] is.

    H. Akima, "A new method of interpolation and smooth curve fitting based on local
    procedures", Journal of the ACM 17(4), 1970; as `scipy.interpolate.Akima1DInterpolator`.
    """
    first, second, last_but_one, last = slope[:, 0], slope[:, 1], slope[:, -2], slope[:, -1]
    m = np.column_stack(
        [
            3 * first - 2 * second,
            2 * first - second,
            slope,
            2 * last - last_but_one,
            3 * last - 2 * last_but_one,
        ]
    )
    change = np.abs(np.diff(m, axis=1))
    before, after = change[:, :-2], change[:, 2:]
    both = before + after
    tangent: Floats = (m[:, 3:] + m[:, :-3]) / 2
    bent = both > FLAT * both.max(axis=1, keepdims=True)
    weighted = after * m[:, 1:-2] + before * m[:, 2:-1]
    tangent[bent] = weighted[bent] / both[bent]
    return tangent
