"""One stream, one result: threads, instruction sets, oneDNN and precision change no latent.

Each setting runs in a process of its own, because torch reads some of them once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import decode_in_setting
from caezip import Codec
from caezip.image_io import Pixels
from decode_in_setting import digest_of
from images import photo_like, psnr_db
from tiles import tiles_of

PICTURE = photo_like(200, 280)


@dataclass(frozen=True)
class Setting:
    threads: int = 1
    precision: str = "float32"
    onednn: str = "on"
    engine: str = "torch"
    device: str = "cpu"
    environment: dict[str, str] = field(default_factory=dict)


DEFAULT_ISA = {"ATEN_CPU_CAPABILITY": "default"}
AVX2_ISA = {"ATEN_CPU_CAPABILITY": "avx2"}
OLD_BLAS = {"OPENBLAS_CORETYPE": "Prescott"}  # numpy's; ignored where it has another library
SETTINGS = {
    "1 thread": Setting(),
    "2 threads": Setting(threads=2),
    "default": Setting(environment=DEFAULT_ISA),
    "avx2": Setting(threads=2, environment=AVX2_ISA | OLD_BLAS),
    "oneDNN off": Setting(onednn="off"),
    "default, oneDNN off": Setting(onednn="off", environment=DEFAULT_ISA | OLD_BLAS),
    "bfloat16, 2 threads": Setting(threads=2, precision="bfloat16"),
    "bfloat16, avx2, oneDNN off": Setting(1, "bfloat16", "off", environment=AVX2_ISA),
}
OPENVINO = {
    "openvino, 1 thread": Setting(engine="openvino"),
    "openvino, 2 threads": Setting(threads=2, engine="openvino", environment=OLD_BLAS),
    "openvino, bfloat16": Setting(threads=2, precision="bfloat16", engine="openvino"),
}
SETTINGS |= OPENVINO
if torch.cuda.is_available():
    SETTINGS["cuda"] = Setting(device="cuda")
FLOAT32 = [
    name
    for name, setting in SETTINGS.items()
    # GPUs round float32 products to 10 bits where torch lets them
    if setting.precision == "float32" and setting.device == "cpu"
]


@dataclass(frozen=True)
class Outcome:
    report: dict[str, Any]
    pixels: Pixels
    encoded: bytes
    log: str


def _run(name: str, source: Path, folder: Path) -> Outcome:
    setting, out = SETTINGS[name], folder / str(list(SETTINGS).index(name))
    inherited = {k: v for k, v in os.environ.items() if k != "ATEN_CPU_CAPABILITY"}
    done = subprocess.run(
        [
            sys.executable,
            decode_in_setting.__file__,
            str(source),
            str(out),
            str(setting.threads),
            setting.precision,
            setting.onednn,
            setting.device,
            setting.engine,
        ],
        # OpenVINO's oneDNN fails where it is asked to speak
        env={
            **inherited,
            **setting.environment,
            "ONEDNN_VERBOSE": "1" if setting.engine == "torch" else "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(out.with_suffix(".json").read_text())
    pixels: Pixels = np.load(out.with_suffix(".npy"))
    return Outcome(report, pixels, out.with_suffix(".cae").read_bytes(), done.stdout)


@pytest.fixture(scope="module")
def data(codec: Codec) -> bytes:
    """The one file that every setting decodes; it has six tiles."""
    with tiles_of(128):
        return codec.encode(PICTURE, quality=70)


@pytest.fixture(scope="module")
def outcomes(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What each setting made of the file; two processes at a time."""
    folder = tmp_path_factory.mktemp("settings")
    source = folder / "in.cae"
    source.write_bytes(data)
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda name: _run(name, source, folder), SETTINGS)
        return dict(zip(SETTINGS, results, strict=True))


@pytest.mark.parametrize("name", SETTINGS)
def test_the_latents_are_the_same_bit_for_bit(
    name: str, outcomes: dict[str, Outcome], codec: Codec, data: bytes
) -> None:
    assert outcomes[name].report["latents"] == digest_of(codec, data)


@pytest.mark.parametrize("name", FLOAT32)
def test_pixels_in_float32_differ_by_no_more_than_the_format_tells(
    name: str, outcomes: dict[str, Outcome]
) -> None:
    """With weights that have ranges; `test_engines` has those without, within a level."""
    expected = outcomes["1 thread"].pixels
    assert expected.shape == PICTURE.shape
    assert np.abs(outcomes[name].pixels.astype(int) - expected).max() <= 9
    assert psnr_db(outcomes[name].pixels, expected) > 51


@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in FLOAT32])
def test_shorter_products_move_pixels_by_a_rounding_error(
    name: str, outcomes: dict[str, Outcome]
) -> None:
    assert psnr_db(outcomes["1 thread"].pixels, outcomes[name].pixels) > 30


@pytest.mark.parametrize("name", SETTINGS)
def test_what_any_setting_encodes_decodes_here_to_the_same_latents(
    name: str, outcomes: dict[str, Outcome], codec: Codec
) -> None:
    encoded = outcomes[name].encoded
    assert outcomes[name].report["own_latents"] == digest_of(codec, encoded)
    assert codec.decode(encoded).shape == (48, 60, 3)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in OPENVINO])
def test_each_setting_was_really_in_force(name: str, outcomes: dict[str, Outcome]) -> None:
    setting, outcome = SETTINGS[name], outcomes[name]
    asked = setting.environment.get("ATEN_CPU_CAPABILITY")
    if asked == "default":
        assert outcome.report["capability"] not in ("AVX2", "AVX512")
    elif asked == "avx2":
        assert outcome.report["capability"] != "AVX512"
    assert outcome.report["onednn"] == (setting.onednn == "on")
    if setting.onednn == "off":  # oneDNN itself reports what it runs
        assert "onednn_verbose" not in outcome.log
    elif asked is None and outcome.report["capability"] == "AVX512":
        assert "onednn_verbose" in outcome.log


def test_the_settings_differ_in_their_floating_point_results(outcomes: dict[str, Outcome]) -> None:
    # were all pixels equal, the tests above would have compared one setting with itself
    assert len({outcome.pixels.tobytes() for outcome in outcomes.values()}) > 1
