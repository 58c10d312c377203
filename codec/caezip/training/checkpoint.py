"""What a training run leaves behind to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from caezip.errors import CheckpointError

CHECKPOINT_NAME = "checkpoint.pt"


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's tensors and numbers. Raises CheckpointError; unpickles no code."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint: {path} does not exist") from None
    except Exception as error:  # torch raises many kinds on damaged files
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(f"checkpoint: {path} cannot be read: {reason}") from error
    if not isinstance(state, dict) or "config" not in state:
        raise CheckpointError(f"checkpoint: {path} is not one of caezip's")
    return state
