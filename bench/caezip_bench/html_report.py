"""One HTML file that needs nothing else: curves to hover, tables to sort, pictures to compare."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any

from caezip_bench.comparisons import TOLERANCE, Comparison
from caezip_bench.html_elements import Html, element, joined
from caezip_bench.html_tables import (
    Document,
    average_table,
    cards,
    codec_table,
    is_own,
    mean_digits,
    mean_unit,
    rate_table,
    remarks,
    style_classes,
)
from caezip_bench.published import NOTABLE, PublishedCurve

SCRIPTS = ("page.js", "curves.js", "slider.js", "report.js")  # in this order, as one


def html_bytes(
    document: Document,
    comparisons: Sequence[Comparison],
    published: Sequence[PublishedCurve],
) -> bytes:
    """The report of a run whose results.json is ``document``.

    It works from a file, without network: styles, script and pictures are inside, and its
    policy lets the browser run that script only, and load nothing. Without ``comparisons``
    there are no pictures. ``published`` curves are drawn dashed and marked as such.
    """
    style = _asset("report.css")
    script = "\n".join(_asset(name) for name in SCRIPTS)
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    page = Template(_asset("report.html")).substitute(
        policy=policy,
        style=style,
        script=script,
        data=_as_data(_page_data(document, comparisons, published)),
        layout="pair" if comparisons else "single",
        facts=_facts(document),
        cards=cards(document),
        pictures_note=_pictures_note() if comparisons else Html(),
        codecs=codec_table(document),
        averages=average_table(document),
        rates=rate_table(document),
        remarks=joined(remarks(document), _sources(published)),
    )
    return page.encode("utf-8", "replace")  # names of files may hold what is no character


def _asset(name: str) -> str:
    file = resources.files("caezip_bench") / "html" / name
    return file.read_text(encoding="utf-8")


def _digest(content: str) -> str:
    """What names an inline style or script in a content security policy."""
    sha256 = hashlib.sha256(content.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(sha256).decode('ascii')}"


def _as_data(value: object) -> Html:
    """JSON that can stand in a script element: there is no ``<`` that could end it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Html(text.replace("<", "\\u003c"))


def _facts(document: Document) -> Html:
    count = len(document["compared_images"])
    processor = document["machine"].get("processor") or document["machine"]["architecture"]
    facts = [
        f"{count} image{'' if count == 1 else 's'}",
        f"caezip {document['versions'].get('caezip') or 'of unknown version'}",
        document["created_utc"][:10],
        f"{processor}, {document['machine']['cpu_count']} CPUs",
    ]
    return element("p", " · ".join(facts), class_="facts")


def _pictures_note() -> Html:
    return element(
        "section",
        element("h3", "Pictures"),
        "Each codec's quality is chosen so that the file's size is near the target (at most "
        f"{TOLERANCE:.0%} off). The figures are of the whole picture; of large ones the middle "
        "is shown, in the very pixels that were decoded here.",
    )


def _sources(published: Sequence[PublishedCurve]) -> Html:
    if not published:
        return Html()
    texts = [f"{c.name}: {c.codec}; {c.source}; averages: {c.averaging}" for c in published]
    return element(
        "section",
        element("h3", "Published curves, not run here"),
        element("ul", *(element("li", text) for text in texts)),
    )


def _page_data(
    document: Document,
    comparisons: Sequence[Comparison],
    published: Sequence[PublishedCurve],
) -> dict[str, Any]:
    """What the page's script draws from."""
    pictures: dict[bytes, int] = {}  # each once, in the order of their numbers
    shown = [_comparison_data(comparison, pictures) for comparison in comparisons]
    return {
        "metrics": [
            {
                "name": metric["name"],
                "title": metric["title"],
                "unit": metric["unit"],
                "mean_unit": mean_unit(metric),
                "curve": metric["curve"],
                "digits": mean_digits(metric),
            }
            for metric in document["metrics"]
        ],
        "series": [*_own_series(document), *_published_series(published)],
        "comparisons": shown,
        "pictures": [
            f"data:image/webp;base64,{base64.b64encode(data).decode('ascii')}" for data in pictures
        ],
    }


def _own_series(document: Document) -> list[dict[str, Any]]:
    """The run's own curves; lossless codecs have none."""
    styles = style_classes(document)
    series = []
    for codec in document["codecs"]:
        curves: dict[str, list[dict[str, Any]]] = {}
        for point in document["averages"]:
            if point["codec"] == codec["name"] and point["quality"] is not None:
                for name, metric in point["metrics"].items():
                    value = metric["curve_value"]
                    curves.setdefault(name, []).append(
                        {"quality": point["quality"], "bpp": metric["bpp"], "value": value}
                    )
        if curves and not codec["lossless"]:
            series.append(
                {
                    "name": codec["name"],
                    "about": codec["settings"],
                    "style": styles[codec["name"]],
                    "kind": "own" if is_own(codec["name"]) else "peer",
                    "shown": True,
                    "curves": curves,
                }
            )
    return series


def _published_series(published: Sequence[PublishedCurve]) -> list[dict[str, Any]]:
    return [
        {
            "name": curve.name,
            "about": curve.codec,
            "style": "published",
            "kind": "published",
            "shown": curve.name in NOTABLE,
            "curves": {
                name: [
                    {"quality": point.quality, "bpp": point.bpp, "value": point.value}
                    for point in points
                ]
                for name, points in curve.points.items()
            },
        }
        for curve in published
    ]


def _comparison_data(comparison: Comparison, pictures: dict[bytes, int]) -> dict[str, Any]:
    def number(picture: bytes) -> int:
        return pictures.setdefault(picture, len(pictures))

    coded: list[Mapping[str, Any]] = [
        {
            "codec": picture.codec,
            "quality": picture.quality,
            "size_bytes": picture.size_bytes,
            "bpp": picture.bpp,
            "metrics": dict(picture.metrics),
            "picture": number(picture.webp),
        }
        for picture in comparison.coded
    ]
    return {
        "image": comparison.image,
        "width": comparison.width,
        "height": comparison.height,
        "shown_width": comparison.shown_width,
        "shown_height": comparison.shown_height,
        "target_bpp": comparison.target_bpp,
        "original": number(comparison.original),
        "coded": coded,
        "left_out": list(comparison.left_out),
    }
