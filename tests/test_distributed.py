"""Training in several processes: one model, different crops, exact resumption."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from caezip.errors import ParameterError

SCRIPT = Path(__file__).with_name("train_in_processes.py")


def train(folder: Path, stop_after: int, *more: str) -> dict[str, Any]:
    with socket.socket() as probe:  # a port that is free, now at least
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    done = subprocess.run(
        [*command, str(SCRIPT), str(folder), str(stop_after), *more],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return report


def test_two_processes_hold_one_model_and_resume_exactly(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", 4)
    (weights, crop), (other_weights, other_crop) = whole["weights_and_crops"]
    assert weights == other_weights
    assert crop != other_crop

    assert train(tmp_path / "parts", 2)["step"] == 2
    assert train(tmp_path / "parts", 4, "resume") == whole


def test_a_gpu_for_each_process_is_needed(training: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from caezip.training.distributed import process_group

    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with (
        pytest.raises(ParameterError, match=r"found 2 GPUs, process 3 .* needs another"),
        process_group("cuda"),
    ):
        pass
