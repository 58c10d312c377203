"""Where caezip's time goes, and how far that is from what the machine could do.

``python -m caezip_bench.performance DIR DOCUMENT`` puts the tables between the markers
``<!-- measured -->`` and ``<!-- end measured -->`` of DOCUMENT.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from caezip.errors import ParameterError
from caezip.image_io import Pixels, read_rgb, write_atomically
from caezip.matrix_threads import one_matrix_thread
from caezip.pretrained import find_model, load_model
from caezip.processor import default_threads, largest_exact_weight, set_up_openblas
from caezip.workers import Map, in_turn
from caezip_bench.card import multiply_accumulates
from caezip_bench.entry import run_as_module
from caezip_bench.report import formatted, markdown_table
from caezip_bench.runner import find_images
from caezip_bench.small_images import QUALITY, crops_of, small_images
from caezip_bench.versions import machine

if TYPE_CHECKING:
    from caezip import Codec

_MARKED = re.compile(r"(<!-- measured -->\n).*?(<!-- end measured -->)", re.DOTALL)
SIDE = 1024  # pixels: one whole tile
ROUNDS = 7
# functions of caezip by what they do; the innermost that is named here gets the time
STAGES = {
    "analysis transform": ("analyse",),
    "hyper-analysis": ("hyper_analyse",),
    "means": ("first_means", "second_mean", "second_means", "decoded"),
    "scale indexes, in integers": (
        *("_operand", "_first_indexes", "_second_sums", "_as_coded", "second"),
        "panels",
    ),
    # compiled, both in one run over the latent, as below
    "scale indexes and rounding": ("round_first", "round_second"),
    "rounding": ("code_latent", "coded_latent"),
    "range coder": (
        *("encode_with_indexes", "decode_stream", "set_stream"),
        *("read_symbols", "write_symbols"),
    ),
    "scale indexes and range coder": ("first_pass", "second_pass"),
    "synthesis transform": ("synthesise", "_stream", "_planes"),
    "samples": ("write_patches", "write_planes"),
}
TORCH_MODULES = "transforms.py"  # whose methods have such names too, inside of stages
SMALL_IMAGES, SMALL_FILES = 100, 1000
WHOLE = {"encode": "encode", "decode": "decode_picture"}
SETTINGS = (
    ("openvino", "auto", "psnr"),
    ("openvino", "auto", "archive"),
    ("openvino", "auto", "fastdecode"),
    ("openvino", "int8", "archive"),
    ("openvino", "float32", "psnr"),
    ("torch", "float32", "psnr"),
)


def seconds_of(function: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The median wall time of a call, after one that does not count."""
    function()
    times_s = []
    for _ in range(rounds):
        started_s = time.perf_counter()
        function()
        times_s.append(time.perf_counter() - started_s)
    return median(times_s)


def matrix_rates() -> dict[str, float]:
    """Billions of multiply-accumulates a second of large matrix products on all threads."""
    rates = {"float32": _product_rate(int8=False)}
    if largest_exact_weight():
        rates["int8"] = _product_rate(int8=True)
    return rates


