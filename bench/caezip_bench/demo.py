"""``make demo``: one photograph through the codec, and the same as JPEG at equal PSNR."""

from __future__ import annotations

import io
from pathlib import Path

import click
import numpy as np
from PIL import Image

from caezip import Codec
from caezip.errors import MissingDependencyError
from caezip.image_io import Pixels, as_rgb, encode_png, read_rgb, write_atomically
from caezip.targets import psnr_db
from caezip_bench.entry import run_as_module
from caezip_bench.metrics import bits_per_pixel

QUALITIES = (25, 50, 75)
MAX_JPEG_QUALITY = 95


def _astronaut() -> Pixels:
    """NASA's portrait of Eileen Collins (public domain), as scikit-image bundles it."""
    try:
        from skimage import data
    except ImportError as error:
        raise MissingDependencyError(
            'the demo photo needs scikit-image: pip install "caezip[demo]", or give IMAGE=path'
        ) from error
    return np.asarray(data.astronaut(), dtype=np.uint8)  # type: ignore[no-untyped-call]  # skimage is not annotated


def _jpeg(pixels: Pixels, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(
        buffer, format="JPEG", quality=quality, subsampling="4:2:0", optimize=True, progressive=True
    )
    return buffer.getvalue()


def _jpeg_at_psnr(pixels: Pixels, target_db: float) -> tuple[bytes, float]:
    """The smallest JPEG with at least ``target_db``, or the best one that there is."""
    for quality in range(1, MAX_JPEG_QUALITY + 1):
        data = _jpeg(pixels, quality)
        with Image.open(io.BytesIO(data)) as image:
            reached_db = psnr_db(pixels, as_rgb(np.array(image)))
        if reached_db >= target_db:
            break
    return data, reached_db


@click.command()
@click.argument("image", type=click.Path(path_type=Path), required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default="demo-output",
    show_default=True,
)
def demo(image: Path | None, output: Path) -> None:
    """Encode and decode IMAGE (default: a bundled photograph) and say what came of it."""
    pixels = read_rgb(image) if image else _astronaut()
    name = image.stem if image else "astronaut"
    height, width = pixels.shape[:2]
    original = encode_png(pixels)
    click.echo(f"{name}: {width}x{height}, {len(original)} bytes as PNG\n")
    click.echo(f"{'quality':>7}  {'codec':<6} {'bytes':>8} {'bpp':>7} {'PSNR':>9}")
    codec = Codec()
    for quality in QUALITIES:
        data = codec.encode(pixels, quality=quality)
        decoded = codec.decode(data)
        reached_db = psnr_db(pixels, decoded)
        jpeg, jpeg_db = _jpeg_at_psnr(pixels, reached_db)
        rows = [(str(quality), "caezip", len(data), reached_db), ("", "JPEG", len(jpeg), jpeg_db)]
        for label, kind, size_bytes, quality_db in rows:
            bpp = bits_per_pixel(size_bytes, width, height)
            click.echo(f"{label:>7}  {kind:<6} {size_bytes:>8} {bpp:>7.3f} {quality_db:>6.2f} dB")
        click.echo(f"{'':>7}  caezip is {100 * (1 - len(data) / len(jpeg)):.1f}% smaller\n")
        write_atomically(output / f"{name}-q{quality}.cae", data, force=True)
        write_atomically(output / f"{name}-q{quality}.png", encode_png(decoded), force=True)
        write_atomically(output / f"{name}-q{quality}.jpg", jpeg, force=True)
    write_atomically(output / f"{name}.png", original, force=True)
    click.echo(f"The files are in {output}/: compare the pictures by eye.")


if __name__ == "__main__":
    run_as_module(demo)
