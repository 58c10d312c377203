"""``caezip train``: from a folder of photographs to weights that encode and decode."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import caezip
from caezip import Codec
from caezip.config import DEFAULT_TUNE, FAST_DECODING, ModelConfig, sizes_of_tune
from caezip.errors import UnknownModelError
from caezip.pretrained import find_model, load_model
from caezip.transforms import CodecNetwork
from commands import assert_refused, names, run, succeed
from images import photo_like, psnr_db

pytestmark = pytest.mark.usefixtures("training")
SMALL_BATCHES = ["--batch-size", "2", "--crop-size", "64", "--early-crop-size", "64"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four JPEGs."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(4):
        Image.fromarray(photo_like(90, 120, seed)).save(folder / f"{seed}.jpg", quality=95)
    return folder


@dataclass(frozen=True)
class Run:
    folder: Path
    command: list[str]
    log: str


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run of the real command with the network of the releases, three steps long."""
    folder = tmp_path_factory.mktemp("run")
    arguments = ["train", str(photos), "--steps", "3", *SMALL_BATCHES, "-o", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["caezip", *arguments])
        done = succeed(*arguments)
    return Run(folder, arguments, done.stderr)


@pytest.fixture
def tiny_network(monkeypatch: pytest.MonkeyPatch, tiny_config: ModelConfig) -> ModelConfig:
    """Make the command train a network that costs next to nothing."""
    from caezip.training import command
    from caezip.training.trainer import Trainer

    def make(
        files: Any, options: Any, run_folder: Path, config: ModelConfig, held_back: Any
    ) -> Trainer:
        return Trainer(files, options, run_folder, tiny_config, held_back)

    monkeypatch.setattr(command, "Trainer", make)
    return tiny_config


def checkpoint_of(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / "checkpoint.pt", weights_only=True)
    return state


# -- a run -------------------------------------------------------------------


def test_a_run_leaves_a_checkpoint_and_weights(trained: Run) -> None:
    assert names(trained.folder) == [
        "checkpoint.pt",
        "weights",
        "weights/custom.safetensors",
        "weights/manifest.json",
    ]
    assert checkpoint_of(trained.folder)["step"] == 3
    assert "4 images to train on, 0 held back, 0 skipped" in trained.log
    assert re.search(r"weights: exported model \d+", trained.log)


def test_the_manifest_tells_the_digest_the_data_and_the_command(trained: Run, photos: Path) -> None:
    manifest = json.loads((trained.folder / "weights" / "manifest.json").read_text())
    (entry,) = manifest["models"]
    weights = (trained.folder / "weights" / entry["file"]).read_bytes()
    assert entry["sha256"] == hashlib.sha256(weights).hexdigest()
    assert entry["model_id"] >= 0x8000
    assert entry["details"]["data"] == f"4 images in {photos.name}"
    assert entry["details"]["command"] == " ".join(["caezip", *trained.command])
    assert entry["details"]["steps"] == 3


def test_the_weights_encode_and_decode_and_the_installed_ones_do_not_know_them(
    trained: Run, photos: Path, tmp_path: Path
) -> None:
    weights = ["--weights", trained.folder / "weights"]
    succeed("encode", photos / "0.jpg", "-o", tmp_path / "0.cae", "-q", 90, *weights)
    succeed("decode", tmp_path / "0.cae", *weights)
    with Image.open(photos / "0.jpg") as original, Image.open(tmp_path / "0.png") as decoded:
        assert psnr_db(np.array(original), np.array(decoded)) > 20  # it starts as a DCT
    data = (tmp_path / "0.cae").read_bytes()
    with pytest.raises(UnknownModelError, match="weights trained by a user"):
        caezip.decode(data)
    assert_refused(run("decode", tmp_path / "0.cae", "-o", tmp_path / "x.png"), 5, "0.cae: ")


def test_the_network_is_the_one_of_the_installed_weights(trained: Run) -> None:
    assert load_model(None, trained.folder / "weights").sizes == load_model().sizes
    assert (
        CodecNetwork().config == sizes_of_tune(DEFAULT_TUNE) == ModelConfig(**load_model().config)
    )


