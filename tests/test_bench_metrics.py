"""The metrics against values known by hand, and against scikit-image and other programs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import skimage.metrics
from PIL import Image
from skimage.color import rgb2ycbcr

from caezip.errors import ParameterError
from caezip.image_io import Pixels
from caezip_bench import metrics
from caezip_bench.metrics import METRICS
from images import photo_like

SCIKIT_IMAGE: Any = skimage.metrics  # its functions have no annotations


def _textured(height: int, width: int) -> Pixels:
    rng = np.random.default_rng(0)
    return rng.integers(60, 190, (height, width, 3)).astype(np.uint8)


def _noisy(image: Pixels, deviation: float) -> Pixels:
    noise = np.random.default_rng(1).normal(0, deviation, image.shape)
    noisy: Pixels = np.clip(image + noise, 0, 255).astype(np.uint8)
    return noisy


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


def test_psnr_and_ssim_are_those_of_scikit_image() -> None:
    image = photo_like(90, 120)
    noisy = _noisy(image, 12)
    expected = SCIKIT_IMAGE.peak_signal_noise_ratio(image, noisy, data_range=255)
    assert metrics.psnr_db(image, noisy) == pytest.approx(expected)
    expected = SCIKIT_IMAGE.structural_similarity(
        image,
        noisy,
        data_range=255,
        channel_axis=2,
        gaussian_weights=True,  # of the paper: sigma 1.5 in 11x11 pixels
        use_sample_covariance=False,
    )
    assert metrics.ssim(image, noisy) == pytest.approx(expected, abs=1e-5)


def test_psnr_of_luma_weighs_the_channels() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    for channel, weight in enumerate((0.299, 0.587, 0.114)):
        off = black.copy()
        off[:, :, channel] = 50
        expected = 20 * math.log10(255 / (50 * weight))
        assert metrics.psnr_y_db(black, off) == pytest.approx(expected)
    gray = np.full((4, 4, 3), 20, np.uint8)
    assert metrics.psnr_y_db(black, gray) == pytest.approx(20 * math.log10(255 / 20))


def test_psnr_of_luma_is_that_of_other_libraries() -> None:
    image = photo_like(60, 80)
    noisy = _noisy(image, 9)
    found = metrics.psnr_y_db(image, noisy)
    # scikit-image's luma is BT.601's of video, 16 to 235
    expected = SCIKIT_IMAGE.peak_signal_noise_ratio(
        rgb2ycbcr(image)[:, :, 0], rgb2ycbcr(noisy)[:, :, 0], data_range=235 - 16
    )
    assert found == pytest.approx(expected)
    luma, noisy_luma = (
        np.asarray(Image.fromarray(pixels).convert("YCbCr"))[:, :, 0] for pixels in (image, noisy)
    )
    expected = SCIKIT_IMAGE.peak_signal_noise_ratio(luma, noisy_luma, data_range=255)
    assert found == pytest.approx(expected, abs=0.05)  # Pillow rounds its luma


def test_identical_images() -> None:
    image = _textured(161, 170)
    assert metrics.psnr_db(image, image.copy()) is None
    assert metrics.psnr_y_db(image, image.copy()) is None
    assert metrics.ssim(image, image.copy()) == pytest.approx(1)
    assert metrics.ms_ssim(image, image.copy()) == pytest.approx(1)


def test_ssim_of_flat_images_is_its_luminance_term() -> None:
    dark, bright = np.full((16, 16, 3), 100, np.uint8), np.full((16, 16, 3), 120, np.uint8)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    assert metrics.ssim(dark, bright) == pytest.approx(expected, abs=1e-4)


def test_similarity_falls_with_noise() -> None:
    image = _textured(170, 161)
    little, much = _noisy(image, 5), _noisy(image, 40)
    for metric in (metrics.ssim, metrics.ms_ssim):
        close, far = metric(image, little), metric(image, much)
        assert close is not None
        assert far is not None
        assert 0 < far < close < 1


def test_ms_ssim_of_flat_images_is_the_luminance_term_of_the_last_scale() -> None:
    shape = (176, 192, 3)  # halves that are odd would get a border of zeros
    dark, bright = np.full(shape, 100, np.uint8), np.full(shape, 120, np.uint8)
    c1 = (0.01 * 255) ** 2
    luminance = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    assert metrics.ms_ssim(dark, bright) == pytest.approx(luminance**0.1333, abs=1e-4)


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


def test_ssimulacra2_of_identical_images_is_100() -> None:
    image = photo_like(225, 240)
    assert metrics.ssimulacra2(image, image.copy()) == pytest.approx(100, abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "noisy", "coarse", "shifted", "dark"),
    # as the reference program prints it: ssimulacra2 2.1 of libjxl 0.11.2
    [
        ((225, 240), -38.2801, 41.5766, -10.1899, 69.7227),
        ((301, 333), -42.3507, 39.3351, -13.1654, 71.2643),
    ],
)
def test_ssimulacra2_is_that_of_the_reference_program(
    shape: tuple[int, int], noisy: float, coarse: float, shifted: float, dark: float
) -> None:
    image = photo_like(*shape)
    cases: list[tuple[Pixels, float]] = [
        (_noisy(image, 30), noisy),
        (image // np.uint8(24) * np.uint8(24) + np.uint8(12), coarse),
        (np.roll(image, 1, axis=1), shifted),
        ((image * 0.9).astype(np.uint8), dark),
    ]
    for decoded, expected in cases:
        assert metrics.ssimulacra2(image, decoded) == pytest.approx(expected, abs=0.05)


def test_ssimulacra2_does_not_confuse_one_original_with_the_next() -> None:
    image, other = photo_like(225, 240, seed=1), photo_like(240, 225, seed=2)
    decoded, other_decoded = _noisy(image, 9), _noisy(other, 9)
    first = metrics.ssimulacra2(image, decoded)
    second = metrics.ssimulacra2(other, other_decoded)
    assert first != second
    assert metrics.ssimulacra2(image, decoded) == first
    assert metrics.ssimulacra2(other, other_decoded) == second


def test_each_metric_starts_at_its_smallest_side() -> None:
    for metric in METRICS.values():
        for shift, present in ((0, True), (-1, False)):
            side = metric.smallest_side + shift
            if side < 1:
                continue
            image = _textured(side, metric.smallest_side + 7)
            value = metric.measure(image, _noisy(image, 9))
            assert (value is not None) == present, (metric.name, side)


def test_metrics_are_registered_by_their_names_with_what_curves_take_of_them() -> None:
    assert list(METRICS) == ["psnr_db", "psnr_y_db", "ssim", "ms_ssim", "ssimulacra2"]
    assert all(metric.name == name for name, metric in METRICS.items())
    assert METRICS["psnr_db"].curve_value(31.5) == 31.5
    assert METRICS["ssimulacra2"].curve_value(-3) == -3
    for name in ("ssim", "ms_ssim"):
        assert METRICS[name].curve_value(0.99) == pytest.approx(20)
        assert METRICS[name].curve_value(1.0) is None


def test_all_metrics_refuse_different_shapes() -> None:
    for metric in METRICS.values():
        with pytest.raises(ParameterError, match="image shapes"):
            metric.measure(_textured(230, 240), _textured(240, 230))
