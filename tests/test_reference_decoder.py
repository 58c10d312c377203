"""FORMAT.md is complete: a decoder written from it alone reads what the codec reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load

import forge
import reference_decoder
from caezip import Codec, container
from caezip.container import Metadata
from caezip.errors import BitstreamError, CorruptError
from caezip.image_io import Pixels
from caezip.picture import Picture, Samples
from caezip.pretrained import find_model, load_model
from images import gray_of, noise, photo_like, sixteen_bits, smooth
from passes import coded_latent

Tensors = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def weights() -> Tensors:
    tensors: Tensors = load(find_model(None).file.read_bytes())
    return tensors


def read(data: bytes, weights: Tensors) -> reference_decoder.Integers:
    """The reference's integers of a file of one tile that is a stream."""
    (found,) = reference_decoder.decode(data, weights)
    assert isinstance(found, reference_decoder.Integers)
    return found


@pytest.mark.parametrize(
    ("picture", "quality"),
    [
        (photo_like(40, 56), 50),
        (photo_like(64, 64), 100),
        (photo_like(75, 33), 1),
        (gray_of(photo_like(50, 70)), 75.37),
        (gray_of(noise(2, 1)), 20),
        (noise(48, 31), 99.99),
        (noise(17, 65), 1.01),
        (smooth(33, 200), 66.6),
        (noise(1, 2), 100),
        (sixteen_bits(photo_like(40, 56)), 60),
        (sixteen_bits(gray_of(photo_like(30, 20))), 60),
    ],
)
def test_both_decoders_read_the_same_integers(
    codec: Codec, weights: Tensors, picture: Samples, quality: float
) -> None:
    data = codec.encode(picture, quality=quality)
    expected = read(data, weights)
    (latents,) = codec.decode_latents(data)
    assert np.array_equal(latents.hyper_latent, expected.z)
    assert np.array_equal(latents.residual, expected.r)
    assert expected.filter == []
    parsed = reference_decoder.parse(data)
    assert (parsed.width, parsed.height) == (picture.shape[1], picture.shape[0])
    assert parsed.pixel_format == picture.ndim - 2 + 2 * (picture.dtype == np.uint16)
    assert parsed.quality == round(100 * quality)


def test_both_decoders_read_escapes_of_every_length(codec: Codec, weights: Tensors) -> None:
    data = codec.encode(smooth(16, 16), quality=100)
    header = container.read_header(data)
    coder = load_model().coder
    z = np.resize(np.array([0, 1, -127, 127, 40, -3], np.int32), (coder.hyper_channels, 1, 1))
    symbols = np.array([0, 32767, -32767, 1, 4000, -129, 15, 300], np.int32)
    residual = np.resize(symbols, (coder.latent_channels, 1, 1))
    coded = coded_latent(coder.scales, z, residual, 10000)
    forged = container.write(
        model_id=header.model_id,
        width=16,
        height=16,
        quality_hundredths=10000,
        pixel_format="rgb8",
        tiles=(coder.encode(z, 10000, coded.passes),),
    )
    found = read(forged, weights)
    assert np.array_equal(found.z, z)
    assert np.array_equal(found.r, coded.symbols())


@pytest.mark.parametrize("share", [0.0, 0.03, 0.3, 0.7, 0.95])
def test_both_decoders_read_zeros_beyond_the_end_of_a_stream(
    codec: Codec, weights: Tensors, share: float
) -> None:
    parsed = container.read(codec.encode(photo_like(60, 90), quality=60))
    (stream,) = parsed.tiles
    assert stream is not None
    words = max(2, int(share * len(stream) / 4))
    forged = container.write(
        model_id=parsed.header.model_id,
        width=90,
        height=60,
        quality_hundredths=6000,
        pixel_format="rgb8",
        tiles=(stream[: 4 * words],),
    )
    try:
        expected = read(forged, weights)
    except ValueError:
        with pytest.raises(CorruptError):
            codec.decode_latents(forged)
    else:
        (latents,) = codec.decode_latents(forged)
        assert np.array_equal(latents.hyper_latent, expected.z)
        assert np.array_equal(latents.residual, expected.r)


