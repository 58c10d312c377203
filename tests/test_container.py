"""The container: whatever is written is read back, whatever FORMAT.md forbids is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import forge
from caezip import Codec, container
from caezip.errors import (
    BitstreamError,
    CorruptError,
    NotCaeError,
    ParameterError,
    TruncatedError,
    UnsupportedError,
)
from caezip.image_io import Pixels

sides = st.integers(1, 65535) | st.sampled_from([1, 127, 128, 16383, 16384, 65535])
streams = st.binary(max_size=300)
FILE = forge.cae(forge.head_section(), forge.tile_section(b"eight by"))


def write(
    width: int = 32,
    height: int = 24,
    *,
    model_id: int = 1,
    quality: int = 5000,
    pixel_format: str = "rgb8",
    has_filters: bool = False,
    tiles_continue: bool = False,
    stream: bytes = bytes(8),
) -> bytes:
    return container.write(
        model_id=model_id,
        width=width,
        height=height,
        quality_hundredths=quality,
        pixel_format=pixel_format,
        has_filters=has_filters,
        tiles_continue=tiles_continue,
        tiles=(stream,),
    )


# -- there and back ----------------------------------------------------------


@given(
    width=sides,
    height=sides,
    model_id=st.integers(0, 65535),
    quality=st.integers(100, 10000),
    pixel_format=st.sampled_from(["gray8", "rgb8", "gray16", "rgb16"]),
    has_filters=st.booleans(),
    tiles_continue=st.booleans(),
    stream=streams,
)
def test_what_is_written_is_read_back(
    width: int,
    height: int,
    model_id: int,
    quality: int,
    pixel_format: str,
    has_filters: bool,
    tiles_continue: bool,
    stream: bytes,
) -> None:
    data = write(
        width,
        height,
        model_id=model_id,
        quality=quality,
        pixel_format=pixel_format,
        has_filters=has_filters,
        tiles_continue=tiles_continue,
        stream=stream,
    )
    parsed = container.read(data, max_pixels=None)
    assert parsed.tiles == (stream,)
    flags = has_filters, tiles_continue
    fields = (1, model_id, width, height, quality, pixel_format, 0, len(data), *flags)
    expected = container.Header(*fields)
    assert parsed.header == container.read_header(data) == expected
    assert parsed.header.quality == quality / 100
    assert len(data) - len(stream) <= 32


def test_the_bytes_are_those_that_the_format_lays_down() -> None:
    payload = forge.head(model_id=0xABCD, quality=7525, pixel_format=0, width=b"\xac\x02")
    expected = forge.cae(forge.head_section(payload), forge.tile_section(b"12345678"))
    found = write(300, 24, model_id=0xABCD, quality=7525, pixel_format="gray8", stream=b"12345678")
    assert found == expected


def test_the_overhead_is_at_most_32_bytes_for_the_largest_image_and_stream() -> None:
    stream = bytes(1 << 21)  # from here on its length takes four bytes, up to the limit
    data = write(65535, 65535, model_id=65535, quality=10000, stream=stream)
    assert len(data) - len(stream) == 32


@pytest.mark.parametrize("quality", [1, 1.01, 33.33, 74.99, 99.99, 100])
def test_hundredths_of_quality_are_kept(codec: Codec, photo: Pixels, quality: float) -> None:
    header = container.read_header(codec.encode(photo[:9, :9], quality=quality))
    assert header.quality == quality


def test_qualities_are_rounded_to_the_nearest_hundredth() -> None:
    assert container.quality_in_hundredths(50.004) == 5000
    assert container.quality_in_hundredths(50.006) == 5001
    assert container.quality_in_hundredths(7) == 700


def test_a_stream_too_long_for_its_length_field_is_a_parameter_error() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 1 << 28

    with pytest.raises(ParameterError, match="allowed are below 256 MiB"):
        write(stream=Huge())


# -- damage ------------------------------------------------------------------


@pytest.mark.parametrize("data", [FILE, write(60000, 3, stream=bytes(range(200)))])
def test_every_truncation_is_refused(data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            container.read(data[:length])
    for length in range(4, len(data)):  # no longer than the file, and starting like one
        with pytest.raises(TruncatedError):
            container.read(data[:length])


@pytest.mark.parametrize("data", [FILE, write(60000, 3, stream=bytes(range(200)))])
def test_every_flipped_bit_is_refused(data: bytes) -> None:
    for bit in range(8 * len(data)):
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            container.read(bytes(altered))


@given(data=st.data())
def test_any_altered_byte_of_any_file_is_refused(data: st.DataObject) -> None:
    whole = bytearray(write(data.draw(sides), data.draw(sides), stream=data.draw(streams)))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BitstreamError):
        container.read(bytes(whole), max_pixels=None)


@given(data=st.binary(max_size=60))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    for start in (b"", forge.SIGNATURE):
        with pytest.raises(BitstreamError):
            container.read(start + data)


def test_a_codec_refuses_a_sample_of_damaged_files(codec: Codec, encoded: bytes) -> None:
    for place in range(0, len(encoded), 1 + len(encoded) // 40):
        altered = bytearray(encoded)
        altered[place] ^= 0x10
        for damaged in (bytes(altered), encoded[:place]):
            with pytest.raises(BitstreamError):
                codec.decode(damaged)
            with pytest.raises(BitstreamError):
                codec.decode_latents(damaged)


@pytest.mark.parametrize("rest", [b"\x00", b"\x00" * 9, b"some text behind the file"])
def test_trailing_bytes_are_refused(codec: Codec, encoded: bytes, rest: bytes) -> None:
    with pytest.raises(BitstreamError):
        container.read(FILE + rest)
    with pytest.raises(BitstreamError):
        codec.decode(encoded + rest)


# -- signature ---------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"PNG", b"\xcaEX\x01", b"\x89PNG\r\n\x1a\n", b"EZ"])
def test_other_files_are_not_cae_files(data: bytes) -> None:
    with pytest.raises(NotCaeError, match="signature: found"):
        container.read(data)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_beginning_of_the_signature_is_a_truncated_file(length: int) -> None:
    with pytest.raises(TruncatedError, match=f"signature: needs 4 bytes, found {length}"):
        container.read(forge.SIGNATURE[:length])


@pytest.mark.parametrize("version", [0, 2, 255])
def test_other_versions_of_the_format_are_unsupported(version: int) -> None:
    data = FILE[:3] + bytes([version]) + FILE[4:]
    with pytest.raises(UnsupportedError, match=f"format_version: found {version}, .* reads 1"):
        container.read(data)


def test_the_first_checksum_vouches_for_the_signature() -> None:
    unsigned = forge.section(forge.HEAD, forge.head())  # as if it were a later section
    with pytest.raises(CorruptError, match="checksum does not match"):
        container.read(forge.cae(unsigned, forge.tile_section()))


# -- HEAD --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "error", "message"),
    [
        (forge.head(flags=4), UnsupportedError, "flags: found 0x04"),
        (forge.head(flags=7), UnsupportedError, "flags: found 0x07"),
        (forge.head(flags=0x80), UnsupportedError, "flags: found 0x80"),
        (forge.head(quality=99), CorruptError, "quality: found 99 hundredths"),
        (forge.head(quality=0), CorruptError, "quality: found 0 hundredths"),
        (forge.head(quality=10001), CorruptError, "quality: found 10001 hundredths"),
        (forge.head(pixel_format=4), UnsupportedError, "pixel_format: found 4"),
        (forge.head(tile_size=1), CorruptError, "tile_size: found 1 for an image of one tile"),
        (forge.head(width=b"\x00"), CorruptError, "width: found 0, allowed are 1 to 65535"),
        (forge.head(height=b"\x00"), CorruptError, "height: found 0, allowed are 1 to 65535"),
        (forge.head(width=forge.varint(65536)), CorruptError, "width: found 65536"),
        (forge.head(height=forge.varint((1 << 28) - 1)), CorruptError, "height: found 268435455"),
        (forge.head(width=forge.varint(32, pad=1)), CorruptError, "width .*shortest form"),
        (forge.head(height=forge.varint(300, pad=2)), CorruptError, "height .*shortest form"),
        (forge.head(width=b"\xff\xff\xff\xff\x01"), CorruptError, "width .*longer than 4 bytes"),
        (forge.head(height=b"\x80"), CorruptError, "HEAD section: height: needs 1 bytes"),
        (forge.head(rest=b"\x00"), CorruptError, "HEAD section: 1 bytes too long"),
        (forge.head()[:-1], CorruptError, "HEAD section: height"),
        (forge.head()[:3], CorruptError, "HEAD section: quality"),
        (b"", CorruptError, "HEAD section: flags"),
    ],
)
def test_a_head_with_a_matching_checksum_is_still_checked(
    payload: bytes, error: type[BitstreamError], message: str
) -> None:
    data = forge.cae(forge.head_section(payload), forge.tile_section())
    for read in (container.read, container.read_header):
        with pytest.raises(error, match=message):
            read(data)


@pytest.mark.parametrize("quality", [100, 10000])
@pytest.mark.parametrize("model_id", [0, 65535])
def test_the_ends_of_every_range_are_allowed(quality: int, model_id: int) -> None:
    side = forge.varint(65535)
    payload = forge.head(quality=quality, model_id=model_id, width=side, height=side)
    data = forge.cae(forge.head_section(payload), forge.tile_section())
    header = container.read(data, max_pixels=None).header
    assert (header.quality_hundredths, header.model_id) == (quality, model_id)
    assert (header.width, header.height) == (65535, 65535)


def test_a_header_is_read_without_the_tiles_behind_it() -> None:
    head = forge.cae(forge.head_section())
    expected = replace(container.read_header(FILE), file_size_bytes=len(head))
    assert container.read_header(head) == expected


# -- sections ----------------------------------------------------------------


@pytest.mark.parametrize("kind", [0x00, 0x05, 0x10, 0x7F])
def test_unknown_critical_sections_are_refused(kind: int) -> None:
    extra = forge.section(kind, b"new")
    with pytest.raises(UnsupportedError, match=f"unknown critical type {kind:#04x}"):
        container.read(forge.cae(forge.head_section(), extra, forge.tile_section()))


@pytest.mark.parametrize("kind", [0x80, 0x84, 0xFF])
def test_unknown_ancillary_sections_are_skipped(codec: Codec, encoded: bytes, kind: int) -> None:
    extra = forge.section(kind, b"something new")
    data = forge.cae(forge.head_section(), extra, extra, forge.tile_section(b"the tile"))
    assert container.read(data).tiles == (b"the tile",)
    behind_head = 4 + len(forge.head_section())
    assert encoded[behind_head] == forge.TILE
    (before,) = codec.decode_latents(encoded)
    (after,) = codec.decode_latents(encoded[:behind_head] + extra + encoded[behind_head:])
    assert (before.residual == after.residual).all()


def test_ancillary_sections_are_skipped_only_if_they_are_whole() -> None:
    extra = bytearray(forge.section(0x81, b"profile"))
    extra[3] ^= 1
    with pytest.raises(CorruptError, match=r"section 0x81 at offset .* checksum does not match"):
        container.read(forge.cae(forge.head_section(), bytes(extra), forge.tile_section()))


@pytest.mark.parametrize(
    ("sections", "error", "message"),
    [
        ((forge.head_section(),), TruncatedError, "tiles: found 0"),
        (
            (forge.head_section(), forge.tile_section(), forge.tile_section()),
            CorruptError,
            "found 14 bytes behind the last tile",
        ),
        (
            (forge.head_section(), forge.section(forge.HEAD, forge.head()), forge.tile_section()),
            CorruptError,
            "section at offset .*: found a second 0x01",
        ),
        (
            (forge.head_section(), *[forge.section(0x82, b"II")] * 2, forge.tile_section()),
            CorruptError,
            "section at offset .*: found a second 0x82",
        ),
        (
            (forge.head_section(), forge.section(forge.INDEX, b"\x08"), forge.tile_section()),
            CorruptError,
            "INDEX section: found one, files of one tile have none",
        ),
        (
            (forge.section(forge.TILE, bytes(8), first=True), forge.head_section()),
            CorruptError,
            "first section: found type 0x02, allowed is HEAD",
        ),
        (
            (forge.section(0x81, b"", first=True), forge.head_section(), forge.tile_section()),
            CorruptError,
            "first section: found type 0x81, allowed is HEAD",
        ),
        ((), TruncatedError, "section type: needs 1 bytes at offset 4, found 0"),
    ],
)
def test_wrong_sequences_of_sections_are_refused(
    sections: tuple[bytes, ...], error: type[BitstreamError], message: str
) -> None:
    with pytest.raises(error, match=message):
        container.read(forge.cae(*sections))


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (b"\x88\x00", "section length at offset .*: not in its shortest form"),
        (b"\x88\x80\x80\x80\x00", "section length at offset .*: longer than 4 bytes"),
        (b"\xff\xff\xff\xff\xff", "section length at offset .*: longer than 4 bytes"),
    ],
)
def test_overlong_lengths_are_refused(length: bytes, message: str) -> None:
    tile = forge.section(forge.TILE, bytes(8), length=length)
    with pytest.raises(CorruptError, match=message):
        container.read(forge.cae(forge.head_section(), tile))


def test_a_length_beyond_the_end_is_a_truncated_file() -> None:
    tile = forge.section(forge.TILE, bytes(8), length=forge.varint((1 << 28) - 1))
    with pytest.raises(TruncatedError, match="section 0x02: needs 268435455 bytes"):
        container.read(forge.cae(forge.head_section(), tile))


def test_63_sections_before_the_first_tile_are_read_and_64_refused() -> None:
    extra = [forge.section(0x80, b"")] * 63
    most = forge.cae(forge.head_section(), *extra, forge.tile_section())
    assert container.read(most).tiles == (bytes(8),)
    more = forge.cae(forge.head_section(), *extra, extra[0], forge.tile_section())
    with pytest.raises(UnsupportedError, match="sections: found more than 63 in front of"):
        container.read(more)


# -- limits ------------------------------------------------------------------


def test_max_pixels_is_a_limit_that_can_be_moved_and_lifted() -> None:
    data = write(65535, 65535)
    with pytest.raises(UnsupportedError, match="found 65535x65535 = 4294836225 pixels, allowed"):
        container.read(data)
    assert container.read(data, max_pixels=65535**2).header.width == 65535
    assert container.read(data, max_pixels=None).header.height == 65535
    with pytest.raises(UnsupportedError, match="allowed are 767"):
        container.read(write(32, 24), max_pixels=767)
    assert container.read(write(32, 24), max_pixels=768).tiles
