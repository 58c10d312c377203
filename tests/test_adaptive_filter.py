"""The filter behind the synthesis transform: what it does, how it is fitted and stored."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import caezip
from caezip import Codec, container
from caezip.adaptive_filter import filtered, fitted, kernel_of
from caezip.frequency_tables import FILTER_COEFFICIENTS, MAX_FILTER_COEFFICIENT, filter_bits
from caezip.networks import Floats
from caezip.picture import Samples
from caezip.pretrained import load_model
from decoders import decoded_both_ways
from images import gray_of, photo_like, psnr_db, sixteen_bits
from passes import coded_latent

PHOTO = photo_like(96, 128)
OFFSETS = [(0, 1), (0, 2), (1, -1), (1, 0), (1, 1), (2, 0)]


def some_coefficients(seed: int = 0, largest: int = 9) -> NDArray[np.int32]:
    random = np.random.default_rng(seed)
    return random.integers(-largest, largest + 1, FILTER_COEFFICIENTS).astype(np.int32)


def as_format_says(image: Floats, coefficients: NDArray[np.int32]) -> Floats:
    """FORMAT.md's formula, pixel by pixel."""
    a, b = coefficients.reshape(3, 3, 6, 2).transpose(3, 0, 1, 2).astype(np.float64)
    red, green, blue = image.astype(np.float64).transpose(2, 0, 1)
    x = np.stack(
        [
            (red + green + blue) / math.sqrt(3),
            (red - blue) / math.sqrt(2),
            (red - 2 * green + blue) / math.sqrt(6),
        ]
    )
    height, width = image.shape[:2]

    def at(i: int, row: int, column: int) -> float:
        row += 4 * (row < 0) - 4 * (row >= height)
        column += 4 * (column < 0) - 4 * (column >= width)
        return float(x[i, row, column])

    y = x.copy()
    for o, i, n in product(range(3), range(3), range(6)):
        unit, (down, right) = (1 / 128, 1 / 64, 1 / 64)[i], OFFSETS[n]
        for row, column in product(range(height), range(width)):
            one = at(i, row + down, column + right)
            other = at(i, row - down, column - right)
            y[o, row, column] += unit * a[o, i, n] * (one + other - 2 * at(i, row, column))
            y[o, row, column] += unit * b[o, i, n] * (one - other)
    thirds, halves, sixths = y / np.sqrt([3, 2, 6])[:, None, None]
    colours = [thirds + halves + sixths, thirds - 2 * sixths, thirds - halves + sixths]
    filtered_image: Floats = np.stack(colours, axis=2).astype(np.float32)
    return filtered_image


def images(height: int, width: int) -> Floats:
    return np.random.default_rng(7).random((height, width, 3)).astype(np.float32)


# -- what it does ------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(16, 16), (48, 32)])
def test_a_picture_is_filtered_as_the_format_says(height: int, width: int) -> None:
    image, coefficients = images(height, width), some_coefficients()
    found = filtered(image, kernel_of(coefficients))
    expected = as_format_says(image, coefficients)
    assert np.abs(expected - image).max() > 0.1
    assert np.abs(found - expected).max() < 1e-5


def test_every_coefficient_has_its_own_influence() -> None:
    kernels = [
        kernel_of(np.eye(FILTER_COEFFICIENTS, dtype=np.int32)[place])
        for place in range(FILTER_COEFFICIENTS)
    ]
    assert np.linalg.matrix_rank(np.stack(kernels).reshape(FILTER_COEFFICIENTS, -1)) == 108


def test_areas_of_one_colour_stay_as_they_are() -> None:
    image = np.broadcast_to(np.array([0.2, 0.9, 0.4], np.float32), (32, 48, 3))
    found = filtered(image, kernel_of(some_coefficients(largest=MAX_FILTER_COEFFICIENT)))
    assert np.abs(found - image).max() < 1e-4
    assert filtered(image, kernel_of(some_coefficients(largest=0))) is image


# -- how it is fitted --------------------------------------------------------


