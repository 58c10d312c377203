"""What must hold for any bytes whatever. Each target takes bytes; AssertionError is a find.

Any exception but those that the interface promises is one too, and so are a crash
and a hang.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache
from unittest import mock

import numpy as np

import seeds
from caezip import Codec, container, info, pipeline
from caezip.container import Header, Metadata
from caezip.errors import BitstreamError, CorruptError, UnknownModelError
from caezip.picture import Picture, Samples
from caezip.pretrained import load_model
from caezip.tiling import TileGrid

MAX_PIXELS = 1 << 15  # networks take milliseconds for that many
MAX_CELLS = 6  # a side, of the target "entropy"
METADATA = (
    Metadata(),
    Metadata(seeds.ICC),
    Metadata(None, b"II*\0\x08\0\0\0\0\0\0\0\0\0"),
    Metadata(seeds.ICC, b"MM\0*\0\0\0\x08\0\0\0\0\0\0", b"<x:xmpmeta/>"),
)


@cache
def _codec() -> Codec:
    return Codec(threads=1, max_pixels=MAX_PIXELS)


# -- header ------------------------------------------------------------------


def header(data: bytes) -> None:
    """Reading the frame: a BitstreamError, or a file that can be written again."""
    try:
        found = info(data)
    except BitstreamError:
        found = None
    for salvage in (False, True):
        try:
            parsed = container.read(data, max_pixels=None, salvage=salvage)
        except BitstreamError:
            continue
        assert parsed.header == found
        grid = TileGrid(parsed.header.width, parsed.header.height, parsed.header.tile_side)
        assert len(parsed.tiles) == grid.count
        if not salvage:
            _assert_written_again(parsed)
        assert all(parsed.tiles) or parsed.damaged or b"" in parsed.tiles


def _assert_written_again(parsed: container.Container) -> None:
    header, tiles = parsed.header, [tile for tile in parsed.tiles if tile is not None]
    again = container.write(
        model_id=header.model_id,
        width=header.width,
        height=header.height,
        quality_hundredths=header.quality_hundredths,
        pixel_format=header.pixel_format,
        tiles=tiles,
        tile_side=header.tile_side,
        has_filters=header.has_filters,
        tiles_continue=header.tiles_continue,
        alpha=parsed.alpha,
        metadata=parsed.metadata,
    )
    read = container.read(again, max_pixels=None)
    assert (read.tiles, read.alpha, read.metadata) == (parsed.tiles, parsed.alpha, parsed.metadata)
    assert len(again) <= header.file_size_bytes  # what is missing was skipped


# -- entropy -----------------------------------------------------------------


def entropy(data: bytes) -> None:
    """Any stream: a CorruptError, or integers within their bounds, the same both ways."""
    if len(data) < 4:
        return
    coder = load_model().coder
    quality = 100 + int.from_bytes(data[:2], "little") % 9901
    grid = (1 + data[2] % MAX_CELLS, 1 + data[3] % MAX_CELLS)
    stream = data[4:]
    has_filter = data[0] % 2 > 0
    if len(data) % 5:  # a length that is no multiple of 4 is refused and no more
        stream = stream[: len(stream) // 4 * 4]
    try:
        found = coder.decode(stream, quality, grid, has_filter=has_filter)
    except CorruptError:
        return
    hyper_latent, residual, coefficients = found
    assert hyper_latent.shape == (coder.hyper_channels, -(-grid[0] // 4), -(-grid[1] // 4))
    assert residual.shape == (coder.latent_channels, *grid)
    assert np.abs(hyper_latent).max() <= 127
    assert np.abs(residual).max() <= 32767
    assert coefficients.shape == (108,)
    assert np.abs(coefficients).max() <= 127 * has_filter
    with mock.patch("caezip.entropy.load_loops", return_value=None):  # as without a compiler
        again = coder.decode(stream, quality, grid, has_filter=has_filter)
    assert all(map(np.array_equal, again, found))


# -- decode ------------------------------------------------------------------


def decode(data: bytes) -> str:
    """A whole file: an error of the right kind, or an image of the header's size.

    Returns the name of the error, or "decoded".
    """
    outcome = _outcome(lambda: _check_decoded(data))
    assert outcome == _outcome(lambda: _codec().verify(data)), "verify says something else"
    salvaged = _outcome(lambda: _check_salvaged(data))
    assert outcome != "decoded" or salvaged == "decoded"
    return outcome


def _outcome(work: Callable[[], object]) -> str:
    try:
        work()
    except (BitstreamError, UnknownModelError) as error:
        return type(error).__name__
    return "decoded"


def _check_decoded(data: bytes) -> None:
    picture, header = _codec().decode_picture(data), info(data)
    _assert_shape(picture, header, (header.height, header.width))
    choice = zlib.crc32(data)
    reduction = (1, 2, 4, 8)[choice % 4]
    left, top = choice // 4 % header.width, choice // 64 % header.height
    region = (left, top, min(header.width - left, 40), min(header.height - top, 40))
    try:
        part = _codec().decode_picture(data, region=region, reduction=reduction)
    except UnknownModelError:  # weights tell which tiles a region needs; a whole needs all
        assert header.tile_side
        return
    high = -(-(top + region[3]) // reduction) - top // reduction
    wide = -(-(left + region[2]) // reduction) - left // reduction
    _assert_shape(part, header, (high, wide))
    if reduction == 1:
        whole = picture.array[top : top + region[3], left : left + region[2]]
        largest = 1 if picture.samples.dtype == np.uint8 else 257
        assert np.abs(part.array.astype(int) - whole).max() <= largest
    assert part.metadata == picture.metadata


def _check_salvaged(data: bytes) -> None:
    picture, damaged = _codec().salvage(data)
    header = info(data)
    _assert_shape(picture, header, (header.height, header.width))
    assert all(isinstance(line, str) and line for line in damaged)


def _assert_shape(picture: Picture, header: Header, shape: tuple[int, int]) -> None:
    kind = np.uint16 if header.pixel_format.endswith("16") else np.uint8
    colours = () if header.pixel_format.startswith("gray") else (3,)
    assert picture.samples.shape == (*shape, *colours)
    assert picture.samples.dtype == kind
    if picture.alpha is not None:
        assert picture.alpha.shape == shape
        assert picture.alpha.dtype == kind


# -- round trip --------------------------------------------------------------


def round_trip(data: bytes) -> None:
    """Any picture: it comes back in its size, with alpha, metadata and flat parts untouched."""
    if len(data) < 9:
        return
    kind, quality, width, height, source, kept, fill, flat = data[:8]
    picture = _picture(kind, 1 + width % 140, 1 + height % 80, source % 3, fill, data[8:])
    if flat % 4 == 1:
        picture = Picture(np.broadcast_to(picture.samples[:1, :1], picture.samples.shape))
    picture = Picture(picture.samples, picture.alpha, METADATA[kept % len(METADATA)])
    side = 64 if kept % 8 < 4 else 1024
    effort = 3 if flat == 255 else 1 + flat % 2
    with mock.patch.multiple(pipeline, TILE_SIDE=side, LARGEST_SINGLE=side):
        encoded = _codec().encode(
            picture, quality=1 + quality % 100, effort=effort, strip=bool(fill % 2)
        )
    _codec().verify(encoded)
    found = _codec().decode_picture(encoded)
    assert found.samples.shape == picture.samples.shape
    assert found.samples.dtype == picture.samples.dtype
    assert found.metadata == (Metadata() if fill % 2 else picture.metadata)
    if picture.alpha is None:
        assert found.alpha is None
    else:
        assert np.array_equal(found.alpha if found.alpha is not None else (), picture.alpha)
    if (picture.samples == picture.samples[0, 0]).all():
        assert np.array_equal(found.samples, picture.samples)


def _picture(kind: int, width: int, height: int, source: int, fill: int, data: bytes) -> Picture:
    """``kind``: bit 0 says colour, bit 1 alpha, bit 2 16 bits. ``source``: what the samples are."""
    shape = (height, width, 3) if kind & 1 else (height, width)
    samples = _samples(shape, source, fill, data, sixteen=bool(kind & 4))
    alpha = None
    if kind & 2:
        alpha = _samples((height, width), 2 - source, fill, data, sixteen=bool(kind & 4))
    return Picture(samples, alpha)


def _samples(
    shape: tuple[int, ...], source: int, fill: int, data: bytes, *, sixteen: bool
) -> Samples:
    if source == 0:
        levels = np.full(shape, fill)
    elif source == 1:
        levels = np.resize(np.frombuffer(data, np.uint8), shape)
    else:
        levels = np.random.default_rng(zlib.crc32(data)).integers(0, 256, shape)
    return (257 * levels.astype(np.uint16)) if sixteen else levels.astype(np.uint8)


TARGETS: dict[str, tuple[Callable[[bytes], object], Callable[[], tuple[bytes, ...]]]] = {
    "header": (header, lambda: seeds.files() + seeds.broken_files()),
    "entropy": (entropy, seeds.streams),
    "decode": (decode, lambda: seeds.files() + seeds.broken_files()),
    "round_trip": (round_trip, seeds.pictures),
}
