"""The HTML report's cards, tables and remarks, from a document as in results.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from caezip_bench.curves import GOOD_OVERLAP
from caezip_bench.html_elements import (
    Cell,
    Html,
    element,
    items,
    joined,
    number_cell,
    number_text,
    table,
)

Document = Mapping[str, Any]

OWN = "caezip"  # and names that start so: its other tunings and efforts
CARD_METRICS = ("psnr_db", "ms_ssim", "ssimulacra2", "ssim", "psnr_y_db")  # the first two there are
MEAN_DIGITS = {"ssim": 4, "ms_ssim": 4}  # of those up to 1, after the point; two for the others
OWN_STYLES = 3  # of the style sheet
PEER_STYLES = 9
NO_BREAK = "\u00a0"
RIVALS = 2  # that a card names, beside the anchor


def is_own(codec: str) -> bool:
    """Whether it is one of caezip's."""
    return codec.startswith(OWN)


def style_classes(document: Document) -> dict[str, str]:
    """The style sheet's classes of each codec: its colour, which some share and tell by form."""
    own = [codec["name"] for codec in document["codecs"] if is_own(codec["name"])]
    others = [codec["name"] for codec in document["codecs"] if not is_own(codec["name"])]
    classes = {name: f"own-{index % OWN_STYLES}" for index, name in enumerate(own)}
    for index, name in enumerate(others):
        again = "" if index < PEER_STYLES else " hollow"
        classes[name] = f"peer-{index % PEER_STYLES}{again}"
    return classes


def mean_text(metric: Mapping[str, Any], value: float | None) -> str:
    """A metric's mean with as many digits as tell codecs apart."""
    return number_text(value, f"{{:.{mean_digits(metric)}f}}")


def mean_digits(metric: Mapping[str, Any]) -> int:
    """Digits after the point that a metric's values are worth."""
    return MEAN_DIGITS.get(metric["name"], 2)


def mean_unit(metric: Mapping[str, Any]) -> str:
    """The unit of a metric's values, which for SSIM and MS-SSIM is not their curves' dB."""
    return "" if metric["name"] in MEAN_DIGITS else str(metric["unit"])


def speeds_mpx(document: Document, kind: str) -> dict[str, float]:
    """Each codec's median of megapixels per second; ``kind`` is ``encode_s`` or ``decode_s``."""
    samples: dict[str, list[float]] = {}
    for row in document["measurements"]:
        if row[kind] > 0:
            speed = row["width"] * row["height"] / 1e6 / row[kind]
            samples.setdefault(row["codec"], []).append(speed)
    return {codec: median(values) for codec, values in samples.items()}


def cards(document: Document) -> Html:
    """What the page says first: how much smaller, and how fast."""
    own = [codec["name"] for codec in document["codecs"] if is_own(codec["name"])]
    if not own:
        return element("p", f"{OWN} was not run, so there is nothing to say of it first.")
    codec = OWN if OWN in own else own[0]
    names = [metric["name"] for metric in document["metrics"]]
    shown = [name for name in CARD_METRICS if name in names][:2]
    busy = " on a busy machine" if document["jobs"] > 1 else ""
    return joined(
        *(_size_card(document, codec, name) for name in shown),
        _speed_card(document, codec, "Encoding", "encode_s", f"one sample per call{busy}"),
        _speed_card(document, codec, "Decoding", "decode_s", f"one sample per call{busy}"),
    )


def codec_table(document: Document) -> Html:
    """One row per codec: BD-rates with intervals, range of bpp, speeds."""
    metrics = document["metrics"]
    encode, decode = speeds_mpx(document, "encode_s"), speeds_mpx(document, "decode_s")
    styles = style_classes(document)
    rows = []
    for codec in document["codecs"]:
        name = codec["name"]
        rates_bpp = [point["bpp"] for point in document["averages"] if point["codec"] == name]
        bpp = "n/a"
        if rates_bpp:
            ends = dict.fromkeys(f"{end:.3f}" for end in (min(rates_bpp), max(rates_bpp)))
            bpp = " to ".join(ends)
        rows.append(
            [
                Cell(name, title=codec["settings"], style=styles[name]),
                *(_rate_cell(document, codec, metric["name"]) for metric in metrics),
                Cell(bpp, min(rates_bpp, default=None)),
                number_cell(encode.get(name), "{:.2f}"),
                number_cell(decode.get(name), "{:.2f}"),
            ]
        )
    anchor = _anchor(document)
    header = [
        "codec",
        *(f"BD-rate {metric['title']}, %" for metric in metrics),
        "bpp",
        "encode, Mpx/s",
        "decode, Mpx/s",
    ]
    caption = (
        f"BD-rate: how much larger files are than {anchor}'s at equal quality, below it the "
        "95% interval; negative is smaller. Speeds are medians of single calls."
    )
    return table(caption, header, rows)


