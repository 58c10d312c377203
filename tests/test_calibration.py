"""What is measured of a trained model for engines and encoders."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from caezip.config import ModelConfig
from caezip.errors import WeightsError
from caezip.initialisation import initialise_as_block_transform
from caezip.levels import see_inputs_in_levels
from caezip.pretrained import ERROR_ENERGY, find_model, load_model
from images import smooth

if TYPE_CHECKING:
    from caezip.training.objective import TrainingModel

pytestmark = pytest.mark.usefixtures("training")


def block_transform(config: ModelConfig) -> TrainingModel:
    """A model whose synthesis transform is all but linear."""
    from caezip.training.objective import TrainingModel

    torch.manual_seed(0)
    model = TrainingModel(config)
    initialise_as_block_transform(model.network)
    return model


@pytest.fixture
def crops() -> torch.Tensor:
    pixels = torch.from_numpy(np.stack([smooth(128, 144), smooth(128, 144)[:, ::-1]]))
    return pixels.permute(0, 3, 1, 2).float() / 255


def linear_energy(model: TrainingModel) -> torch.Tensor:
    return model.network.synthesis.content.weight.detach().square().sum((0, 2, 3))


def test_where_the_path_to_the_picture_is_linear_errors_cost_what_its_columns_say(
    tiny_config: ModelConfig, crops: torch.Tensor
) -> None:
    from caezip.training.calibration import MANY_CELLS, error_energy

    model = block_transform(tiny_config)
    energy = error_energy(model, crops)
    assert energy is not None
    assert energy.numpy() / MANY_CELLS == pytest.approx(linear_energy(model).numpy(), rel=0.05)


def test_what_is_behind_that_path_counts_and_levels_do_not(
    tiny_config: ModelConfig, crops: torch.Tensor
) -> None:
    from caezip.training.calibration import MANY_CELLS, activation_ranges, error_energy

    model = block_transform(tiny_config)
    render = model.network.synthesis.render
    assert render is not None
    with torch.no_grad():
        render.weight.mul_(2)
    energy = error_energy(model, crops)
    assert energy is not None
    assert energy.numpy() / MANY_CELLS == pytest.approx(4 * linear_energy(model).numpy(), rel=0.05)
    model.train()
    see_inputs_in_levels(model.network, activation_ranges(model, [crops]))
    again = error_energy(model, crops)
    assert again is not None
    assert torch.equal(again, energy)
    assert model.training


def test_lean_decoders_need_no_measurement(tiny_config: ModelConfig, crops: torch.Tensor) -> None:
    from caezip.training.calibration import error_energy
    from caezip.training.objective import TrainingModel

    lean = dataclasses.replace(tiny_config, renderer_blocks=0, synthesis_channels=16)
    assert error_energy(TrainingModel(lean), crops) is None


def test_weights_bring_it_along_or_encoders_take_the_linear_path(
    tiny_config: ModelConfig, tmp_path: Path
) -> None:
    from caezip.training.export import export

    model = block_transform(tiny_config)
    linear = linear_energy(model).numpy()
    measured = np.arange(24, dtype=np.float32)
    export(model, tmp_path, name="without", details={}, model_id=40002)
    model.error_energy = torch.from_numpy(measured)
    export(model, tmp_path, name="with", details={}, model_id=40001)
    assert np.array_equal(load_model(40001, tmp_path).error_energy, measured)
    assert load_model(40002, tmp_path).error_energy == pytest.approx(linear, rel=0.01)
    assert load_model(find_model(None, None, "archive").model_id).measured_energy is not None


@pytest.mark.parametrize(
    "energy",
    [np.full(count, value, np.float32) for count, value in ((23, 1), (24, np.nan), (24, -1))],
    ids=["few", "nan", "negative"],
)
def test_impossible_ones_are_refused(
    tiny_config: ModelConfig, tmp_path: Path, energy: NDArray[np.float32]
) -> None:
    from caezip.training.export import export

    trained = block_transform(tiny_config)
    trained.error_energy = torch.from_numpy(energy)
    export(trained, tmp_path, name="bad", details={})
    model = load_model(None, tmp_path)
    with pytest.raises(WeightsError, match=f"{ERROR_ENERGY}: allowed are 24 numbers from 0"):
        _ = model.error_energy
