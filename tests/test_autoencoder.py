"""ConvolutionalAutoencoder: encode and decode of any image, and learning from images in memory."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import caezip
from caezip import ConvolutionalAutoencoder, Latent
from caezip.config import ModelConfig
from caezip.errors import ImageError, ParameterError
from caezip.image_io import Pixels
from images import gray_of, noise, photo_like, psnr_db, smooth

SMALLEST = ModelConfig(16, 1, 16, 4, 8, 8, 16, 1, 1, 2)


@pytest.fixture(scope="module")
def tiny(tiny_config: ModelConfig) -> ConvolutionalAutoencoder:
    """Untrained, and never trained by a test."""
    return ConvolutionalAutoencoder(tiny_config)


# -- encode and decode -------------------------------------------------------


@given(height=st.integers(1, 70), width=st.integers(1, 70), gray=st.booleans())
@example(height=1, width=1, gray=True)
@example(height=16, width=64, gray=False)
def test_every_size_comes_back_as_it_was(
    tiny: ConvolutionalAutoencoder, height: int, width: int, gray: bool
) -> None:
    picture = noise(height, width)
    if gray:
        picture = gray_of(picture)
    latent = tiny.encode(picture)
    assert isinstance(latent, Latent)
    assert latent.values.dtype == np.float32
    assert latent.values.shape == (24, -(-height // 16), -(-width // 16))
    assert (latent.height, latent.width, latent.is_gray) == (height, width, gray)
    decoded = tiny.decode(latent)
    assert decoded.shape == picture.shape
    assert decoded.dtype == np.uint8


@pytest.mark.parametrize("gray", [False, True])
def test_an_untrained_autoencoder_starts_as_a_transform_that_keeps_smooth_images(
    gray: bool,
) -> None:
    picture = smooth(60, 75)
    if gray:
        picture = gray_of(picture)
    fresh = ConvolutionalAutoencoder()
    assert psnr_db(picture, fresh.decode(fresh.encode(picture))) > 25


def test_fewer_coefficients_keep_less(tiny: ConvolutionalAutoencoder) -> None:
    picture = photo_like(64, 64)
    assert psnr_db(picture, tiny.decode(tiny.encode(picture))) > 12


def test_the_seed_fixes_the_initial_weights(tiny_config: ModelConfig) -> None:
    picture = photo_like(32, 32)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (
        ConvolutionalAutoencoder(tiny_config, seed=seed).encode(picture).values
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)  # the caller's generator is left alone


def test_pil_images_and_qualities_are_taken_as_by_encode(tiny: ConvolutionalAutoencoder) -> None:
    picture = photo_like(20, 30)
    from_array, from_pil = tiny.encode(picture), tiny.encode(Image.fromarray(picture))
    assert np.array_equal(from_array.values, from_pil.values)
    assert from_array.quality == 75
    assert tiny.encode(picture, quality=12.5).quality == 12.5


def test_bad_images_and_qualities_are_refused(tiny: ConvolutionalAutoencoder) -> None:
    with pytest.raises(ImageError, match="dtype: found float64"):
        tiny.encode(np.zeros((4, 4)))  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="found uint16, allowed is uint8"):
        tiny.encode(np.zeros((4, 4), np.uint16))
    with pytest.raises(ImageError, match="it has an alpha channel, which is not allowed here"):
        tiny.encode(Image.new("RGBA", (4, 4)))
    with pytest.raises(ImageError, match="image mode HSV"):
        tiny.encode(Image.new("HSV", (4, 4)))
    with pytest.raises(ParameterError, match="quality: found 101"):
        tiny.encode(noise(4, 4), quality=101)
    latent = tiny.encode(noise(4, 4))
    with pytest.raises(ParameterError, match="quality: found 0"):
        tiny.decode(dataclasses.replace(latent, quality=0))


def test_released_weights_are_at_least_as_good_as_their_codec(photo: Pixels) -> None:
    pretrained = ConvolutionalAutoencoder.from_pretrained()
    plain = psnr_db(photo, pretrained.decode(pretrained.encode(photo, quality=30)))
    coded = psnr_db(photo, caezip.decode(caezip.encode(photo, quality=30)))
    assert plain > coded - 0.5  # nothing is rounded here


# -- train_on ----------------------------------------------------------------


def state_of(autoencoder: ConvolutionalAutoencoder) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in autoencoder.network.state_dict().items()}


@pytest.mark.usefixtures("training")
def test_training_lowers_the_loss_and_changes_the_weights(tiny_config: ModelConfig) -> None:
    images = [photo_like(80, 96, seed) for seed in range(4)]
    autoencoder = ConvolutionalAutoencoder(tiny_config, seed=3)
    before = state_of(autoencoder)
    losses = autoencoder.train_on(images, 15, 4)
    assert len(losses) == 15
    assert all(np.isfinite(losses))
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    after = state_of(autoencoder)
    changed = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
    assert len(changed) > len(before) / 2
    decoded = autoencoder.decode(autoencoder.encode(images[0]))
    assert decoded.shape == images[0].shape


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize(("epochs", "batch_size"), [(1, 1), (2, 3), (3, 8)])
def test_there_is_one_loss_per_epoch_whatever_the_batch_size(
    tiny_config: ModelConfig, epochs: int, batch_size: int
) -> None:
    images: list[Pixels | Image.Image] = [
        photo_like(70, 70),
        gray_of(photo_like(9, 200)),  # smaller than a crop, and gray
        Image.fromarray(photo_like(30, 30)),
        noise(1, 1),
    ]
    losses = ConvolutionalAutoencoder(tiny_config).train_on(images, epochs, batch_size)
    assert len(losses) == epochs


@pytest.mark.usefixtures("training")
def test_training_is_reproducible_and_a_second_call_draws_other_crops(
    tiny_config: ModelConfig,
) -> None:
    images = [photo_like(128, 128)]
    one, other = (ConvolutionalAutoencoder(tiny_config, seed=4) for _ in range(2))
    assert one.train_on(images, 2, 1) == other.train_on(images, 2, 1)
    states = state_of(one), state_of(other)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert one.train_on(images, 1, 1) != one.train_on(images, 1, 1)


@pytest.mark.usefixtures("training")
def test_networks_of_very_few_channels_can_be_trained_too() -> None:
    autoencoder = ConvolutionalAutoencoder(SMALLEST)
    assert len(autoencoder.train_on([photo_like(64, 64)], 2, 1)) == 2


@pytest.mark.usefixtures("training")
def test_the_images_are_not_changed_by_training(tiny_config: ModelConfig) -> None:
    image = photo_like(64, 64)
    image.flags.writeable = False
    ConvolutionalAutoencoder(tiny_config).train_on([image], 1, 2)
    assert np.array_equal(image, photo_like(64, 64))


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs: found 0, allowed are integers from 1"),
        ({"epochs": -3}, "epochs: found -3"),
        ({"epochs": 1.5}, "epochs: found 1.5"),
        ({"epochs": True}, "epochs: found True"),
        ({"epochs": "2"}, "epochs: found '2'"),
        ({"batch_size": 0}, "batch_size: found 0, allowed are integers from 1"),
        ({"batch_size": 2.0}, "batch_size: found 2.0"),
        ({"batch_size": None}, "batch_size: found None"),
        ({"crop_size": 0}, "crop size: found 0"),
        ({"crop_size": 100}, "crop size: found 100, allowed are multiples of 64"),
    ],
)
def test_bad_arguments_of_training_are_parameter_errors(
    tiny: ConvolutionalAutoencoder, arguments: dict[str, int], message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        tiny.train_on([noise(8, 8)], **arguments)


@pytest.mark.usefixtures("training")
def test_training_needs_images_and_only_images(tiny: ConvolutionalAutoencoder) -> None:
    with pytest.raises(ParameterError, match="images: found none, at least one is needed"):
        tiny.train_on([])
    with pytest.raises(ImageError, match="found str"):
        tiny.train_on(["photo.jpg"])  # type: ignore[list-item]
