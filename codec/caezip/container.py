"""The .cae file: a signature and checksummed sections. FORMAT.md is normative.

This module knows bytes and limits only. It imports neither torch nor numpy, so
that reading a header costs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from numbers import Real

from caezip.errors import (
    CorruptError,
    NotCaeError,
    ParameterError,
    TruncatedError,
    UnsupportedError,
)
from caezip.sections import (
    CRC_BYTES,
    FORMAT_VERSION,
    MAGIC,
    SIGNATURE,
    Reader,
    Section,
    find_section,
    section,
    varint,
)
from caezip.tiling import TileGrid

SECTION_HEAD = 0x01
SECTION_TILE = 0x02
SECTION_INDEX = 0x03
SECTION_ALPHA = 0x04
SECTION_ICC, SECTION_EXIF, SECTION_XMP = 0x81, 0x82, 0x83
METADATA_SECTIONS = (SECTION_ICC, SECTION_EXIF, SECTION_XMP)
KNOWN_SECTIONS = frozenset({SECTION_INDEX, SECTION_ALPHA, *METADATA_SECTIONS})
ANCILLARY_BIT = 0x80  # sections with it may be skipped, unknown ones without it may not

PIXEL_FORMATS = {0: "gray8", 1: "rgb8", 2: "gray16", 3: "rgb16"}
TILE_UNIT = 64  # pixels: a hyper-latent cell; tiles are whole numbers of them a side
MAX_TILE_UNITS = 255
MAX_SIDE = 65535  # what the format can say; `image_io.MAX_SIDE` is what is encoded
MAX_TILES = 65536
FLAG_FILTERS = 0x01  # streams end with filters
FLAG_CONTINUED = 0x02  # means are predicted as if tiles went on where others follow
KNOWN_FLAGS = FLAG_FILTERS | FLAG_CONTINUED
MAX_OTHER_SECTIONS = 63  # in front of the first tile: INDEX, metadata and what is skipped
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
    pixel_format: str  # "gray8", "rgb8", "gray16" or "rgb16"
    tile_side: int  # pixels, a multiple of 64; 0: one tile covers the image
    file_size_bytes: int
    has_filters: bool = False  # whether tiles may have some, see `caezip.adaptive_filter`
    tiles_continue: bool = False  # whether means see no edge between tiles

    @property
    def quality(self) -> float:
        """1…100, in steps of 0.01."""
        return self.quality_hundredths / QUALITY_UNIT

    @property
    def bpp(self) -> float:
        """Bits of the whole file per pixel."""
        return 8 * self.file_size_bytes / (self.width * self.height)


@dataclass(frozen=True)
class Metadata:
    """What a file keeps besides its pixels; None where it has none."""

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None


@dataclass(frozen=True)
class Container:
    """A parsed file: its header, the payload of each tile, and what goes with them.

    ``tiles`` has one entry per tile of the `TileGrid`, in row-major order: its
    payload, or None if it was not asked for or, in salvage, is ``damaged``.
    """

    header: Header
    tiles: tuple[bytes | None, ...]
    alpha: bytes | None = None  # a PNG of the alpha channel
    metadata: Metadata = Metadata()
    damaged: tuple[str, ...] = ()  # what `salvage` had to leave out


def quality_in_hundredths(quality: object) -> int:
    """The header's unit. Raises ParameterError unless quality is a number from 1 to 100."""
    if isinstance(quality, bool) or not isinstance(quality, Real):  # numpy's numbers too
        raise ParameterError(
            f"quality: found {type(quality).__name__}, allowed is a number from 1 to 100"
        )
    number = float(quality)
    if not MIN_QUALITY <= number <= MAX_QUALITY:  # also refuses NaN
        raise ParameterError(f"quality: found {quality}, allowed is a number from 1 to 100")
    return round(number * QUALITY_UNIT)