def _product_rate(*, int8: bool) -> float:
    """Of 1x1 convolutions, the kind of product that the networks consist of."""
    from caezip._openvino import load_openvino

    ov = load_openvino()
    op = ov.opset13
    channels, side = 512, 64
    x = op.parameter([1, channels, side, side], np.float32)
    ends = [op.constant(np.float32(value)) for value in (-1.28, 1.27, -1.28, 1.27)]
    integers = np.random.default_rng(0).integers(-99, 99, (channels, channels, 1, 1), np.int8)
    steps = np.full((channels, 1, 1, 1), 0.01, np.float32)
    weights = op.constant(integers * steps)
    if int8:
        weights = op.multiply(op.convert(op.constant(integers), np.float32), op.constant(steps))
    layers, y = 8, x
    for _ in range(layers):
        seen = op.fake_quantize(y, *ends, 256) if int8 else y
        y = op.convolution(seen, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    settings = {
        "INFERENCE_NUM_THREADS": default_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = ov.Core().compile_model(ov.Model([y], [x]), "CPU", settings).create_infer_request()
    # small, so that nothing overflows, which may be slow
    data = np.random.default_rng(1).random((1, channels, side, side), np.float32) / 1e9
    macs = layers * channels**2 * side**2
    return macs / seconds_of(lambda: request.infer([data], share_inputs=True)) / 1e9


def bandwidth_gb_per_s() -> float:
    """Of copying 256 MB, bytes read and bytes written counted."""
    source = np.ones(1 << 28, np.uint8)
    target = np.zeros_like(source)
    return 2 * source.size / seconds_of(lambda: np.copyto(target, source)) / 1e9


@contextmanager
def in_this_thread(codec: Codec) -> Iterator[None]:
    """Inside, ``codec`` works in the caller's thread: a profile knows nothing of others."""
    vars(codec)["_workers"] = _without_threads
    try:
        yield
    finally:
        del vars(codec)["_workers"]


@contextmanager
def _without_threads(_threads: int, _jobs: int) -> Iterator[Map]:
    """`caezip.workers.Workers`."""
    with one_matrix_thread():
        yield in_turn


def stage_times(function: Callable[[], object], whole: str) -> dict[str, float]:
    """Milliseconds of each stage, and of what is left, in the median of some calls."""
    function()
    rounds = [_profiled(function, whole) for _ in range(ROUNDS)]
    return {name: 1000 * median(r.get(name, 0.0) for r in rounds) for name in [*STAGES, "rest"]}


def _profiled(function: Callable[[], object], whole: str) -> dict[str, float]:
    """Seconds of each stage of a call, see `_by_stage`."""
    profile = cProfile.Profile()
    profile.enable()
    function()
    profile.disable()
    return _by_stage(pstats.Stats(profile).stats, whole)  # type: ignore[attr-defined]  # missing in typeshed


def _by_stage(stats: Mapping[Any, Any], whole: str) -> dict[str, float]:
    """Seconds by stage: cumulative, less those of stages that were called from inside."""
    stage_of = {name: stage for stage, names in STAGES.items() for name in names}
    spent: dict[str, float] = {}
    total = 0.0
    for (path, _, label), (_, _, _, cumulative_s, callers) in stats.items():
        name = label.rsplit(".", 1)[-1].rstrip(">")
        if Path(path).name == TORCH_MODULES:
            continue
        if name == whole and cumulative_s > total:
            total = cumulative_s
        stage = stage_of.get(name)
        if stage is None:
            continue
        spent[stage] = spent.get(stage, 0.0) + cumulative_s
        for (_, _, caller), (_, _, _, inside_s) in callers.items():
            outer = stage_of.get(caller)
            if outer is not None:  # the caller's own time is without it
                spent[outer] = spent.get(outer, 0.0) - inside_s
    spent["rest"] = total - sum(spent.values())
    return spent


def measured(files: list[Path]) -> str:
    """The tables, as Markdown."""
    picture = _tile(files)
    rates = matrix_rates()
    macs = {
        tune: multiply_accumulates(load_model(find_model(None, None, tune).model_id).config)
        for tune in {tune for _, _, tune in SETTINGS}
    }
    facts = machine()
    lines = [
        f"On {facts['processor']}, {default_threads()} threads; one tile of "
        f"{SIDE}×{SIDE} pixels at quality {QUALITY:g}; milliseconds per megapixel, medians of "
        f"{ROUNDS} calls.",
        "",
        *(f"- {kind}: {rate:.0f} GMAC/s in a large product" for kind, rate in rates.items()),
        f"- copying: {bandwidth_gb_per_s():.1f} GB/s",
        "",
    ]
    tables = _tables(picture, rates, macs)
    small = small_images(files, images=SMALL_IMAGES, in_files=SMALL_FILES)
    return "\n".join(lines + tables + small + _memory(files))


def _tables(
    picture: Pixels, rates: dict[str, float], macs: dict[str, dict[str, float]]
) -> list[str]:
    from caezip import Codec

    lines: list[str] = []
    megapixels = picture.shape[0] * picture.shape[1] / 1e6
    for direction, whole in WHOLE.items():
        rows = []
        for engine, precision, tune in SETTINGS:
            if precision == "int8" and not (largest_exact_weight() and _has_ranges()):
                continue
            codec = Codec(engine=engine, precision=precision)
            data = codec.encode(picture, quality=QUALITY, tune=tune)
            call: Callable[[], object] = (
                partial(codec.encode, picture, quality=QUALITY, tune=tune)
                if direction == "encode"
                else partial(codec.decode_picture, data)
            )
            whole_ms = 1000 * seconds_of(call) / megapixels
            with in_this_thread(codec):
                stages = stage_times(call, whole)
            # thousands of MACs a pixel are billions a megapixel
            kind = "int8" if precision == "auto" and _has_ranges() else precision
            floor_ms = 1000 * macs[tune][direction] / rates.get(kind, rates["float32"])
            rows.append(
                [f"{engine}, {precision}" + (f", {tune}" if tune != "psnr" else "")]
                + [formatted(stages[name] / megapixels, "{:.1f}") for name in stages]
                + [f"{whole_ms:.0f}", f"{floor_ms:.0f}", f"{whole_ms / floor_ms:.1f}"]
            )
        header = [direction, *STAGES, "rest", "whole", "floor", "above the floor"]
        kept = [
            column
            for column in range(len(header))
            if column == 0 or any(row[column] != "0.0" for row in rows)
        ]
        lines.append(
            markdown_table(
                [header[column] for column in kept],
                [[row[column] for column in kept] for row in rows],
            )
        )
        lines.append("")
    return [
        *lines,
        "The floor is the multiply-accumulates of the networks at the measured rate of a large "
        "product, int8 for int8: nothing else would take any time. Stages were measured one "
        "behind the other, in one thread but for what the engine has more for; networks of "
        "lean decoders have one for each call.",
        "",
    ]


def _memory(files: list[Path]) -> list[str]:
    """How a process's memory grows with calls."""
    from caezip import Codec

    codec, (picture,) = Codec(), crops_of(files, 1)
    memory_mb = []
    for calls in (100, 900):
        for _ in range(calls):
            codec.decode(codec.encode(picture, quality=QUALITY))
        memory_mb.append(resident_mb())
    return [
        f"After 100 calls of both kinds the process held {memory_mb[0]:.0f} MB, after 1,000 "
        f"it held {memory_mb[1]:.0f} MB.",
        "",
    ]


def resident_mb() -> float:
    """Memory that this process holds now; NaN where the system does not tell."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        return float("nan")
    return int(pages.read_text().split()[1]) * resource.getpagesize() / 1e6


def _has_ranges() -> bool:
    return bool(load_model(find_model(None).model_id).activation_ranges)


def _tile(files: list[Path]) -> Pixels:
    """Pictures one below the other and side by side, cut to a tile."""
    rows: list[Pixels] = []
    pictures = [read_rgb(path) for path in files]
    while sum(len(row) for row in rows) < SIDE:
        parts: list[Pixels] = []
        while sum(part.shape[1] for part in parts) < SIDE:
            parts.append(pictures[(len(parts) + 7 * len(rows)) % len(pictures)])
        height = min(len(part) for part in parts)
        rows.append(np.concatenate([part[:height] for part in parts], axis=1)[:, :SIDE])
    return np.concatenate(rows)[:SIDE]


@click.command("performance")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def main(folder: Path, document: Path) -> None:
    """Measure with the pictures in FOLDER, and refresh the tables in DOCUMENT."""
    text = document.read_text(encoding="utf-8")
    if not _MARKED.search(text):
        raise ParameterError(f"{document}: found no <!-- measured --> marker")
    tables = measured(find_images(folder))
    replaced = _MARKED.sub(lambda match: f"{match[1]}\n{tables}\n{match[2]}", text)
    write_atomically(document, replaced.encode(), force=True)


if __name__ == "__main__":
    if "OPENBLAS_NUM_THREADS" not in os.environ:  # numpy, which is imported, read it then
        set_up_openblas()  # as for the commands
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606  # ourselves
    run_as_module(main)
