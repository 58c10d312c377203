"""``caezip encode`` and ``caezip decode``: their options."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import Any

import click

from caezip import info
from caezip.errors import CorruptError, ParameterError
from caezip.file_jobs import STANDARD, Plan, exit_code_of, named, plan, read_bytes
from caezip.file_runs import Work, run
from caezip.image_work import DEFAULT_QUALITY, CodecOptions, Decoding, Encoding, codec_of


@dataclass(frozen=True)
class FileOptions:
    """Which files to work on, and how."""

    inputs: tuple[str, ...]
    output: str | None
    force: bool
    skip_existing: bool
    recursive: bool
    jobs: int
    quiet: bool

    def planned(self, suffix: str) -> Plan:
        return plan(
            self.inputs,
            self.output,
            suffix,
            force=self.force,
            skip_existing=self.skip_existing,
            recursive=self.recursive,
        )

    def in_this_process(self, planned: Plan) -> bool:
        return self.jobs == 1 or len(planned.jobs) == 1

    def run(self, planned: Plan, work: Work) -> bool:
        """See `caezip.file_runs.run`."""
        return run(
            planned.jobs,
            work,
            processes=self.jobs,
            force=self.force,
            quiet=self.quiet,
            skipped=planned.skipped,
            many=self.recursive or self.jobs > 1,
        )


def _codec_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options of both commands; ``function`` gets them as two objects."""

    @wraps(function)
    def command(**values: Any) -> None:
        def take(*names: str) -> dict[str, Any]:
            return {name: values.pop(name) for name in names}

        files = FileOptions(**take(*(field.name for field in fields(FileOptions))))
        options = CodecOptions(**take("engine", "device", "threads", "precision", "weights_folder"))
        function(files, options, **values)

    for decorate in (
        click.argument("inputs", nargs=-1, required=True, metavar="IN..."),
        click.option(
            "-o",
            "--output",
            metavar="OUT|DIR",
            help="File to write, folder for several, or - for standard output.",
        ),
        click.option("-f", "--force", is_flag=True, help="Overwrite existing files."),
        click.option("--skip-existing", is_flag=True, help="Leave out inputs whose outputs exist."),
        click.option(
            "-r",
            "--recursive",
            is_flag=True,
            help="Inputs may be folders, whose trees are kept in the output folder.",
        ),
        click.option(
            "-j",
            "--jobs",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            help="Files to work on at a time, each in a process of its own.",
        ),
        click.option("--quiet", is_flag=True, help="Print nothing but errors."),
        click.option("--threads", type=click.IntRange(min=1), help="CPU threads of each process."),
        click.option(
            "--engine",
            type=click.Choice(["auto", "openvino", "torch"]),
            default="auto",
            show_default=True,
            help="What runs the networks; the stream is the same.",
        ),
        click.option("--device", default="cpu", show_default=True, help="cpu, cuda, mps, auto …"),
        click.option(
            "--precision",
            type=click.Choice(["auto", "float32", "bfloat16", "int8"]),
            default="auto",
            show_default=True,
            help="Of the networks; the stream is the same.",
        ),
        click.option(
            "--weights",
            "weights_folder",
            type=click.Path(path_type=Path, exists=True, file_okay=False),
            help="Folder with a manifest of weights to use instead of the installed ones.",
        ),
    ):
        command = decorate(command)
    return command


# -- encode ------------------------------------------------------------------


@click.command()
@_codec_options
@click.option("-q", "--quality", type=float, help="1…100, in steps of 0.01.  [default: 75]")
@click.option("--bpp", type=float, help="Highest quality within this many bits per pixel.")
@click.option("--psnr", type=float, help="Lowest quality with at least this PSNR, in dB.")
@click.option("--size", type=int, help="Highest quality within this many bytes.")
@click.option(
    "-e",
    "--effort",
    type=click.IntRange(1, 9),
    help="1…9: smaller files for more time; from 3 up a progress bar tells how long, and files "
    "tuned for psnr become ones for archive.  [default: 2]",
)
@click.option(
    "--tune",
    type=click.Choice(["psnr", "archive", "ssim", "fastdecode"]),
    default="psnr",
    show_default=True,
    help="What the picture is to be close in: pixels, or structure as the eye sees it (ssim). "
    "archive is pixels in smaller files that take longer to decode, fastdecode in larger ones "
    "that take less.",
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
    files: FileOptions,
    options: CodecOptions,
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
    from caezip.container import quality_in_hundredths

    targets = {"--quality": quality, "--bpp": bpp, "--psnr": psnr, "--size": size}
    given = [name for name, value in targets.items() if value is not None]
    if len(given) > 1:
        raise ParameterError(f"{' and '.join(given)}: found {len(given)} targets, allowed is one")
    quality_in_hundredths(DEFAULT_QUALITY if quality is None else quality)
    planned = files.planned(".cae")
    alone = files.in_this_process(planned)
    if alone:
        codec_of(options)  # what is wrong with them is said once
    bar = alone and not files.quiet and sys.stderr.isatty()
    work = Encoding(options, quality, bpp, psnr, size, effort, tune, strip, frame, max_pixels, bar)
    files.run(planned, work)


# -- decode ------------------------------------------------------------------


def _split_region(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not four integers like 0,0,640,480") from None


@click.command()
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
    files: FileOptions,
    options: CodecOptions,
    max_pixels: int | None,
    region: tuple[int, ...] | None,
    scale: str,
    salvage: bool,
) -> None:
    """Decompress .cae files. Writes IN.png beside each input unless -o is given."""
    if salvage and (region is not None or scale != "1"):
        raise ParameterError("--salvage: found --region or --scale, allowed is the whole picture")
    planned = files.planned(".png")
    # what is damaged or missing is said before anything is loaded
    if len(planned.jobs) == 1 and planned.jobs[0][0] != STANDARD:
        source = planned.jobs[0][0]
        with named(source):
            info(read_bytes(source))
    options = replace(options, max_pixels=max_pixels)
    if files.in_this_process(planned):
        codec_of(options)
    suffixes = {
        source: ".png" if target == STANDARD else Path(target).suffix
        for source, target in planned.jobs
    }
    work = Decoding(options, suffixes, region, int(scale.removeprefix("1/")), salvage)
    if not files.run(planned, work):  # the output is written, and a script must be able to tell
        sys.exit(exit_code_of(CorruptError("")))