def test_a_linear_error_is_undone() -> None:
    original = photo_like(96, 128).astype(np.float32) / 255
    image = (0.1 + 0.8 * original).astype(np.float32)  # nothing is clamped
    worse = 2 * image - filtered(image, kernel_of(some_coefficients(largest=3)))
    better = filtered(worse, kernel_of(fitted(worse, image, 1e9)))
    before, after = (np.square(picture - image).mean() for picture in (worse, better))
    assert after < 0.05 * before


def test_the_more_an_error_costs_the_more_is_spent() -> None:
    original = photo_like(96, 128).astype(np.float32) / 255
    worse = filtered(original, kernel_of(some_coefficients(largest=1)))
    spent, left = [], []
    for worth in (1.0, 1e3, 1e5, 1e7):
        coefficients = fitted(worse, original, worth)
        spent.append(float(filter_bits()[np.abs(coefficients)].sum()))
        better = filtered(worse, kernel_of(coefficients)).clip(0, 1)
        left.append(float(np.square(better - original).sum()))
    assert spent == sorted(spent)
    assert left == sorted(left, reverse=True)
    assert not fitted(worse, original, 1.0).any()
    assert left[-1] < 0.2 * left[0]


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_pictures_without_an_error_or_a_structure_have_no_filter(level: float) -> None:
    flat = np.full((32, 32, 3), level, np.float32)
    photo = photo_like(32, 32).astype(np.float32) / 255
    assert not fitted(flat, flat, 1e9).any()
    assert not fitted(flat, photo, 1e9).any()
    assert not fitted(photo, photo, 1e9).any()


def test_what_overshoots_white_is_no_error() -> None:
    original = np.ones((32, 32, 3), np.float32)
    overshooting = original + 0.1 * images(32, 32)
    assert not fitted(overshooting, original, 1e9).any()


def test_the_original_may_end_inside_the_last_cells() -> None:
    original = photo_like(33, 50).astype(np.float32) / 255
    whole = np.pad(original, ((0, 15), (0, 14), (0, 0)), mode="symmetric")
    worse = filtered(whole, kernel_of(some_coefficients(largest=2)))
    better = filtered(worse, kernel_of(fitted(worse, original, 1e7)))[:33, :50]
    before, after = (
        np.square(picture.clip(0, 1) - original).mean() for picture in (worse[:33, :50], better)
    )
    assert after < 0.3 * before


# -- how it is stored --------------------------------------------------------


@given(
    st.lists(
        st.integers(-MAX_FILTER_COEFFICIENT, MAX_FILTER_COEFFICIENT) | st.just(0),
        min_size=FILTER_COEFFICIENTS,
        max_size=FILTER_COEFFICIENTS,
    )
)
def test_coefficients_come_back_from_a_stream(values: list[int]) -> None:
    coder, coefficients = load_model().coder, np.array(values, np.int32)
    z = np.zeros((coder.hyper_channels, 1, 1), np.int32)
    residual = np.ones((coder.latent_channels, 2, 3), np.int32)
    passes = coded_latent(coder.scales, z, residual, 9000).passes
    stream = coder.encode(z, 9000, passes, coefficients)
    *latents, found = decoded_both_ways(coder, stream, 9000, (2, 3), has_filter=True)
    assert np.array_equal(found, coefficients)
    plain = coder.encode(z, 9000, passes)
    *expected, none = coder.decode(plain, 9000, (2, 3))
    assert not none.any()
    assert all(map(np.array_equal, latents, expected))
    bits = float(filter_bits()[np.abs(coefficients)].sum()) * coefficients.any()
    assert abs(8 * (len(stream) - len(plain)) - bits) < 66  # two words of 32 bits


def test_the_absence_of_a_filter_costs_a_bit() -> None:
    coder = load_model().coder
    z = np.zeros((coder.hyper_channels, 1, 1), np.int32)
    sizes = [
        [
            len(coder.encode(z, 9000, passes, coefficients))
            for coefficients in (None, np.zeros(FILTER_COEFFICIENTS, np.int32))
        ]
        for count in range(1, 30)
        for passes in [
            coded_latent(
                coder.scales, z, np.full((coder.latent_channels, 1, count), 2, np.int32), 9000
            ).passes
        ]
    ]
    assert np.mean(np.diff(sizes)) < 1  # byte; streams grow in words of 4


# -- files -------------------------------------------------------------------


