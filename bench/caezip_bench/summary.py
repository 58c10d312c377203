"""From single measurements to averaged curves, BD-rates and their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from caezip_bench.bootstrap import CurveSamples, rate_interval_percent
from caezip_bench.curves import BdRate, CurvePoint, bd_rate
from caezip_bench.metrics import METRICS
from caezip_bench.peers import MissingPeer, Peer
from caezip_bench.runner import Measurement, RunResult

ANCHOR = "jpeg420"


@dataclass(frozen=True)
class AverageMetric:
    """Mean of one metric over the ``images`` that are large enough for it.

    ``bpp`` is the mean over those images; ``curve_value`` is what curves take of
    ``mean``: see `caezip_bench.metrics.Metric`.
    """

    images: int
    bpp: float
    mean: float
    curve_value: float


@dataclass(frozen=True)
class AveragePoint:
    """Means over the compared images of one codec at one quality.

    Metrics are averaged per image, PSNR in dB. ``metrics`` lacks those without a
    mean: PSNR of identical pixels, and what was not measured.
    """

    codec: str
    quality: float | None
    images: int
    bpp: float
    metrics: Mapping[str, AverageMetric]

    def mean(self, metric: str) -> float | None:
        """The metric's mean, None if it has none."""
        average = self.metrics.get(metric)
        return None if average is None else average.mean


@dataclass(frozen=True)
class CodecBdRate:
    """A codec's BD-rate against the anchor, measured by one metric.

    ``interval_percent`` is the 95% bootstrap interval over the images, None if
    they are too few for one.
    """

    codec: str
    anchor: str
    metric: str
    bd_rate: BdRate
    interval_percent: tuple[float, float] | None


@dataclass(frozen=True)
class Summary:
    """Averages over ``compared_images``, the same for every codec, BD-rates and remarks."""

    metrics: tuple[str, ...]
    compared_images: tuple[str, ...]
    averages: tuple[AveragePoint, ...]
    bd_rates: tuple[CodecBdRate, ...]
    missing: tuple[MissingPeer, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]  # about BD-rates

    def of_codec(self, codec: str) -> list[AveragePoint]:
        """The codec's averages in order of quality; empty if it has none."""
        return [point for point in self.averages if point.codec == codec]

    def bd_rate_of(self, codec: str, metric: str) -> CodecBdRate | None:
        """None for the anchor and what has no curve."""
        for item in self.bd_rates:
            if item.codec == codec and item.metric == metric:
                return item
        return None


def summarize(
    result: RunResult,
    peers: Sequence[Peer],
    *,
    metrics: Sequence[str] = tuple(METRICS),
    missing: Sequence[MissingPeer] = (),
    bd_rates: bool = True,
) -> Summary:
    """Averages over the images that all codecs managed, and BD-rates by ``metrics``.

    A codec that failed on more than half of the images is left out, so that it
    does not take the images from the others. So are images that a lossy codec
    returned unchanged, whose PSNR is infinite. The notes name what is left out.
    ``bd_rates`` and their intervals are the slow part, a second or so for each codec.
    """
    notes = [*(f"{peer.name} is missing: {peer.reason}" for peer in missing)]
    notes += _notes_of_run(result, peers)
    compared_peers, images = _comparable(result, peers, notes)
    grouped: dict[tuple[str, float | None], list[Measurement]] = {}
    for row in result.measurements:
        if row.image in images:
            grouped.setdefault((row.codec, row.quality), []).append(row)
    averages = [
        _average(peer.name, quality, grouped[peer.name, quality], metrics)
        for peer in compared_peers
        for quality in peer.qualities
        if (peer.name, quality) in grouped
    ]
    notes += _notes_of_metrics(result, images, metrics)
    rates = _bd_rates(averages, peers, metrics, grouped) if bd_rates else []
    warnings = [
        f"{METRICS[item.metric].title}: {warning}"
        for item in rates
        for warning in item.bd_rate.warnings
    ]
    ordered = tuple(image for image in result.images if image in images)
    return Summary(
        tuple(metrics),
        ordered,
        tuple(averages),
        tuple(rates),
        tuple(missing),
        tuple(notes),
        tuple(dict.fromkeys(warnings)),
    )


def curve(averages: Iterable[AveragePoint], codec: str, metric: str) -> list[CurvePoint]:
    """The codec's averaged curve; points without the metric or a quality are left out."""
    return [
        CurvePoint(average.quality, measured.bpp, measured.curve_value)
        for average in averages
        if average.codec == codec
        and average.quality is not None
        and (measured := average.metrics.get(metric)) is not None
    ]


