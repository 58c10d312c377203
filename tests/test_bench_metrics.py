"""PSNR, SSIM, MS-SSIM and bits per pixel against values known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from caezip.errors import ParameterError
from caezip.image_io import Pixels
from caezip_bench import metrics


def _textured(height: int, width: int) -> Pixels:
    rng = np.random.default_rng(0)
    return rng.integers(60, 190, (height, width, 3)).astype(np.uint8)


def test_bpp_counts_eight_bits_per_byte() -> None:
    assert metrics.bits_per_pixel(100, width=20, height=10) == 4.0


def test_psnr_of_a_constant_error() -> None:
    image = _textured(16, 24)
    assert metrics.psnr_db(image, image + np.uint8(1)) == pytest.approx(20 * math.log10(255))
    assert metrics.psnr_db(image, image - np.uint8(5)) == pytest.approx(20 * math.log10(255 / 5))


def test_psnr_takes_the_error_of_all_channels_together() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    one_channel_off = black.copy()
    one_channel_off[:, :, 0] = 3  # mean squared error 9 / 3
    assert metrics.psnr_db(black, one_channel_off) == pytest.approx(10 * math.log10(255**2 / 3))


def test_psnr_does_not_wrap_around_at_the_ends_of_the_range() -> None:
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert metrics.psnr_db(black, white) == pytest.approx(0)
    assert metrics.psnr_db(white, black) == pytest.approx(0)


def test_identical_images() -> None:
    image = _textured(161, 170)
    assert metrics.psnr_db(image, image.copy()) is None
    assert metrics.ssim(image, image.copy()) == pytest.approx(1)
    assert metrics.ms_ssim(image, image.copy()) == pytest.approx(1)


def test_ssim_of_flat_images_is_its_luminance_term() -> None:
    dark, bright = np.full((16, 16, 3), 100, np.uint8), np.full((16, 16, 3), 120, np.uint8)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    assert metrics.ssim(dark, bright) == pytest.approx(expected, abs=1e-4)


def test_similarity_falls_with_noise() -> None:
    image = _textured(170, 161)
    noise = np.random.default_rng(1).normal(0, 1, image.shape)
    little = np.clip(image + 5 * noise, 0, 255).astype(np.uint8)
    much = np.clip(image + 40 * noise, 0, 255).astype(np.uint8)
    for metric in (metrics.ssim, metrics.ms_ssim):
        close, far = metric(image, little), metric(image, much)
        assert close is not None
        assert far is not None
        assert 0 < far < close < 1


def test_images_too_small_for_a_metric_have_none() -> None:
    strip = _textured(160, 200)
    assert metrics.ms_ssim(strip, strip) is None
    assert metrics.ssim(strip, strip) is not None
    dot = _textured(1, 10)
    assert metrics.ssim(dot, dot) is None


def test_ms_ssim_in_db() -> None:
    assert metrics.ms_ssim_db(0.99) == pytest.approx(20)
    assert metrics.ms_ssim_db(1.0) is None


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"\[4, 5, 3\]"):
        metrics.psnr_db(_textured(4, 5), _textured(5, 4))
    with pytest.raises(ParameterError):
        metrics.ssim(_textured(20, 20)[:, :, 0], _textured(20, 20)[:, :, 0])