def as_bytes(data: object) -> bytes:
    """Any bytes-like object as bytes. Raises ParameterError for anything else."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ParameterError(f"data: found {type(data).__name__}, allowed is bytes")
    return bytes(data)


def write(
    *,
    model_id: int,
    width: int,
    height: int,
    quality_hundredths: int,
    pixel_format: str,
    tiles: Sequence[bytes],
    tile_side: int = 0,
    has_filters: bool = False,
    tiles_continue: bool = False,
    alpha: bytes | None = None,
    metadata: Metadata = Metadata(),
) -> bytes:
    """The bytes of a file. All values must be in the ranges that `Header` states.

    ``tiles`` has as many payloads as the `TileGrid` has tiles.
    """
    codes = {name: code for code, name in PIXEL_FORMATS.items()}
    head = (
        bytes([FLAG_FILTERS * has_filters | FLAG_CONTINUED * tiles_continue])
        + model_id.to_bytes(2, "little")
        + quality_hundredths.to_bytes(2, "little")
        + bytes([codes[pixel_format], tile_side // TILE_UNIT])
        + varint(width)
        + varint(height)
    )
    parts: list[tuple[int, bytes | None]] = [
        (SECTION_ICC, metadata.icc_profile),
        (SECTION_EXIF, metadata.exif),
        (SECTION_XMP, metadata.xmp),
        (SECTION_ALPHA, alpha),
    ]
    if tile_side:
        parts.append((SECTION_INDEX, b"".join(varint(len(tile)) for tile in tiles)))
    parts += [(SECTION_TILE, tile) for tile in tiles]
    sections = [section(SECTION_HEAD, head, covered=SIGNATURE)]
    sections += [section(kind, payload) for kind, payload in parts if payload is not None]
    return SIGNATURE + b"".join(sections)


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


def _parse_head(payload: bytes, file_size_bytes: int) -> Header:
    reader = Reader(payload, 0, len(payload))
    try:
        flags = reader.uint(1, "flags")
        model_id = reader.uint(2, "model_id")
        quality = reader.uint(2, "quality")
        pixel_format = reader.uint(1, "pixel_format")
        tile_side = TILE_UNIT * reader.uint(1, "tile_size")
        width, height = reader.varint("width"), reader.varint("height")
    except TruncatedError as error:  # the section is whole, so its contents are wrong
        raise CorruptError(f"HEAD section: {error}") from None
    if flags & ~KNOWN_FLAGS:
        raise UnsupportedError(
            f"flags: found {flags:#04x}, this caezip knows only those in {KNOWN_FLAGS:#04x}"
        )
    if not MIN_QUALITY * QUALITY_UNIT <= quality <= MAX_QUALITY * QUALITY_UNIT:
        raise CorruptError(f"quality: found {quality} hundredths, allowed are 100 to 10000")
    if pixel_format not in PIXEL_FORMATS:
        raise UnsupportedError(f"pixel_format: found {pixel_format}, allowed are {PIXEL_FORMATS}")
    for name, side in (("width", width), ("height", height)):
        if not 1 <= side <= MAX_SIDE:
            raise CorruptError(f"{name}: found {side}, allowed are 1 to {MAX_SIDE}")
    if reader.position != len(payload):
        raise CorruptError(f"HEAD section: {len(payload) - reader.position} bytes too long")
    if tile_side and width <= tile_side and height <= tile_side:
        raise CorruptError(
            f"tile_size: found {tile_side // TILE_UNIT} for an image of one tile, allowed is 0"
        )
    return Header(
        FORMAT_VERSION,
        model_id,
        width,
        height,
        quality,
        PIXEL_FORMATS[pixel_format],
        tile_side,
        file_size_bytes,
        bool(flags & FLAG_FILTERS),
        bool(flags & FLAG_CONTINUED),
    )


def read_header(data: bytes) -> Header:
    """The header of a file, whose tiles may be missing or damaged.

    Raises NotCaeError, TruncatedError, CorruptError or UnsupportedError.
    """
    return _read_head(data)[0]


def _read_head(data: bytes) -> tuple[Header, int]:
    """The header, and where the section after it begins."""
    _check_signature(data)
    section = find_section(data, len(SIGNATURE))
    payload = section.payload(data)
    if section.kind != SECTION_HEAD:
        raise CorruptError(f"first section: found type {section.kind:#04x}, allowed is HEAD (0x01)")
    return _parse_head(payload, len(data)), section.following


def check_pixels(header: Header, max_pixels: int | None) -> None:
    """Raises UnsupportedError for more than ``max_pixels`` (None: no limit)."""
    pixels = header.width * header.height
    if max_pixels is not None and pixels > max_pixels:
        raise UnsupportedError(
            f"dimensions: found {header.width}x{header.height} = {pixels} pixels, "
            f"allowed are {max_pixels}; raise max_pixels if the file is trusted"
        )


def read(
    data: bytes,
    *,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    wanted: Collection[int] | None = None,
    salvage: bool = False,
) -> Container:
    """Parse a file and verify the checksums of what is returned.

    ``wanted``: numbers of the tiles to return, all if None. ``salvage``: return what
    is whole, with None for tiles that are not, instead of raising; a damaged header
    or index still raises, since nothing can be found without them.

    Raises NotCaeError, TruncatedError, CorruptError or UnsupportedError, the
    last also for more than ``max_pixels`` (None: no limit).
    """
    header, position = _read_head(data)
    check_pixels(header, max_pixels)
    grid = TileGrid(header.width, header.height, header.tile_side)
    if grid.count > MAX_TILES:
        raise UnsupportedError(f"tiles: found {grid.count}, allowed are {MAX_TILES}")
    parser = _Parser(data, header, grid, salvage)
    parser.read_others(position)
    return parser.read_tiles(wanted)


class _Parser:
    """Reads what follows the header: first all other sections, then the tiles."""

    def __init__(self, data: bytes, header: Header, grid: TileGrid, salvage: bool) -> None:
        self._data, self._header, self._grid, self._salvage = data, header, grid, salvage
        self._payloads: dict[int, bytes] = {}
        self._damaged: list[str] = []
        self._position = 0

    def read_others(self, position: int) -> None:
        """Every section in front of the first tile."""
        kinds: set[int] = set()
        for count in range(MAX_OTHER_SECTIONS + 1):
            if position == len(self._data):
                raise TruncatedError(f"tiles: found 0, the header announces {self._grid.count}")
            section = find_section(self._data, position)
            if section.kind == SECTION_TILE:
                self._position = position
                return
            if count == MAX_OTHER_SECTIONS:
                break
            known = section.kind in KNOWN_SECTIONS
            try:
                payload = section.payload(self._data)
            except CorruptError as error:
                if not self._salvage or section.kind == SECTION_INDEX:
                    raise
                self._damaged.append(str(error))
                position = section.following
                continue
            if (known and section.kind in kinds) or section.kind == SECTION_HEAD:
                raise CorruptError(
                    f"section at offset {position}: found a second {section.kind:#04x}"
                )
            if not known and not section.kind & ANCILLARY_BIT:
                raise UnsupportedError(
                    f"section at offset {position}: unknown critical type {section.kind:#04x}"
                )
            kinds.add(section.kind)
            if known:
                self._payloads[section.kind] = payload
            position = section.following
            if section.kind == SECTION_INDEX:  # nothing lies between it and the tiles
                self._position = position
                return
        raise UnsupportedError(
            f"sections: found more than {MAX_OTHER_SECTIONS} in front of the first tile"
        )

    def read_tiles(self, wanted: Collection[int] | None) -> Container:
        lengths = self._tile_lengths()
        chosen = range(self._grid.count) if wanted is None else frozenset(wanted)
        tiles: list[bytes | None] = []
        for number in range(self._grid.count):
            length = lengths[number] if lengths else None
            try:
                section = self._tile(number, length)
                tiles.append(section.payload(self._data) if number in chosen else None)
                self._position = section.following
            except (CorruptError, TruncatedError) as error:
                place = self._grid.place(number)
                if not self._salvage:
                    raise type(error)(f"{place}: {error}") from None
                self._damaged.append(f"{place}: {error}")
                tiles.append(None)
                if length is None:
                    break
                after = self._position + 1 + len(varint(length)) + length + CRC_BYTES
                self._position = min(after, len(self._data))
        if not self._salvage and self._position != len(self._data):
            raise CorruptError(
                f"end of file: found {len(self._data) - self._position} bytes behind the last tile"
            )
        metadata = Metadata(*(self._payloads.get(kind) for kind in METADATA_SECTIONS))
        return Container(
            self._header,
            tuple(tiles),
            self._payloads.get(SECTION_ALPHA),
            metadata,
            tuple(self._damaged),
        )

    def _tile(self, number: int, length: int | None) -> Section:
        if self._position == len(self._data):
            raise TruncatedError(f"tiles: found {number}, the header announces {self._grid.count}")
        section = find_section(self._data, self._position)
        if section.kind != SECTION_TILE:
            raise CorruptError(
                f"section at offset {self._position}: found type {section.kind:#04x}, "
                "allowed is TILE (0x02)"
            )
        if length is not None and section.end - section.start != length:
            raise CorruptError(
                f"tile length: found {section.end - section.start}, the index says {length}"
            )
        return section

    def _tile_lengths(self) -> list[int] | None:
        payload = self._payloads.get(SECTION_INDEX)
        if (payload is not None) != bool(self._header.tile_side):
            raise CorruptError(
                "INDEX section: found none, files of several tiles need one"
                if payload is None
                else "INDEX section: found one, files of one tile have none"
            )
        if payload is None:
            return None
        reader = Reader(payload, 0, len(payload))
        try:
            lengths = [reader.varint("tile length") for _ in range(self._grid.count)]
        except TruncatedError as error:  # the section is whole, so its contents are wrong
            raise CorruptError(f"INDEX section: {error}") from None
        if reader.position != len(payload):
            raise CorruptError(f"INDEX section: {len(payload) - reader.position} bytes too long")
        return lengths
