"""Training runs of a few steps on small pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from images import photo_like

if TYPE_CHECKING:
    from caezip.config import ModelConfig
    from caezip.training.trainer import Trainer

PHOTOS = [photo_like(90, 110, seed) for seed in range(3)]


def make_trainer(
    config: ModelConfig, folder: Path | None = None, steps: int | None = 22, **options: Any
) -> Trainer:
    from caezip.training.trainer import Trainer, TrainingOptions

    settings: dict[str, Any] = {
        "batch_size": 2,
        "crop_size": 128,
        "early_crop_size": 64,
        "bfloat16": False,
        "seed": 7,
    }
    settings.update(options)
    return Trainer(PHOTOS, TrainingOptions(steps=steps, **settings), folder, config)
