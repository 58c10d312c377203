"""Valid inputs that fuzzing starts from: the golden files, and one file of every feature."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np

from caezip import Codec, container, pipeline
from caezip.container import Metadata
from caezip.picture import Picture

TESTS = Path(__file__).parent.parent
LARGEST = 4096  # bytes; small files are changed in more telling places
ICC = b"\0\0\0\x18" + bytes(20)


@cache
def files() -> tuple[bytes, ...]:
    """Small .cae files: golden ones, and the features together."""
    paths = sorted((TESTS / "golden").glob("*.cae"))
    golden = [path.read_bytes() for path in paths if path.stat().st_size <= LARGEST]
    return (*golden, *_of_every_feature())


@cache
def broken_files() -> tuple[bytes, ...]:
    """Files that break one rule each: what their neighbours break is worth a look."""
    return tuple(path.read_bytes() for path in sorted((TESTS / "golden_errors").glob("*.cae")))


def _of_every_feature() -> list[bytes]:
    """Tiles, one of them flat; alpha, metadata and 16 bits, in gray and in colour."""
    rows, columns = np.mgrid[:80, :140]
    ramp = (2 * rows + columns).astype(np.uint16)
    colours = np.dstack([ramp, 255 - ramp, 0 * ramp + 90]).astype(np.uint8)
    colours[:64, 64:128] = (30, 144, 255)
    metadata = Metadata(ICC, b"MM\0*\0\0\0\x08\0\0\0\0\0\0", b"<x:xmpmeta/>")
    pictures = [
        Picture(colours, (rows + columns).astype(np.uint8), metadata),
        Picture((ramp * 250)[:70, :66], (ramp * 99)[:70, :66]),
        Picture((colours * np.uint16(257))[:20, :30], None, metadata),
        Picture(np.full((70, 70), 7, np.uint8)),
    ]
    codec = Codec(threads=1)
    with mock.patch.multiple(pipeline, TILE_SIDE=64, LARGEST_SINGLE=64):
        return [codec.encode(picture, quality=20) for picture in pictures]


@cache
def streams() -> tuple[bytes, ...]:
    """What the target "entropy" takes: quality, height and width in cells, and a stream."""
    out = [b"\x10\x27\x01\x01" + bytes(8), b"\x10\x27\x02\x03" + b"\xff" * 40]
    for data in files():
        parsed = container.read(data)
        for payload in parsed.tiles:
            if payload is not None and len(payload) >= 8:
                quality = parsed.header.quality_hundredths.to_bytes(2, "little")
                out.append(quality + b"\x02\x03" + payload)
    return tuple(out)


@cache
def pictures() -> tuple[bytes, ...]:
    """What the target "round_trip" takes: eight bytes of parameters, then samples."""
    ramp = bytes(range(256))
    parameters = [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [1, 75, 39, 23, 1, 0, 0, 0],
        [3, 50, 79, 65, 2, 7, 9, 5],
        [5, 99, 16, 15, 1, 2, 200, 0],
        [7, 10, 64, 63, 2, 5, 1, 77],
    ]
    return tuple(bytes(numbers) + ramp for numbers in parameters)
