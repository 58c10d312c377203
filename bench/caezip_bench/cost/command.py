"""``caezip bench DIR --cost``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from caezip.errors import ParameterError
from caezip_bench.cost import COST_NAMES
from caezip_bench.cost.report import cost_json, cost_table_text
from caezip_bench.cost.result import CostOptions
from caezip_bench.cost.runner import make_cost_peers, run_cost
from caezip_bench.output import OutputFolder
from caezip_bench.peers import PeerOptions

# caezip's, fine enough to meet any bpp
QUALITIES = tuple(float(quality) for quality in range(2, 101, 2))


def measure_cost(
    files: Sequence[Path],
    output: OutputFolder,
    names: Sequence[str] | None,
    threads: int | None,
    weights_folder: Path | None,
    seconds: float,
) -> None:
    """Measure behind a progress bar, print the table and write `COST_NAMES`."""
    from tqdm import tqdm

    try:
        peers, missing = make_cost_peers(PeerOptions(QUALITIES, threads, weights_folder), names)
    except ParameterError as error:
        raise click.UsageError(str(error)) from None
    output.prepare(COST_NAMES)
    with tqdm(total=100, bar_format="{percentage:3.0f}%|{bar}| {elapsed} {postfix}") as bar:

        def progress(share: float, doing: str) -> None:
            bar.set_postfix_str(doing, refresh=False)
            bar.update(100 * share - bar.n)

        options = CostOptions(seconds=seconds, weights_folder=weights_folder)
        result = run_cost(files, peers, options, progress)
    result.notes += [f"{peer.name} is missing: {peer.reason}" for peer in missing]
    text = cost_table_text(result)
    click.echo(text, nl=False)
    for name, data in zip(COST_NAMES, (text.encode("utf-8"), cost_json(result)), strict=True):
        output.write(name, data)
