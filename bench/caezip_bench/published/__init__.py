"""Rate-distortion points that others published, to draw beside a run's own: not run here.

One JSON file in this folder for each curve, with these keys:

- ``name``, and ``codec``: what was run, and how;
- ``dataset``: over whose images (see `matches`);
- ``source``: ``repository``, ``path`` and ``commit`` of the numbers, ``paper`` of the codec;
- ``averaging``: how single images became these points;
- ``bpp``: bits per pixel, ascending;
- ``metrics``: a list of values for each of ``psnr_db`` (RGB, in dB) and ``ms_ssim`` (RGB, 0…1).

Numbers are rounded to 5 decimals for bpp, 4 for dB and 6 for MS-SSIM.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from caezip.errors import ParameterError
from caezip_bench.curves import CurvePoint
from caezip_bench.metrics import METRICS

# those drawn at first: more hide the run's own
NOTABLE = ("VTM", "BPG 4:4:4", "ELIC", "mbt2018-mean", "mbt2018-mean, for MS-SSIM")
NOTE = "published, not run here"  # what every such curve has to be marked with
IMAGES: Mapping[str, frozenset[str]] = {
    "kodak": frozenset(f"kodim{number:02d}.png" for number in range(1, 25))
}


@dataclass(frozen=True)
class PublishedCurve:
    """One codec's points over a data set, as somebody else measured them.

    ``points`` has a curve for each metric that was published, by the name that it has
    in `caezip_bench.metrics.METRICS`, in order of bpp; ``psnr_db`` and ``ms_ssim`` are
    both in dB, as curves of them are drawn. ``quality`` of a point is its number, from 1.
    """

    name: str
    codec: str
    source: str
    averaging: str
    points: Mapping[str, Sequence[CurvePoint]]


def published_curves(dataset: str = "kodak") -> list[PublishedCurve]:
    """All curves over these images, in order of name.

    Raises ParameterError for a data set that there are none of.
    """
    if dataset not in IMAGES:
        raise ParameterError(f"dataset: found {dataset!r}, allowed are {', '.join(IMAGES)}")
    documents = [
        json.loads(file.read_text(encoding="utf-8"))
        for file in resources.files(__name__).iterdir()
        if file.name.endswith(".json")
    ]
    curves = [_curve(document) for document in documents if document["dataset"] == dataset]
    return sorted(curves, key=lambda curve: curve.name.casefold())


def matches(images: Iterable[str], dataset: str = "kodak") -> bool:
    """Whether these are the data set's images by name, all of them and no others.

    Only then may a published curve stand beside the run's own. Folders in the names
    do not count. Raises ParameterError for a data set that there are no curves of.
    """
    if dataset not in IMAGES:
        raise ParameterError(f"dataset: found {dataset!r}, allowed are {', '.join(IMAGES)}")
    names = sorted(PurePosixPath(image).name for image in images)
    return names == sorted(IMAGES[dataset])


def _curve(document: Mapping[str, Any]) -> PublishedCurve:
    source = document["source"]
    return PublishedCurve(
        name=document["name"],
        codec=document["codec"],
        source=(
            f"{source['paper']}; numbers from {source['repository']}, {source['path']} "
            f"at commit {source['commit'][:7]}"
        ),
        averaging=document["averaging"],
        points={
            name: _points(document["bpp"], map(METRICS[name].curve_value, values))
            for name, values in document["metrics"].items()
        },
    )


def _points(bpps: Iterable[float], values: Iterable[float | None]) -> list[CurvePoint]:
    pairs = zip(bpps, values, strict=True)
    return [
        CurvePoint(float(number), bpp, value)
        for number, (bpp, value) in enumerate(pairs, 1)
        if value is not None
    ]
