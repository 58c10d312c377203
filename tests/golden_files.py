"""Golden files: how they are made, and how FORMAT.md shows one byte by byte.

``python tests/golden_files.py`` writes what is missing. A golden file, once
released, is never made again: it must stay decodable for ever.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

import caezip
from caezip import container, pipeline
from caezip.container import Metadata
from caezip.image_io import encode_image
from caezip.picture import Picture, Samples
from caezip.processor import LARGEST_INT8, largest_exact_weight
from caezip.tiling import Edges, TileGrid
from images import gray_of, photo_like, sixteen_bits

GOLDEN = Path(__file__).parent / "golden"
FORMAT = Path(__file__).parent.parent / "codec" / "FORMAT.md"
_MARKED = re.compile(r"(<!-- dump: \S+ -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Source:
    """What a golden file is made from."""

    picture: Picture
    quality: float
    tile_side: int = 0  # pixels; 0 leaves it to the encoder, for which these images are small
    tune: str = "archive"  # what the default was when most of them were made
    effort: int = 2
    tiles_continue: bool = False  # of those with tiles: as encoders write them now


def steady_codec() -> caezip.Codec:
    """Without what moves pixels by more than a level: bfloat16, and weights of fewer bits."""
    exact = largest_exact_weight() == LARGEST_INT8
    return caezip.Codec(precision="int8" if exact else "float32", threads=1)


def gradient(height: int, width: int) -> NDArray[np.uint8]:
    """A smooth RGB picture."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [255 * x / width, 255 * y / height, 128 + 0 * x]
    pixels: NDArray[np.uint8] = np.stack(planes, axis=2).astype(np.uint8)
    return pixels


def sixteen_bit_gradient(height: int, width: int) -> NDArray[np.uint16]:
    """A smooth RGB picture whose low bytes count."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [65535 * x / width, 65535 * y / height, 30000 + 9 * x]
    samples: NDArray[np.uint16] = np.stack(planes, axis=2).astype(np.uint16)
    return samples


def with_flat_tile(samples: Samples, colour: Any) -> Samples:
    """``samples`` with one colour in the second tile of 64 pixels a side."""
    samples = samples.copy()
    samples[:64, 64:128] = colour
    return samples


def metadata() -> Metadata:
    exif = Image.Exif()
    exif[271], exif[305] = "caezip", "golden_files.py"
    return Metadata(
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        exif.tobytes().removeprefix(b"Exif\0\0"),
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>',
    )


def sources() -> dict[str, Source]:
    small, gray = gradient(24, 40), gradient(33, 17)[:, :, 0]
    small16 = sixteen_bit_gradient(24, 40)
    alpha, alpha16 = gradient(24, 40)[:, :, 1], sixteen_bit_gradient(24, 40)[:, :, 0]
    blue = (30, 144, 255)
    everything = Picture(
        with_flat_tile(sixteen_bit_gradient(70, 140)[:, :, 1], 4660),
        sixteen_bit_gradient(70, 140)[:, :, 0],
        metadata(),
    )
    return {
        "gradient": Source(Picture(small), 50),
        "gray": Source(Picture(gray), 80.25),
        "pixel": Source(Picture(small[:1, 5:6]), 100),  # of one colour, as all single pixels are
        "pair": Source(Picture(small[:1, 5:7]), 100),
        "flat": Source(Picture(np.full((24, 40, 3), blue, np.uint8)), 75),
        "flat_gray": Source(Picture(np.full((33, 17), 250, np.uint8)), 20),
        "tiles": Source(Picture(with_flat_tile(gradient(100, 150), blue)), 60, 64),
        "tiles_gray": Source(Picture(gradient(130, 64)[:, :, 1]), 40, 64),
        "alpha": Source(Picture(small, alpha), 50),
        "alpha_gray": Source(Picture(small[:, :, 0], alpha), 50),
        "metadata": Source(Picture(small, None, metadata()), 50),
        "rgb16": Source(Picture(small16), 90),
        "gray16": Source(Picture(small16[:, :, 0]), 90),
        "alpha16": Source(Picture(small16, alpha16), 90),
        "flat16": Source(Picture(np.full((24, 40, 3), (258, 772, 65535), np.uint16)), 90),
        "flat_gray16": Source(Picture(np.full((24, 40), 258, np.uint16)), 90),
        "everything": Source(everything, 70, 64),
        "ssim": Source(Picture(small), 50, tune="ssim"),
        "psnr": Source(Picture(small), 50, tune="psnr"),
        "psnr_tiles": Source(
            Picture(photo_like(150, 200)), 70, 64, tune="psnr", tiles_continue=True
        ),
        "psnr_gray16": Source(Picture(sixteen_bit_gradient(90, 70)[:, :, 1]), 85, tune="psnr"),
        "fastdecode": Source(Picture(small), 50, tune="fastdecode"),
        "filter": Source(Picture(photo_like(64, 64)), 95, effort=3),
        "filter_gray": Source(Picture(gray_of(photo_like(96, 128))), 100, effort=3),
        "continued": Source(Picture(gradient(150, 200)), 50, 64, tiles_continue=True),
        "continued_gray16": Source(
            Picture(with_flat_tile(sixteen_bit_gradient(130, 150)[:, :, 1], 4660)),
            *(80, 64),
            tiles_continue=True,
        ),
        "continued_filter": Source(
            Picture(photo_like(100, 150)), 95, 64, effort=3, tiles_continue=True
        ),
        "filter_tiles": Source(
            Picture(with_flat_tile(sixteen_bits(photo_like(100, 150)), (258, 772, 65535))),
            *(90, 64),
            effort=3,
        ),
    }


def digest(values: NDArray[np.int32]) -> str:
    """sha256 of the values as little-endian int32, last index fastest."""
    return hashlib.sha256(np.ascontiguousarray(values, "<i4").tobytes()).hexdigest()


def describe(data: bytes) -> list[dict[str, str]]:
    """Digests of each tile's integers."""
    return [
        {
            "hyper_latent_sha256": digest(latents.hyper_latent),
            "residual_sha256": digest(latents.residual),
            **({"filter_sha256": digest(coefficients)} if coefficients.any() else {}),
        }
        for latents in caezip.Codec().decode_latents(data)
        for coefficients in [latents.filter_coefficients]
    ]


