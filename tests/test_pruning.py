"""Channels that others can take over are left out of the analysis transform's blocks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray

from caezip import Codec
from caezip.config import ModelConfig
from caezip.image_io import encode_image
from caezip.picture import Picture
from caezip.pretrained import load_model
from images import photo_like, psnr_db
from trainers import make_trainer

pytestmark = pytest.mark.usefixtures("training")


def inputs_with_copies(rng: np.random.Generator) -> NDArray[np.float64]:
    """Six channels, of which the last three are made of the first three, and 1: ``[100, 7]``."""
    three = rng.normal(size=(100, 3))
    return np.concatenate([three, three @ rng.normal(size=(3, 3)), np.ones((100, 1))], axis=1)


def test_channels_made_of_others_are_left_out_for_nothing() -> None:
    from caezip.training.pruning import least_needed_left_out

    rng = np.random.default_rng(0)
    inputs, weights = inputs_with_copies(rng), rng.normal(size=(4, 7))
    kept, layer = least_needed_left_out(weights, inputs.T @ inputs / len(inputs), 3)
    assert kept.shape == (3,)
    assert layer.shape == (4, 4)
    found = inputs[:, [*kept, 6]] @ layer.T
    assert np.allclose(found, inputs @ weights.T, atol=1e-3)


@pytest.mark.parametrize("kept", [1, 4, 8])
def test_what_is_left_makes_the_most_of_its_inputs(kept: int) -> None:
    from caezip.training.pruning import least_needed_left_out

    rng = np.random.default_rng(kept)
    inputs = np.concatenate([rng.normal(size=(300, 8)) ** 2, np.ones((300, 1))], axis=1)
    weights = rng.normal(size=(3, 9))
    here, layer = least_needed_left_out(weights, inputs.T @ inputs / len(inputs), kept)
    some = inputs[:, [*here, 8]]
    best, *_ = np.linalg.lstsq(some, inputs @ weights.T, rcond=None)
    assert np.allclose(layer, best.T, atol=1e-4)


def test_the_channel_that_costs_least_goes_first() -> None:
    from caezip.training.pruning import least_needed_left_out

    moments = np.diag([1.0, 0.01, 4.0, 1.0])
    kept, _ = least_needed_left_out(np.array([[1.0, 1.0, 0.4, 9.0]]), moments, 2)
    assert kept.tolist() == [0, 2]


def test_pruned_weights_are_smaller_and_decode_the_same_files(
    tiny_config: ModelConfig, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    from caezip.training.export import export
    from caezip.training.pruning import main

    trainer = make_trainer(tiny_config, steps=12)
    trainer.run()
    before, after = tmp_path / "before", tmp_path / "after"
    export(trainer.averaged_model(), before, name="tiny", details={"command": "a run"}, model_id=5)
    photo = tmp_path / "photo.png"
    picture = photo_like(300, 280)
    photo.write_bytes(encode_image(Picture(picture), ".png"))
    arguments = ["5", str(photo), "--mixed", "40", "--hidden", "64", "--name", "small"]
    arguments += ["--new-id", "6", "--weights-folder", str(before), "-o", str(after)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    (entry,) = json.loads((after / "manifest.json").read_text())["models"]
    assert (entry["model_id"], entry["tune"]) == (6, "psnr")
    assert entry["details"]["command"].startswith(
        "a run; then caezip.training.pruning of tiny to 40"
    )

    whole, small = load_model(5, before), load_model(6, after)
    assert small.sizes.analysis_widths == (40, 64)
    assert small.network_weights["analysis.blocks.0.reduce.weight"].shape == (48, 64, 1, 1)
    assert small.network_weights["analysis.blocks.0.depthwise.weight"].shape == (40, 1, 3, 3)
    for name, array in whole.network_weights.items():
        if ".blocks.0." not in name or not name.removeprefix("row_step.").startswith("analysis"):
            assert np.array_equal(small.network_weights[name], array), name
    files = (load_file(before / "tiny.safetensors"), load_file(after / "small.safetensors"))
    assert [tensors["integer_scales.shift"].shape for tensors in files] == [(), ()]
    # the whole picture comes out nearly as it did, from a third fewer hidden channels
    codecs = [Codec(threads=1, weights_folder=folder) for folder in (before, after)]
    sides = [codec.decode(codec.encode(picture, quality=80)) for codec in codecs]
    assert psnr_db(sides[0], sides[1]) > psnr_db(sides[0], picture)


def test_to_leave_nothing_out_changes_nothing(tiny_config: ModelConfig, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    from caezip.training.export import export
    from caezip.training.pruning import input_moments, pruned

    trainer = make_trainer(tiny_config, steps=2)
    trainer.run()
    export(trainer.averaged_model(), tmp_path, name="tiny", details={}, model_id=5)
    analysis = load_model(5, tmp_path).build_network().analysis
    moments = input_moments(analysis, [torch.rand(1, 3, 64, 64)])
    assert set(moments) == {"blocks.0.mix_out", "blocks.0.reduce"}
    tensors = load_file(tmp_path / "tiny.safetensors")
    for name, array in pruned(tensors, moments, 48, 96).items():
        assert np.allclose(array, tensors[name], rtol=1e-6), name
