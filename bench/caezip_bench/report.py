"""The results as a table (for the terminal and Markdown alike), CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timezone
from statistics import median
from typing import Any

from caezip_bench.curves import BdRate
from caezip_bench.metrics import METRICS
from caezip_bench.peers import Peer
from caezip_bench.runner import Measurement, RunResult
from caezip_bench.summary import ANCHOR, AveragePoint, Summary
from caezip_bench.versions import machine, versions

SCHEMA = "caezip-bench"
SCHEMA_VERSION = 3  # documented in bench/RESULTS.md
DEFINITIONS = {
    "bpp": "bits of the whole file per pixel, mean over images",
    "encode_s": "wall seconds of the call that encoded, without files; a single sample that may "
    "include loading, taken beside the run's other jobs",
    "decode_s": "wall seconds of the call that decoded, likewise",
    "bd_rate": "percent of file size at equal quality against the anchor, negative is smaller; "
    "bjontegaard package, Akima interpolation, on the averaged curves; the interval is "
    "that of 95% of bootstrap samples of the images",
    "quality_gain": "how much better at equal file size, in the unit of the metric's curve",
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


def results_document(
    result: RunResult, summary: Summary, peers: Sequence[Peer], *, jobs: int
) -> dict[str, Any]:
    """Everything, with the machine and the versions: results.json."""
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "created_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "definitions": DEFINITIONS | {name: METRICS[name].definition for name in summary.metrics},
        "jobs": jobs,
        "codecs": [
            {
                "name": peer.name,
                "settings": peer.settings,
                "lossless": peer.lossless,
                "qualities": list(peer.qualities),
            }
            for peer in peers
        ],
        "missing": [asdict(peer) for peer in summary.missing],
        "metrics": [
            {key: getattr(METRICS[name], key) for key in ("name", "title", "unit", "curve")}
            for name in summary.metrics
        ],
        "images": result.images,
        "sha256": result.sha256,
        "skipped": [asdict(skipped) for skipped in result.skipped],
        "failures": [asdict(failure) for failure in result.failures],
        "measurements": [asdict(row) for row in result.measurements],
        "compared_images": list(summary.compared_images),
        "averages": [asdict(point) for point in summary.averages],
        "bd_rates": [
            {"codec": item.codec, "anchor": item.anchor, "metric": item.metric}
            | asdict(item.bd_rate)
            | dict(
                zip(
                    ("rate_low_percent", "rate_high_percent"),
                    item.interval_percent or (None, None),
                    strict=True,
                )
            )
            for item in summary.bd_rates
        ],
        "notes": [*summary.notes, *summary.warnings],
    }


def json_bytes(document: Mapping[str, Any]) -> bytes:
    """`results_document` as a file."""
    # JSON has no infinity or NaN; were there one, better fail here than in a reader
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace")  # names of files need not be Unicode


def table_text(result: RunResult, summary: Summary, peers: Sequence[Peer], *, jobs: int) -> str:
    """The tables and remarks as Markdown, aligned so that they read well as plain text."""
    parts = [_comparison_table(result, summary, peers)]
    caezip = summary.of_codec("caezip")
    if caezip:
        parts.append("caezip, averaged:")
        parts.append(_quality_table(caezip, summary.metrics))
    remarks = _remarks(summary, peers, jobs)
    parts.append("\n".join(f"- {remark}" for remark in remarks))
    return "\n\n".join(parts) + "\n"


def _comparison_table(result: RunResult, summary: Summary, peers: Sequence[Peer]) -> str:
    header = ["codec", *(f"BD-rate {METRICS[name].title}, %" for name in summary.metrics)]
    header += ["bpp", "PSNR, dB", "encode, Mpx/s", "decode, Mpx/s"]
    rows = []
    for peer in peers:
        points = summary.of_codec(peer.name)
        bpp = _range([point.bpp for point in points], "{:.3f}")
        psnr = _range([value for p in points if (value := p.mean("psnr_db")) is not None], "{:.2f}")
        if peer.lossless:
            rates = ["lossless"] * len(summary.metrics)
            psnr = "lossless"
        else:
            rates = [_bd_cell(summary, peer.name, metric) for metric in summary.metrics]
        speeds = map(_two_digits, median_megapixels_per_s(result, peer.name))
        rows.append([peer.name, *rates, bpp, psnr, *speeds])
    return markdown_table(header, rows)


def _two_digits(value: float | None) -> str:
    """Of a number, 130 instead of 1.3e+02."""
    return "n/a" if value is None else f"{float(f'{value:.2g}'):g}"


def median_megapixels_per_s(result: RunResult, codec: str) -> tuple[float | None, float | None]:
    """``(encode, decode)``: medians over the codec's measurements, None without any."""
    rows = [row for row in result.measurements if row.codec == codec]
    if not rows:
        return None, None
    encode_s = median(row.encode_s / (row.width * row.height) for row in rows)
    decode_s = median(row.decode_s / (row.width * row.height) for row in rows)
    return 1e-6 / encode_s, 1e-6 / decode_s


