"""Run by torchrun in test_distributed.py: train a tiny model, print what each process holds."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third-party packages warn while they are imported
    from caezip.training.distributed import gathered, process_group, process_rank
    from caezip.training.trainer import Progress, Trainer, TrainingOptions

from caezip.config import ModelConfig
from images import photo_like

Report = dict[str, Any]


def train(folder: Path, device: str, stop_after: int = 4, *, resume: bool = False) -> Report:
    """Of a run of four steps; ``stop_after`` less, one process is told to stop."""
    config = ModelConfig(
        analysis_channels=48,
        analysis_blocks=1,
        latent_channels=24,
        hyper_latent_channels=6,
        hyper_channels=48,
        context_channels=48,
        synthesis_channels=48,
        synthesis_blocks=1,
        renderer_blocks=1,
        anchor_rates=3,
    )
    options = TrainingOptions(
        steps=4, batch_size=2, early_crop_size=64, crop_size=64, device=device
    )
    photos = [photo_like(96, 96, seed) for seed in range(3)]
    trainer = Trainer(photos, options, folder, config)
    if resume:
        trainer.resume()

    def stop(progress: Progress) -> None:
        if progress.step == stop_after < 4 and process_rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer.run(stop)
    weights = b"".join(p.detach().numpy().tobytes() for p in trainer.model.parameters())
    crop = trainer.crops.batch(1, 64).numpy().tobytes()
    own = [hashlib.sha256(part).hexdigest() for part in (weights, crop)]
    return {"step": trainer.step, "weights_and_crops": gathered(own)}


def main(folder: Path) -> None:
    with process_group("cpu") as device:
        reports = {
            "whole": train(folder / "whole", device),
            "first": train(folder / "parts", device, stop_after=2),
            "second": train(folder / "parts", device, resume=True),
        }
        if process_rank() == 0:
            print(json.dumps(reports))  # noqa: T201  # standard output is what the test reads


if __name__ == "__main__":
    main(Path(sys.argv[1]))
