"""``caezip train``: from a folder of photographs to weights that encode and decode."""

from __future__ import annotations

import platform
import re
import shlex
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
import torch

from caezip.config import TUNES, ModelConfig, sizes_of_tune
from caezip.entropy import MIN_HYPER_CHANNELS
from caezip.errors import CheckpointError, OutputError, ParameterError, WeightsError
from caezip.training.checkpoint import CHECKPOINT_NAME, load_checkpoint
from caezip.training.data import find_images, split_held_back
from caezip.training.distributed import process_count, process_group, process_rank
from caezip.training.export import export, read_weights
from caezip.training.progress import run_with_progress_bar
from caezip.training.trainer import Trainer, TrainingOptions
from caezip.training.validation import validate

DEFAULTS = TrainingOptions(minutes=90)
SMALLEST = {"anchor_rates": 2, "hyper_latent_channels": MIN_HYPER_CHANNELS, "mean_channels": 0}
SIZES = tuple(field.name for field in fields(ModelConfig))


def _sizes(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> dict[str, int]:
    """What ``--set`` says of the network."""
    sizes: dict[str, int] = {}
    for part in value:
        name, _, number = part.partition("=")
        smallest = SMALLEST.get(name, 0 if name.endswith("_blocks") else 1)
        if name not in SIZES:
            raise click.BadParameter(f"found {part!r}, allowed names are {', '.join(SIZES)}")
        if not (number.isascii() and number.isdecimal() and int(number) >= smallest):
            raise click.BadParameter(
                f"{name}: found {number!r}, allowed are integers from {smallest}"
            )
        sizes[name] = int(number)
    return sizes


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--run",
    "run_folder",
    default="runs/caezip",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for checkpoints, logs and the exported weights.",
)
@click.option("--minutes", type=float, help="Train this long, in all.  [default: 90]")
@click.option("--steps", type=click.IntRange(min=1), help="Train this many steps, in all.")
@click.option("--resume", is_flag=True, help="Continue from the run folder's checkpoint.")
@click.option(
    "--init",
    "initial",
    metavar="WEIGHTS",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Start from a .safetensors file of weights.",
)
@click.option(
    "--tune",
    type=click.Choice(TUNES),
    help="The error to minimise: squared, or mostly 1 - MS-SSIM (ssim); squared with larger "
    "networks in the decoder (archive) or smaller ones (fastdecode).  [default: psnr]",
)
@click.option(
    "--decay-start",
    type=click.FloatRange(0, 1),
    help="Share of the run after which the learning rate falls.  [default: 0.3, with --init 0]",
)
@click.option("--batch-size", default=DEFAULTS.batch_size, show_default=True)
@click.option("--crop-size", default=DEFAULTS.crop_size, show_default=True, help="Pixels.")
@click.option(
    "--early-crop-size",
    default=DEFAULTS.early_crop_size,
    show_default=True,
    help="Pixels, in the first half of the run.",
)
@click.option(
    "--set",
    "sizes",
    metavar="NAME=N",
    multiple=True,
    callback=_sizes,
    help="A size of the network other than that of the weights released for --tune, such as "
    f"synthesis_blocks=2; of {', '.join(SIZES)}. May be repeated; --init needs the same sizes.",
)
@click.option("--learning-rate-factor", default=1.0, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1 …")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads to use.")
@click.option("--name", default="custom", show_default=True, help="Name of the exported weights.")
@click.option(
    "--export-to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the exported weights and their manifest.  [default: RUN/weights]",
)
@click.option("--model-id", type=click.IntRange(0, 0xFFFF), help="Of a release; else derived.")
@click.option("--force", is_flag=True, help="Overwrite a run or exported weights.")
def train(
    folder: Path,
    run_folder: Path,
    minutes: float | None,
    steps: int | None,
    resume: bool,
    initial: Path | None,
    tune: str | None,
    decay_start: float | None,
    batch_size: int,
    crop_size: int,
    early_crop_size: int,
    sizes: dict[str, int],
    learning_rate_factor: float,
    seed: int,
    device: str,
    threads: int | None,
    name: str,
    export_to: Path | None,
    model_id: int | None,
    force: bool,
) -> None:
    """Train one variable-rate model on the images below DIR and export its weights.

    Stop it at any time with Ctrl-C: the checkpoint is kept, the weights so far
    are exported, and --resume continues. Use the weights with
    `caezip encode --weights RUN/weights`.

    Several GPUs, or machines, take the same options behind torchrun:
    `torchrun --nproc-per-node 4 -m caezip.training DIR --device cuda`.
    The batch size is that of each process.
    """
    if minutes is None and steps is None:
        minutes = DEFAULTS.minutes
    options = TrainingOptions(
        minutes=minutes,
        steps=steps,
        tune=tune or DEFAULTS.tune,
        # released weights know symbols as they are written, and levels; noise would undo that
        hard_start=DEFAULTS.hard_start if initial is None else 0.0,
        levels_start=DEFAULTS.levels_start if initial is None else 0.0,
        decay_start=(DEFAULTS.decay_start if initial is None else 0.0)
        if decay_start is None
        else decay_start,
        batch_size=batch_size,
        crop_size=crop_size,
        early_crop_size=early_crop_size,
        learning_rate_factor=learning_rate_factor,
        seed=seed,
        device=device,
    )
    checkpoint = run_folder / CHECKPOINT_NAME
    if resume and initial is not None:
        raise ParameterError("--init and --resume: found both, allowed is one")
    for option, value in (("--tune", tune), ("--decay-start", decay_start)):
        if resume and value is not None:
            raise ParameterError(f"{option} and --resume: found both, a run keeps its own")
    if resume and not checkpoint.exists():
        raise CheckpointError(f"--resume: {checkpoint} does not exist")
    if checkpoint.exists() and not (resume or force):
        raise OutputError(f"{checkpoint}: exists already; --resume continues it, --force restarts")
    if threads is not None:
        torch.set_num_threads(threads)

    config = replace(_config_of(checkpoint) if resume else sizes_of_tune(options.tune), **sizes)
    with process_group(device) as device:
        options = replace(options, device=device)
        _train(
            folder, options, config, run_folder, resume, initial, name, export_to, model_id, force
        )


