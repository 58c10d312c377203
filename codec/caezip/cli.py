"""The ``caezip`` command. Each subcommand imports what it needs when it runs."""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import click

from caezip import __version__, info
from caezip.errors import CaeError
from caezip.file_jobs import (
    EXIT_CODES,
    check,
    exit_code_of,
    named,
    read_bytes,
)
from caezip.processor import set_up_openblas


def _exit_code_help() -> str:
    lines = {0: "success"} | {code: text for _, code, text in reversed(EXIT_CODES)}
    rows = [f"  {code}  {text}" for code, text in sorted(lines.items())]
    return "\b\nExit codes (of the first failure, if there are several):\n" + "\n".join(rows)


class _LazyGroup(click.Group):
    """Subcommands that live in other packages are imported only when they are called."""

    lazy: ClassVar[dict[str, tuple[str, str, str]]] = {
        "encode": ("caezip.image_commands", "encode", "Compress images to .cae files."),
        "decode": ("caezip.image_commands", "decode", "Decompress .cae files."),
        "bench": ("caezip_bench.command", "bench", "Compare codecs over a folder of images."),
        "train": ("caezip.training.command", "train", "Train a model on a folder of images."),
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self.lazy])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        set_up_openblas()
        command = super().get_command(ctx, cmd_name)
        if cmd_name in self.lazy:
            module, attribute, _ = self.lazy[cmd_name]
            command = getattr(importlib.import_module(module), attribute)
        if isinstance(command, click.Command):
            command.epilog = _exit_code_help()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            if name in self.lazy:
                rows.append((name, self.lazy[name][2]))
            else:
                command = super().get_command(ctx, name)
                rows.append((name, command.get_short_help_str() if command else ""))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CaeError as error:
            click.echo(f"caezip: {error}", err=True)
            ctx.exit(exit_code_of(error))


@click.group(cls=_LazyGroup, epilog=_exit_code_help())
@click.version_option(__version__, prog_name="caezip")
def main() -> None:
    """A learned image codec: encode, decode, inspect, benchmark, train."""


@main.command()
@click.argument("inputs", nargs=-1, required=True, metavar="FILES...")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option(
    "--max-pixels", type=click.IntRange(min=1), help="Refuse larger images.  [default: 89478485]"
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with a manifest of weights to use instead of the installed ones.",
)
def verify(
    inputs: tuple[str, ...], quiet: bool, max_pixels: int | None, weights: Path | None
) -> None:
    """Check .cae files to their last byte without decoding pixels."""
    from caezip.container import DEFAULT_MAX_PIXELS
    from caezip.pipeline import Codec

    codec = Codec(weights_folder=weights, max_pixels=max_pixels or DEFAULT_MAX_PIXELS)

    def work(source: str) -> str:
        with named(source):
            header = codec.verify(read_bytes(source))
        size = f"{header.width}x{header.height}, {header.file_size_bytes} bytes"
        return f"{source}: {size}, whole"

    check(list(inputs), work, quiet=quiet)


@main.command("info")
@click.argument("source", metavar="IN")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info_command(source: str, as_json: bool) -> None:
    """Print what a .cae file says of itself."""
    with named(source):
        header = info(read_bytes(source))
    fields = asdict(header)
    fields["quality"] = fields.pop("quality_hundredths") / 100
    fields["bpp"] = round(header.bpp, 6)
    if as_json:
        click.echo(json.dumps(fields))
    else:
        for name, value in fields.items():
            click.echo(f"{name:<16} {value}")
