"""What training exports: weights that the codec runs, and a manifest that lists them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from caezip import Codec, container
from caezip.config import ModelConfig
from caezip.errors import ParameterError, WeightsError
from caezip.pretrained import list_models
from images import photo_like, psnr_db
from trainers import make_trainer

if TYPE_CHECKING:
    from caezip.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("training")


@pytest.fixture(scope="module")
def trained(tiny_config: ModelConfig) -> Trainer:
    """After a few steps."""
    trainer = make_trainer(tiny_config, steps=12)
    trainer.run()
    return trainer


@pytest.fixture
def exported(trained: Trainer, tmp_path: Path) -> tuple[Path, Any]:
    """``(folder, model)``: a copy of the model that was trained, and its export."""
    from caezip.training.export import export

    model = trained.averaged_model()
    export(model, tmp_path / "weights", name="tiny", details={"steps": 12})
    return tmp_path / "weights", model


@pytest.mark.parametrize("skipping", [False, True])
def test_exported_weights_encode_and_decode_like_the_model(
    trained: Trainer, tmp_path: Path, skipping: bool
) -> None:
    from caezip.training.export import export

    model: Any = trained.averaged_model()
    if skipping:  # most residuals have index 0 and are left out, which the context must not miss
        with torch.no_grad():
            model.network.scales.bias.table -= 3
            model.network.context.second[-1].weight.mul_(20)
    export(model, tmp_path, name="tiny", details={})
    codec = Codec(threads=1, weights_folder=tmp_path)
    picture = photo_like(128, 192)
    data = codec.encode(picture, quality=50.5)
    decoded = codec.decode(data)
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        cost = model(image, torch.tensor([0.5]))
    # the objective promises the error of the real decoder and the bits of the real coder
    (stream,) = container.read(data).tiles
    assert stream is not None
    bits = 8 * len(stream)
    if not skipping:  # that model's scales are wrong on purpose, and escapes are cheaper
        assert bits == pytest.approx(float(cost.bpp) * 128 * 192, rel=0.02, abs=100)
    assert psnr_db(picture, decoded) == pytest.approx(-10 * np.log10(float(cost.mse)), abs=0.05)


def test_the_manifest_tells_id_digest_and_details(exported: tuple[Path, Any]) -> None:
    folder, _ = exported
    manifest = json.loads((folder / "manifest.json").read_text())
    (entry,) = manifest["models"]
    digest = hashlib.sha256((folder / "tiny.safetensors").read_bytes()).hexdigest()
    assert (entry["file"], entry["sha256"]) == ("tiny.safetensors", digest)
    assert entry["details"] == {"steps": 12}
    assert 0x8000 <= entry["model_id"] <= 0xFFFF  # private: not a release's


def test_models_are_added_to_a_manifest_and_ids_are_not_reused(exported: tuple[Path, Any]) -> None:
    from caezip.training.export import export

    folder, model = exported
    assert export(model, folder, name="second", details={}, model_id=5) == 5
    assert list(list_models(folder))[-1] == 5
    assert len(list_models(folder)) == 2
    with pytest.raises(ParameterError, match="model_id: 5 is taken by second"):
        export(model, folder, name="third", details={}, model_id=5)
    assert not (folder / "third.safetensors").exists()


def test_replacing_a_file_of_weights_drops_the_entry_of_what_it_held(
    exported: tuple[Path, Any],
) -> None:
    from caezip.training.export import export

    folder, model = exported
    with torch.no_grad():
        model.network.context.first.bias += 1
    new_id = export(model, folder, name="tiny", details={}, force=True)
    for entry in list_models(folder).values():  # whatever is listed must be usable
        assert hashlib.sha256(entry.file.read_bytes()).hexdigest() == entry.sha256
    assert new_id in list_models(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_weights_that_half_precision_cannot_hold_are_refused(
    exported: tuple[Path, Any], tmp_path: Path, value: float
) -> None:
    from caezip.training.export import export

    _, model = exported
    with torch.no_grad():
        model.network.synthesis.embed.weight[0, 0] = value
    with pytest.raises(WeightsError, match=r"synthesis\.embed\.weight has values"):
        export(model, tmp_path / "none", name="bad", details={})
    assert not (tmp_path / "none").exists()
