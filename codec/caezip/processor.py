"""What this processor can do, and how much of it this process may use."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

# Linux's names of the instructions; older ones add two products up in 16 bits, and saturate
EXACT_INT8 = ("avx512_vnni", "avx_vnni", "amx_int8")
FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")
LARGEST_INT8 = 127  # of weights in int8
LARGEST_WEIGHT = 64  # of those that are written now: nearly every x86 computes these exactly
OPENBLAS_CORES = {  # by what their kernels need, the fastest first
    "SkylakeX": {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"},
    "Haswell": {"avx2", "fma"},
}


def usable_cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int:
    """As many as `usable_cores`, or fewer if OMP_NUM_THREADS says so."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    limit = int(wanted) if wanted.isdecimal() else 0
    return min(usable_cores(), limit or usable_cores())


@cache
def instruction_sets() -> frozenset[str]:
    """What this processor can do, in Linux's names; empty where that is not told."""
    # line by line: the file says the same of every core, and the first is enough
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(("flags", "Features")):
                return frozenset(line.partition(":")[2].split())
    return frozenset()


def largest_exact_weight() -> int:
    """The largest int8 weight whose products with levels from 0 to 255 add up exactly here.

    127, or 64 where two products have 16 bits (2 * 255 * 64 = 32,640), or 0: not known.
    """
    if _engines_have_one_of(EXACT_INT8):
        return LARGEST_INT8
    return LARGEST_WEIGHT if is_x86() and _engines_have_one_of(("avx2",)) else 0


def bfloat16_is_fast() -> bool:
    """Whether this processor multiplies bfloat16 faster than float32, as far as can be told."""
    return _engines_have_one_of(FAST_BFLOAT16)


def _engines_have_one_of(instructions: tuple[str, ...]) -> bool:
    """Not where their library, oneDNN, was told to leave out some of what the processor can do.

    Then int8 may saturate, and OpenVINO gets bfloat16 wrong, or crashes on it.
    """
    if any(limit not in ("", "ALL", "DEFAULT") for limit in _limits()):
        return False
    return not instruction_sets().isdisjoint(instructions)


def openvino_can_run() -> bool:
    """Not where an x86 processor has no AVX, or oneDNN may not use it: pictures come out empty."""
    if "SSE41" in _limits():
        return False
    return not is_x86() or not instruction_sets() or "avx" in instruction_sets()


def _limits() -> list[str]:
    """What oneDNN was told to use at most."""
    return [os.environ.get(f"{name}_MAX_CPU_ISA", "").upper() for name in ("ONEDNN", "DNNL")]


def is_x86() -> bool:
    """Whether this is a processor of the family that OpenVINO was made for, with 64 bits."""
    return platform.machine().lower() in ("x86_64", "amd64")


def set_up_openblas() -> None:
    """Tell numpy's matrix library what to do with this processor; before numpy is imported.

    OpenBLAS takes its oldest kernels where it does not know a processor by name, as that of
    numpy 1.26 does not know any newer one; and its threads would wait, busily, for cores that
    others of ours work on. What is set already stays. For programs of our own: the
    environment belongs to the program.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    core = next((core for core, needs in OPENBLAS_CORES.items() if needs <= instruction_sets()), "")
    if core:
        os.environ.setdefault("OPENBLAS_CORETYPE", core)