def without_filters(data: bytes) -> bytes:
    """The same integers in a file that has no filters."""
    parsed = container.read(data)
    header, tiles = parsed.header, []
    for latents in Codec().decode_latents(data):
        coder, quality = load_model(header.model_id).coder, header.quality_hundredths
        coded = coded_latent(coder.scales, latents.hyper_latent, latents.residual, quality)
        tiles.append(coder.encode(latents.hyper_latent, quality, coded.passes))
    return container.write(
        model_id=header.model_id,
        width=header.width,
        height=header.height,
        quality_hundredths=header.quality_hundredths,
        pixel_format=header.pixel_format,
        tile_side=header.tile_side,
        tiles=tiles,
    )


@pytest.mark.parametrize("picture", [PHOTO, sixteen_bits(PHOTO)], ids=["8 bits", "16 bits"])
def test_filters_bring_decoded_pictures_nearer(codec: Codec, picture: Samples) -> None:
    data = codec.encode(picture, quality=95, effort=3)
    plain = without_filters(data)
    assert caezip.info(data).has_filters
    assert not caezip.info(plain).has_filters
    gain_db = psnr_db(picture, codec.decode(data)) - psnr_db(picture, codec.decode(plain))
    assert gain_db > 0.2
    assert len(data) - len(plain) < 80


def test_only_refined_streams_of_decoders_with_time_for_them_have_filters(codec: Codec) -> None:
    for effort, tune in ((2, "psnr"), (2, "archive"), (3, "ssim"), (3, "fastdecode")):
        data = codec.encode(PHOTO, quality=95, effort=effort, tune=tune)
        assert not caezip.info(data).has_filters
        assert not any(latents.filter_coefficients.any() for latents in codec.decode_latents(data))
    flat = np.full((40, 50, 3), 9, np.uint8)
    assert codec.encode(flat, effort=3) == codec.encode(flat, effort=2, tune="archive")


@pytest.mark.parametrize(
    "picture",
    [PHOTO, gray_of(PHOTO), sixteen_bits(PHOTO), sixteen_bits(gray_of(PHOTO))],
    ids=["colour", "gray", "16 bits", "gray, 16 bits"],
)
def test_engines_filter_alike(
    one_thread: None, monkeypatch: pytest.MonkeyPatch, picture: Samples
) -> None:
    data = Codec(threads=1).encode(picture, quality=100, effort=3)
    assert Codec().decode_latents(data)[0].filter_coefficients.any()
    inside = Codec(engine="openvino", precision="float32", threads=1).decode(data)
    torch = Codec(engine="torch", precision="float32", threads=1).decode(data)
    # processors on which the engine may not take kernels as inputs
    monkeypatch.setattr("caezip.openvino_networks.TAKES_KERNELS", False)
    outside = Codec(engine="openvino", precision="float32", threads=1).decode(data)
    level = 1 if picture.dtype == np.uint8 else 257
    assert np.abs(inside.astype(int) - outside).max() <= level
    eight_bits = [(picture // level).astype(np.uint8) for picture in (inside, torch)]
    assert psnr_db(*eight_bits) > 48  # layers that see levels round otherwise


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("picture", [PHOTO, sixteen_bits(PHOTO)], ids=["8 bits", "16 bits"])
def test_regions_are_filtered_like_the_whole(codec: Codec, picture: Samples) -> None:
    data = codec.encode(picture, quality=95, effort=3)
    whole = codec.decode(data)
    filters = [latents.filter_coefficients for latents in codec.decode_latents(data)]
    assert len(filters) == 4
    assert len({tuple(coefficients) for coefficients in filters}) > 1
    level = 1 if picture.dtype == np.uint8 else 257
    for left, top, width, height in [
        (60, 60, 9, 9),
        (0, 0, 64, 64),
        (63, 1, 1, 90),
        (5, 70, 99, 2),
    ]:
        part = codec.decode(data, region=(left, top, width, height))
        expected = whole[top : top + height, left : left + width]
        assert np.abs(part.astype(int) - expected).max() <= level


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_previews_do_without_filters(codec: Codec, reduction: int) -> None:
    data = codec.encode(PHOTO, quality=95, effort=3)
    preview = codec.decode(data, reduction=reduction)
    assert np.array_equal(preview, codec.decode(without_filters(data), reduction=reduction))
