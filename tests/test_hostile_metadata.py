"""Metadata that are none: a file keeps whatever bytes it was given, so outputs get any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import forge
from caezip import Codec
from caezip.container import Metadata
from caezip.errors import OutputError
from caezip.image_io import encode_image
from caezip.picture import Picture

PIXELS = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
SUFFIXES = (".png", ".jpg", ".webp", ".tif")
# one tag that points beyond the end, one of an unknown kind, one of the wrong kind
EXIF = bytes.fromhex(
    "4d4d002a 00000008 0003 010f 0002 00ffffff 00ffff00 8769 00ff 00000001 00000000"
    "011a 0003 00000009 00000010 00000000"
)
odd_bytes = st.one_of(
    st.none(),
    st.binary(max_size=80),
    st.builds(
        lambda place, new: EXIF[:place] + new + EXIF[place + len(new) :],
        st.integers(0, len(EXIF)),
        st.binary(max_size=6),
    ),
)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=80)
@given(icc=odd_bytes, exif=odd_bytes, xmp=odd_bytes)
def test_metadata_that_are_none_are_written_or_refused(
    suffix: str, icc: bytes | None, exif: bytes | None, xmp: bytes | None
) -> None:
    picture = Picture(PIXELS, None, Metadata(icc, exif, xmp))
    try:
        assert encode_image(picture, suffix)
    except OutputError as error:
        assert str(error).startswith(f"output type {suffix}: ")  # noqa: PT017  # either will do


@pytest.mark.parametrize("exif", [b"", b"EXIF?", b"MM\0*", EXIF[:30], bytes(70000)])
def test_png_takes_whatever_the_file_has(codec: Codec, exif: bytes) -> None:
    metadata = [forge.section(kind, exif) for kind in (0x81, 0x82, 0x83)]
    data = forge.cae(forge.head_section(), *metadata, forge.tile_section(b"\x1e\x90\xff"))
    picture = codec.decode_picture(data)
    assert picture.metadata == Metadata(exif, exif, exif)
    assert exif in encode_image(picture, ".png")
