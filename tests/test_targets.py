"""Encoding to a size, a rate or a PSNR: the target holds, and nothing better was left."""

from __future__ import annotations

import numpy as np
import pytest

import caezip
from caezip import Codec
from caezip.errors import ParameterError, TargetError
from caezip.image_io import Pixels
from caezip.targets import encode_to_bpp, encode_to_psnr, encode_to_size, psnr_db
from images import gray_of, photo_like

PICTURE = photo_like(40, 48)


@pytest.fixture(scope="module")
def sizes(codec: Codec) -> tuple[int, int]:
    """Bytes at quality 1 and at quality 100."""
    lowest, highest = (len(codec.encode(PICTURE, quality=q)) for q in (1, 100))
    assert lowest < highest
    return lowest, highest


def next_quality_size(codec: Codec, picture: Pixels, quality: float) -> int:
    return len(codec.encode(picture, quality=(round(100 * quality) + 1) / 100))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_size_is_met_and_the_next_quality_exceeds_it(
    codec: Codec, sizes: tuple[int, int], share: float
) -> None:
    limit = int(sizes[0] + share * (sizes[1] - sizes[0]))
    result = encode_to_size(codec, PICTURE, limit)
    assert len(result.data) <= limit
    assert caezip.info(result.data).quality == pytest.approx(result.quality)
    assert next_quality_size(codec, PICTURE, result.quality) > limit
    assert codec.decode(result.data).shape == PICTURE.shape


def test_a_size_that_everything_meets_gives_quality_100(
    codec: Codec, sizes: tuple[int, int]
) -> None:
    result = encode_to_size(codec, PICTURE, sizes[1])
    assert (result.quality, len(result.data)) == (100, sizes[1])


def test_the_smallest_size_is_met_exactly_and_one_byte_less_is_unreachable(
    codec: Codec, sizes: tuple[int, int]
) -> None:
    assert len(encode_to_size(codec, PICTURE, sizes[0]).data) <= sizes[0]
    with pytest.raises(
        TargetError,
        match=f"size: quality 1 gives {sizes[0]} bytes, more than the {sizes[0] - 1} allowed",
    ):
        encode_to_size(codec, PICTURE, sizes[0] - 1)


def test_a_rate_is_a_size_per_pixel(codec: Codec, sizes: tuple[int, int]) -> None:
    pixel_count = PICTURE.shape[0] * PICTURE.shape[1]
    bpp = 8 * (sizes[0] + sizes[1]) / 2 / pixel_count
    result = encode_to_bpp(codec, PICTURE, bpp)
    assert caezip.info(result.data).bpp <= bpp
    assert 8 * next_quality_size(codec, PICTURE, result.quality) / pixel_count > bpp
    with pytest.raises(TargetError, match=r"bpp 0\.001 is 0 bytes; size: quality 1 gives"):
        encode_to_bpp(codec, PICTURE, 0.001)


@pytest.mark.parametrize("picture", [PICTURE, gray_of(PICTURE)])
def test_the_psnr_is_reached_and_the_quality_below_misses_it(codec: Codec, picture: Pixels) -> None:
    lowest, highest = (
        psnr_db(picture, codec.decode(codec.encode(picture, quality=q))) for q in (1, 100)
    )
    target = (lowest + highest) / 2
    result = encode_to_psnr(codec, picture, target)
    assert psnr_db(picture, codec.decode(result.data)) >= target
    assert 1 < result.quality < 100
    below = codec.encode(picture, quality=(round(100 * result.quality) - 1) / 100)
    assert psnr_db(picture, codec.decode(below)) < target


def test_a_psnr_that_everything_reaches_gives_quality_1(codec: Codec) -> None:
    assert encode_to_psnr(codec, PICTURE, 1).quality == 1


def test_an_unreachable_psnr_says_what_quality_100_gives(codec: Codec) -> None:
    with pytest.raises(TargetError, match=r"PSNR: quality 100 gives .* dB, less than the 90"):
        encode_to_psnr(codec, PICTURE, 90)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_targets_that_make_no_sense_are_parameter_errors(codec: Codec, value: float) -> None:
    with pytest.raises(ParameterError, match=r"bpp: found .*, allowed are numbers above 0"):
        encode_to_bpp(codec, PICTURE, value)
    with pytest.raises(ParameterError, match=r"PSNR: found .* dB, allowed are numbers above 0"):
        encode_to_psnr(codec, PICTURE, value)
    if value <= 0:
        with pytest.raises(ParameterError, match=r"size: found .*, allowed are integers from 1"):
            encode_to_size(codec, PICTURE, int(value))


def test_psnr_is_ten_times_the_log_of_the_peak_over_the_error() -> None:
    black, one = np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)
    assert psnr_db(black, black) == float("inf")
    assert psnr_db(black, one) == pytest.approx(48.1308, abs=1e-4)
    assert psnr_db(black, np.full((4, 4), 255, np.uint8)) == pytest.approx(0)
