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


def test_two_processes_hold_one_model_and_resume_exactly(tmp_path: Path) -> None:
    with socket.socket() as probe:  # a port that is free, now at least
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    done = subprocess.run(
        [*command, str(SCRIPT), str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    reports: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    (weights, crop), (other_weights, other_crop) = reports["whole"]["weights_and_crops"]
    assert weights == other_weights
    assert crop != other_crop
    assert reports["first"]["step"] == 3  # asked in step 2, agreed on behind the next
    assert reports["second"] == reports["whole"]


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