def _config_of(checkpoint: Path) -> ModelConfig:
    """The network of a run that goes on."""
    config = load_checkpoint(checkpoint)["config"]
    try:
        return ModelConfig(**config)
    except (TypeError, ParameterError) as error:
        raise CheckpointError(f"checkpoint: {checkpoint} has a wrong config: {error}") from None


def _train(
    folder: Path,
    options: TrainingOptions,
    config: ModelConfig,
    run_folder: Path,
    resume: bool,
    initial: Path | None,
    name: str,
    export_to: Path | None,
    model_id: int | None,
    force: bool,
) -> None:
    files, held_back = split_held_back(find_images(folder))
    trainer = Trainer(files, options, run_folder, config, held_back)
    if not process_rank():
        for reason in trainer.crops.skipped:
            click.echo(f"skipped: {reason}", err=True)
        click.echo(
            f"{len(trainer.crops)} images to train on, {len(held_back)} held back, "
            f"{len(trainer.crops.skipped)} skipped",
            err=True,
        )
    if resume:
        trainer.resume()
    if initial is not None:
        try:
            trainer.start_from(read_weights(initial))
        except WeightsError as error:
            raise CheckpointError(f"--init: {error}") from None
    if process_rank():  # the first process speaks and exports for all
        trainer.run()
        return
    run_with_progress_bar(trainer)

    if not trainer.ranges:
        trainer.see_levels()
    model = trainer.averaged_model()
    model.error_energy = trainer.error_energy(model)
    details: dict[str, Any] = {
        "command": shlex.join(["caezip", *sys.argv[1:]]),
        "data": f"{len(trainer.crops)} images in {folder.name}",
        "steps": trainer.step,
        "hours": round(trainer.elapsed_s / 3600, 2),
        "hardware": _hardware(options.device),
        "torch": torch.__version__,
    }
    if held_back:
        details["held_back"] = validate(model, held_back, trainer.options.tune)
    target = export_to or run_folder / "weights"
    exported_id = export(
        model,
        target,
        name=name,
        details=details,
        ranges=trainer.ranges,
        tune=trainer.options.tune,
        model_id=model_id,
        force=force or export_to is None,
    )
    click.echo(f"{target}: exported model {exported_id}", err=True)


def _hardware(device: str) -> str:
    """What trained the model, for its card."""
    processes = process_count()
    if device.startswith("cuda"):
        return f"{processes} x {torch.cuda.get_device_name(device)}"
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{processes * torch.get_num_threads()} CPU threads, {name}"