def test_weights_for_fast_decoding_have_a_smaller_decoder(photos: Path, tmp_path: Path) -> None:
    train = ["train", photos, *SMALL_BATCHES, "-o", tmp_path / "run", "--set", "anchor_rates=2"]
    succeed(*train, "--tune", "fastdecode", "--steps", 1)
    succeed("train", photos, *SMALL_BATCHES, "-o", tmp_path / "run", "--resume", "--steps", 2)
    assert checkpoint_of(tmp_path / "run")["step"] == 2

    weights = tmp_path / "run" / "weights"
    model = load_model(find_model(None, weights, "fastdecode").model_id, weights)
    assert model.sizes == dataclasses.replace(FAST_DECODING, anchor_rates=2)
    assert model.sizes.synthesis_channels < load_model().sizes.synthesis_channels
    codec = Codec(weights_folder=weights, threads=1)
    picture = photo_like(70, 90)
    decoded = codec.decode(codec.encode(picture, quality=90, tune="fastdecode"))
    assert psnr_db(picture, decoded) > 20  # it starts as a DCT
    with pytest.raises(UnknownModelError, match="no weights for 'psnr'"):
        codec.encode(picture)


# -- resuming and restarting -------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--steps", "9"]])
def test_an_existing_run_is_neither_continued_nor_overwritten_unasked(
    trained: Run, photos: Path, more: list[str]
) -> None:
    before = checkpoint_of(trained.folder)["step"]
    done = run("train", photos, "-o", trained.folder, *more)
    assert_refused(
        done, 6, "checkpoint.pt: exists already; --resume continues it, --force restarts"
    )
    assert checkpoint_of(trained.folder)["step"] == before


@pytest.mark.usefixtures("tiny_network")
def test_resume_continues_the_count_and_force_starts_again(photos: Path, tmp_path: Path) -> None:
    arguments = ["train", photos, *SMALL_BATCHES, "-o", tmp_path]
    succeed(*arguments, "--steps", 2)
    first = (tmp_path / "weights" / "custom.safetensors").read_bytes()
    succeed(*arguments, "--steps", 4, "--resume")
    assert checkpoint_of(tmp_path)["step"] == 4
    assert (tmp_path / "weights" / "custom.safetensors").read_bytes() != first
    succeed(*arguments, "--steps", 1, "--force")
    assert checkpoint_of(tmp_path)["step"] == 1


@pytest.mark.usefixtures("tiny_network")
def test_every_model_in_the_manifest_of_a_resumed_run_can_be_used(
    photos: Path, tmp_path: Path
) -> None:
    arguments = ["train", photos, *SMALL_BATCHES, "-o", tmp_path]
    succeed(*arguments, "--steps", 1)
    succeed(*arguments, "--steps", 2, "--resume")
    manifest = json.loads((tmp_path / "weights" / "manifest.json").read_text())
    for entry in manifest["models"]:
        weights = (tmp_path / "weights" / entry["file"]).read_bytes()
        assert hashlib.sha256(weights).hexdigest() == entry["sha256"]


