"""The published curves: that they load, are curves, and agree with what is known of them."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from caezip.errors import ParameterError
from caezip_bench.curves import bd_rate, increasing
from caezip_bench.published import PublishedCurve, matches, published_curves

KODAK = [f"kodim{number:02d}.png" for number in range(1, 25)]
CURVES = {curve.name: curve for curve in published_curves()}


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
def test_every_curve_rises_and_names_its_source(curve: PublishedCurve) -> None:
    assert curve.points.keys() <= {"psnr_db", "ms_ssim"}
    assert curve.points
    for name, points in curve.points.items():
        assert len(points) >= 6
        assert increasing(points, name) == (list(points), [])
        assert [point.quality for point in points] == list(range(1, len(points) + 1))
    assert "results/image/kodak/" in curve.source
    assert "arXiv:" in curve.source
    assert curve.codec
    assert "means over the images" in curve.averaging


def test_names_are_told_apart_and_sorted() -> None:
    names = [curve.name for curve in published_curves()]
    assert names == sorted(set(names), key=str.casefold)
    assert {"VTM", "BPG 4:4:4", "mbt2018-mean", "ELIC"} <= set(names)


@pytest.mark.parametrize(
    ("name", "metric"),
    [(curve.name, metric) for curve in CURVES.values() for metric in curve.points],
)
def test_curves_are_smooth(name: str, metric: str) -> None:
    """A digit mistyped would be a kink: slopes over the logarithm of the rate change slowly."""
    slopes = [
        (after.value - before.value) / math.log2(after.bpp / before.bpp)
        for before, after in pairwise(CURVES[name].points[metric])
    ]
    assert all(0.85 < other / one < 1.65 for one, other in pairwise(slopes))


@pytest.mark.parametrize(
    ("better", "worse", "metric"),
    [
        ("bmshj2018-hyperprior", "bmshj2018-factorized", "psnr_db"),
        ("mbt2018-mean", "bmshj2018-hyperprior", "psnr_db"),
        ("cheng2020-attn", "mbt2018-mean", "psnr_db"),
        ("VTM", "HM", "psnr_db"),
        ("ELIC", "VTM", "psnr_db"),
        ("mbt2018-mean, for MS-SSIM", "mbt2018-mean", "ms_ssim"),
        ("cheng2020-attn, for MS-SSIM", "mbt2018-mean, for MS-SSIM", "ms_ssim"),
    ],
)
def test_the_order_that_the_papers_report(better: str, worse: str, metric: str) -> None:
    rate = bd_rate(CURVES[worse].points[metric], CURVES[better].points[metric])
    assert rate.rate_percent is not None
    assert -60 < rate.rate_percent < 0


def test_ms_ssim_is_in_db_as_curves_have_it() -> None:
    lowest = CURVES["VTM"].points["ms_ssim"][0]
    assert lowest.value == pytest.approx(-10 * math.log10(1 - 0.860608))
    assert "ms_ssim" not in CURVES["ELIC"].points


def test_only_the_same_images_match() -> None:
    assert matches(KODAK)
    assert matches([f"photos/{name}" for name in reversed(KODAK)])
    assert not matches(KODAK[1:])
    assert not matches([*KODAK, "other.png"])
    assert not matches([*KODAK, KODAK[0]])
    assert not matches([name.replace(".png", ".jpg") for name in KODAK])
    assert not matches([])


def test_an_unknown_data_set() -> None:
    with pytest.raises(ParameterError, match="dataset: found 'clic', allowed are kodak"):
        published_curves("clic")
    with pytest.raises(ParameterError, match="dataset: found 'clic', allowed are kodak"):
        matches([], "clic")
