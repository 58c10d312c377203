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
    flags = frozenset({"avx2", "avx512_vnni", "avx512_bf16"})
    monkeypatch.setattr(processor, "instruction_sets", lambda: flags)
    monkeypatch.setattr(os, "environ", limit)
    assert processor.largest_exact_weight() == (127 if expected else 0)
    assert processor.bfloat16_is_fast() == expected


@pytest.mark.parametrize(
    ("machine", "instructions", "expected"),
    [
        ("x86_64", {"avx2", "avx_vnni"}, 127),
        ("x86_64", {"avx2", "avx512f"}, 64),
        ("AMD64", {"avx2"}, 64),
        ("x86_64", {"avx"}, 0),
        ("x86_64", set(), 0),
        ("aarch64", {"asimd", "asimddp"}, 0),
    ],
)
def test_weights_that_are_multiplied_exactly(
    machine: str, instructions: set[str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "instruction_sets", lambda: frozenset(instructions))
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(os, "environ", {})
    assert processor.largest_exact_weight() == expected


@pytest.mark.parametrize(
    ("machine", "instructions", "limit", "expected"),
    [
        ("x86_64", {"sse4_1", "sse4_2"}, "", False),
        ("AMD64", {"sse4_1", "avx"}, "", True),
        ("x86_64", {"avx", "avx2"}, "sse41", False),
        ("x86_64", {"avx", "avx2"}, "AVX2", True),
        ("x86_64", set(), "", True),  # nobody tells
        ("aarch64", {"asimd"}, "", True),
    ],
)
def test_openvino_needs_avx_on_x86(
    machine: str,
    instructions: set[str],
    limit: str,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processor, "instruction_sets", lambda: frozenset(instructions))
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(os, "environ", {"ONEDNN_MAX_CPU_ISA": limit})
    assert processor.openvino_can_run() == expected


def test_pictures_are_decoded_where_openvino_cannot_run() -> None:
    code = """
import numpy, caezip
from caezip import CaeError, Codec
from images import photo_like, psnr_db
picture = photo_like(40, 70)
codec = Codec(threads=1)
print(psnr_db(picture, codec.decode(codec.encode(picture, quality=60))) > 28)
try:
    Codec(engine="openvino")
except CaeError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=os.path.dirname(__file__),
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "SSE41"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = ["True", "engine: found 'openvino', it needs a processor with AVX"]
    assert run.stdout.splitlines() == lines


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
