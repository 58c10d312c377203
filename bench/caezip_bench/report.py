"""The results as a table (for the terminal and Markdown alike), CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

from caezip_bench.codecs import Peer, avif_version
from caezip_bench.curves import BdRate
from caezip_bench.runner import Measurement, RunResult
from caezip_bench.summary import ANCHOR, METRIC_TITLES, METRICS, AveragePoint, Metric, Summary

SCHEMA = "caezip-bench"
SCHEMA_VERSION = 2
PACKAGES = ("caezip", "numpy", "pillow", "torch", "pytorch-msssim", "bjontegaard", "scipy")
DEFINITIONS = {
    "bpp": "bits of the whole file per pixel, mean over images",
    "psnr_db": "PSNR of 8-bit RGB in dB, per image, then mean over images; null if identical",
    "ssim": "SSIM over RGB by pytorch_msssim, mean over images; null under 11 pixels a side",
    "ms_ssim": "MS-SSIM over RGB by pytorch_msssim, mean over images of more than 160 pixels a "
    "side; null for smaller ones",
    "ms_ssim_db": "-10 log10(1 - mean MS-SSIM)",
    "ms_ssim_bpp": "bpp, mean over the images that have MS-SSIM",
    "encode_s": "wall seconds of the call that encoded, in this process and without files; a "
    "single sample that may include loading, no benchmark of cost",
    "decode_s": "wall seconds of the call that decoded, likewise",
    "bd_rate": "percent of file size at equal quality against the anchor, negative is smaller; "
    "bjontegaard package, Akima interpolation, on the averaged curves",
}


def csv_bytes(result: RunResult) -> bytes:
    """One row per image, codec and quality; a missing value is an empty cell."""
    buffer = io.StringIO()
    names = [field.name for field in fields(Measurement)]
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    for row in result.measurements:
        writer.writerow(asdict(row) | {"identical": str(row.identical).lower()})
    return buffer.getvalue().encode("utf-8")


def json_bytes(result: RunResult, summary: Summary, peers: Sequence[Peer]) -> bytes:
    """Everything, with the machine and the versions; ``schema_version`` counts its changes."""
    document = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "created_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "cpu_count": os.cpu_count(),
            "python": platform.python_version(),
        },
        "versions": _versions(),
        "definitions": DEFINITIONS,
        "codecs": [
            {
                "name": peer.name,
                "settings": peer.settings,
                "lossless": peer.lossless,
                "qualities": list(peer.qualities),
            }
            for peer in peers
        ],
        "images": result.images,
        "skipped": [asdict(skipped) for skipped in result.skipped],
        "failures": [asdict(failure) for failure in result.failures],
        "measurements": [asdict(row) for row in result.measurements],
        "compared_images": list(summary.compared_images),
        "averages": [asdict(point) for point in summary.averages],
        "bd_rates": [
            {"codec": item.codec, "anchor": item.anchor, "metric": item.metric}
            | asdict(item.bd_rate)
            for item in summary.bd_rates
        ],
        "notes": list(summary.notes),
    }
    # JSON has no infinity or NaN; were there one, better fail here than in a reader
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def table_text(summary: Summary, peers: Sequence[Peer]) -> str:
    """The tables and remarks as Markdown, aligned so that they read well as plain text."""
    parts = [_comparison_table(summary, peers)]
    caezip = summary.of_codec("caezip")
    if caezip:
        parts.append("caezip, averaged:")
        parts.append(_quality_table(caezip))
    remarks = _remarks(summary, peers)
    parts.append("\n".join(f"- {remark}" for remark in remarks))
    return "\n\n".join(parts) + "\n"


def _comparison_table(summary: Summary, peers: Sequence[Peer]) -> str:
    rows = []
    for peer in peers:
        points = summary.of_codec(peer.name)
        bpp = _range([point.bpp for point in points], "{:.3f}")
        if peer.lossless:
            rows.append([peer.name, "lossless", "lossless", bpp, "lossless"])
            continue
        rates = [_bd_cell(summary, peer.name, metric) for metric in METRICS]
        psnr = _range([p.psnr_db for p in points if p.psnr_db is not None], "{:.2f}")
        rows.append([peer.name, *rates, bpp, psnr])
    header = ["codec", "BD-rate PSNR, %", "BD-rate MS-SSIM, %", "bpp", "PSNR, dB"]
    return markdown_table(header, rows)


def _quality_table(points: Sequence[AveragePoint]) -> str:
    rows = [
        [
            formatted(point.quality, "{:g}"),
            formatted(point.bpp, "{:.3f}"),
            formatted(point.psnr_db, "{:.2f}"),
            formatted(point.ssim, "{:.4f}"),
            formatted(point.ms_ssim, "{:.4f}"),
        ]
        for point in points
    ]
    return markdown_table(["quality", "bpp", "PSNR, dB", "SSIM", "MS-SSIM"], rows)


def _remarks(summary: Summary, peers: Sequence[Peer]) -> list[str]:
    remarks = [
        f"Means over {len(summary.compared_images)} images; bpp counts the whole file; "
        "PSNR of 8-bit RGB, per image, then averaged.",
        f"BD-rate against {ANCHOR}: negative is smaller files at equal quality.",
    ]
    remarks += [f"{peer.name}: {peer.settings}." for peer in peers]
    for item in summary.bd_rates:
        title = METRIC_TITLES[item.metric]
        remarks.append(f"BD-rate {title} of {item.codec}: {coverage(item.bd_rate, item.anchor)}.")
    return remarks + [f"Note: {note}." for note in summary.notes]


def coverage(rate: BdRate, anchor: str) -> str:
    """What a BD-rate was computed over, or why there is none."""
    if rate.rate_percent is None:
        return f"n/a, {rate.reason}"
    return (
        f"over {rate.low_db:.2f} to {rate.high_db:.2f} dB, {rate.overlap_test:.1%} of its own "
        f"range and {rate.overlap_anchor:.1%} of {anchor}'s"
    )


def _bd_cell(summary: Summary, codec: str, metric: Metric) -> str:
    if codec == ANCHOR:
        return "anchor"
    for item in summary.bd_rates:
        if item.codec == codec and item.metric == metric:
            return formatted(item.bd_rate.rate_percent, "{:+.1f}")
    return "n/a"


def _range(values: Sequence[float], style: str) -> str:
    if not values:
        return "n/a"
    ends = list(dict.fromkeys([style.format(min(values)), style.format(max(values))]))
    return " to ".join(ends)


def formatted(value: float | None, style: str) -> str:
    """The number in ``style``, None as "n/a"."""
    return "n/a" if value is None else style.format(value)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned, the first column to the left and the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str], justify: Callable[[str, int], str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = [justify(cell, width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|" + "-" * (widths[0] + 2) + "|"
    rule += "".join("-" * (width + 1) + ":|" for width in widths[1:])
    return "\n".join([line(header, str.rjust), rule, *(line(row, str.rjust) for row in rows)])


def _versions() -> dict[str, Any]:
    from PIL import features

    versions: dict[str, Any] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    for library in ("libjpeg_turbo", "webp", "zlib"):
        versions[library] = features.version(library)
    versions["libavif"] = avif_version()
    return versions
