"""Runs a fuzz target: guided by coverage where atheris is installed, at random elsewhere.

Both take the options that libFuzzer has: ``-max_total_time=SECONDS``, ``-runs=COUNT``,
``-seed=NUMBER``, ``-artifact_prefix=FOLDER/``, and files to run once instead;
``-guided=0`` asks for random mutations. What is found is kept in a file called
``crash-…`` (``crash-current`` if the process died or hung at random, ``timeout-…``
with atheris) and ends the run with another exit code than 0.
"""

from __future__ import annotations

import faulthandler
import hashlib
import importlib
import importlib.util
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

import mutations

SECONDS_PER_INPUT = 60  # more than that is a hang
EXIT_CRASH = 77  # as libFuzzer's
MAX_BYTES = 16384


def main(name: str) -> None:
    options = [argument for argument in sys.argv[1:] if argument.startswith("-")]
    files = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    if "-guided=0" not in options and importlib.util.find_spec("atheris") is not None:
        _run_atheris(name, options, files)
    else:
        run_at_random(name, options, files)


def _load(name: str) -> tuple[Callable[[bytes], object], tuple[bytes, ...]]:
    target, seeds = importlib.import_module("fuzz_targets").TARGETS[name]
    return target, seeds()


def _mutated(data: bytes, seed: int, name: str, others: tuple[bytes, ...]) -> bytes:
    rng = np.random.default_rng(seed)

    def choose(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    change = mutations.mutated if name in ("header", "decode") else mutations.changed_bytes
    return change(data, others, choose)


# -- guided by coverage ------------------------------------------------------


def _run_atheris(name: str, options: list[str], files: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["caezip"]):
        target, seeds = _load(name)

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        if seed % 2:
            return _mutated(data, seed, name, seeds)[:max_size]
        changed = bytes(atheris.Mutate(data, max_size))
        return mutations.repaired(changed) if seed % 4 else changed

    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            (Path(corpus) / f"{number:03}").write_bytes(seed)
        defaults = [f"-max_len={MAX_BYTES}", f"-timeout={SECONDS_PER_INPUT}"]
        atheris.Setup(
            [sys.argv[0], *defaults, *options, *(files or [corpus])],
            lambda data: target(data) and None,
            custom_mutator=mutator,
        )
        atheris.Fuzz()


# -- at random ---------------------------------------------------------------


def run_at_random(name: str, options: list[str], files: list[str]) -> None:
    target, seeds = _load(name)
    values = dict(option.lstrip("-").partition("=")[::2] for option in options)
    folder = Path(values.get("artifact_prefix") or ".")
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        _run_one(target, Path(file).read_bytes(), folder)
    if files:
        return
    seconds = float(values.get("max_total_time") or 0)
    runs = int(values.get("runs") or -1)
    seed = int(values.get("seed") or time.time_ns() % 2**31)
    started, done = time.monotonic(), 0
    for data in seeds:
        _run_one(target, data, folder)
    while done != runs and not 0 < seconds <= time.monotonic() - started:
        data = seeds[(seed + done) % len(seeds)]
        _run_one(target, _mutated(data, seed + done, name, seeds)[:MAX_BYTES], folder)
        done += 1
    taken = time.monotonic() - started
    counts = f"{len(seeds)} seeds, {done} mutations from number {seed} on"
    sys.stdout.write(f"{name}: {counts}, {taken:.0f} s\n")


def _run_one(target: Callable[[bytes], object], data: bytes, folder: Path) -> None:
    current = folder / "crash-current"
    current.write_bytes(data)  # what is left if the process dies
    faulthandler.dump_traceback_later(
        SECONDS_PER_INPUT, exit=True, file=sys.__stderr__ or sys.stderr
    )
    try:
        target(data)
    except Exception:
        kept = folder / f"crash-{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"
        current.replace(kept)
        traceback.print_exc()
        sys.stderr.write(f"found by {kept}: {len(data)} bytes\n")
        sys.exit(EXIT_CRASH)
    finally:
        faulthandler.cancel_dump_traceback_later()
    current.unlink()
