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
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    processor.choose_openblas_core()
    assert os.environ.get("OPENBLAS_CORETYPE") == expected
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)


def test_a_core_that_was_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "instruction_sets", lambda: frozenset(AVX512))
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Zen")
    processor.choose_openblas_core()
    assert os.environ["OPENBLAS_CORETYPE"] == "Zen"


def test_commands_choose_before_numpy_is_there() -> None:
    code = """
import sys
from caezip import cli, processor
seen = []
cli.choose_openblas_core = lambda: seen.append("numpy" in sys.modules)
cli.main.get_command(None, "encode")
print(seen)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[False]"