# -- several tiles, and what goes with them ----------------------------------


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(
    "picture",
    [
        photo_like(70, 150),
        gray_of(photo_like(150, 66)),
        sixteen_bits(photo_like(65, 64)),
        np.pad(photo_like(64, 64), ((0, 30), (0, 80), (0, 0))),
    ],
)
def test_both_decoders_read_the_same_tiles(
    codec: Codec, weights: Tensors, picture: Samples
) -> None:
    data = codec.encode(picture, quality=50)
    expected = reference_decoder.decode(data, weights)
    found = codec.decode_latents(data)
    assert len(found) == len(expected) == -(-picture.shape[0] // 64) * -(-picture.shape[1] // 64)
    for latents, tile in zip(found, expected, strict=True):
        if isinstance(tile, reference_decoder.Flat):
            assert latents.residual.size == latents.hyper_latent.size == 0
        else:
            assert np.array_equal(latents.hyper_latent, tile.z)
            assert np.array_equal(latents.residual, tile.r)
    parsed = reference_decoder.parse(data)
    assert parsed.side == container.read_header(data).tile_side == 64


@pytest.mark.parametrize("convert", [lambda samples: samples, sixteen_bits])
def test_both_decoders_find_the_same_alpha_and_metadata(
    codec: Codec, convert: Callable[[Pixels], Samples]
) -> None:
    metadata = Metadata(b"a profile", b"II*\x00tags", b"<x/>")
    alpha = convert(gray_of(noise(9, 14)))
    data = codec.encode(Picture(convert(smooth(9, 14)), alpha, metadata))
    parsed = reference_decoder.parse(data)
    found = reference_decoder.alpha(parsed)
    assert found is not None
    assert np.array_equal(found, alpha)
    decoded = codec.decode_picture(data)
    assert decoded.alpha is not None
    assert np.array_equal(decoded.alpha, alpha)
    kinds = (reference_decoder.ICC, reference_decoder.EXIF, reference_decoder.XMP)
    assert Metadata(*(parsed.others[kind] for kind in kinds)) == metadata
    assert decoded.metadata == metadata


@given(
    head=st.builds(
        forge.head,
        flags=st.sampled_from([0, 0, 0, 1, 2, 3]),
        quality=st.sampled_from([100, 5000, 10_000, 99, 10_001]),
        pixel_format=st.integers(0, 4),
        tile_size=st.sampled_from([0, 0, 1, 1, 2, 255]),
        width=st.sampled_from([b"\x01", b"\x40", b"\x41", b"\x81\x01", b"\x80\x00", b"\x00"]),
        height=st.sampled_from([b"\x01", b"\x40", b"\x96\x01", b"\xff\xff\x03", b"\x80\x80\x04"]),
        rest=st.sampled_from([b"", b"", b"", b"", b"\x00"]),
    )
    | st.just(forge.head()),
    others=st.lists(
        st.tuples(
            st.sampled_from([0x80, 0x81, 0x82, 0x83, 0xFF, forge.ALPHA, 0x05, forge.HEAD]),
            st.binary(max_size=3),
        ),
        max_size=3,
    )
    | st.integers(61, 65).map(lambda count: [(0x80, b"")] * count),
    index=st.sampled_from([None, b"", b"\x08", b"\x08\x08", b"\x08" * 4, b"\x88\x00"]),
    tiles=st.integers(0, 4),
    behind=st.sampled_from([b"", b"", b"", b"\x00", forge.section(0x81, b"")]),
)
@settings(max_examples=400)
def test_both_decoders_take_the_same_files(
    head: bytes,
    others: list[tuple[int, bytes]],
    index: bytes | None,
    tiles: int,
    behind: bytes,
) -> None:
    sections = [forge.head_section(head)] + [forge.section(*other) for other in others]
    if index is not None:
        sections.append(forge.section(forge.INDEX, index))
    data = forge.cae(*sections, *[forge.tile_section()] * tiles) + behind
    try:
        expected = reference_decoder.parse(data)
    except ValueError:
        with pytest.raises(BitstreamError):
            container.read(data, max_pixels=None)
    else:
        found = container.read(data, max_pixels=None)
        assert list(found.tiles) == expected.tiles
        assert (found.header.width, found.header.height) == (expected.width, expected.height)


# -- tiles of one colour -----------------------------------------------------


def flat(height: int, width: int, *colour: int, dtype: type[Any] = np.uint8) -> Samples:
    shape = (height, width, 3) if len(colour) == 3 else (height, width)
    return np.full(shape, colour, dtype)


@pytest.mark.parametrize(
    "picture",
    [
        flat(24, 40, 200, 30, 7),
        flat(24, 40, 255, 255, 255),
        flat(65, 3, 0),
        flat(300, 200, 129),
        flat(9, 5, 257, 0, 65535, dtype=np.uint16),
        flat(9, 5, 1000, dtype=np.uint16),
        noise(1, 1),
        gray_of(noise(1, 1)),
    ],
)
@pytest.mark.parametrize("quality", [1, 66.67, 100])
def test_a_picture_of_one_colour_is_stored_as_that_colour_and_comes_back_exactly(
    codec: Codec, weights: Tensors, picture: Samples, quality: float
) -> None:
    data = codec.encode(picture, quality=quality)
    assert len(data) <= 35
    colour = tuple(np.atleast_1d(picture[0, 0]).tolist())
    assert reference_decoder.decode(data, weights) == [reference_decoder.Flat(colour)]
    assert np.array_equal(codec.decode(data), picture)
    (latents,) = codec.decode_latents(data)
    coder = load_model().coder
    assert latents.hyper_latent.shape == (coder.hyper_channels, 0, 0)
    assert latents.residual.shape == (coder.latent_channels, 0, 0)


@pytest.mark.parametrize("place", [(0, 0, 0), (23, 39, 2), (7, 20, 1)])
def test_one_sample_that_differs_makes_a_stream(
    codec: Codec, weights: Tensors, place: tuple[int, int, int]
) -> None:
    picture = flat(24, 40, 90, 90, 90)
    picture[place] = 91
    for pixels in (picture, picture.max(axis=2)):
        assert read(codec.encode(pixels), weights).r.shape[1:] == (2, 3)


@pytest.mark.parametrize("pixel_format", ["gray8", "rgb8", "gray16", "rgb16"])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 6, 7, 9])
def test_the_length_of_a_tile_tells_whether_it_is_a_colour(
    codec: Codec, weights: Tensors, pixel_format: str, length: int
) -> None:
    payload = bytes(range(100, 100 + length))
    data = container.write(
        model_id=find_model(None).model_id,
        width=5,
        height=18,
        quality_hundredths=5000,
        pixel_format=pixel_format,
        tiles=(payload,),
    )
    kind = np.uint16 if pixel_format.endswith("16") else np.uint8
    if length == {"gray8": 1, "rgb8": 3, "gray16": 2, "rgb16": 6}[pixel_format]:
        colour = tuple(np.frombuffer(payload, np.dtype(kind).newbyteorder("<")).tolist())
        assert reference_decoder.decode(data, weights) == [reference_decoder.Flat(colour)]
        assert np.array_equal(codec.decode(data), flat(18, 5, *colour, dtype=kind))
        return
    with pytest.raises(ValueError, match="length of the tile"):
        reference_decoder.decode(data, weights)
    for decode in (codec.decode, codec.decode_latents):
        with pytest.raises(CorruptError):
            decode(data)


