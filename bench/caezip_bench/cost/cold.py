"""What a call of the command takes from nothing to done, as a person at a terminal has it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from caezip.image_io import Pixels
from caezip_bench.cost.result import ColdCall
from caezip_bench.cost.worker import WorkerError

LIMIT_S = 120.0
PROGRAM = "from caezip.cli import main; main()"  # what the installed command runs


def cold_calls(
    pixels: Pixels,
    folder: Path,
    *,
    runs: int,
    weights_folder: Path | None = None,
    tell: Callable[[str], object] = lambda doing: None,
) -> list[ColdCall]:
    """``caezip``'s commands on this picture, in turns, with files in ``folder``.

    Each call is a process of its own. A round of them that does not count goes before,
    so that Python and its packages come from the system's cache of files, not from the
    disk. Raises WorkerError if a call fails.
    """
    from PIL import Image

    source, coded = folder / "cold.png", folder / "cold.cae"
    Image.fromarray(pixels).save(source)
    common = ["--quiet", "--force"]
    if weights_folder is not None:
        common += ["--weights", str(weights_folder)]
    calls = {
        "caezip --help": ["--help"],
        "caezip encode": ["encode", str(source), "-o", str(coded), *common],
        "caezip info": ["info", str(coded)],
        "caezip decode": ["decode", str(coded), "-o", str(folder / "decoded.png"), *common],
    }
    seconds: dict[str, list[float]] = {command: [] for command in calls}
    for number in range(runs + 1):
        for command, arguments in calls.items():
            tell(f"cold calls: {command}")
            taken_s = seconds_of_command(command, arguments)
            if number:
                seconds[command].append(taken_s)
    return [ColdCall(command, tuple(found)) for command, found in seconds.items()]


def seconds_of_command(command: str, arguments: list[str]) -> float:
    """Of a process of its own. Raises WorkerError, which names the ``command``, if it fails."""
    before = perf_counter()
    try:
        done = subprocess.run(  # noqa: S603  # our own command, and files that we named
            [sys.executable, "-c", PROGRAM, *arguments],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WorkerError(f"{command}: took longer than {LIMIT_S:g} s") from None
    taken_s = perf_counter() - before
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        raise WorkerError(f"{command}: exit code {done.returncode}: {last}")
    return taken_s