def annotated_dump(data: bytes) -> str:
    """One line per field of a file with a HEAD and a TILE: offset, bytes, meaning."""
    rows: list[str] = []
    position = 0

    def field(count: int, meaning: str) -> int:
        nonlocal position
        part = data[position : position + count]
        for start in range(0, count, 8):
            text = part[start : start + 8].hex(" ")
            rows.append(
                f"{position + start:04x}  {text:<23}  {meaning if not start else ''}".rstrip()
            )
        position += count
        return int.from_bytes(part, "little")

    def varint(meaning: str) -> int:
        count, value = 0, 0
        while True:
            byte = data[position + count]
            value |= (byte & 0x7F) << (7 * count)
            count += 1
            if byte < 0x80:
                field(count, f"{meaning} {value}")
                return value

    field(3, "magic")
    field(1, "format_version 1")
    field(1, "section type HEAD")
    varint("length")
    field(1, "flags")
    field(2, f"model_id {int.from_bytes(data[position : position + 2], 'little')}")
    field(2, f"quality {int.from_bytes(data[position : position + 2], 'little')} hundredths")
    field(1, f"pixel_format {data[position]}")
    field(1, "tile_size 0: one tile")
    varint("width")
    varint("height")
    field(4, "checksum of bytes 0000 to here")
    field(1, "section type TILE")
    length = varint("length")
    field(length, "flat colour" if length in (1, 3) else "rANS stream")
    field(4, "checksum of the TILE section")
    if position != len(data):
        raise ValueError(f"{len(data) - position} bytes are not accounted for")
    return "\n".join(rows)


def with_dump(text: str, data: bytes) -> str:
    """FORMAT.md's text with the dump of ``data`` between its markers."""
    block = f"```\n{annotated_dump(data)}\n```"
    return _MARKED.sub(lambda m: f"{m[1]}\n{block}\n\n{m[2]}", text)


@contextmanager
def tiles_apart() -> Iterator[None]:
    """Files are written as before there were tiles that continue, which decoders still read."""
    write_file = container.write

    def write(**fields: Any) -> bytes:
        return write_file(**fields | {"tiles_continue": False})

    with (
        mock.patch.object(container, "write", write),
        mock.patch.object(TileGrid, "inner_edges", return_value=Edges()),
    ):
        yield


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    usual = pipeline.TILE_SIDE, pipeline.LARGEST_SINGLE
    for name, source in sources().items():
        path = GOLDEN / f"{name}.cae"
        if path.exists():
            continue
        side = source.tile_side
        pipeline.TILE_SIDE, pipeline.LARGEST_SINGLE = (side, side) if side else usual
        codec = steady_codec()
        with nullcontext() if source.tiles_continue else tiles_apart():
            data = codec.encode(
                source.picture, quality=source.quality, tune=source.tune, effort=source.effort
            )
        path.write_bytes(data)
        path.with_suffix(".json").write_text(json.dumps(describe(data), indent=2) + "\n")
        path.with_suffix(".png").write_bytes(encode_image(codec.decode_picture(data), ".png"))
    data = (GOLDEN / "gradient.cae").read_bytes()
    FORMAT.write_text(with_dump(FORMAT.read_text(encoding="utf-8"), data), encoding="utf-8")


if __name__ == "__main__":
    main()
