"""The .cae file: a signature and checksummed sections. FORMAT.md is normative.

This module knows bytes and limits only. It imports neither torch nor numpy, so
that reading a header costs nothing.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from caezip.errors import (
    CorruptError,
    NotCaeError,
    ParameterError,
    TruncatedError,
    UnsupportedError,
)

MAGIC = b"\xcaEZ"
FORMAT_VERSION = 1
SIGNATURE = MAGIC + bytes([FORMAT_VERSION])

SECTION_HEAD = 0x01
SECTION_TILE = 0x02
ANCILLARY_BIT = 0x80  # sections with it may be skipped, unknown ones without it may not

PIXEL_FORMATS = {0: "gray8", 1: "rgb8"}
CRC_BYTES = 4
MAX_VARINT_BYTES = 4  # 28 bits: a section holds less than 256 MiB
MAX_SIDE = 65535  # what the format can say; `image_io.MAX_SIDE` is what is encoded
MAX_SECTIONS = 1024
QUALITY_UNIT = 100  # the header counts quality in hundredths
MIN_QUALITY, MAX_QUALITY = 1, 100
DEFAULT_MAX_PIXELS = 89_478_485  # as in Pillow: a decoded RGB image of 256 MiB


@dataclass(frozen=True)
class Header:
    """What a .cae file says of itself."""

    format_version: int
    model_id: int  # which weights decode it
    width: int  # pixels, 1…65,535
    height: int
    quality_hundredths: int  # 100…10,000
    pixel_format: str  # "gray8" or "rgb8"
    file_size_bytes: int

    @property
    def quality(self) -> float:
        """1…100, in steps of 0.01."""
        return self.quality_hundredths / QUALITY_UNIT

    @property
    def bpp(self) -> float:
        """Bits of the whole file per pixel."""
        return 8 * self.file_size_bytes / (self.width * self.height)


@dataclass(frozen=True)
class Container:
    """A parsed file: its header and the entropy-coded stream of each tile."""

    header: Header
    tiles: tuple[bytes, ...]


def quality_in_hundredths(quality: object) -> int:
    """The header's unit. Raises ParameterError unless quality is a number from 1 to 100."""
    if isinstance(quality, bool) or not isinstance(quality, (int, float)):
        raise ParameterError(
            f"quality: found {type(quality).__name__}, allowed is a number from 1 to 100"
        )
    if not MIN_QUALITY <= quality <= MAX_QUALITY:  # also refuses NaN
        raise ParameterError(f"quality: found {quality}, allowed is a number from 1 to 100")
    return round(quality * QUALITY_UNIT)


def as_bytes(data: object) -> bytes:
    """Any bytes-like object as bytes. Raises ParameterError for anything else."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ParameterError(f"data: found {type(data).__name__}, allowed is bytes")
    return bytes(data)


def _varint(value: int) -> bytes:
    """LEB128: seven bits a byte, least significant first, the top bit says "more"."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _section(kind: int, payload: bytes, covered: bytes = b"") -> bytes:
    if len(payload) >= 1 << (7 * MAX_VARINT_BYTES):
        raise ParameterError(f"section: found {len(payload)} bytes, allowed are below 256 MiB")
    body = bytes([kind]) + _varint(len(payload)) + payload
    return body + zlib.crc32(covered + body).to_bytes(CRC_BYTES, "little")


def write(
    *,
    model_id: int,
    width: int,
    height: int,
    quality_hundredths: int,
    pixel_format: str,
    tiles: tuple[bytes, ...],
) -> bytes:
    """The bytes of a file. All values must be in the ranges that `Header` states."""
    codes = {name: code for code, name in PIXEL_FORMATS.items()}
    head = (
        bytes([0])  # flags, reserved
        + model_id.to_bytes(2, "little")
        + quality_hundredths.to_bytes(2, "little")
        + bytes([codes[pixel_format]])
        + bytes([0])  # tile size: one tile covers the image
        + _varint(width)
        + _varint(height)
    )
    sections = [_section(SECTION_HEAD, head, covered=SIGNATURE)]
    sections += [_section(SECTION_TILE, tile) for tile in tiles]
    return SIGNATURE + b"".join(sections)


class _Reader:
    """Reads fields in order; every failure names the field and its offset."""

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self.data, self.position, self.end = data, position, end

    def take(self, count: int, field: str) -> bytes:
        if count > self.end - self.position:
            raise TruncatedError(
                f"{field}: needs {count} bytes at offset {self.position}, "
                f"found {self.end - self.position}"
            )
        self.position += count
        return self.data[self.position - count : self.position]

    def uint(self, count: int, field: str) -> int:
        return int.from_bytes(self.take(count, field), "little")

    def varint(self, field: str) -> int:
        start, value = self.position, 0
        for shift in range(0, 7 * MAX_VARINT_BYTES, 7):
            byte = self.uint(1, field)
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                if byte == 0 and shift:
                    raise CorruptError(f"{field} at offset {start}: not in its shortest form")
                return value
        raise CorruptError(f"{field} at offset {start}: longer than {MAX_VARINT_BYTES} bytes")


