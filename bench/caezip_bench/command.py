"""The command line: ``caezip bench DIR``."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

import click

from caezip.errors import MissingDependencyError, OutputError, ParameterError
from caezip.image_io import write_atomically
from caezip_bench.codecs import (
    CAEZIP_QUALITIES,
    DEFAULT_PEERS,
    OPTIONAL_PEERS,
    CaezipPeer,
    Peer,
    PeerOptions,
    make_default_peers,
    make_peers,
)
from caezip_bench.runner import RunResult, count_steps, find_images, run
from caezip_bench.summary import Summary, summarize

CSV_NAME = "results.csv"
JSON_NAME = "results.json"
PLOT_NAME = "curves.png"
TABLE_NAME = "table.md"
NEEDED_PACKAGES = ("bjontegaard", "matplotlib", "pytorch_msssim", "torch", "tqdm")
OUTPUT_NAMES = (CSV_NAME, JSON_NAME, PLOT_NAME, TABLE_NAME)


def split_numbers(
    context: click.Context, parameter: click.Parameter, value: str
) -> tuple[float, ...]:
    """Callback of options that take numbers separated by commas."""
    try:
        return tuple(float(part) for part in value.split(",") if part.strip())
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers like 10,50,90") from None


def _split_names(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    if value is None:
        return None
    return tuple(part.strip() for part in value.split(",") if part.strip())


@click.command("bench")
@click.argument(
    "folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "-o",
    "--output",
    metavar="OUTDIR",
    type=click.Path(path_type=Path),
    default=Path("bench-results"),
    show_default=True,
    help="Folder for results.csv, results.json, curves.png and table.md.",
)
@click.option(
    "--peers",
    "names",
    metavar="A,B,…",
    show_default=f"{','.join(DEFAULT_PEERS)}; of these, {' and '.join(sorted(OPTIONAL_PEERS))} "
    "only where there are weights or libraries for them",
    callback=_split_names,
    help="Codecs to run, also avif420 and caezip-e1 to caezip-e9, which are caezip's efforts. "
    "BD-rates are against jpeg420.",
)
@click.option(
    "--qualities",
    metavar="Q,Q,…",
    default=",".join(f"{quality:g}" for quality in CAEZIP_QUALITIES),
    show_default=True,
    callback=split_numbers,
    help="caezip's qualities, 1 to 100.",
)
@click.option("--recursive", is_flag=True, help="Also take images from the folders below DIR.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the results of an earlier run.")
@click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads for caezip and the metrics."
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with a manifest of weights for caezip to use instead of the installed ones.",
)
def bench(
    folder: Path,
    output: Path,
    names: tuple[str, ...] | None,
    qualities: tuple[float, ...],
    recursive: bool,
    force: bool,
    threads: int | None,
    weights: Path | None,
) -> None:
    """Compare caezip with other codecs over the images in DIR.

    Each image goes through real files. Bits per pixel, PSNR, SSIM and MS-SSIM are
    measured; the table on standard output has the BD-rates against JPEG 4:2:0.

    The exit status is 1 if nothing could be measured, or nothing of one of caezip's settings.
    """
    require_packages(NEEDED_PACKAGES)
    options = PeerOptions(qualities, threads, weights)
    left_out: list[str] = []
    try:
        if names is None:
            peers, left_out = make_default_peers(options)
        else:
            peers = make_peers(names, options)
    except ParameterError as error:
        raise click.UsageError(str(error)) from None
    files = find_images(folder, recursive=recursive, excluded=output / PLOT_NAME)
    _prepare_output(output, force=force)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)

    result = run_with_progress(files, peers, folder)
    summary = summarize(result, peers, notes=left_out)
    if not result.measurements:
        for note in summary.notes:
            click.echo(note, err=True)
        click.echo(f"caezip: {folder}: nothing could be measured", err=True)
        click.get_current_context().exit(1)
    _write_results(output, result, summary, peers, force=force)
    measured = {row.codec for row in result.measurements}
    own = [peer.name for peer in peers if isinstance(peer, CaezipPeer)]
    failed = [name for name in own if name not in measured]
    if failed:
        click.echo(f"caezip: bench: {', '.join(failed)} failed on every image", err=True)
        click.get_current_context().exit(1)


def require_packages(names: Sequence[str]) -> None:
    """Raises MissingDependencyError, which says what to install, if one is absent."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"the benchmark needs packages that are absent: pip install {' '.join(missing)}"
        )


def _prepare_output(output: Path, *, force: bool) -> None:
    """Fail now rather than after an hour: raises OutputError if results cannot be written."""
    existing = [name for name in OUTPUT_NAMES if (output / name).exists()]
    if existing and not force:
        raise OutputError(f"{output}: has {', '.join(existing)} already; --force overwrites them")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{output}: cannot be made a folder: {error.strerror or error}"
        ) from error
    if not os.access(output, os.W_OK | os.X_OK):
        raise OutputError(f"{output}: cannot be written to")


def run_with_progress(files: Sequence[Path], peers: Sequence[Peer], folder: Path) -> RunResult:
    """`run`, with a bar if a terminal is there to see it."""
    from tqdm import tqdm

    total = count_steps(files, peers)
    with tqdm(total=total, unit="file", disable=None) as bar:  # None: off unless a terminal
        return run(files, peers, folder=folder, advance=bar.update)


def _write_results(
    output: Path, result: RunResult, summary: Summary, peers: Sequence[Peer], *, force: bool
) -> None:
    from caezip_bench.plot import plot_png
    from caezip_bench.report import csv_bytes, json_bytes, table_text

    text = table_text(summary, peers)
    click.echo(text, nl=False)
    # one after the other: what a long run measured is on disk before anything else can fail
    write_atomically(output / CSV_NAME, csv_bytes(result), force=force)
    write_atomically(output / JSON_NAME, json_bytes(result, summary, peers), force=force)
    write_atomically(output / TABLE_NAME, text.encode("utf-8"), force=force)
    title = f"Rate-distortion curves, means over {len(summary.compared_images)} images"
    write_atomically(output / PLOT_NAME, plot_png(summary, peers, title), force=force)
