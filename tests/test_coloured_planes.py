"""A lean decoder's last layer: planes of three colours."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from caezip import ConvolutionalAutoencoder
from caezip.blocks import ColouredPlanes
from caezip.config import ModelConfig
from caezip.errors import ParameterError, WeightsError
from caezip.initialisation import (
    coloured_basis,
    karhunen_loeve_basis,
    modelled_patch_covariance,
    patch_covariance,
)
from caezip.pretrained import Model, find_model, load_model, network_array
from images import photo_like, psnr_db, smooth


def lean_of(config: ModelConfig, planes: int) -> ModelConfig:
    lean = dataclasses.replace(config, renderer_blocks=0, synthesis_channels=16)
    return dataclasses.replace(lean, coloured_planes=planes)


@pytest.mark.parametrize(
    ("channels", "planes"), [(10, 10), (10, 11), (10, 24), (10, 30), (9, 12), (11, 16), (320, 348)]
)
def test_a_layer_is_the_convolution_with_its_weight(channels: int, planes: int) -> None:
    torch.manual_seed(planes)
    layer = ColouredPlanes(channels, 256, planes)
    assert int(layer.colour_of.sum()) == planes
    assert (layer.colour_of.sum(dim=1) > 0).all()
    with torch.no_grad():
        layer.colours.normal_()
        layer.bias.normal_()
        latent = torch.randn(2, channels, 3, 4)
        expected = torch.zeros(2, 3, 256, 3, 4)
        for n, (channel, colour) in enumerate(layer.colour_of.nonzero().tolist()):
            plane = torch.einsum("bhw,p->bphw", latent[:, channel], layer.planes[:, n, 0, 0])
            expected += layer.colours[colour].view(1, 3, 1, 1, 1) * plane[:, None]
        expected = expected.flatten(1, 2) + layer.bias.view(1, -1, 1, 1)
        assert torch.allclose(layer(latent), expected, atol=1e-4)


@pytest.mark.parametrize("planes", [12, 19])
def test_weights_files_say_the_same(planes: int) -> None:
    layer = ColouredPlanes(12, 256, planes)
    with torch.no_grad():
        layer.colours.normal_()
    stored = {f"synthesis.content.{name}": a.numpy() for name, a in layer.state_dict().items()}
    found = network_array(stored, "synthesis.content.weight")
    assert np.allclose(found, layer.weight.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("planes", [0, 24, 29, 72])
def test_an_untrained_lean_autoencoder_starts_as_a_transform(
    tiny_config: ModelConfig, planes: int
) -> None:
    fresh = ConvolutionalAutoencoder(lean_of(tiny_config, planes))
    picture = smooth(60, 75)
    assert psnr_db(picture, fresh.decode(fresh.encode(picture))) > 25


@pytest.mark.parametrize("planes", [1, 23, 73, -1])
def test_other_numbers_of_planes_are_refused(tiny_config: ModelConfig, planes: int) -> None:
    with pytest.raises(ParameterError, match=f"coloured_planes: found {planes}, .* 24$"):
        lean_of(tiny_config, planes)


def test_the_model_has_basis_functions_of_one_colour() -> None:
    covariance = modelled_patch_covariance()
    _, best = karhunen_loeve_basis(covariance, 96)
    planes, deviation, colours, kinds = coloured_basis(covariance, 96)
    assert torch.allclose(deviation, best, rtol=1e-4)
    assert torch.allclose(planes @ planes.T * (kinds[:, None] == kinds), torch.eye(96), atol=1e-4)
    assert torch.allclose(colours @ colours.T, torch.eye(3), atol=1e-5)


def test_basis_functions_of_one_colour_hold_nearly_as_much_of_photographs() -> None:
    pictures = np.stack([photo_like(128, 128, seed) for seed in range(4)]).transpose(0, 3, 1, 2)
    covariance = patch_covariance(torch.from_numpy(pictures / 255).float())
    _, best = karhunen_loeve_basis(covariance, 96)
    _, deviation, _, _ = coloured_basis(covariance, 96)
    assert 0.98 < float(deviation.square().sum() / best.square().sum()) <= 1.0001


def test_weights_with_another_number_of_planes_are_refused() -> None:
    lean = load_model(find_model(None, None, "fastdecode").model_id)
    weights = dict(lean.network_weights)
    colour_of = weights["synthesis.content.colour_of"].copy()
    colour_of[np.unravel_index(colour_of.argmin(), colour_of.shape)] = 1
    weights["synthesis.content.colour_of"] = colour_of
    altered: Model = dataclasses.replace(lean, network_weights=weights)
    with pytest.raises(WeightsError, match=r"colour_of: allowed are \d+ planes"):
        _ = altered.sizes