def _quality_table(points: Sequence[AveragePoint], metrics: Sequence[str]) -> str:
    header = ["quality", "bpp"]
    header += [f"{METRICS[name].title}{METRICS[name].mean_unit}" for name in metrics]
    rows = [
        [
            formatted(point.quality, "{:g}"),
            formatted(point.bpp, "{:.3f}"),
            *(formatted(point.mean(name), METRICS[name].mean_style) for name in metrics),
        ]
        for point in points
    ]
    return markdown_table(header, rows)


def _remarks(summary: Summary, peers: Sequence[Peer], jobs: int) -> list[str]:
    remarks = [
        f"Means over {len(summary.compared_images)} images of what each image measures; "
        "bpp counts the whole file; PSNR is that of 8-bit RGB.",
        f"BD-rate against {ANCHOR}: negative is smaller files at equal quality; in brackets "
        "the range of 95% of bootstrap samples of the images.",
        "Mpx/s are medians of single calls on arrays in memory"
        + (f" with {jobs} jobs side by side" if jobs > 1 else "")
        + ": good for orders of magnitude.",
    ]
    remarks += [f"{peer.name}: {peer.settings}." for peer in peers]
    return remarks + [f"Note: {note}." for note in summary.notes]


def details_text(summary: Summary) -> str:
    """What each BD-rate covers, and how much better the codec is at equal file size."""
    header = ["codec", "metric", "BD-rate, %", "BD-metric", "over", "of its own", f"of {ANCHOR}'s"]
    rows = []
    for item in summary.bd_rates:
        rate, metric = item.bd_rate, METRICS[item.metric]
        row = [item.codec, metric.title, _bd_cell(summary, item.codec, item.metric)]
        if rate.rate_percent is None:
            rows.append([*row, "", rate.reason or "", "", ""])
            continue
        gain = formatted(rate.quality_gain, f"{{:+.2f}} {metric.unit}").rstrip()
        covered = f"{rate.low:.2f} to {rate.high:.2f} {metric.unit}".rstrip()
        shares = [formatted(share, "{:.1%}") for share in (rate.overlap_test, rate.overlap_anchor)]
        rows.append([*row, gain, covered, *shares])
    warnings = [f"- {warning}." for warning in summary.warnings]
    return "\n".join([markdown_table(header, rows), *([""] if warnings else []), *warnings, ""])


def coverage(rate: BdRate, anchor: str, unit: str) -> str:
    """What a BD-rate was computed over, or why there is none."""
    if rate.rate_percent is None:
        return f"n/a, {rate.reason}"
    covered = f"{rate.low:.2f} to {rate.high:.2f} {unit}".rstrip()
    return (
        f"over {covered}, {rate.overlap_test:.1%} of its own "
        f"range and {rate.overlap_anchor:.1%} of {anchor}'s"
    )


def _bd_cell(summary: Summary, codec: str, metric: str) -> str:
    if codec == ANCHOR:
        return "anchor"
    item = summary.bd_rate_of(codec, metric)
    if item is None or item.bd_rate.rate_percent is None:
        return "n/a"
    rate = f"{item.bd_rate.rate_percent:+.1f}"
    if item.interval_percent is None:
        return rate
    low, high = item.interval_percent
    return f"{rate} [{low:+.0f}, {high:+.0f}]"


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
