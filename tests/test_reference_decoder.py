"""FORMAT.md is complete: a decoder written from it alone reads what the codec reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load

import reference_decoder
from caezip import Codec, container
from caezip.entropy import checkerboard
from caezip.errors import CorruptError
from caezip.image_io import Pixels
from caezip.pretrained import find_model, load_model
from images import gray_of, noise, photo_like, smooth

Tensors = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def weights() -> Tensors:
    tensors: Tensors = load(find_model(None).file.read_bytes())
    return tensors


def read(data: bytes, weights: Tensors) -> reference_decoder.Integers:
    """The reference's integers of a tile that is a stream."""
    found = reference_decoder.decode(data, weights)
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
    ],
)
def test_both_decoders_read_the_same_integers(
    codec: Codec, weights: Tensors, picture: Pixels, quality: float
) -> None:
    data = codec.encode(picture, quality=quality)
    expected = read(data, weights)
    latents = codec.decode_latents(data)
    assert np.array_equal(latents.hyper_latent, expected.z)
    assert np.array_equal(latents.residual, expected.r)
    parsed = reference_decoder.parse(data)
    assert (parsed.width, parsed.height) == (picture.shape[1], picture.shape[0])
    assert parsed.pixel_format == picture.ndim - 2
    assert parsed.quality == round(100 * quality)


def test_both_decoders_read_escapes_of_every_length(codec: Codec, weights: Tensors) -> None:
    data = codec.encode(smooth(16, 16), quality=100)
    header = container.read_header(data)
    coder = load_model().coder
    z = np.resize(np.array([0, 1, -127, 127, 40, -3], np.int32), (coder.hyper_channels, 1, 1))
    symbols = np.array([0, 32767, -32767, 1, 4000, -129, 15, 300], np.int32)
    residual = np.resize(symbols, (coder.latent_channels, 1, 1))
    sums = coder.scales.sums(z, 10000, (1, 1))
    first = coder.scales.indexes(sums)
    second = coder.scales.second_indexes(sums, np.where(first > 0, residual, 0), 10000)
    indexes = np.where(checkerboard(*residual.shape), first, second)
    forged = container.write(
        model_id=header.model_id,
        width=16,
        height=16,
        quality_hundredths=10000,
        pixel_format="rgb8",
        tiles=(coder.encode(z, residual, indexes),),
    )
    found = read(forged, weights)
    assert np.array_equal(found.z, z)
    assert np.array_equal(found.r, np.where(indexes > 0, residual, 0))


@pytest.mark.parametrize("share", [0.0, 0.03, 0.3, 0.7, 0.95])
def test_both_decoders_read_zeros_beyond_the_end_of_a_stream(
    codec: Codec, weights: Tensors, share: float
) -> None:
    parsed = container.read(codec.encode(photo_like(60, 90), quality=60))
    (stream,) = parsed.tiles
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
        latents = codec.decode_latents(forged)
        assert np.array_equal(latents.hyper_latent, expected.z)
        assert np.array_equal(latents.residual, expected.r)


# -- tiles of one colour -----------------------------------------------------


def flat(height: int, width: int, *colour: int) -> Pixels:
    shape = (height, width, 3) if len(colour) == 3 else (height, width)
    return np.full(shape, colour, np.uint8)


@pytest.mark.parametrize(
    "picture",
    [
        flat(24, 40, 200, 30, 7),
        flat(24, 40, 255, 255, 255),
        flat(65, 3, 0),
        flat(300, 200, 129),
        noise(1, 1),
        gray_of(noise(1, 1)),
    ],
)
@pytest.mark.parametrize("quality", [1, 66.67, 100])
def test_a_picture_of_one_colour_is_stored_as_that_colour_and_comes_back_exactly(
    codec: Codec, weights: Tensors, picture: Pixels, quality: float
) -> None:
    data = codec.encode(picture, quality=quality)
    assert len(data) <= 32
    colour = tuple(np.atleast_1d(picture[0, 0]).tolist())
    assert reference_decoder.decode(data, weights) == reference_decoder.Flat(colour)
    assert np.array_equal(codec.decode(data), picture)
    latents = codec.decode_latents(data)
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


@pytest.mark.parametrize("pixel_format", ["gray8", "rgb8"])
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
    if length == {"gray8": 1, "rgb8": 3}[pixel_format]:
        assert reference_decoder.decode(data, weights) == reference_decoder.Flat(tuple(payload))
        assert np.array_equal(codec.decode(data), flat(18, 5, *payload))
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
    latents = codec.decode_latents(data)
    z, residual = latents.hyper_latent.astype(np.int64), latents.residual.astype(np.int64)
    index = reference_decoder.scale_indexes(weights, z, residual, 100 * quality)
    hyper, latent = (reference_decoder.tables(weights, name) for name in ("hyper", "latent"))
    bits = sum(
        ideal_bits(symbol, table)
        for table, plane in zip(hyper, z, strict=True)
        for symbol in plane.ravel().tolist()
    )
    coded = index > 0
    bits += sum(
        ideal_bits(symbol, latent[i])
        for symbol, i in zip(residual[coded].tolist(), index[coded].tolist(), strict=True)
    )
    (stream,) = container.read(data).tiles
    assert abs(8 * len(stream) - bits) < 0.01 * bits + 64  # 64: the coder's final state