def _check_signature(data: bytes) -> None:
    if not data:
        raise NotCaeError("signature: found no bytes at all")
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise NotCaeError(f"signature: found {data[:3].hex(' ')}, a .cae file has {MAGIC.hex(' ')}")
    if len(data) < len(SIGNATURE):
        raise TruncatedError(f"signature: needs {len(SIGNATURE)} bytes, found {len(data)}")
    version = data[len(MAGIC)]
    if version != FORMAT_VERSION:
        raise UnsupportedError(
            f"format_version: found {version}, this caezip reads {FORMAT_VERSION}; "
            "a newer caezip may read it"
        )


def _read_section(data: bytes, position: int) -> tuple[int, int, int, int]:
    """``(type, payload start, payload end, next section)`` with the checksum verified."""
    reader = _Reader(data, position, len(data))
    kind = reader.uint(1, "section type")
    length = reader.varint("section length")
    start = reader.position
    reader.take(length, f"section {kind:#04x}")
    end = reader.position
    stored = reader.uint(CRC_BYTES, f"checksum of section {kind:#04x}")
    # the first section's checksum vouches for the signature too
    first = 0 if position == len(SIGNATURE) else position
    if zlib.crc32(data[first:end]) != stored:
        raise CorruptError(
            f"section {kind:#04x} at offset {position}: its checksum does not match; "
            "the file was altered or damaged"
        )
    return kind, start, end, reader.position


def _parse_head(data: bytes, start: int, end: int) -> Header:
    reader = _Reader(data, start, end)
    try:
        flags = reader.uint(1, "flags")
        model_id = reader.uint(2, "model_id")
        quality = reader.uint(2, "quality")
        pixel_format = reader.uint(1, "pixel_format")
        tile_size = reader.uint(1, "tile_size")
        width, height = reader.varint("width"), reader.varint("height")
    except TruncatedError as error:  # the section is whole, so its contents are wrong
        raise CorruptError(f"HEAD section: {error}") from None
    if flags:
        raise UnsupportedError(f"flags: found {flags:#04x}, this caezip knows none")
    if not MIN_QUALITY * QUALITY_UNIT <= quality <= MAX_QUALITY * QUALITY_UNIT:
        raise CorruptError(f"quality: found {quality} hundredths, allowed are 100 to 10000")
    if pixel_format not in PIXEL_FORMATS:
        raise UnsupportedError(f"pixel_format: found {pixel_format}, allowed are {PIXEL_FORMATS}")
    if tile_size:
        raise UnsupportedError(f"tile_size: found {tile_size}, this caezip reads 0 (one tile)")
    for name, side in (("width", width), ("height", height)):
        if not 1 <= side <= MAX_SIDE:
            raise CorruptError(f"{name}: found {side}, allowed are 1 to {MAX_SIDE}")
    if reader.position != end:
        raise CorruptError(f"HEAD section: {end - reader.position} bytes too long")
    return Header(
        FORMAT_VERSION, model_id, width, height, quality, PIXEL_FORMATS[pixel_format], len(data)
    )


def read_header(data: bytes) -> Header:
    """The header of a file, whose tiles may be missing or damaged.

    Raises NotCaeError, TruncatedError, CorruptError or UnsupportedError.
    """
    _check_signature(data)
    kind, start, end, _ = _read_section(data, len(SIGNATURE))
    if kind != SECTION_HEAD:
        raise CorruptError(f"first section: found type {kind:#04x}, allowed is HEAD (0x01)")
    return _parse_head(data, start, end)


def read(data: bytes, *, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Container:
    """Parse a whole file and verify every checksum.

    Raises NotCaeError, TruncatedError, CorruptError or UnsupportedError, the
    last also for more than ``max_pixels`` (None: no limit).
    """
    header = read_header(data)
    pixels = header.width * header.height
    if max_pixels is not None and pixels > max_pixels:
        raise UnsupportedError(
            f"dimensions: found {header.width}x{header.height} = {pixels} pixels, "
            f"allowed are {max_pixels}; raise max_pixels if the file is trusted"
        )
    tiles: list[bytes] = []
    position = _read_section(data, len(SIGNATURE))[3]
    sections = 1
    while position < len(data):
        sections += 1
        if sections > MAX_SECTIONS:
            raise UnsupportedError(f"sections: found more than the {MAX_SECTIONS} allowed")
        kind, start, end, following = _read_section(data, position)
        if kind == SECTION_TILE:
            if tiles:
                raise CorruptError(f"tile at offset {position}: found a second one, allowed is one")
            tiles.append(data[start:end])
        elif kind == SECTION_HEAD:
            raise CorruptError(f"HEAD section at offset {position}: found a second one")
        elif not kind & ANCILLARY_BIT:
            raise UnsupportedError(
                f"section at offset {position}: unknown critical type {kind:#04x}"
            )
        position = following
    if not tiles:
        raise TruncatedError("tiles: found 0, the header announces 1")
    return Container(header, tuple(tiles))
