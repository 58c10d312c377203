"""The training loop: one model, every rate, resumable at any moment."""

from __future__ import annotations

import csv
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from caezip.config import DEFAULT_TUNE, TUNES, ModelConfig
from caezip.errors import CheckpointError, ParameterError
from caezip.image_io import Pixels
from caezip.initialisation import initialise_as_block_transform, patch_covariance
from caezip.levels import see_inputs_in_levels
from caezip.torch_networks import fast_in_bfloat16
from caezip.training.calibration import activation_ranges, error_energy
from caezip.training.checkpoint import CHECKPOINT_NAME, load_checkpoint
from caezip.training.data import RandomCrops
from caezip.training.distributed import agreed, gathered, process_count, process_rank
from caezip.training.objective import TrainingModel
from caezip.training.optimizer import Optimizers, learning_rate_factor
from caezip.training.validation import validate

LOG_NAME = "log.csv"
STATISTICS_CROPS, STATISTICS_CROP_SIZE = 512, 128  # 32,768 patches, 100 MB
GRADIENT_CLIP = 1.0
CALIBRATION_CROPS, ENERGY_CROPS = 64, 4  # of the statistics' crops
KEPT_OPTIONS = (  # by a resumed run
    "tune",
    "decay_start",
    "hard_start",
    "levels_start",
    "late_crops_start",
)


@dataclass(frozen=True)
class TrainingOptions:
    """One run. Exactly one of ``minutes`` and ``steps`` is set."""

    minutes: float | None = None
    steps: int | None = None
    batch_size: int = 8
    crop_size: int = 256  # pixels, in the later part of the run
    early_crop_size: int = 192  # pixels, before: more steps in the same time
    late_crops_start: float = 0.5  # share of the run
    decay_start: float = 0.3  # share of the run
    hard_start: float = 0.5  # share of the run; see `TrainingModel`
    levels_start: float = 0.6  # share of the run from which layers see levels, as in int8
    learning_rate_factor: float = 1.0
    ema_decay: float = 0.998
    tune: str = DEFAULT_TUNE  # "ssim" has another error to minimise
    graphics_share: float = 0.06  # of the crops are drawn, the rest are photographs
    seed: int = 0
    checkpoint_minutes: float = 5.0
    validation_minutes: float = 20.0
    bfloat16: bool | None = None  # None: where the CPU or GPU is fast at it
    device: str = "cpu"

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise ParameterError("training length: give either minutes or steps")
        if self.tune not in TUNES:
            raise ParameterError(f"tune: found {self.tune!r}, allowed are {TUNES}")
        positive = {
            "minutes": self.minutes,
            "steps": self.steps,
            "batch size": self.batch_size,
            "crop size": self.crop_size,
            "early crop size": self.early_crop_size,
        }
        for name, value in positive.items():
            if value is not None and not value > 0:
                raise ParameterError(f"{name}: found {value}, allowed are values above 0")
        for name, size in (
            ("crop size", self.crop_size),
            ("early crop size", self.early_crop_size),
        ):
            if size % 64:
                raise ParameterError(f"{name}: found {size}, allowed are multiples of 64")


@dataclass
class Progress:
    """What the run reports after a step; averages are over the last hundred steps."""

    step: int
    elapsed_s: float
    share_done: float
    loss: float
    bpp: float
    psnr_db: float
    last_loss: float  # of this step alone


