"""Training on several devices: one process each, started by ``torchrun``.

``torchrun --nproc-per-node 4 -m caezip.training DIR`` is the command on one machine;
torchrun's own options add machines. Without torchrun there is one process, and
everything here does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from caezip.errors import ParameterError


def process_count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def process_rank() -> int:
    """0 for the process that writes files and speaks to the user."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def process_group(device: str) -> Iterator[str]:
    """Join the group that torchrun announces, if any; yields this process's device.

    "cuda" becomes "cuda:0" … in the order of the processes on each machine.
    Raises ParameterError if there are fewer GPUs than processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    on_gpu = device.startswith("cuda")
    if on_gpu:
        if local_rank >= torch.cuda.device_count():
            raise ParameterError(
                f"device: found {torch.cuda.device_count()} GPUs, "
                f"process {local_rank} of this machine needs another"
            )
        device = f"cuda:{local_rank}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def agreed(elapsed_s: float, stop: bool, device: str) -> tuple[float, bool]:
    """The first process's clock, and whether any process was asked to stop.

    Every process must take the same steps: with clocks of their own, one would
    end before the others and leave them waiting.
    """
    if not dist.is_initialized():
        return elapsed_s, stop
    clock = torch.tensor(elapsed_s, dtype=torch.float64, device=device)
    asked = torch.tensor(int(stop), device=device)
    dist.broadcast(clock, 0)
    dist.all_reduce(asked, dist.ReduceOp.MAX)
    return float(clock), bool(asked)


def gathered(value: Any) -> list[Any]:
    """Every process's ``value``, in the order of their ranks, in every process."""
    if not dist.is_initialized():
        return [value]
    out: list[Any] = [None] * process_count()
    dist.all_gather_object(out, value)
    return out
