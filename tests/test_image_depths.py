"""Files with more bits than Pillow gives: refused, for nothing is dropped in silence."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, features

from caezip.errors import ImageError
from caezip.image_io import read_picture
from images import file_of, gray_of, photo_like, sixteen_bits

PICTURE = photo_like(40, 52)


def jpeg2000(bits: int) -> bytes:
    """A file that announces ``bits`` a sample, before any are read."""
    data = bytearray(file_of(Image.fromarray(PICTURE), "JPEG2000"))
    sizes = data.index(b"\xff\x4f\xff\x51") + 42
    assert data[sizes : sizes + 9 : 3] == bytes([7, 7, 7])
    data[sizes : sizes + 9 : 3] = bytes([bits - 1] * 3)
    return bytes(data)


def avif(flags: int) -> bytes:
    """A file with a second configuration, in a box that Pillow, which writes 8 bits, skips."""
    configuration = b"av1C\x81\x00" + bytes([flags]) + b"\x00"
    box = (8 + len(configuration)).to_bytes(4, "big") + b"free" + configuration
    return file_of(Image.fromarray(PICTURE), "AVIF") + box


def test_jpeg2000_of_eight_bits_is_read() -> None:
    assert read_picture(io.BytesIO(jpeg2000(8))).samples.shape == PICTURE.shape


@pytest.mark.parametrize("bits", [9, 12, 16])
def test_jpeg2000_colours_of_more_bits_are_refused(bits: int) -> None:
    with pytest.raises(ImageError, match=f"its samples have {bits} bits, of which JPEG2000 files"):
        read_picture(io.BytesIO(jpeg2000(bits)))


def test_gray_jpeg2000_of_sixteen_bits_is_read_exactly() -> None:
    gray = sixteen_bits(gray_of(PICTURE))
    data = file_of(Image.fromarray(gray), "JPEG2000")
    assert np.array_equal(read_picture(io.BytesIO(data)).samples, gray)


@pytest.mark.skipif("avif" not in features.modules, reason="this Pillow reads no AVIF")
@pytest.mark.parametrize(("flags", "bits"), [(0x4C, 10), (0x6C, 12)])
def test_avif_of_more_bits_is_refused(flags: int, bits: int) -> None:
    assert read_picture(io.BytesIO(avif(0x0C))).samples.shape == PICTURE.shape
    with pytest.raises(ImageError, match=f"its samples have {bits} bits, of which AVIF files"):
        read_picture(io.BytesIO(avif(flags)))
