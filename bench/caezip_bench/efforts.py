"""What caezip's efforts gain and take: ``python -m caezip_bench.efforts DIR -o OUT.md``."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import click
import numpy as np

from caezip.errors import OutputError
from caezip.image_io import write_atomically
from caezip_bench.command import require_packages, run_with_progress, split_numbers
from caezip_bench.curves import BdRate, bd_rate
from caezip_bench.entry import run_as_module
from caezip_bench.peers import EFFORT_PREFIX, EFFORTS, Peer, PeerOptions, make_peers
from caezip_bench.report import coverage, formatted, markdown_table
from caezip_bench.runner import RunResult, find_images
from caezip_bench.summary import ANCHOR, Summary, curve, summarize

NEEDED_PACKAGES = ("bjontegaard", "pytorch_msssim", "torch", "tqdm")
METRIC = "psnr_db"  # what the weights that are measured are tuned for
FIRST = f"{EFFORT_PREFIX}1"  # what the others are compared with
HEADER = (
    "effort",
    f"BD-rate against {ANCHOR}, %",
    "BD-rate against effort 1, %",
    "encode, s per megapixel",
    "speed, effort 1 = 1",
)
WARM_UP_SIDE = 64  # pixels


def _split_efforts(
    context: click.Context, parameter: click.Parameter, value: str
) -> tuple[int, ...]:
    try:
        efforts = {int(part) for part in value.split(",") if part.strip()}
    except ValueError:
        efforts = set()
    if not efforts or not efforts <= set(EFFORTS):
        raise click.BadParameter(f"{value!r} is not a list of integers from 1 to 9 like 1,2,9")
    return tuple(sorted(efforts | {1}))


@click.command("efforts")
@click.argument(
    "folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "-o",
    "--output",
    metavar="OUT.md",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the table.",
)
@click.option(
    "--efforts",
    metavar="N,N,…",
    default="1,2,4,6,9",
    show_default=True,
    callback=_split_efforts,
    help="Efforts to measure; 1 is always among them.",
)
@click.option(
    "--qualities",
    metavar="Q,Q,…",
    default="5,35,65,95",
    show_default=True,
    callback=split_numbers,
    help="caezip's qualities, 1 to 100.",
)
@click.option(
    "--images",
    "limit",
    metavar="N",
    type=click.IntRange(min=1),
    help="Take only the first N images.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite the table of an earlier run.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads for caezip.")
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with a manifest of weights to use instead of the installed ones.",
)
def main(
    folder: Path,
    output: Path,
    efforts: tuple[int, ...],
    qualities: tuple[float, ...],
    limit: int | None,
    force: bool,
    threads: int | None,
    weights: Path | None,
) -> None:
    """Measure what caezip's efforts gain in file size, and what they take in time.

    Every image in DIR is encoded with each effort at each quality; the table goes
    to standard output and to OUT.md. High efforts take minutes an image.
    """
    require_packages(NEEDED_PACKAGES)
    own = make_peers(
        [f"{EFFORT_PREFIX}{effort}" for effort in efforts],
        PeerOptions(qualities, threads, weights),
    )
    anchor = make_peers([ANCHOR], PeerOptions())
    files = find_images(folder)[:limit]
    if output.exists() and not force:  # said now rather than after hours
        raise OutputError(f"{output}: exists already; --force overwrites it")
    if threads is not None:
        import torch

        torch.set_num_threads(threads)

    _warm_up(own)
    result = run_with_progress(files, [*own, *anchor], folder, metrics=(METRIC,))
    summary = summarize(result, [*own, *anchor], metrics=[METRIC], bd_rates=False)  # see below
    if not any(summary.of_codec(peer.name) for peer in own):
        for note in summary.notes:
            click.echo(note, err=True)
        click.echo(f"caezip: {folder}: no effort could be measured", err=True)
        click.get_current_context().exit(1)
    text = table_text(result, summary, own)
    click.echo(text, nl=False)
    write_atomically(output, text.encode(), force=force)


def _warm_up(peers: Sequence[Peer]) -> None:
    """Load the networks and whatever else first calls load, so that no measured call does.

    With noise, since a picture of one colour takes no network.
    """
    shape = (WARM_UP_SIDE, WARM_UP_SIDE, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for peer in peers:
        peer.decode(peer.encode(noise, peer.qualities[0]))


def seconds_per_megapixel(result: RunResult, summary: Summary, codec: str) -> float | None:
    """Median over the compared images and the qualities; None if there are none."""
    values = [
        row.encode_s / (row.width * row.height / 1e6)
        for row in result.measurements
        if row.codec == codec and row.image in summary.compared_images
    ]
    return median(values) if values else None


def table_text(result: RunResult, summary: Summary, peers: Sequence[Peer]) -> str:
    """The table and its remarks as Markdown; ``peers`` are caezip's, effort 1 first."""
    first_s = seconds_per_megapixel(result, summary, FIRST)
    rows: list[list[str]] = []
    details: list[str] = []
    warnings: list[str] = []
    for peer in peers:
        encode_s = seconds_per_megapixel(result, summary, peer.name)
        anchors = [ANCHOR] if peer.name == FIRST else [ANCHOR, FIRST]
        rates = [_against(summary, peer.name, anchor) for anchor in anchors]
        cells = [formatted(rate.rate_percent, "{:+.2f}") for rate in rates]
        speed = first_s / encode_s if first_s and encode_s else None
        rows.append(
            [
                peer.name.removeprefix(EFFORT_PREFIX),
                *(cells if len(cells) == 2 else [*cells, "anchor"]),
                formatted(encode_s, "{:.2f}"),
                formatted(speed, "{:.3g}"),
            ]
        )
        for anchor, rate in zip(anchors, rates, strict=True):
            details.append(
                f"BD-rate of {peer.name} against {anchor}: {coverage(rate, anchor, 'dB')}."
            )
            warnings += rate.warnings
    remarks = [
        *_general_remarks(summary, peers),
        *(f"{peer.name}: {peer.settings}." for peer in peers),
        *details,
        *(f"Note: {note}." for note in dict.fromkeys([*summary.notes, *warnings])),
    ]
    listed = "\n".join(f"- {remark}" for remark in remarks)
    return f"{markdown_table(HEADER, rows)}\n\n{listed}\n"


def _against(summary: Summary, codec: str, anchor: str) -> BdRate:
    return bd_rate(
        curve(summary.averages, anchor, METRIC),
        curve(summary.averages, codec, METRIC),
        anchor_name=anchor,
        test_name=codec,
    )


def _general_remarks(summary: Summary, peers: Sequence[Peer]) -> list[str]:
    import torch

    qualities = ", ".join(formatted(quality, "{:g}") for quality in peers[0].qualities)
    return [
        f"{len(summary.compared_images)} images at the qualities {qualities}; "
        "bpp counts the whole file; PSNR of 8-bit RGB, per image, then averaged.",
        f"BD-rate over PSNR: negative is smaller files at equal PSNR; {ANCHOR} is JPEG 4:2:0.",
        "Seconds are the wall time of one call for each image and quality, after a warm-up, "
        f"the median of these; {torch.get_num_threads()} torch threads on "
        f"{os.cpu_count()} CPUs ({platform.machine()}).",
    ]


if __name__ == "__main__":
    run_as_module(main)
