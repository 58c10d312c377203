"""Golden files: how they are made, and how FORMAT.md shows one byte by byte.

``python tests/golden_files.py`` writes what is missing. A golden file, once
released, is never made again: it must stay decodable for ever.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import caezip

GOLDEN = Path(__file__).parent / "golden"
FORMAT = Path(__file__).parent.parent / "codec" / "FORMAT.md"
_MARKED = re.compile(r"(<!-- dump: \S+ -->\n).*?(<!-- end -->)", re.DOTALL)


def gradient(height: int, width: int) -> NDArray[np.uint8]:
    """A smooth RGB picture."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [255 * x / width, 255 * y / height, 128 + 0 * x]
    pixels: NDArray[np.uint8] = np.stack(planes, axis=2).astype(np.uint8)
    return pixels


SOURCES = {
    "gradient": (gradient(24, 40), 50.0),
    "gray": (gradient(33, 17)[:, :, 0], 80.25),
    "pixel": (gradient(24, 40)[:1, 5:6], 100.0),  # of one colour, as all single pixels are
    "pair": (gradient(24, 40)[:1, 5:7], 100.0),
    "flat": (np.full((24, 40, 3), (30, 144, 255), np.uint8), 75.0),
    "flat_gray": (np.full((33, 17), 250, np.uint8), 20.0),
}


def digest(values: NDArray[np.int32]) -> str:
    """sha256 of the values as little-endian int32, last index fastest."""
    return hashlib.sha256(np.ascontiguousarray(values, "<i4").tobytes()).hexdigest()


def describe(data: bytes) -> dict[str, str]:
    latents = caezip.Codec().decode_latents(data)
    return {
        "hyper_latent_sha256": digest(latents.hyper_latent),
        "residual_sha256": digest(latents.residual),
    }


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


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, (pixels, quality) in SOURCES.items():
        path = GOLDEN / f"{name}.cae"
        if path.exists():
            continue
        data = caezip.encode(pixels, quality=quality)
        path.write_bytes(data)
        path.with_suffix(".json").write_text(json.dumps(describe(data), indent=2) + "\n")
        Image.fromarray(caezip.decode(data)).save(path.with_suffix(".png"))
    data = (GOLDEN / "gradient.cae").read_bytes()
    FORMAT.write_text(with_dump(FORMAT.read_text(encoding="utf-8"), data), encoding="utf-8")


if __name__ == "__main__":
    main()
