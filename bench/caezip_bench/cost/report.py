"""What was found of codecs' cost, as tables and JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from statistics import median
from typing import Any

from caezip_bench.cost.result import (
    SMALL_MEGAPIXELS,
    CostResult,
    Sample,
    Series,
    Spread,
    spread,
)
from caezip_bench.report import formatted, json_bytes, markdown_table
from caezip_bench.versions import versions

SCHEMA = "caezip-bench-cost"
SCHEMA_VERSION = 1
ENCODE_ANCHORS = ("avif444-s8",)
DECODE_ANCHORS = ("jpeg2000", "jxl-e7")
MIB = 2**20
DEFINITIONS = {
    "threads": "the cores that a codec's process may use",
    "encode_s": "wall seconds from array to bytes, in a warm process and without files",
    "decode_s": "wall seconds from bytes to array, likewise",
    "encode_mpx_per_s": "megapixels (10⁶ pixels) encoded in a second: median, lowest and highest",
    "decode_mpx_per_s": "likewise",
    "encode_ratios": "how many times as fast as these codecs on as many cores, within one round",
    "decode_ratios": "likewise",
    "peak_bytes": "the most memory of the codec's process so far, with the picture and the "
    "decoded one in it; programs that it starts are not counted",
    "baseline_bytes": "the same before the first picture",
    "cold": "wall seconds of one command in a new process, imports and files included",
}


@dataclass(frozen=True)
class CostRow:
    """One codec on so many cores, with pictures of one size; ratios are by anchor."""

    codec: str
    threads: int
    quality: float | None
    width: int
    height: int
    bpp: float
    encode_mpx_per_s: Spread
    decode_mpx_per_s: Spread
    encode_ratios: Mapping[str, Spread]
    decode_ratios: Mapping[str, Spread]
    peak_bytes: int | None
    baseline_bytes: int | None

    @property
    def megapixels(self) -> float:
        """10⁶ pixels."""
        return self.width * self.height / 1e6


def cost_rows(result: CostResult, series: Series) -> list[CostRow]:
    """One for each codec, number of cores and size that the series has samples of."""
    order = {codec: number for number, codec in enumerate(result.settings)}
    groups: dict[tuple[int, int, int, int], list[Sample]] = {}
    for sample in result.samples:
        if sample.series == series:
            key = (order[sample.codec], sample.threads, sample.width, sample.height)
            groups.setdefault(key, []).append(sample)
    return [_row(result, groups[key]) for key in sorted(groups)]


def _row(result: CostResult, samples: Sequence[Sample]) -> CostRow:
    first = samples[0]
    peaks = [sample.peak_bytes for sample in samples if sample.peak_bytes is not None]
    return CostRow(
        codec=first.codec,
        threads=first.threads,
        quality=first.quality,
        width=first.width,
        height=first.height,
        bpp=median(sample.bpp for sample in samples),
        encode_mpx_per_s=spread([sample.encode_mpx_per_s for sample in samples]),
        decode_mpx_per_s=spread([sample.decode_mpx_per_s for sample in samples]),
        encode_ratios=_ratios(result, samples, ENCODE_ANCHORS, lambda sample: sample.encode_s),
        decode_ratios=_ratios(result, samples, DECODE_ANCHORS, lambda sample: sample.decode_s),
        peak_bytes=max(peaks, default=None),
        baseline_bytes=result.baseline_bytes.get((first.codec, first.threads)),
    )


def _ratios(
    result: CostResult,
    samples: Sequence[Sample],
    anchors: Sequence[str],
    seconds: Callable[[Sample], float],
) -> dict[str, Spread]:
    """Anchor's seconds over these samples', round by round; anchors never met are left out."""
    found = {}
    for anchor in anchors:
        theirs = {_turn(item): seconds(item) for item in result.samples if item.codec == anchor}
        ratios = [
            theirs[_turn(sample)] / seconds(sample) for sample in samples if _turn(sample) in theirs
        ]
        if ratios:
            found[anchor] = spread(ratios)
    return found


def _turn(sample: Sample) -> tuple[object, ...]:
    """What samples that may be compared have in common: above all the picture."""
    return (sample.series, sample.round, sample.threads, sample.width, sample.height)


def cost_json(result: CostResult) -> bytes:
    """Everything, with every single sample; ``schema_version`` counts changes."""
    return json_bytes(
        {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "created_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": result.machine,
            "versions": versions(),
            "definitions": DEFINITIONS,
            "options": _options(result),
            "codecs": [
                {"name": name, "settings": settings} for name, settings in result.settings.items()
            ],
            "photographs": result.photographs,
            "skipped": [asdict(skipped) for skipped in result.skipped],
            "throughput": [asdict(row) for row in cost_rows(result, "throughput")],
            "scaling": [asdict(row) for row in cost_rows(result, "scaling")],
            "cold": [asdict(call) | asdict(spread(call.seconds)) for call in result.cold],
            "failures": [asdict(failure) for failure in result.failures],
            "notes": result.notes,
            "samples": [asdict(sample) for sample in result.samples],
        }
    )


def _options(result: CostResult) -> dict[str, Any]:
    """Without the weights' folder, which is a path of one machine."""
    options = asdict(result.options)
    del options["weights_folder"]
    return options


