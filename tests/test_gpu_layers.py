"""Layers for GPUs: the same function without cuDNN. That no plan is made only a GPU can tell."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from caezip.config import FAST_DECODING, PSNR, ModelConfig
from caezip.gpu_layers import run_without_plans
from caezip.levels import see_inputs_in_levels
from caezip.transforms import CodecNetwork

CONFIGS = {"psnr": PSNR, "ssim": ModelConfig(), "fastdecode": FAST_DECODING}


def _pair(config: ModelConfig) -> tuple[CodecNetwork, CodecNetwork]:
    torch.manual_seed(1)
    plain = CodecNetwork(config).eval()
    changed = deepcopy(plain)
    run_without_plans(changed)
    return plain, changed


def _everything(network: CodecNetwork, image: Tensor, rate: Tensor) -> list[Tensor]:
    latent = network.analysis(image, rate)
    hyper = network.hyper_analysis(latent, rate)
    features = network.hyper_synthesis(hyper, rate, (latent.shape[2], latent.shape[3]))
    first = network.context.first_mean(features)
    second = network.context.second_mean(features, first)
    return [latent, hyper, features, first, second, network.synthesis(latent, rate)]


@pytest.mark.parametrize("tune", CONFIGS)
@pytest.mark.parametrize("shape", [(1, 3, 64, 96), (2, 3, 80, 32)])
def test_they_compute_the_same(tune: str, shape: tuple[int, ...]) -> None:
    plain, changed = _pair(CONFIGS[tune])
    image, rate = torch.rand(shape), torch.linspace(0.2, 0.9, shape[0])
    for wanted, found in zip(
        _everything(plain, image, rate), _everything(changed, image, rate), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_no_convolution_is_left_to_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[str] = []

    def counted(name: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*arguments: Any, **options: Any) -> Tensor:
            planned.append(name)
            return function(*arguments, **options)

        return call

    for owner, name in (
        (torch, "conv2d"),
        (torch, "convolution"),
        (torch.nn.functional, "conv2d"),
        (nn.Conv2d, "_conv_forward"),
    ):
        monkeypatch.setattr(owner, name, counted(name, getattr(owner, name)))
    image, rate = torch.rand(1, 3, 32, 32), torch.tensor([0.5])
    for config in CONFIGS.values():
        plain, changed = _pair(config)
        _everything(plain, image, rate)
        assert len(planned) > 20  # so that none below means none
        planned.clear()
        _everything(changed, image, rate)
        assert planned == []


def test_parameters_levels_and_gradients_stay() -> None:
    plain, changed = _pair(FAST_DECODING)
    assert list(plain.state_dict()) == list(changed.state_dict())
    ranges = {"synthesis.blocks.0.expand": torch.tensor([-1.0, 2.0]).numpy()}
    for network in (plain, changed):
        see_inputs_in_levels(network, ranges)
    changed = deepcopy(changed)  # as for a search in bfloat16
    latent = torch.randn(1, FAST_DECODING.latent_channels, 6, 5)
    gradients = []
    for network in (plain, changed):
        inputs = latent.clone().requires_grad_()
        network.synthesis(inputs, torch.tensor([0.4])).square().sum().backward()
        gradients.append(inputs.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-3)


def test_bfloat16_is_taken_where_products_are() -> None:
    _, changed = _pair(PSNR)
    latent = torch.randn(1, PSNR.latent_channels, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        image = changed.synthesis(latent, torch.tensor([0.5]))
    torch.testing.assert_close(
        image.float(), changed.synthesis(latent, torch.tensor([0.5])), rtol=0.1, atol=0.1
    )