def _notes_of_run(result: RunResult, peers: Sequence[Peer]) -> list[str]:
    notes = []
    if result.skipped:
        named = [f"{skipped.image} ({skipped.reason})" for skipped in result.skipped]
        files = len(result.images) + len(named)
        notes.append(f"{len(named)} of {files} files skipped: {_listed(named)}")
    for peer in peers:
        failed = [failure for failure in result.failures if failure.codec == peer.name]
        if failed:
            named = [f"{failure.image} ({failure.reason})" for failure in failed]
            notes.append(
                f"{peer.name} failed on {len(failed)} of {len(result.images)} images: "
                f"{_listed(named)}"
            )
    return notes


def _notes_of_metrics(result: RunResult, images: set[str], metrics: Sequence[str]) -> list[str]:
    """Which images are too small for which metrics."""
    notes = []
    for name in metrics:
        metric = METRICS[name]
        small = sorted(
            {
                row.image
                for row in result.measurements
                if row.image in images and min(row.width, row.height) < metric.smallest_side
            }
        )
        if small:
            notes.append(
                f"{metric.title} needs {metric.smallest_side} pixels a side; "
                f"without it: {_listed(small)}"
            )
    return notes


def _comparable(
    result: RunResult, peers: Sequence[Peer], notes: list[str]
) -> tuple[list[Peer], set[str]]:
    """The codecs and the images to average over; says in ``notes`` what that leaves out."""
    images = set(result.images)
    compared_peers = []
    for peer in peers:
        failed = {failure.image for failure in result.failures if failure.codec == peer.name}
        if 2 * len(failed) > len(result.images):
            notes.append(f"{peer.name} is left out of the averages")
            continue
        compared_peers.append(peer)
        images -= failed
    lossy = {peer.name for peer in compared_peers if not peer.lossless}
    unchanged = {
        row.image for row in result.measurements if row.identical and row.codec in lossy
    } & images
    if unchanged:
        notes.append(
            "left out of the averages, since a lossy codec returned them unchanged "
            f"and their PSNR is infinite: {_listed(sorted(unchanged))}"
        )
        images -= unchanged
    if not images:
        notes.append("no image is left to average over")
    elif len(images) < len(result.images):
        notes.append(f"averages are over {len(images)} of {len(result.images)} images")
    return compared_peers, images


def _average(
    codec: str, quality: float | None, rows: Sequence[Measurement], metrics: Sequence[str]
) -> AveragePoint:
    means = {}
    for name in metrics:
        metric = METRICS[name]
        large = [row for row in rows if min(row.width, row.height) >= metric.smallest_side]
        values = [row.metric(name) for row in large]
        present = [value for value in values if value is not None]
        if not present or len(present) < len(values):
            continue  # a partial mean would compare different images
        mean = sum(present) / len(present)
        curve_value = metric.curve_value(mean)
        if curve_value is not None:
            bpp = sum(row.bpp for row in large) / len(large)
            means[name] = AverageMetric(len(present), bpp, mean, curve_value)
    return AveragePoint(codec, quality, len(rows), sum(row.bpp for row in rows) / len(rows), means)


def _bd_rates(
    averages: Sequence[AveragePoint],
    peers: Sequence[Peer],
    metrics: Sequence[str],
    grouped: Mapping[tuple[str, float | None], Sequence[Measurement]],
) -> list[CodecBdRate]:
    anchors = [peer for peer in peers if peer.name == ANCHOR]
    rates = []
    for metric in metrics:
        anchor_samples = _samples(anchors[0], metric, grouped) if anchors else None
        for peer in peers:
            if peer.lossless or peer.name == ANCHOR:
                continue
            rate, interval = BdRate(None, f"{ANCHOR} was not run"), None
            if anchors:
                rate = bd_rate(
                    curve(averages, ANCHOR, metric),
                    curve(averages, peer.name, metric),
                    anchor_name=ANCHOR,
                    test_name=peer.name,
                )
            samples = _samples(peer, metric, grouped)
            if rate.rate_percent is not None and anchor_samples and samples:
                interval = rate_interval_percent(anchor_samples, samples)
            rates.append(CodecBdRate(peer.name, ANCHOR, metric, rate, interval))
    return rates


def _samples(
    peer: Peer, metric: str, grouped: Mapping[tuple[str, float | None], Sequence[Measurement]]
) -> CurveSamples | None:
    """The codec's curve on each image large enough; None unless all qualities have all images."""
    by_quality = []
    for quality in peer.qualities:
        rows = grouped.get((peer.name, quality), ())
        present = {row.image: row for row in rows if row.metric(metric) is not None}
        by_quality.append(present)
    if not by_quality or any(rows.keys() != by_quality[0].keys() for rows in by_quality):
        return None
    images = sorted(by_quality[0])
    if not images or peer.qualities[0] is None:
        return None
    bpp = [[rows[image].bpp for rows in by_quality] for image in images]
    values = [[rows[image].metric(metric) for rows in by_quality] for image in images]
    return CurveSamples(
        np.array(peer.qualities, np.float64),
        np.array(bpp, np.float64),
        np.array(values, np.float64),
        METRICS[metric].curve_value,
    )


def _listed(names: Sequence[str], limit: int = 10) -> str:
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
