"""The command line: ``caezip bench DIR``."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from caezip.errors import MissingDependencyError, ParameterError
from caezip.processor import usable_cores
from caezip_bench.cost import COST_NAMES
from caezip_bench.metrics import METRICS
from caezip_bench.output import OutputFolder
from caezip_bench.peers import (
    CAEZIP_QUALITIES,
    DEFAULT_PEERS,
    CaezipPeer,
    MissingPeer,
    Peer,
    PeerOptions,
    describe_peers,
    make_default_peers,
    make_peers,
)
from caezip_bench.runner import RunResult, count_steps, find_images, run
from caezip_bench.summary import summarize

if TYPE_CHECKING:
    from tqdm import tqdm

CSV_NAME = "results.csv"
JSON_NAME = "results.json"
PLOT_NAMES = ("curves.png", "curves.svg")
TABLE_NAME, DETAILS_NAME = "table.md", "details.md"
REPORT_NAME = "report.html"
OUTPUT_NAMES = (CSV_NAME, JSON_NAME, *PLOT_NAMES, TABLE_NAME, DETAILS_NAME, REPORT_NAME)
CACHE_NAME = "cache"
NEEDED_PACKAGES = ("bjontegaard", "matplotlib", "pytorch_msssim", "torch", "tqdm")
MOST_JOBS = 8  # by default: each takes a gigabyte or so
QUIET_SECONDS = 30.0  # between two lines of progress where no terminal is


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
    return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


def _split_metrics(
    context: click.Context, parameter: click.Parameter, value: str
) -> tuple[str, ...]:
    names = _split_names(context, parameter, value) or ()
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        raise click.BadParameter(
            f"found {', '.join(unknown) or 'none'}, allowed are {', '.join(METRICS)}"
        )
    return tuple(name for name in METRICS if name in names)


def _list_peers(weights: Path | None) -> None:
    for name, available, text in describe_peers(PeerOptions(weights_folder=weights)):
        mark = "*" if name in DEFAULT_PEERS else " "
        click.echo(f"{mark} {name}: {text if available else f'missing: {text}'}")
    click.echo("* is run by default")


@click.command("bench")
@click.argument(
    "folder",
    metavar="DIR",
    required=False,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option(
    "-o",
    "--output",
    metavar="OUTDIR",
    type=click.Path(path_type=Path),
    default=Path("bench-results"),
    show_default=True,
    help=f"Folder for {', '.join(OUTPUT_NAMES)}.",
)
@click.option(
    "--peers",
    "names",
    metavar="A,B,…",
    show_default=f"{','.join(DEFAULT_PEERS)} and programs found, as far as they are there",
    callback=_split_names,
    help="Codecs to run; --list-peers names them. BD-rates are against jpeg420.",
)
@click.option(
    "--list-peers",
    is_flag=True,
    help="Name all codecs and what they need, and stop.",
)
@click.option(
    "--qualities",
    metavar="Q,Q,…",
    default=",".join(f"{quality:g}" for quality in CAEZIP_QUALITIES),
    show_default=True,
    callback=split_numbers,
    help="caezip's qualities, 1 to 100.",
)
@click.option(
    "--metrics",
    metavar="A,B,…",
    default=",".join(METRICS),
    show_default=True,
    callback=_split_metrics,
    help="What to measure.",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    help="Processes side by side, each with its own networks in memory.  "
    "[default: one per CPU, 8 at most]",
)
@click.option("--resume", is_flag=True, help="Take what an earlier run in OUTDIR has measured.")
@click.option(
    "--compare",
    "earlier",
    metavar="OLD.json",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="An earlier results.json: print what moved since, and fail if files grew.",
)
@click.option(
    "--threshold",
    "threshold_percent",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Growth of a codec's files at equal quality that --compare still allows, in percent.",
)
@click.option("--recursive", is_flag=True, help="Also take images from the folders below DIR.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the results of an earlier run.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="CPU threads of each process.  [default: the CPUs shared among the processes]",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with a manifest of weights for caezip to use instead of the installed ones.",
)
@click.option(
    "--pictures",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Images that the HTML report shows side by side.",
)
@click.option(
    "--cost",
    is_flag=True,
    help=f"Measure speed and memory instead, in turns, into {' and '.join(COST_NAMES)}.",
)
@click.option(
    "--cost-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=480.0,
    show_default=True,
    help="About how long --cost takes.",
)
def bench(
    folder: Path | None,
    output: Path,
    names: tuple[str, ...] | None,
    list_peers: bool,
    qualities: tuple[float, ...],
    metrics: tuple[str, ...],
    jobs: int | None,
    resume: bool,
    earlier: Path | None,
    threshold_percent: float,
    recursive: bool,
    force: bool,
    threads: int | None,
    weights: Path | None,
    pictures: int,
    cost: bool,
    cost_seconds: float,
) -> None:
    """Compare caezip with other codecs over the images in DIR.

    Each image goes through real files. Bits per pixel and the metrics are measured;
    the table on standard output has the BD-rates against JPEG 4:2:0, and
    report.html shows curves and pictures. With --cost, the table has speed and memory,
    on one core and on all, as ratios to the other codecs in the same run.

    The exit status is 1 if nothing could be measured, or nothing of one of caezip's
    settings, or if --compare finds files that grew.
    """
    from caezip_bench.cache import Cache
    from caezip_bench.compare import read_results

    if list_peers:
        _list_peers(weights)
        return
    if folder is None:
        raise click.UsageError("Missing argument 'DIR'.")
    require_packages(NEEDED_PACKAGES)
    files = find_images(folder, recursive=recursive, excluded=output / PLOT_NAMES[0])
    places = OutputFolder(output, force=force or resume)
    if cost:
        from caezip_bench.cost.command import measure_cost

        measure_cost(files, places, names, threads, weights, cost_seconds)
        return
    old = read_results(earlier) if earlier is not None else None
    cores = usable_cores()
    jobs = jobs or min(cores, MOST_JOBS)
    threads = threads or max(1, cores // jobs)
    peers, missing = _peers(names, PeerOptions(qualities, threads, weights))
    places.prepare(OUTPUT_NAMES)
    cache = Cache(output / CACHE_NAME, weights)

    result = run_with_progress(
        files,
        peers,
        folder,
        metrics=metrics,
        jobs=min(jobs, len(files) * len(peers)),
        threads=threads,
        recall=cache.recall if resume else lambda task: None,
        keep=cache.keep,
    )
    if not result.measurements:
        for note in summarize(result, peers, metrics=metrics, missing=missing).notes:
            click.echo(note, err=True)
        click.echo(f"caezip: {folder}: nothing could be measured", err=True)
        click.get_current_context().exit(1)
    document = _write_results(
        places, files, folder, result, peers, missing, metrics, jobs, pictures
    )
    failed = _own_failures(result, peers)
    if old is not None and _has_regressed(old, document, threshold_percent):
        failed = True
    if failed:
        click.get_current_context().exit(1)


def _peers(
    names: tuple[str, ...] | None, options: PeerOptions
) -> tuple[list[Peer], list[MissingPeer]]:
    try:
        if names is None:
            return make_default_peers(options)
        return make_peers(names, options), []
    except ParameterError as error:
        raise click.UsageError(str(error)) from None


def require_packages(names: Sequence[str]) -> None:
    """Raises MissingDependencyError, which says what to install, if one is absent."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"the benchmark needs packages that are absent: pip install {' '.join(missing)}"
        )