def average_table(document: Document) -> Html:
    """One row per codec and quality."""
    metrics = document["metrics"]
    styles = style_classes(document)
    rows = []
    for point in document["averages"]:
        cells = [Cell(point["codec"], style=styles[point["codec"]])]
        cells.append(number_cell(point["quality"], "{:g}"))
        cells.append(number_cell(point["bpp"], "{:.3f}"))
        for metric in metrics:
            average = point["metrics"].get(metric["name"])
            mean = None if average is None else average["mean"]
            cells.append(Cell(mean_text(metric, mean), mean))
        rows.append(cells)
    header = ["codec", "quality", "bpp", *(metric["title"] for metric in metrics)]
    count = len(document["compared_images"])
    return table(f"Means over {count} images, of each codec and quality.", header, rows)


def rate_table(document: Document) -> Html:
    """One row per BD-rate, with what it covers."""
    metrics = {metric["name"]: metric for metric in document["metrics"]}
    styles = style_classes(document)
    rows = []
    for rate in document["bd_rates"]:
        metric = metrics[rate["metric"]]
        unit = metric["unit"] and f" {metric['unit']}"
        covered = "n/a"
        if rate["low"] is not None:
            covered = f"{rate['low']:.2f} to {rate['high']:.2f}{unit}"
        remarks = [*([rate["reason"]] if rate["reason"] else []), *rate["warnings"]]
        rows.append(
            [
                Cell(rate["codec"], style=styles[rate["codec"]]),
                Cell(metric["title"]),
                number_cell(rate["rate_percent"], "{:+.1f}"),
                Cell(_interval_text(rate) or "n/a", rate["rate_low_percent"]),
                number_cell(rate["quality_gain"], "{:+.2f}" + unit),
                Cell(covered, rate["low"]),
                number_cell(rate["overlap_test"], "{:.0%}"),
                number_cell(rate["overlap_anchor"], "{:.0%}"),
                Cell("; ".join(remarks)),
            ]
        )
    header = [
        "codec",
        "metric",
        "BD-rate, %",
        "95% interval, %",
        "gain at equal size",
        "covers",
        "of its range",
        f"of {_anchor(document)}'s",
        "remarks",
    ]
    caption = (
        "BD-rates hold for the range of values that both curves have: that range, and its share "
        "of each curve's own. The gain is how much better the quality is at equal file size."
    )
    return table(caption, header, rows)


def remarks(document: Document) -> Html:
    """Notes, what failed or is absent, and how everything was measured."""
    failures = [
        f"{item['codec']} on {item['image']}"
        + ("" if item["quality"] is None else f" at quality {item['quality']:g}")
        + f": {item['reason']}"
        for item in document["failures"]
    ]
    machine = [f"{key}: {value}" for key, value in document["machine"].items()]
    versions = [f"{name} {version}" for name, version in document["versions"].items() if version]
    curves = [f"{metric['title']}: curves show {metric['curve']}" for metric in document["metrics"]]
    parts = [
        ("Notes", document["notes"]),
        ("Failures", failures),
        ("Skipped files", [f"{item['image']}: {item['reason']}" for item in document["skipped"]]),
        ("Missing codecs", [f"{item['name']}: {item['reason']}" for item in document["missing"]]),
        ("Codecs", [f"{item['name']}: {item['settings']}" for item in document["codecs"]]),
        ("Definitions", [f"{name}: {text}" for name, text in document["definitions"].items()]),
        ("Curves", curves),
        ("Versions", versions),
        ("Machine", [*machine, f"codecs side by side: {document['jobs']}"]),
    ]
    return joined(
        *(element("section", element("h3", title), items(texts)) for title, texts in parts if texts)
    )