def cost_table_text(result: CostResult) -> str:
    """The tables and remarks as Markdown, aligned so that they read well as plain text."""
    parts = []
    rows = cost_rows(result, "throughput")
    if rows:
        parts += [f"Cost at {rows[0].megapixels:.2g} Mpx:", _throughput_table(rows)]
    sizes = cost_rows(result, "scaling")
    if sizes:
        cores = _cores(sizes[0].threads)
        parts += [
            f"Encoding on {cores}, Mpx/s, by the size of the picture:",
            _size_table(sizes, lambda row: _speed(row.encode_mpx_per_s.median)),
            f"Decoding on {cores}, Mpx/s:",
            _size_table(sizes, lambda row: _speed(row.decode_mpx_per_s.median)),
            "Peak memory, MiB:",
            _size_table(sizes, lambda row: _mebibytes(row.peak_bytes)),
        ]
    if result.cold:
        parts += ["Cold calls:", _cold_table(result)]
    parts.append("\n".join(f"- {remark}" for remark in _remarks(result)))
    return "\n\n".join(parts) + "\n"


def _throughput_table(rows: Sequence[CostRow]) -> str:
    header = ["codec", "cores", "quality", "bpp", "encode, Mpx/s", "decode, Mpx/s"]
    header += [f"encode / {anchor}" for anchor in ENCODE_ANCHORS]
    header += [f"decode / {anchor}" for anchor in DECODE_ANCHORS]
    header += ["peak, MiB"]
    cells = [
        [
            row.codec,
            str(row.threads),
            formatted(row.quality, "{:g}"),
            f"{row.bpp:.2f}",
            _speeds(row.encode_mpx_per_s),
            _speeds(row.decode_mpx_per_s),
            *(_ratio(row.encode_ratios.get(anchor)) for anchor in ENCODE_ANCHORS),
            *(_ratio(row.decode_ratios.get(anchor)) for anchor in DECODE_ANCHORS),
            _mebibytes(row.peak_bytes),
        ]
        for row in rows
    ]
    return markdown_table(header, cells)


def _size_table(rows: Sequence[CostRow], cell: Callable[[CostRow], str]) -> str:
    sizes = sorted({row.megapixels for row in rows})
    found: dict[str, dict[float, str]] = {}
    for row in rows:
        found.setdefault(row.codec, {})[row.megapixels] = cell(row)
    header = ["codec", *(f"{size:.2g} Mpx" for size in sizes)]
    cells = [[codec, *(by.get(size, "n/a") for size in sizes)] for codec, by in found.items()]
    return markdown_table(header, cells)


def _cold_table(result: CostResult) -> str:
    cells = []
    for call in result.cold:
        taken = spread(call.seconds)
        cells.append([call.command, f"{taken.median:.2f} ({taken.low:.2f} to {taken.high:.2f})"])
    return markdown_table(["command", "seconds"], cells)


def _remarks(result: CostResult) -> list[str]:
    options = result.options
    rounds = [row.encode_mpx_per_s.count for row in cost_rows(result, "throughput")]
    remarks = [
        f"Machine: {_machine(result.machine)}.",
        "Speeds are of single calls from array to bytes and back, without files, in processes "
        "with everything loaded: medians, in brackets the lowest and the highest.",
        f"All codecs take turns, on the same picture in each round (rounds: {_range(rounds)}); "
        "ratios are taken within a round, above 1 is faster than that codec on as many cores.",
        f"Each lossy codec at that of its qualities which is nearest to {options.bpp:g} bpp; "
        "bpp are those of the table's pictures.",
        f"Pictures are {len(result.photographs)} photographs side by side, cut to size.",
        "Peak memory is that of the whole process, with the picture and the decoded one.",
    ]
    if result.cold:
        remarks.append(
            f"Cold calls are whole processes on a picture of {SMALL_MEGAPIXELS:g} Mpx, from and to "
            f"files that the system has in memory; medians of {len(result.cold[0].seconds)}. "
            "A call before them has left its compiled networks in the user's cache."
        )
    remarks += [f"{name}: {settings}." for name, settings in result.settings.items()]
    for failure in result.failures:
        where = "" if failure.threads is None else f" on {_cores(failure.threads)}"
        remarks.append(f"Failed: {failure.codec}{where}, {failure.doing}: {failure.reason}.")
    if result.skipped:
        named = ", ".join(f"{item.image} ({item.reason})" for item in result.skipped[:10])
        remarks.append(f"Note: {len(result.skipped)} files skipped, such as {named}.")
    return remarks + [f"Note: {note}." for note in result.notes]


def _machine(machine: Mapping[str, Any]) -> str:
    memory = machine["memory_bytes"]
    parts = [
        machine["processor"],
        f"{machine['usable_cores']} of {machine['cpu_count']} cores",
        f"{memory / 2**30:.0f} GiB of memory" if memory else None,
        machine["platform"],
        f"Python {machine['python']}",
    ]
    return ", ".join(part for part in parts if part)


def _cores(threads: int) -> str:
    return f"{threads} {'core' if threads == 1 else 'cores'}"


def _range(counts: Sequence[int]) -> str:
    ends = sorted({min(counts, default=0), max(counts, default=0)})
    return " to ".join(str(end) for end in ends)


def _speed(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _speeds(found: Spread) -> str:
    if found.count == 1:
        return _speed(found.median)
    return f"{_speed(found.median)} ({_speed(found.low)} to {_speed(found.high)})"


def _ratio(found: Spread | None) -> str:
    return "n/a" if found is None else f"{found.median:.2f}"


def _mebibytes(count: int | None) -> str:
    return "n/a" if count is None else f"{count / MIB:.0f}"