def run_with_progress(
    files: Sequence[Path], peers: Sequence[Peer], folder: Path, **options: Any
) -> RunResult:
    """`run`, with a bar that says how much time is left; a line now and then without a terminal."""
    with _progress_bar(count_steps(files, peers), "file") as bar:
        return run(files, peers, folder=folder, advance=bar.update, **options)


def _progress_bar(total: int, unit: str) -> tqdm[NoReturn]:
    from tqdm import tqdm

    interval_s = 0.1 if sys.stderr.isatty() else QUIET_SECONDS
    return tqdm(total=total, unit=unit, mininterval=interval_s, smoothing=0.05)


def _write_results(
    places: OutputFolder,
    files: Sequence[Path],
    folder: Path,
    result: RunResult,
    peers: Sequence[Peer],
    missing: Sequence[MissingPeer],
    metrics: Sequence[str],
    jobs: int,
    pictures: int,
) -> dict[str, Any]:
    from caezip_bench.comparisons import count_pictures, make_comparisons
    from caezip_bench.html_report import html_bytes
    from caezip_bench.plot import plot_images
    from caezip_bench.published import matches, published_curves
    from caezip_bench.report import (
        csv_bytes,
        details_text,
        json_bytes,
        results_document,
        table_text,
    )

    # one after the other: what a long run measured is on disk before anything else can fail
    places.write(CSV_NAME, csv_bytes(result))
    summary = summarize(result, peers, metrics=metrics, missing=missing)
    document = results_document(result, summary, peers, jobs=jobs)
    places.write(JSON_NAME, json_bytes(document))
    text = table_text(result, summary, peers, jobs=jobs)
    details = details_text(summary)
    click.echo(f"{text}\n{details}", nl=False)
    places.write(TABLE_NAME, text.encode("utf-8"))
    places.write(DETAILS_NAME, details.encode("utf-8"))
    published = published_curves() if matches(result.images) else []
    title = f"Rate-distortion curves, means over {len(summary.compared_images)} images"
    for name, data in zip(PLOT_NAMES, plot_images(summary, peers, published, title), strict=True):
        places.write(name, data)
    total = count_pictures(peers, images=pictures)
    with _progress_bar(total, "picture") as bar:
        comparisons = make_comparisons(
            files, peers, result, folder=folder, images=pictures, advance=bar.update
        )
    places.write(REPORT_NAME, html_bytes(document, comparisons, published))
    return document


def _own_failures(result: RunResult, peers: Sequence[Peer]) -> bool:
    """Whether one of caezip's settings measured nothing; says which."""
    measured = {row.codec for row in result.measurements}
    own = [peer.name for peer in peers if isinstance(peer, CaezipPeer)]
    failed = [name for name in own if name not in measured]
    if failed:
        click.echo(f"caezip: bench: {', '.join(failed)} failed on every image", err=True)
    return bool(failed)


def _has_regressed(old: dict[str, Any], new: dict[str, Any], threshold_percent: float) -> bool:
    from caezip_bench.compare import compare, comparison_text

    comparison = compare(old, new, threshold_percent=threshold_percent)
    click.echo("\nAgainst the earlier run:\n")
    click.echo(comparison_text(comparison), nl=False)
    return bool(comparison.regressions)
