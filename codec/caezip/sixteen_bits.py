"""16-bit samples of image files, of most of which Pillow drops the low bytes without a word."""

from __future__ import annotations

import io
import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caezip.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

_GRAY_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_BITS_PER_SAMPLE = 258  # TIFF tag
_MAX_LEVEL = 65535
_JPEG2000_START = b"\xff\x4f\xff\x51"  # the markers SOC and SIZ
_SEEKABLE_DECODERS = frozenset({"raw", "zip", "libtiff"})


def has_sixteen_bits(image: Image) -> bool:
    """Whether the samples in the image's file have more than 8 bits; false once it is loaded."""
    if _is_gray(image):
        return True
    if image.mode not in ("RGB", "RGBA"):
        return False
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, ())
    return (
        any(_raw_mode(tile)[-4:-1] == ";16" for tile in _tiles(image))
        or any(_ppm_max_level(tile) > 255 for tile in _tiles(image))
        or (bool(_tiles(image)) and max(bits, default=0) > 8)
    )


def read_sixteen_bits(image: Image) -> tuple[NDArray[np.uint16], Image]:
    """The samples, upright, ``[H, W]`` to ``[H, W, 4]``, and the upright image for its metadata.

    Raises ImageError for arrangements of samples that Pillow cannot be made to read.
    """
    from PIL import ImageOps

    if _is_gray(image):
        upright = ImageOps.exif_transpose(image)
        array = np.asarray(upright).astype(np.uint16)
    else:
        array, upright = _colours(image)
    transparent = upright.info.get("transparency")
    if transparent is not None:
        levels = array.reshape(*array.shape[:2], -1)
        alpha = np.where((levels == transparent).all(axis=2), 0, _MAX_LEVEL)
        array = np.dstack([array, alpha.astype(np.uint16)])
    return array, upright


def refuse_cut_samples(image: Image) -> None:
    """Raises ImageError for files of whose samples Pillow gives the upper 8 bits alone."""
    finders = {"JPEG2000": _jpeg2000_bits, "AVIF": _avif_bits}
    stream = getattr(image, "fp", None)  # None: loaded already, and nobody can tell any more
    if image.format not in finders or _is_gray(image) or stream is None or not stream.seekable():
        return
    before = stream.tell()
    stream.seek(0)
    bits = finders[image.format](stream.read())
    stream.seek(before)
    if bits > 8:
        raise ImageError(
            f"image: its samples have {bits} bits, of which {image.format} files are read to 8; "
            "convert it to a 16-bit PNG first"
        )


def _jpeg2000_bits(data: bytes) -> int:
    """Ssiz of the components, ISO 15444-1 A.5.1, which follows the start of the codestream."""
    start = data.find(_JPEG2000_START)
    count = int.from_bytes(data[start + 40 : start + 42], "big") if start >= 0 else 0
    depths = data[start + 42 : start + 42 + 3 * count : 3]
    return max(((depth & 0x7F) + 1 for depth in depths), default=0)


def _avif_bits(data: bytes) -> int:
    """The flags high_bitdepth and twelve_bit of the configuration, av1C in the AV1-ISOBMFF text."""
    bits, start = 0, data.find(b"av1C")
    while start >= 0:
        flags = data[start + 6 : start + 7] or b"\0"
        bits = max(bits, 8 + 2 * (flags[0] >> 6 & 1) + 2 * (flags[0] >> 5 & 1))
        start = data.find(b"av1C", start + 4)
    return bits


def _tiles(image: Image) -> list[Any]:
    """What Pillow has yet to read: decoder, box, offset and arguments of each part."""
    return list(getattr(image, "tile", []))


def _raw_mode(tile: Any) -> str:
    """How Pillow's decoder unpacks samples, such as "RGB;16B"."""
    return str(tile[3] if isinstance(tile[3], str) else tile[3][0])


def _ppm_max_level(tile: Any) -> int:
    return int(tile[3][1]) if str(tile[0]).startswith("ppm") else 0


def _is_gray(image: Image) -> bool:
    # some versions of Pillow have a mode of 32 bits for those of 16 in these files
    return image.mode in _GRAY_MODES or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _colours(image: Image) -> tuple[NDArray[np.uint16], Image]:
    if {_raw_mode(tile) for tile in _tiles(image)} == {"LA;16B"}:
        bytes_of_both, upright = _read_again(image, "RGBA")  # 32 bits a pixel either way
        array = bytes_of_both.astype(np.uint16)
        array[:, :, 0::2] <<= 8
        array[:, :, 0::2] |= array[:, :, 1::2]
        return array[:, :, 0::2], upright
    # these unpackers keep the first and the second byte of each sample
    first, upright = _read_again(image, "16B")
    second, _ = _read_again(image, "16L")
    order = {_order(tile) for tile in _tiles(image)}
    high, low = (first, second) if order == {"big"} else (second, first)
    array = high.astype(np.uint16)
    array <<= 8
    array |= low
    return array, upright


def _order(tile: Any) -> str:
    letter = _raw_mode(tile)[-1]
    return {"L": "little", "N": sys.byteorder}.get(letter, "big")  # PPM's is big


def _read_again(image: Image, unpacker: str) -> tuple[NDArray[np.uint8], Image]:
    """8 of the bits of each sample, from the image's file, by another of Pillow's unpackers."""
    from PIL import Image as PilImages
    from PIL import ImageOps

    stream = getattr(image, "fp", None)
    if stream is None or not stream.seekable():
        raise ImageError("image: its samples have 16 bits, and its file cannot be read twice")
    before = stream.tell()
    stream.seek(0)
    data = stream.read()
    stream.seek(before)
    with PilImages.open(io.BytesIO(data)) as again:
        if image.tell():
            again.seek(image.tell())
        again.tile = [_with_unpacker(tile, unpacker) for tile in _tiles(again)]
        upright = ImageOps.exif_transpose(again)
        return np.asarray(upright, np.uint8), upright


def _with_unpacker(tile: Any, unpacker: str) -> Any:
    decoder, box, offset, arguments = tile
    raw = _raw_mode(tile)
    if decoder == "ppm" and _ppm_max_level(tile) == _MAX_LEVEL:
        decoder, raw, arguments = "raw", "RGB;16B", ("RGB;16B", 0, 1)
    if decoder not in _SEEKABLE_DECODERS or not re.fullmatch(r"(RGB|RGBX|RGBA|LA);16[BLN]", raw):
        raise ImageError(
            f"image: its samples have more than 8 bits, arranged in a way that is not read "
            f"({decoder}, {raw}); a 16-bit PNG is"
        )
    raw = unpacker if raw == "LA;16B" else f"{raw.split(';')[0]};{unpacker}"
    arguments = raw if isinstance(arguments, str) else (raw, *arguments[1:])
    make = getattr(type(tile), "_make", tuple)  # a plain tuple in older versions of Pillow
    return make((decoder, box, offset, arguments))