class Trainer:
    """Owns the model, its moving average, the optimisers and the random state."""

    def __init__(
        self,
        photos: Sequence[Path | Pixels],
        options: TrainingOptions,
        run_folder: Path | None = None,
        config: ModelConfig | None = None,
        held_back: Sequence[Path] = (),
    ) -> None:
        torch.manual_seed(options.seed)
        self.held_back = held_back
        self.options = options
        self.run_folder = run_folder
        self.model = TrainingModel(config)
        self.model.to(options.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks device + memory_format
        self.optimizers = Optimizers(self.model, options.learning_rate_factor)
        rank = process_rank()
        self.crops = RandomCrops(photos, options.seed)
        sample = self.crops.batch(STATISTICS_CROPS, STATISTICS_CROP_SIZE)
        self._calibration_crops = sample[:CALIBRATION_CROPS]  # the same in every process
        self.ranges: dict[str, NDArray[np.float32]] = {}  # once layers see levels
        self.crops.graphics_share = options.graphics_share
        if rank:  # from here on every process draws its own crops, rates and noise
            self.crops.reseed((options.seed, rank))
            torch.manual_seed(options.seed + rank)
        self._replica = self._across_processes()
        initialise_as_block_transform(self.model.network, patch_covariance(sample))
        self.average = {k: v.detach().clone() for k, v in self._weights()}
        self.step = 0
        self.elapsed_s = 0.0
        use_bfloat16 = options.bfloat16
        if use_bfloat16 is None:
            use_bfloat16 = fast_in_bfloat16(torch.device(options.device))
        self._autocast_dtype = torch.bfloat16 if use_bfloat16 else None
        self._recent: list[tuple[float, float, float]] = []
        self._asked_to_stop = False  # this process; `_stopped` is what all agree on
        self._stopped = False

    def _across_processes(self) -> nn.Module:
        """The model behind a wrapper that averages gradients over all processes."""
        if process_count() == 1:
            return self.model
        replica: nn.Module = DistributedDataParallel(self.model)
        return replica

    def _weights(self) -> list[tuple[str, Tensor]]:
        return list(self.model.named_parameters())

    @property
    def share_done(self) -> float:
        if self.options.steps is not None:
            return self.step / self.options.steps
        return self.elapsed_s / (60 * (self.options.minutes or math.inf))

    def run(self, report: Callable[[Progress], None] | None = None) -> None:
        """Train until the steps or minutes are used up, or a signal asks to stop.

        Saves a checkpoint every few minutes and at the end if there is a run folder.
        """
        self.model.train()
        saved_s = validated_s = self.elapsed_s
        with self._stop_on_signal():
            before = time.monotonic()
            while self.share_done < 1 and not self._stopped:
                progress = self._step()
                now = time.monotonic()
                self.elapsed_s, self._stopped = agreed(
                    self.elapsed_s + now - before, self._asked_to_stop, self.options.device
                )
                before = now
                if report is not None:
                    report(progress)
                if process_count() == 1:  # nobody to agree with
                    self._stopped = self._asked_to_stop
                if self.run_folder is None:
                    continue
                if self.step % 100 == 0:
                    self._log(progress)
                if self.elapsed_s - saved_s > 60 * self.options.checkpoint_minutes:
                    self.save()
                    saved_s = self.elapsed_s
                if self.elapsed_s - validated_s > 60 * self.options.validation_minutes:
                    self.write_validation()
                    validated_s = self.elapsed_s
                    before = time.monotonic()  # judging is not training
            if self.run_folder is not None:
                self.save()

    def _step(self) -> Progress:
        options = self.options
        late = self.share_done >= options.late_crops_start
        size = options.crop_size if late else options.early_crop_size
        begins_hard = self.share_done >= options.hard_start and not self.model.hard
        begins_levels = self.share_done >= options.levels_start and not self.ranges
        self.model.hard |= begins_hard
        if begins_levels:
            self.see_levels()
        if self.model.hard and (begins_hard or begins_levels):  # symbols weigh errors as they are
            self.model.error_energy = self.error_energy(self.averaged_model())
        images = self.crops.batch(options.batch_size, size).to(options.device)
        images = images.contiguous(memory_format=torch.channels_last)
        # stratified: every batch covers the whole range of rates
        offsets = torch.rand(options.batch_size, device=options.device)
        rates = torch.arange(options.batch_size, device=options.device) + offsets
        cost = self._replica(images, rates / options.batch_size, self._autocast_dtype, options.tune)
        self.optimizers.zero_grad()
        cost.loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.optimizers.parameters, GRADIENT_CLIP)
        if torch.isfinite(norm):
            factor = learning_rate_factor(self.step, self.share_done, options.decay_start)
            self.optimizers.step(factor)
            self._update_average()
        self.step += 1
        psnr_db = -10 * math.log10(max(float(cost.mse.detach().mean()), 1e-10))
        self._recent = [
            *self._recent[-99:],
            (float(cost.loss.detach()), float(cost.bpp.detach().mean()), psnr_db),
        ]
        loss, bpp, psnr_db = np.mean(self._recent, axis=0).tolist()
        last_loss = self._recent[-1][0]
        return Progress(self.step, self.elapsed_s, self.share_done, loss, bpp, psnr_db, last_loss)

    def see_levels(self) -> None:
        """From now on, layers see their inputs in levels; the averaged model says in which."""
        self._use_ranges(activation_ranges(self.averaged_model(), [self._calibration_crops]))

    def _use_ranges(self, ranges: dict[str, NDArray[np.float32]]) -> None:
        self.ranges = ranges
        see_inputs_in_levels(self.model.network, ranges)

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.options.ema_decay, (1 + self.step) / (10 + self.step))
        current = self._weights()
        torch._foreach_lerp_(
            [self.average[name] for name, _ in current], [p.detach() for _, p in current], 1 - decay
        )

    def averaged_model(self) -> TrainingModel:
        """A copy of the model that holds the moving average of its weights."""
        model = TrainingModel(self.model.network.config)
        model.load_state_dict(self.model.state_dict())
        model.error_energy = self.model.error_energy
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(self.average[name])
        see_inputs_in_levels(model.network, self.ranges)
        return model.eval()

    def error_energy(self, model: TrainingModel) -> Tensor | None:
        """`caezip.training.calibration.error_energy`; None where encoders do not ask for it."""
        if self.options.tune == "ssim":
            return None
        return error_energy(model, self._calibration_crops[:ENERGY_CROPS])

    # -- state ---------------------------------------------------------------

    def save(self) -> None:
        """Write the checkpoint so that a crash leaves the previous one intact."""
        if self.run_folder is None:
            raise ParameterError("checkpoint: this run has no folder")
        self.run_folder.mkdir(parents=True, exist_ok=True)
        state = {
            "config": asdict(self.model.network.config),
            "model": self.model.state_dict(),
            "average": self.average,
            "ranges": {name: torch.from_numpy(ends) for name, ends in self.ranges.items()},
            "hard": self.model.hard,
            "error_energy": self.model.error_energy,
            "optimizers": self.optimizers.state_dict(),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "random": gathered((torch.get_rng_state(), self.crops.random_state)),
            "options": asdict(self.options),
        }
        if process_rank():
            return
        target = self.run_folder / CHECKPOINT_NAME
        temporary = target.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, target)

    def resume(self) -> None:
        """Continue from the run folder's checkpoint.

        The run goes on exactly as it would have, random state included, unless
        the number of processes is another. What it minimises and the shares of the
        run at which it changes are the checkpoint's; its length may be another.
        """
        if self.run_folder is None:
            raise ParameterError("resume: this run has no folder")
        state = load_checkpoint(self.run_folder / CHECKPOINT_NAME)
        if state["config"] != asdict(self.model.network.config):
            raise CheckpointError("checkpoint: it holds a model of another configuration")
        try:
            self.model.load_state_dict(state["model"])
            self.average = {k: v.to(self.options.device) for k, v in state["average"].items()}
            if state["ranges"]:
                self._use_ranges({name: ends.numpy() for name, ends in state["ranges"].items()})
            self.model.hard, self.model.error_energy = state["hard"], state["error_energy"]
            self.optimizers.load_state_dict(state["optimizers"])
            self.step, self.elapsed_s = state["step"], state["elapsed_s"]
            kept = {name: state["options"][name] for name in KEPT_OPTIONS}
            self.options = replace(self.options, **kept)
            if len(state["random"]) == process_count():
                torch_state, self.crops.random_state = state["random"][process_rank()]
                torch.set_rng_state(torch_state)
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"checkpoint: a part is missing or wrong: {reason}") from error

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Begin with these parameters of the model instead of the initial ones.

        Raises CheckpointError unless they are all of the network's.
        """
        try:
            result = self.model.load_state_dict(weights, strict=False)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"initial weights: of another configuration: {reason}") from None
        missing = [name for name in result.missing_keys if name.startswith("network.")]
        if missing or result.unexpected_keys:
            raise CheckpointError(
                f"initial weights: of another configuration: {missing or result.unexpected_keys}"
            )
        self.average = {k: v.detach().clone() for k, v in self._weights()}

    # -- reports -------------------------------------------------------------

    def _log(self, progress: Progress) -> None:
        if process_rank():
            return
        path = self._folder() / LOG_NAME
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(asdict(progress)))
            if fresh:
                writer.writeheader()
            writer.writerow({k: round(v, 4) for k, v in asdict(progress).items()})

    def _folder(self) -> Path:
        if self.run_folder is None:
            raise ParameterError("log: this run has no folder")
        self.run_folder.mkdir(parents=True, exist_ok=True)
        return self.run_folder

    def write_validation(self) -> None:
        """Append the averaged model's curve on the held-back photos to validation.csv."""
        if not self.held_back or process_rank():
            return
        rows = validate(self.averaged_model(), self.held_back, self.options.tune)
        path = self._folder() / "validation.csv"
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(["step", "elapsed_s", *rows[0]])
            for row in rows:
                writer.writerow([self.step, round(self.elapsed_s), *row.values()])

    @contextmanager
    def _stop_on_signal(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT end the run after the current step, with a checkpoint."""

        def stop(_signum: int, _frame: FrameType | None) -> None:
            self._asked_to_stop = True

        previous: dict[int, Any] = {}
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                previous[number] = signal.signal(number, stop)
        except ValueError:  # not in the main thread: the caller handles its signals
            pass
        try:
            yield
        finally:
            for restored, handler in previous.items():
                signal.signal(restored, handler)
