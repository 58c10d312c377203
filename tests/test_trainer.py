"""The training loop: exact resumption, checkpoints that are whole or refused, logs."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from caezip import ConvolutionalAutoencoder
from caezip.config import ModelConfig
from caezip.errors import CheckpointError, ParameterError, TrainingDataError
from images import noise, photo_like
from trainers import PHOTOS, make_trainer

if TYPE_CHECKING:
    from caezip.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("training")
OTHER_CONFIG = ModelConfig(64, 1, 64, 16, 64, 64, 64, 1, 1, 2)


def stop_after(step: int, number: int) -> Callable[[Any], None]:
    """A report function that sends this process a signal when ``step`` is done."""

    def report(progress: Any) -> None:
        if progress.step == step:
            signal.raise_signal(number)

    return report


def tensors_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    current = {f"now.{k}": v for k, v in trainer.model.state_dict().items()}
    return current | {f"average.{k}": v for k, v in trainer.average.items()}


# -- resuming ----------------------------------------------------------------


def test_a_stopped_and_resumed_run_ends_with_the_very_weights_of_one_that_was_not(
    tiny_config: ModelConfig, tmp_path: Path
) -> None:
    whole = make_trainer(tiny_config)
    whole.run()
    stopped = make_trainer(tiny_config, tmp_path)
    stopped.run(stop_after(9, signal.SIGTERM))
    assert stopped.step == 9
    torch.manual_seed(99)  # what happens between the two must not matter
    resumed = make_trainer(tiny_config, tmp_path)
    resumed.resume()
    assert resumed.step == 9
    resumed.run()
    assert resumed.step == whole.step == 22
    expected, found = tensors_of(whole), tensors_of(resumed)
    assert expected.keys() == found.keys()
    different = [name for name in expected if not torch.equal(expected[name], found[name])]
    assert different == []


def test_layers_see_levels_from_their_share_of_the_run_on(
    tiny_config: ModelConfig, tmp_path: Path
) -> None:
    trainer = make_trainer(tiny_config, tmp_path, steps=8, levels_start=0.5)
    trainer.run(stop_after(3, signal.SIGTERM))
    assert trainer.ranges == {}
    resumed = make_trainer(tiny_config, tmp_path, steps=8)
    resumed.resume()
    resumed.run(stop_after(6, signal.SIGTERM))
    again = make_trainer(tiny_config, tmp_path, steps=8)
    again.resume()
    assert again.ranges.keys() == resumed.ranges.keys()
    for name, ends in again.ranges.items():
        assert np.array_equal(ends, resumed.ranges[name])
        low, high = ends
        assert low <= 0 < high
        zero = -low / (high - low) * 255
        assert zero == pytest.approx(round(zero), abs=0.01)  # 0 is a level
    assert "synthesis.expand.0" in again.ranges
    assert "hyper_analysis.layers.1.expand" in again.ranges
    # the linear path does not, nor what is carried out in integers anyway
    for name in ("analysis.embed", "analysis.project", "synthesis.content", "synthesis.render"):
        assert name not in again.ranges
    assert not [name for name in again.ranges if name.startswith("scales")]
    seen: list[torch.Tensor] = []
    layer = again.averaged_model().network.synthesis.detail
    assert layer is not None
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    layer(torch.randn(1, tiny_config.synthesis_channels, 9, 9))
    low, high = again.ranges["synthesis.detail"]
    levels = (seen[0] - low) / (high - low) * 255
    assert torch.allclose(levels, levels.round(), atol=1e-3)


def test_symbols_weigh_errors_as_they_are_when_it_begins_to_matter(
    tiny_config: ModelConfig, tmp_path: Path
) -> None:
    trainer = make_trainer(tiny_config, tmp_path, steps=8, hard_start=0.25, levels_start=0.75)
    seen: list[torch.Tensor | None] = []
    trainer.run(lambda _: seen.append(trainer.model.error_energy))
    assert seen[:2] == [None, None]
    assert all(isinstance(energy, torch.Tensor) for energy in seen[2:])
    assert [energy is seen[-1] for energy in seen] == [False] * 6 + [True] * 2  # twice measured
    last = seen[-1]
    assert last is not None
    assert trainer.averaged_model().error_energy is last
    for options in ({"tune": "ssim"}, {"hard_start": 1.0}):
        other = make_trainer(tiny_config, steps=4, **{"hard_start": 0.25} | options)
        other.run()
        assert other.model.error_energy is None
    again = make_trainer(tiny_config, tmp_path, steps=8)
    again.resume()
    assert again.model.hard
    assert again.model.error_energy is not None
    assert torch.equal(again.model.error_energy, last)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_a_run_after_its_step_and_get_their_handlers_back(
    tiny_config: ModelConfig, tmp_path: Path, number: int
) -> None:
    before = signal.getsignal(number)
    trainer = make_trainer(tiny_config, tmp_path)
    trainer.run(stop_after(1, number))
    assert trainer.step == 1
    assert signal.getsignal(number) is before
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_finished_run_has_nothing_left_to_do(tiny_config: ModelConfig, tmp_path: Path) -> None:
    done = make_trainer(tiny_config, tmp_path, steps=2)
    done.run()
    again = make_trainer(tiny_config, tmp_path, steps=2)
    again.resume()
    again.run()
    assert again.step == 2
    more = make_trainer(tiny_config, tmp_path, steps=3)
    more.resume()
    more.run()
    assert more.step == 3


def test_minutes_limit_a_run_too(tiny_config: ModelConfig) -> None:
    trainer = make_trainer(tiny_config, steps=None, minutes=1e-6)
    trainer.run()
    assert trainer.step == 1
    assert trainer.share_done >= 1


@pytest.fixture(scope="module")
def checkpoint_bytes(tiny_config: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("run")
    make_trainer(tiny_config, folder, steps=1).run()
    return (folder / "checkpoint.pt").read_bytes()


@pytest.fixture
def checkpoint(checkpoint_bytes: bytes, tmp_path: Path) -> Path:
    """Of a run of one step."""
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(checkpoint_bytes)
    return path


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(
    tiny_config: ModelConfig, checkpoint: Path, share: float
) -> None:
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt cannot be read"):
        make_trainer(tiny_config, checkpoint.parent).resume()


def test_other_files_are_no_checkpoints(tiny_config: ModelConfig, checkpoint: Path) -> None:
    trainer = make_trainer(tiny_config, checkpoint.parent)
    checkpoint.write_bytes(os.urandom(500))
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt cannot be read") as caught:
        trainer.resume()
    assert "\n" not in str(caught.value)
    for content in ({"weights": 1}, [1, 2], torch.zeros(3)):
        torch.save(content, checkpoint)
        with pytest.raises(CheckpointError, match=r"checkpoint\.pt is not one of caezip's"):
            trainer.resume()
    checkpoint.unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt does not exist"):
        trainer.resume()


def test_a_checkpoint_with_a_part_missing_is_refused(
    tiny_config: ModelConfig, checkpoint: Path
) -> None:
    trainer = make_trainer(tiny_config, checkpoint.parent)
    whole = torch.load(checkpoint, weights_only=True)
    for part in whole.keys() - {"options"}:
        torch.save({name: value for name, value in whole.items() if name != part}, checkpoint)
        with pytest.raises(CheckpointError):
            trainer.resume()


def test_a_checkpoint_runs_no_code(tiny_config: ModelConfig, checkpoint: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(checkpoint.parent / "owned"),)

    torch.save({"config": Payload()}, checkpoint)
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        make_trainer(tiny_config, checkpoint.parent).resume()
    assert "\n" not in str(caught.value)  # the command prints one line
    assert not (checkpoint.parent / "owned").exists()


@pytest.mark.usefixtures("checkpoint")
def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a model of another configuration"):
        make_trainer(OTHER_CONFIG, tmp_path).resume()


def test_a_crash_while_saving_keeps_the_previous_checkpoint(
    tiny_config: ModelConfig, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    trainer = make_trainer(tiny_config, checkpoint.parent)
    trainer.resume()
    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        trainer.save()
    assert make_trainer(tiny_config, checkpoint.parent).step == 0
    trainer.resume()
    assert trainer.step == 1


def test_weights_of_another_configuration_are_no_start(tiny_config: ModelConfig) -> None:
    other = ConvolutionalAutoencoder(OTHER_CONFIG)
    weights = {f"network.{name}": t for name, t in other.network.state_dict().items()}
    with pytest.raises(CheckpointError, match="initial weights: of another configuration"):
        make_trainer(tiny_config).start_from(weights)


# -- options and data --------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either minutes or steps"),
        ({"minutes": 1, "steps": 1}, "either minutes or steps"),
        ({"steps": 0}, "steps: found 0"),
        ({"minutes": -1.0}, "minutes: found -1"),
        ({"minutes": float("nan")}, "minutes: found nan"),
        ({"steps": 1, "batch_size": 0}, "batch size: found 0"),
        ({"steps": 1, "crop_size": 96}, "crop size: found 96, allowed are multiples of 64"),
        ({"steps": 1, "early_crop_size": 1}, "early crop size: found 1"),
    ],
)
def test_impossible_options_are_parameter_errors(options: dict[str, Any], message: str) -> None:
    from caezip.training.trainer import TrainingOptions

    with pytest.raises(ParameterError, match=message):
        TrainingOptions(**options)


def test_images_are_found_below_a_folder_and_every_150th_is_held_back(tmp_path: Path) -> None:
    from caezip.training.data import find_images, split_held_back

    (tmp_path / "sub").mkdir()
    for name in ("b.JPG", "a.png", "sub/c.webp", "notes.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in find_images(tmp_path)] == ["a.png", "b.JPG", "c.webp"]
    files = [Path(f"{number:03}") for number in range(300)]
    training, held_back = split_held_back(files)
    assert [p.name for p in held_back] == ["149", "299"]
    assert sorted([*training, *held_back]) == files
    assert split_held_back(files[:149]) == (files[:149], [])


def test_folders_without_images_are_training_data_errors(tmp_path: Path) -> None:
    from caezip.training.data import RandomCrops, find_images

    with pytest.raises(TrainingDataError, match=r"no images in .* \(looked for .*\.jpg"):
        find_images(tmp_path)
    with pytest.raises(TrainingDataError, match="nowhere is not a folder"):
        find_images(tmp_path / "nowhere")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    with pytest.raises(TrainingDataError, match=r"no readable image; first error: .*broken\.jpg"):
        RandomCrops([broken], seed=0)


def test_crops_are_squares_of_the_photos_and_bad_files_are_skipped(tmp_path: Path) -> None:
    from caezip.training.data import RandomCrops

    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(PHOTOS[0]).save(good)
    bad.write_bytes(good.read_bytes()[:60])
    for cache_limit in (0, 1 << 30):
        crops = RandomCrops([good, bad, noise(5, 90)], 1, cache_limit)
        assert len(crops) == 2
        assert len(crops.skipped) == 1
        assert "bad.png" in crops.skipped[0]
        batch = crops.batch(6, 64)
        assert (batch.shape, batch.dtype) == ((6, 3, 64, 64), torch.float32)
        assert 0 <= float(batch.min()) <= float(batch.max()) <= 1


def test_the_seed_and_the_random_state_fix_the_crops() -> None:
    from caezip.training.data import RandomCrops

    one, other = RandomCrops(PHOTOS, 3), RandomCrops(PHOTOS, 3)
    assert torch.equal(one.batch(4, 64), other.batch(4, 64))
    state = one.random_state
    expected = one.batch(4, 64)
    assert not torch.equal(other.batch(5, 64)[:4], RandomCrops(PHOTOS, 4).batch(5, 64)[:4])
    other.random_state = state
    assert torch.equal(other.batch(4, 64), expected)


# -- logs --------------------------------------------------------------------


def test_logs_and_validation_are_tables(tiny_config: ModelConfig, tmp_path: Path) -> None:
    from caezip.training.trainer import Trainer, TrainingOptions

    held_back = tmp_path / "held.png"
    Image.fromarray(photo_like(70, 140)).save(held_back)
    options = TrainingOptions(
        steps=100,
        batch_size=1,
        crop_size=64,
        early_crop_size=64,
        bfloat16=False,
        validation_minutes=0,
        checkpoint_minutes=1e-3,
    )
    trainer = Trainer([noise(64, 64)], options, tmp_path / "run", tiny_config, [held_back])
    trainer.step = 98  # two more steps: the 100th is logged
    trainer.run()
    log = _table(tmp_path / "run" / "log.csv")
    assert [row["step"] for row in log] == ["100"]
    rows = _table(tmp_path / "run" / "validation.csv")
    assert [float(row["rate"]) for row in rows] == [0, 0.25, 0.5, 0.75, 1] * 2
    assert all(float(row["bpp"]) > 0 for row in rows)


def _table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))
