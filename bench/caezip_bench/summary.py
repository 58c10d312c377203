"""From single measurements to averaged curves and BD-rates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from caezip_bench.codecs import Peer
from caezip_bench.curves import BdRate, CurvePoint, bd_rate
from caezip_bench.metrics import MS_SSIM_MIN_SIDE, ms_ssim_db
from caezip_bench.runner import Measurement, RunResult

ANCHOR = "jpeg420"
Metric = Literal["psnr_db", "ms_ssim_db"]
METRICS: tuple[Metric, ...] = ("psnr_db", "ms_ssim_db")
METRIC_TITLES: dict[Metric, str] = {"psnr_db": "PSNR", "ms_ssim_db": "MS-SSIM"}


@dataclass(frozen=True)
class AveragePoint:
    """Means over the compared images of one codec at one quality.

    PSNR is averaged in dB, per image, and MS-SSIM before it becomes dB. MS-SSIM
    covers only the ``ms_ssim_images`` images that are large enough for it, and
    ``ms_ssim_bpp`` is the mean over those. None stands for a mean that does not
    exist: PSNR of identical pixels, a metric that some or all images are too small for.
    """

    codec: str
    quality: float | None
    images: int
    bpp: float
    psnr_db: float | None
    ssim: float | None
    ms_ssim_images: int
    ms_ssim_bpp: float | None
    ms_ssim: float | None
    ms_ssim_db: float | None


@dataclass(frozen=True)
class CodecBdRate:
    """A codec's BD-rate against the anchor, measured by one metric."""

    codec: str
    anchor: str
    metric: Metric
    bd_rate: BdRate


@dataclass(frozen=True)
class Summary:
    """Averages over ``compared_images``, the same for every codec, BD-rates and remarks."""

    compared_images: tuple[str, ...]
    averages: tuple[AveragePoint, ...]
    bd_rates: tuple[CodecBdRate, ...]
    notes: tuple[str, ...]

    def of_codec(self, codec: str) -> list[AveragePoint]:
        """The codec's averages in order of quality; empty if it has none."""
        return [point for point in self.averages if point.codec == codec]


def summarize(
    result: RunResult,
    peers: Sequence[Peer],
    *,
    metrics: Sequence[Metric] = METRICS,
    notes: Sequence[str] = (),
) -> Summary:
    """Averages over the images that all codecs managed, and BD-rates by ``metrics``.

    A codec that failed on more than half of the images is left out, so that it
    does not take the images from the others. So are images that a lossy codec
    returned unchanged, whose PSNR is infinite. The notes, which come after those
    given, name what is left out.
    """
    notes = [*notes, *_notes_of_run(result, peers)]
    compared_peers, images = _comparable(result, peers, notes)
    averages = [
        _average(peer.name, quality, rows)
        for peer in compared_peers
        for quality in peer.qualities
        if (rows := _rows(result.measurements, peer.name, quality, images))
    ]
    too_small = sorted(
        {row.image for row in result.measurements if row.image in images and row.ms_ssim is None}
    )
    if too_small and "ms_ssim_db" in metrics:
        notes.append(
            f"MS-SSIM needs more than {MS_SSIM_MIN_SIDE - 1} pixels a side; "
            f"without it: {_listed(too_small)}"
        )
    bd_rates = _bd_rates(averages, peers, metrics)
    warnings = [
        f"{METRIC_TITLES[item.metric]}: {warning}"
        for item in bd_rates
        for warning in item.bd_rate.warnings
    ]
    notes += dict.fromkeys(warnings)
    ordered = tuple(image for image in result.images if image in images)
    return Summary(ordered, tuple(averages), tuple(bd_rates), tuple(notes))


def curve(averages: Iterable[AveragePoint], codec: str, metric: Metric) -> list[CurvePoint]:
    """The codec's averaged curve; points without the metric or a quality are left out."""
    points = []
    for average in averages:
        if average.codec != codec or average.quality is None:
            continue
        bpp = average.bpp if metric == "psnr_db" else average.ms_ssim_bpp
        value_db = average.psnr_db if metric == "psnr_db" else average.ms_ssim_db
        if bpp is not None and value_db is not None:
            points.append(CurvePoint(average.quality, bpp, value_db))
    return points


def _notes_of_run(result: RunResult, peers: Sequence[Peer]) -> list[str]:
    notes = []
    if result.skipped:
        named = [f"{skipped.image} ({skipped.reason})" for skipped in result.skipped]
        files = len(result.images) + len(named)
        notes.append(f"{len(named)} of {files} files skipped as unreadable: {_listed(named)}")
    for peer in peers:
        failed = [failure for failure in result.failures if failure.codec == peer.name]
        if failed:
            named = [f"{failure.image} ({failure.reason})" for failure in failed]
            notes.append(
                f"{peer.name} failed on {len(failed)} of {len(result.images)} images: "
                f"{_listed(named)}"
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


def _rows(
    measurements: Iterable[Measurement], codec: str, quality: float | None, images: set[str]
) -> list[Measurement]:
    return [
        row
        for row in measurements
        if row.codec == codec and row.quality == quality and row.image in images
    ]


def _average(codec: str, quality: float | None, rows: Sequence[Measurement]) -> AveragePoint:
    large = [row for row in rows if row.ms_ssim is not None]
    ms_ssim = _mean([row.ms_ssim for row in large])
    return AveragePoint(
        codec=codec,
        quality=quality,
        images=len(rows),
        bpp=sum(row.bpp for row in rows) / len(rows),
        psnr_db=_mean([row.psnr_db for row in rows]),
        ssim=_mean([row.ssim for row in rows]),
        ms_ssim_images=len(large),
        ms_ssim_bpp=_mean([row.bpp for row in large]),
        ms_ssim=ms_ssim,
        ms_ssim_db=None if ms_ssim is None else ms_ssim_db(ms_ssim),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """None if there are no values or one is missing: a partial mean compares different images."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present and len(present) == len(values) else None


def _bd_rates(
    averages: Sequence[AveragePoint], peers: Sequence[Peer], metrics: Sequence[Metric]
) -> list[CodecBdRate]:
    has_anchor = any(peer.name == ANCHOR for peer in peers)
    rates = []
    for peer in peers:
        if peer.lossless or peer.name == ANCHOR:
            continue
        for metric in metrics:
            rate = BdRate(None, f"{ANCHOR} was not run")
            if has_anchor:
                rate = bd_rate(
                    curve(averages, ANCHOR, metric),
                    curve(averages, peer.name, metric),
                    anchor_name=ANCHOR,
                    test_name=peer.name,
                )
            rates.append(CodecBdRate(peer.name, ANCHOR, metric, rate))
    return rates


def _listed(names: Sequence[str], limit: int = 10) -> str:
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