@pytest.mark.usefixtures("tiny_network")
def test_a_damaged_checkpoint_is_not_resumed(trained: Run, photos: Path, tmp_path: Path) -> None:
    data = (trained.folder / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(data[:5000])
    done = run("train", photos, "--steps", 9, *SMALL_BATCHES, "-o", tmp_path, "--resume")
    assert done.exit_code == 5
    assert done.stderr.splitlines()[-1].startswith("caezip: checkpoint: ")
    assert not (tmp_path / "weights").exists()


def test_resuming_needs_a_checkpoint_and_excludes_init(
    photos: Path, trained: Run, tmp_path: Path
) -> None:
    done = run("train", photos, "--resume", "-o", tmp_path / "none")
    assert_refused(done, 5, "--resume: ", "checkpoint.pt does not exist")
    weights = trained.folder / "weights" / "custom.safetensors"
    done = run("train", photos, "--resume", "--init", weights, "-o", trained.folder)
    assert_refused(done, 2, "--init and --resume: found both, allowed is one")
    assert names(tmp_path) == []


@pytest.mark.usefixtures("tiny_network")
def test_init_starts_from_exported_weights(photos: Path, tmp_path: Path) -> None:
    arguments = ["train", photos, *SMALL_BATCHES, "--steps", 1]
    succeed(*arguments, "-o", tmp_path / "first", "--export-to", tmp_path / "a", "--name", "one")
    weights = tmp_path / "a" / "one.safetensors"
    second = [*arguments, "--init", weights, "-o", tmp_path / "second", "--seed", 5]
    succeed(*second, "--export-to", tmp_path / "a", "--name", "two", "--model-id", 77)
    assert names(tmp_path / "a") == ["manifest.json", "one.safetensors", "two.safetensors"]
    picture = photo_like(40, 40)
    data = Codec(threads=1, weights_folder=tmp_path / "a").encode(picture)
    assert caezip.info(data).model_id == 77  # the last of the manifest

    shutil.copy(photos / "0.jpg", tmp_path / "no.safetensors")
    done = run(*arguments, "--init", tmp_path / "no.safetensors", "-o", tmp_path / "third")
    assert done.exit_code == 5
    assert done.stderr.splitlines()[-1].startswith("caezip: --init: ")


@pytest.mark.usefixtures("tiny_network")
def test_init_from_another_network_is_refused(trained: Run, photos: Path, tmp_path: Path) -> None:
    weights = trained.folder / "weights" / "custom.safetensors"
    done = run("train", photos, *SMALL_BATCHES, "--steps", 1, "--init", weights, "-o", tmp_path)
    assert done.exit_code == 5
    assert done.stderr.splitlines()[-1].startswith("caezip: initial weights: ")


# -- data and options --------------------------------------------------------


def test_a_folder_without_images_exits_with_3(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert_refused(run("train", tmp_path, "-o", tmp_path / "run"), 3, "no images in")
    assert_refused(run("train", tmp_path / "none", "-o", tmp_path / "run"), 3, "is not a folder")
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    done = run("train", tmp_path, "-o", tmp_path / "run")
    assert_refused(done, 3, "no readable image; first error", "broken.jpg")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("tiny_network")
def test_images_that_cannot_be_read_are_named_and_skipped(photos: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(photos, data)
    (data / "broken.jpg").write_bytes(b"no photo")
    done = succeed("train", data, "--steps", 1, *SMALL_BATCHES, "-o", tmp_path / "run")
    assert re.search(r"skipped: .*broken\.jpg: not an image", done.stderr)
    assert "4 images to train on, 0 held back, 1 skipped" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "1", "--minutes", "1"], "give either minutes or steps"),
        (["--minutes", "0"], "minutes: found 0.0"),
        (["--batch-size", "0"], "batch size: found 0"),
        (["--crop-size", "100"], "crop size: found 100, allowed are multiples of 64"),
    ],
)
def test_impossible_options_exit_with_2(
    photos: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    assert_refused(run("train", photos, "-o", tmp_path / "run", *options), 2, message)
    assert not (tmp_path / "run").exists()


def test_another_network_can_be_asked_for_and_its_weights_code(
    photos: Path, tmp_path: Path
) -> None:
    sizes = {"synthesis_channels": 24, "synthesis_blocks": 0}
    sizes |= {"latent_channels": 40, "mean_channels": 30, "coloured_planes": 50}
    options = [part for name, size in sizes.items() for part in ("--set", f"{name}={size}")]
    succeed("train", photos, "--steps", 1, *SMALL_BATCHES, "-o", tmp_path / "run", *options)
    weights = tmp_path / "run" / "weights"
    config = load_model(None, weights).config
    assert config == dataclasses.asdict(dataclasses.replace(sizes_of_tune(DEFAULT_TUNE), **sizes))
    more = ["--weights", weights]
    succeed("encode", photos / "0.jpg", "-o", tmp_path / "0.cae", *more)
    succeed("decode", tmp_path / "0.cae", "-o", tmp_path / "0.png", *more)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("depth=3", "found 'depth=3', allowed names are analysis_channels, "),
        ("latent_channels=0", "latent_channels: found '0', allowed are integers from 1"),
        ("anchor_rates=1", "anchor_rates: found '1', allowed are integers from 2"),
        (
            "hyper_latent_channels=3",
            "hyper_latent_channels: found '3', allowed are integers from 4",
        ),
        ("synthesis_blocks", "synthesis_blocks: found '', allowed are integers from 0"),
        ("synthesis_blocks=-1", "synthesis_blocks: found '-1', allowed are integers from 0"),
    ],
)
def test_impossible_networks_are_refused(
    photos: Path, tmp_path: Path, value: str, message: str
) -> None:
    refused = run("train", photos, "--steps", 1, "-o", tmp_path / "run", "--set", value)
    assert refused.exit_code == 2
    assert message in " ".join(refused.stderr.split())
