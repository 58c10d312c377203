"""Models that share an analysis transform: one file has it, the other names that file's sha256."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

import caezip
from caezip import Codec
from caezip.errors import WeightsError
from caezip.image_io import Pixels
from caezip.pretrained import find_model, list_models
from forge import with_model_id
from images import smooth

if TYPE_CHECKING:
    from caezip.config import ModelConfig

SHARED, REST = "shared.safetensors", "rest.safetensors"


@pytest.fixture
def sharing(tmp_path: Path) -> Path:
    """A folder with the installed weights, 40000, and 40001 that lack its analysis transform."""
    installed = find_model(None).file.read_bytes()
    rest = {name: array for name, array in load(installed).items() if "analysis.b" not in name}
    assert len(rest) < len(load(installed))
    files = {SHARED: installed, REST: save(rest)}
    digests = {}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        digests[name] = hashlib.sha256(data).hexdigest()
    models: list[dict[str, object]] = [
        {"model_id": number, "name": name, "file": name, "sha256": digest, "details": {}}
        for number, (name, digest) in enumerate(digests.items(), 40000)
    ]
    models[1]["analysis_of"] = digests[SHARED]
    manifest = {"manifest_version": 1, "models": models}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def test_a_model_can_share_the_analysis_transform_of_another_file(
    sharing: Path, codec: Codec, photo: Pixels
) -> None:
    other = Codec(threads=1, weights_folder=sharing)
    data = other.encode(photo, quality=50)
    original = codec.encode(photo, quality=50)
    assert caezip.info(data).model_id == 40001
    assert data == with_model_id(original, 40001)
    assert np.array_equal(other.decode(data), codec.decode(original))


@pytest.mark.usefixtures("training")
def test_training_goes_on_from_a_shared_analysis_transform(
    sharing: Path, tiny_config: ModelConfig
) -> None:
    from caezip.training.export import export, read_weights
    from caezip.training.objective import TrainingModel

    whole, found = read_weights(sharing / SHARED), read_weights(sharing / REST)
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in whole.items())

    before = list_models(sharing)[40001]
    export(TrainingModel(tiny_config).eval(), sharing, name="tiny", details={})
    assert list_models(sharing)[40001] == before


def test_a_shared_analysis_transform_that_is_gone_or_altered_is_a_weights_error(
    sharing: Path,
) -> None:
    path = sharing / SHARED
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=f"{SHARED} has sha256"):
        Codec(threads=1, weights_folder=sharing).encode(smooth(16, 16))
    path.unlink()
    with pytest.raises(WeightsError, match=f"{SHARED} cannot be read"):
        Codec(threads=1, weights_folder=sharing).encode(smooth(16, 16))
    manifest = json.loads((sharing / "manifest.json").read_text())
    del manifest["models"][0]
    (sharing / "manifest.json").write_text(json.dumps(manifest))
    shares = f"{REST} shares the analysis transform .* which the manifest does not have"
    with pytest.raises(WeightsError, match=shares):
        Codec(threads=1, weights_folder=sharing).encode(smooth(16, 16))