def _size_card(document: Document, codec: str, metric: str) -> Html:
    title = next(item["title"] for item in document["metrics"] if item["name"] == metric)
    rates = {
        item["codec"]: item
        for item in document["bd_rates"]
        if item["metric"] == metric and item["rate_percent"] is not None
    }
    others = sorted(
        (name for name in rates if name != codec), key=lambda name: rates[name]["rate_percent"]
    )
    named = [name for name in others if is_own(name)][:1]
    named += [name for name in others if not is_own(name)][:RIVALS]
    named.sort(key=others.index)
    beside = ", ".join(f"{name}{NO_BREAK}{_signed(rates[name]['rate_percent'])}%" for name in named)
    if codec not in rates:
        return _card(f"Files at equal {title}", "n/a", "no BD-rate, see the table below", beside)
    rate = rates[codec]
    percent = rate["rate_percent"]
    figure = f"{abs(percent):.1f}% {'smaller' if percent < 0 else 'larger'}"
    interval = _interval_text(rate)
    certainty = f"95% interval {interval}%" if interval else "too few images for an interval"
    return _card(f"Files at equal {title}", figure, f"than {rate['anchor']}; {certainty}", beside)


def _speed_card(document: Document, codec: str, title: str, kind: str, label: str) -> Html:
    speeds = speeds_mpx(document, kind)
    if codec not in speeds:
        return _card(title, "n/a", label, "")
    against = []
    for name in _rivals(document):
        if name in speeds:
            ratio = speeds[codec] / speeds[name]
            word = "faster" if ratio >= 1 else "slower"
            against.append(f"{_short(max(ratio, 1 / ratio))}× {word} than {name}")
    return _card(title, f"{_short(speeds[codec])} Mpx/s", ", ".join(against), label)


def _card(title: str, figure: str, *lines: str) -> Html:
    return element(
        "article",
        element("h2", title),
        element("p", figure, class_="figure"),
        *(element("p", line) for line in lines if line),
        class_="card",
    )


def _rivals(document: Document) -> list[str]:
    """The anchor and the other codecs with the smallest files."""
    rates: dict[str, float] = {}
    for item in document["bd_rates"]:
        if item["rate_percent"] is not None and not is_own(item["codec"]):
            rates.setdefault(item["codec"], item["rate_percent"])  # by the first metric there is
    best = sorted(rates, key=lambda name: rates[name])[:RIVALS]
    return [_anchor(document), *best]


def _rate_cell(document: Document, codec: Mapping[str, Any], metric: str) -> Cell:
    if codec["lossless"]:
        return Cell("lossless")
    if codec["name"] == _anchor(document):
        return Cell("anchor", 0.0)
    for rate in document["bd_rates"]:
        if rate["codec"] == codec["name"] and rate["metric"] == metric:
            if rate["rate_percent"] is None:
                return Cell("n/a", title=rate["reason"])
            narrow = min(rate["overlap_test"], rate["overlap_anchor"]) < GOOD_OVERLAP
            return Cell(
                _signed(rate["rate_percent"]) + ("†" if narrow else ""),
                rate["rate_percent"],
                detail=_interval_text(rate),
                title="; ".join(rate["warnings"]) or None,
            )
    return Cell("n/a")


def _anchor(document: Document) -> str:
    anchors: Sequence[str] = [rate["anchor"] for rate in document["bd_rates"]]
    return anchors[0] if anchors else "jpeg420"


def _interval_text(rate: Mapping[str, Any]) -> str | None:
    low, high = rate["rate_low_percent"], rate["rate_high_percent"]
    return None if low is None or high is None else f"{_signed(low)} to {_signed(high)}"


def _signed(value: float) -> str:
    return number_text(value, "{:+.1f}")


def _short(value: float) -> str:
    """Two significant digits or the whole number, without an exponent."""
    digits = 2 if value < 1 else 1 if value < 10 else 0
    return f"{value:.{digits}f}"
