"""What moved between two runs: ``caezip bench DIR --compare old.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caezip.errors import ParameterError
from caezip_bench.curves import BdRate, CurvePoint, bd_rate
from caezip_bench.metrics import METRICS
from caezip_bench.report import SCHEMA, SCHEMA_VERSION, formatted, markdown_table

DEFAULT_THRESHOLD_PERCENT = 1.0  # below it, machines may differ: sums of floats round differently


@dataclass(frozen=True)
class Movement:
    """A codec's files now against then, at equal metric, over the images that both runs have.

    ``worst_image`` is the one whose own BD-rate grew most.
    """

    codec: str
    metric: str
    images: int
    rate: BdRate
    worst_image: str | None
    worst_percent: float | None


@dataclass(frozen=True)
class RunComparison:
    """All movements, what could not be compared, and what is past the threshold."""

    movements: tuple[Movement, ...]
    notes: tuple[str, ...]
    regressions: tuple[str, ...]


def read_results(path: Path) -> dict[str, Any]:
    """An earlier results.json. Raises ParameterError if it is not one that can be compared."""
    try:
        document: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise ParameterError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise ParameterError(f"{path}: is not JSON") from None
    found = None
    if isinstance(document, dict) and document.get("schema") == SCHEMA:
        found = document.get("schema_version")
    if found != SCHEMA_VERSION:
        raise ParameterError(
            f"{path}: schema_version: found {found}, allowed is {SCHEMA_VERSION} of {SCHEMA}"
        )
    missing = [
        key for key in ("measurements", "sha256", "metrics", "codecs") if key not in document
    ]
    if missing:
        raise ParameterError(f"{path}: found no {', '.join(missing)}")
    results: dict[str, Any] = document
    return results


def compare(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    *,
    threshold_percent: float = DEFAULT_THRESHOLD_PERCENT,
) -> RunComparison:
    """What moved from ``old`` to ``new``, two documents as in results.json.

    Only images with the same bytes are compared, and only lossy codecs and metrics
    that both runs have. A codec regresses if its files grew by more than
    ``threshold_percent`` at equal metric, if it failed on an image that it coded
    before, or if it is gone.
    """
    same = [name for name, sha256 in new["sha256"].items() if old["sha256"].get(name) == sha256]
    if not same:
        raise ParameterError("comparison: found no image that both runs have")
    notes = []
    other = sorted((set(old["sha256"]) | set(new["sha256"])) - set(same))
    if other:
        notes.append(f"not compared, since only one run has them: {', '.join(other[:10])}")
    names = [item["name"] for item in new["codecs"]]
    regressions = [
        f"{item['name']}: was in the earlier run and is missing"
        for item in old["codecs"]
        if item["name"] not in names
    ]
    for failure in new["failures"]:
        if any(
            row["codec"] == failure["codec"] and row["image"] == failure["image"]
            for row in old["measurements"]
        ):
            regressions.append(
                f"{failure['codec']}: fails on {failure['image']}: {failure['reason']}"
            )
    old_metrics = {item["name"] for item in old["metrics"]}
    movements = []
    for codec in new["codecs"]:
        if codec["lossless"] or codec["name"] not in {item["name"] for item in old["codecs"]}:
            continue
        for metric in new["metrics"]:
            if metric["name"] in old_metrics:
                movements.append(_movement(old, new, codec["name"], metric["name"], same))
    regressions += [
        f"{item.codec}: files grew by {item.rate.rate_percent:.2f}% at equal "
        f"{METRICS[item.metric].title}, allowed is {threshold_percent:g}%"
        for item in movements
        if item.rate.rate_percent is not None and item.rate.rate_percent > threshold_percent
    ]
    regressions += [
        f"{item.codec}: {METRICS[item.metric].title} cannot be compared: {item.rate.reason}"
        for item in movements
        if item.rate.rate_percent is None
    ]
    return RunComparison(tuple(movements), tuple(notes), tuple(regressions))


def comparison_text(comparison: RunComparison) -> str:
    """The movements as a Markdown table, then notes and regressions."""
    header = ["codec", "metric", "BD-rate against before, %", "images", "largest growth, %", "of"]
    rows = [
        [
            item.codec,
            METRICS[item.metric].title,
            formatted(item.rate.rate_percent, "{:+.2f}"),
            str(item.images),
            formatted(item.worst_percent, "{:+.2f}"),
            item.worst_image or "n/a",
        ]
        for item in comparison.movements
    ]
    lines = [f"- Note: {note}." for note in comparison.notes]
    lines += [f"- Regression: {regression}." for regression in comparison.regressions]
    parts = [markdown_table(header, rows), "\n".join(lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _movement(
    old: Mapping[str, Any], new: Mapping[str, Any], codec: str, metric: str, images: Sequence[str]
) -> Movement:
    shared = [
        image
        for image in images
        if _curve(old, codec, metric, [image]) and _curve(new, codec, metric, [image])
    ]
    rate = _rate(old, new, codec, metric, shared)
    single = {image: _rate(old, new, codec, metric, [image]).rate_percent for image in shared}
    grown = {image: value for image, value in single.items() if value is not None}
    worst = max(grown, key=lambda image: grown[image]) if grown else None
    return Movement(codec, metric, len(shared), rate, worst, grown[worst] if worst else None)


def _rate(
    old: Mapping[str, Any], new: Mapping[str, Any], codec: str, metric: str, images: Sequence[str]
) -> BdRate:
    return bd_rate(
        _curve(old, codec, metric, images),
        _curve(new, codec, metric, images),
        anchor_name="before",
        test_name="now",
    )


def _curve(
    document: Mapping[str, Any], codec: str, metric: str, images: Sequence[str]
) -> list[CurvePoint]:
    """The codec's curve averaged over ``images``, of the qualities that all of them have."""
    by_quality: dict[float, list[Mapping[str, Any]]] = {}
    for row in document["measurements"]:
        if row["codec"] == codec and row["image"] in images and row[metric] is not None:
            by_quality.setdefault(row["quality"], []).append(row)
    points = []
    for quality, rows in by_quality.items():
        if len(rows) == len(images):
            value = METRICS[metric].curve_value(sum(row[metric] for row in rows) / len(rows))
            if value is not None:
                points.append(
                    CurvePoint(quality, sum(row["bpp"] for row in rows) / len(rows), value)
                )
    return points
