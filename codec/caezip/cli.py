"""The ``caezip`` command. Each subcommand imports what it needs when it runs."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from caezip import __version__, info
from caezip.errors import CaeError, CorruptError, ParameterError
from caezip.file_jobs import (
    EXIT_CODES,
    STANDARD,
    check,
    exit_code_of,
    named,
    plan,
    read_bytes,
    run,
)

if TYPE_CHECKING:
    from caezip.picture import Picture
    from caezip.pipeline import Codec


def _exit_code_help() -> str:
    lines = {0: "success"} | {code: text for _, code, text in reversed(EXIT_CODES)}
    rows = [f"  {code}  {text}" for code, text in sorted(lines.items())]
    return "\b\nExit codes (of the first failure, if there are several):\n" + "\n".join(rows)


class _LazyGroup(click.Group):
    """Subcommands that live in other packages are imported only when they are called."""

    lazy: ClassVar[dict[str, tuple[str, str, str]]] = {
        "bench": ("caezip_bench.command", "bench", "Compare codecs over a folder of images."),
        "train": ("caezip.training.command", "train", "Train a model on a folder of images."),
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self.lazy])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
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


# -- encode and decode -------------------------------------------------------


def _weights_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--weights",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="Folder with a manifest of weights to use instead of the installed ones.",
    )(command)


def _codec_options(command: Callable[..., None]) -> Callable[..., None]:
    for decorate in (
        click.argument("inputs", nargs=-1, required=True, metavar="IN..."),
        click.option(
            "-o",
            "--output",
            metavar="OUT|DIR",
            help="File to write, folder for several, or - for standard output.",
        ),
        click.option("-f", "--force", is_flag=True, help="Overwrite existing files."),
        click.option("--quiet", is_flag=True, help="Print nothing but errors."),
        click.option("--threads", type=click.IntRange(min=1), help="CPU threads to use."),
        click.option("--device", default="cpu", show_default=True, help="cpu, cuda, mps …"),
        click.option(
            "--precision",
            type=click.Choice(["float32", "bfloat16"]),
            default="float32",
            show_default=True,
            help="Of the networks; the stream is the same.",
        ),
        _weights_option,
    ):
        command = decorate(command)
    return command


@main.command()
@_codec_options
@click.option("-q", "--quality", type=float, help="1…100, in steps of 0.01.  [default: 75]")
@click.option("--bpp", type=float, help="Highest quality within this many bits per pixel.")
@click.option("--psnr", type=float, help="Lowest quality with at least this PSNR, in dB.")
@click.option("--size", type=int, help="Highest quality within this many bytes.")
@click.option(
    "-e",
    "--effort",
    type=click.IntRange(1, 9),
    help="1…9: smaller files for more time; from 3 up a progress bar tells how long.  [default: 2]",
)
@click.option(
    "--tune",
    type=click.Choice(["psnr", "ssim"]),
    default="psnr",
    show_default=True,
    help="What the picture is to be close in: pixels, or structure as the eye sees it.",
)
@click.option("--strip", is_flag=True, help="Leave out the ICC profile, EXIF and XMP.")
@click.option(
    "--frame",
    type=click.IntRange(min=1),
    help="Which frame of an animation to take, counted from 1.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=178_956_970,  # where Pillow sees an attack
    show_default=True,
    help="Refuse larger images.",
)
def encode(
    inputs: tuple[str, ...],
    output: str | None,
    force: bool,
    quiet: bool,
    threads: int | None,
    device: str,
    precision: str,
    weights: Path | None,
    quality: float | None,
    bpp: float | None,
    psnr: float | None,
    size: int | None,
    effort: int | None,
    tune: str,
    strip: bool,
    frame: int | None,
    max_pixels: int,
) -> None:
    """Compress images to .cae files. Writes IN.cae beside each input unless -o is given."""
    from caezip.container import Metadata, quality_in_hundredths

    targets = {"--quality": quality, "--bpp": bpp, "--psnr": psnr, "--size": size}
    given = [name for name, value in targets.items() if value is not None]
    if len(given) > 1:
        raise ParameterError(f"{' and '.join(given)}: found {len(given)} targets, allowed is one")
    quality_in_hundredths(75 if quality is None else quality)
    jobs = list(plan(inputs, output, ".cae", force))

    from caezip.image_io import read_picture
    from caezip.pipeline import Codec
    from caezip.tile_coder import DEFAULT_EFFORT

    codec = Codec(device=device, threads=threads, precision=precision, weights_folder=weights)

    def work(source: str) -> tuple[bytes, str]:
        stream = sys.stdin.buffer if source == STANDARD else Path(source)
        seekable = stream if isinstance(stream, Path) else _seekable(stream.read())
        picture = read_picture(seekable, frame=frame, max_pixels=max_pixels)
        if strip:
            picture = replace(picture, metadata=Metadata())
        with _effort_bar(quiet) as report:
            data = _encode(
                codec, picture, quality, bpp, psnr, size, effort or DEFAULT_EFFORT, tune, report
            )
        header = info(data)
        return data, (
            f"{header.width}x{header.height}, quality {header.quality:g}, "
            f"{header.file_size_bytes} bytes, {header.bpp:.3f} bpp"
        )

    run(jobs, work, force=force, quiet=quiet)


def _seekable(data: bytes) -> Any:
    import io

    return io.BytesIO(data)


def _encode(
    codec: Codec,
    picture: Picture,
    quality: float | None,
    bpp: float | None,
    psnr: float | None,
    size: int | None,
    effort: int,
    tune: str,
    report: Callable[[int, int], None] | None,
) -> bytes:
    from caezip import targets

    if bpp is not None:
        return targets.encode_to_bpp(codec, picture, bpp, effort=effort, tune=tune).data
    if psnr is not None:
        return targets.encode_to_psnr(codec, picture, psnr, effort=effort, tune=tune).data
    if size is not None:
        return targets.encode_to_size(codec, picture, size, effort=effort, tune=tune).data
    return codec.encode(
        picture,
        quality=75 if quality is None else quality,
        effort=effort,
        tune=tune,
        report=report,
    )


@contextmanager
def _effort_bar(quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar with the time left, shown on a terminal once an encoder reports iterations."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    bars: list[Any] = []

    def report(done: int, total: int) -> None:
        if not bars:
            bars.append(tqdm(total=total, desc="refining", leave=False))
        bars[0].total = total
        bars[0].update(done - bars[0].n)

    yield report
    for bar in bars:
        bar.close()


def _split_region(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not four integers like 0,0,640,480") from None


@main.command()
@_codec_options
@click.option(
    "--max-pixels", type=click.IntRange(min=1), help="Refuse larger images.  [default: 89478485]"
)
@click.option(
    "--region",
    metavar="X,Y,W,H",
    callback=_split_region,
    help="Decode only this part, in pixels; only the tiles that it needs are read.",
)
@click.option(
    "--scale",
    type=click.Choice(["1", "1/2", "1/4", "1/8"]),
    default="1",
    show_default=True,
    help="A smaller picture, for previews; faster.",
)
@click.option(
    "--salvage",
    is_flag=True,
    help="Decode what is whole of a damaged file, with gray squares for the rest; exits with 10.",
)
def decode(
    inputs: tuple[str, ...],
    output: str | None,
    force: bool,
    quiet: bool,
    threads: int | None,
    device: str,
    precision: str,
    weights: Path | None,
    max_pixels: int | None,
    region: tuple[int, ...] | None,
    scale: str,
    salvage: bool,
) -> None:
    """Decompress .cae files. Writes IN.png beside each input unless -o is given."""
    if salvage and (region is not None or scale != "1"):
        raise ParameterError("--salvage: found --region or --scale, allowed is the whole picture")
    jobs = list(plan(inputs, output, ".png", force))
    # what is damaged or missing is said before torch is waited for
    if len(jobs) == 1 and jobs[0][0] != STANDARD:
        with named(jobs[0][0]):
            info(read_bytes(jobs[0][0]))

    from caezip.container import DEFAULT_MAX_PIXELS
    from caezip.image_io import encode_image
    from caezip.pipeline import Codec

    codec = Codec(
        device=device,
        threads=threads,
        precision=precision,
        weights_folder=weights,
        max_pixels=max_pixels or DEFAULT_MAX_PIXELS,
    )
    suffixes = {source: Path(target).suffix for source, target in jobs}
    lost: list[str] = []

    def work(source: str) -> tuple[bytes, str]:
        data = read_bytes(source)
        if salvage:
            picture, damaged = codec.salvage(data)
            lost.extend(damaged)
            for line in damaged:
                click.echo(f"caezip: {source}: lost: {line}", err=True)
        else:
            reduction = int(scale.removeprefix("1/"))
            picture = codec.decode_picture(data, region=region, reduction=reduction)
        samples = picture.samples
        kind = "gray" if samples.ndim == 2 else "RGB"
        if picture.alpha is not None:
            kind += " with alpha"
        if samples.itemsize == 2:
            kind = f"16-bit {kind}"
        suffix = ".png" if output == STANDARD else suffixes[source]
        return encode_image(picture, suffix), f"{samples.shape[1]}x{samples.shape[0]}, {kind}"

    run(jobs, work, force=force, quiet=quiet)
    if lost:  # the output is written, and a script must be able to tell
        sys.exit(exit_code_of(CorruptError("")))


# -- the rest ----------------------------------------------------------------


@main.command()
@click.argument("inputs", nargs=-1, required=True, metavar="FILES...")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option(
    "--max-pixels", type=click.IntRange(min=1), help="Refuse larger images.  [default: 89478485]"
)
@_weights_option
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