# -- what a stream costs -----------------------------------------------------


def ideal_bits(symbol: int, table: tuple[Any, Any, int]) -> float:
    """Code length of one symbol by its table: the entropy coder's own model of the cost."""
    frequencies, _, offset = table
    escape = len(frequencies) - 1
    entry = symbol - offset
    if 0 <= entry < escape:
        return 16 - math.log2(frequencies[entry])
    raw = 2 * (entry - escape) if entry > 0 else -2 * entry - 1
    nibbles = -(-raw.bit_length() // 4)
    return 16 - math.log2(frequencies[escape]) + 4 * (nibbles // 15 + 1 + nibbles)


@pytest.mark.parametrize("quality", [20, 75])
@pytest.mark.parametrize("convert", [lambda picture: picture, gray_of])
def test_a_stream_is_as_long_as_its_tables_say(
    codec: Codec, weights: Tensors, quality: int, convert: Callable[[Pixels], Pixels]
) -> None:
    data = codec.encode(convert(photo_like(256, 240)), quality=quality)
    (latents,) = codec.decode_latents(data)
    z, residual = latents.hyper_latent.astype(np.int64), latents.residual.astype(np.int64)
    index = reference_decoder.scale_indexes(weights, z, residual, 100 * quality)
    hyper, latent = (reference_decoder.tables(weights, name) for name in ("hyper", "latent"))
    bits = sum(
        ideal_bits(symbol, hyper[number])
        for number, symbol in reference_decoder.listed_hyper(weights, z, 100 * quality)
    )
    coded = index > 0
    bits += sum(
        ideal_bits(symbol, latent[i])
        for symbol, i in zip(residual[coded].tolist(), index[coded].tolist(), strict=True)
    )
    (stream,) = container.read(data).tiles
    assert stream is not None
    assert abs(8 * len(stream) - bits) < 0.01 * bits + 64  # 64: the coder's final state
