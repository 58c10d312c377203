"""What is known of the processor, and what numpy's matrix library is told of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from caezip import processor

AVX2 = {"avx2", "fma", "sse2"}
AVX512 = {*AVX2, "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [(AVX512, "SkylakeX"), (AVX512 - {"avx512vl"}, "Haswell"), (AVX2, "Haswell"), ({"sse2"}, None)],
)
def test_openblas_is_told_the_best_core_that_the_processor_can_be(
    instructions: set[str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "instruction_sets", lambda: frozenset(instructions))
    monkeypatch.setattr(os, "environ", {})
    processor.set_up_openblas()
    assert os.environ.pop("OPENBLAS_NUM_THREADS") == "1"
    assert os.environ == ({"OPENBLAS_CORETYPE": expected} if expected else {})


def test_what_is_set_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "instruction_sets", lambda: frozenset(AVX512))
    chosen = {"OPENBLAS_CORETYPE": "Zen", "OPENBLAS_NUM_THREADS": "3"}
    monkeypatch.setattr(os, "environ", dict(chosen))
    processor.set_up_openblas()
    assert os.environ == chosen


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ({}, True),
        ({"ONEDNN_MAX_CPU_ISA": "default"}, True),
        ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, False),
        ({"DNNL_MAX_CPU_ISA": "avx512_core_vnni"}, False),
    ],
)
def test_what_onednn_may_not_use_is_not_there(
    limit: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = frozenset({"avx512_vnni", "avx512_bf16"})
    monkeypatch.setattr(processor, "instruction_sets", lambda: flags)
    monkeypatch.setattr(os, "environ", limit)
    assert processor.int8_is_exact() == expected
    assert processor.bfloat16_is_fast() == expected


def test_commands_choose_before_numpy_is_there() -> None:
    code = """
import sys
from caezip import cli, processor
seen = []
cli.set_up_openblas = lambda: seen.append("numpy" in sys.modules)
cli.main.get_command(None, "encode")
print(seen)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[False]"
