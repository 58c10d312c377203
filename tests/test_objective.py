"""What training minimises: soft and hard bits, tunings, and what a resumed run keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from caezip.distortion import MSE_SHARE, SSIM_WEIGHT, distortion
from caezip.errors import ParameterError
from images import photo_like

if TYPE_CHECKING:
    from caezip.config import ModelConfig
    from caezip.training.objective import TrainingModel


def pictures(size: int = 64) -> torch.Tensor:
    pixels = torch.stack([torch.from_numpy(photo_like(size, size, seed)) for seed in range(2)])
    return pixels.permute(0, 3, 1, 2).float() / 255


@pytest.fixture
def model(training: None, tiny_config: ModelConfig) -> TrainingModel:
    from caezip.initialisation import initialise_as_block_transform
    from caezip.training.objective import TrainingModel

    torch.manual_seed(0)
    model = TrainingModel(tiny_config)
    initialise_as_block_transform(model.network)
    return model.train()


RATES = torch.tensor([0.3, 0.8])


def test_noise_is_random_and_hard_symbols_are_not(model: TrainingModel) -> None:
    def latent_bpp() -> torch.Tensor:
        torch.manual_seed(1)  # the hyper-latent's noise is the same in every call
        with torch.no_grad():
            bpp: torch.Tensor = model(pictures(), RATES).bpp
        return bpp

    soft = latent_bpp()
    model.hard = True
    hard = latent_bpp()
    assert torch.equal(hard, latent_bpp())
    assert (hard < soft).all()  # noise makes zeros look like ones


def test_hard_bits_are_those_of_the_encoder(model: TrainingModel) -> None:
    model.hard = True
    with torch.no_grad():
        trained = model(pictures(), RATES)
        written = model.eval()(pictures(), RATES)
    # apart from whole indexes, and the hyper-latent's noise, which is small here
    assert trained.bpp.tolist() == pytest.approx(written.bpp.tolist(), rel=0.15)
    assert trained.mse.tolist() == pytest.approx(written.mse.tolist(), rel=0.15)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("tune", ["psnr", "ssim"])
def test_every_parameter_learns(model: TrainingModel, hard: bool, tune: str) -> None:
    model.hard = hard
    with torch.no_grad():  # a new network's hyper-latent rounds to 0, which teaches nothing
        model.network.hyper_analysis.gain.table.add_(4)
    model(pictures(), RATES, tune=tune).loss.backward()
    still = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    # zero weights hide what is behind them until they move
    hidden = ("network.scales", "network.hyper_prior")
    assert not [name for name in still if not name.startswith(hidden)]
    for parameter in model.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


def test_features_learn_once_scales_read_them(model: TrainingModel) -> None:
    scales = model.network.scales
    with torch.no_grad():
        model.network.hyper_analysis.gain.table.add_(4)
        scales.linear.weight.normal_(std=0.1)
    model(pictures(), RATES).loss.backward()
    assert scales.features is not None
    assert scales.features_bias is not None
    for parameter in (scales.features.weight, scales.features_bias.table):
        assert parameter.grad is not None
        assert parameter.grad.any()


def test_features_move_a_tenth_as_fast_as_other_parameters_of_scales(model: TrainingModel) -> None:
    from caezip.training.optimizer import Optimizers

    scales = model.network.scales
    assert scales.features is not None
    others, features = scales.linear.weight, scales.features.weight
    before = [parameter.detach().clone() for parameter in (others, features)]
    optimizers = Optimizers(model, 0.5)
    for parameter in optimizers.parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizers._optimizers[1].step()  # Adam alone: its first step is the rate
    moved = [
        float((old - new.detach()).mean())
        for old, new in zip(before, (others, features), strict=True)
    ]
    assert moved == pytest.approx([1e-3, 1e-4], rel=1e-3)


# -- distortion --------------------------------------------------------------


def test_psnr_is_squared_error_in_levels() -> None:
    image = torch.zeros(2, 3, 32, 32)
    off = torch.stack([image[0], image[1] + 2 / 255])
    assert distortion("psnr", off, image).tolist() == pytest.approx([0, 4])


@pytest.mark.parametrize("size", [64, 200])
def test_ssim_weighs_structure_and_a_little_colour(size: int) -> None:
    image = pictures(size)
    same = distortion("ssim", image, image)
    assert same.tolist() == pytest.approx([0, 0], abs=1e-2)
    noisy = image + 0.05 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    value = distortion("ssim", noisy, image)
    squared = 255**2 * (noisy - image).square().mean((1, 2, 3))
    assert (value > MSE_SHARE * squared).all()
    assert (value < SSIM_WEIGHT + MSE_SHARE * squared).all()


# -- resumption --------------------------------------------------------------


def test_a_resumed_run_keeps_what_it_minimises_and_when(
    training: None, tiny_config: ModelConfig, tmp_path: Path
) -> None:
    from caezip.training.trainer import Trainer, TrainingOptions

    plain = TrainingOptions(steps=3, batch_size=1, crop_size=64, early_crop_size=64)
    first = replace(plain, steps=1, tune="ssim", hard_start=0.0, decay_start=0.9)
    Trainer([photo_like(80, 80)], first, tmp_path, tiny_config).run()
    other = Trainer([photo_like(80, 80)], plain, tmp_path, tiny_config)
    other.resume()
    assert other.options.tune == "ssim"
    assert other.options.hard_start == 0.0
    assert other.options.decay_start == 0.9
    assert other.options.steps == 3
    other.run()
    assert other.step == 3


def test_unknown_tunings_are_refused(training: None) -> None:
    from caezip.training.trainer import TrainingOptions

    with pytest.raises(
        ParameterError, match=r"tune: found 'mse', allowed are \('psnr', 'archive', "
    ):
        TrainingOptions(steps=1, tune="mse")
