"""What using the package loads: no torch for headers, no compressai or training for images."""

from __future__ import annotations

import importlib
import importlib.machinery
import json
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import numpy as np
import pytest

from caezip import _rans
from caezip.errors import CaeError, MissingDependencyError

# each step's name goes with the modules that are loaded once it is done
HEADER_STEPS = """
import json, sys
steps = {}
def done(name):
    steps[name] = sorted(sys.modules)
import caezip
done("import")
data = open(sys.argv[1], "rb").read()
caezip.info(data)
try:
    caezip.info(data[:9])
except caezip.BitstreamError:
    pass
done("info")
from caezip.cli import main
main(["info", sys.argv[1]], standalone_mode=False)
for arguments in (["--help"], ["encode", "--help"], ["decode", "--help"], ["info", "--help"]):
    try:
        main(arguments)
    except SystemExit:
        pass
done("command")
open(sys.argv[2], "w").write(json.dumps(steps))
"""
IMAGE_STEPS = """
import json, sys
import caezip, numpy
data = caezip.encode(numpy.zeros((9, 9, 3), numpy.uint8), tune="archive")
caezip.decode(data)
photo = numpy.arange(27, dtype=numpy.uint8).reshape(3, 3, 3)
photo = caezip.decode(caezip.encode(photo, tune="archive"))
from caezip.image_io import encode_png
encode_png(photo)
steps = {"image": sorted(sys.modules)}
caezip.ConvolutionalAutoencoder
steps["autoencoder"] = sorted(sys.modules)
open(sys.argv[2], "w").write(json.dumps(steps))
"""


def _modules_after(script: str, tmp_path: Path, data: bytes) -> dict[str, list[str]]:
    stream, report = tmp_path / "in.cae", tmp_path / "modules.json"
    stream.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", script, str(stream), str(report)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded: dict[str, list[str]] = json.loads(report.read_text())
    return loaded


def _of(package: str, modules: list[str]) -> list[str]:
    return [name for name in modules if name == package or name.startswith(package + ".")]


def test_importing_the_package_and_reading_headers_loads_nothing_heavy(
    tmp_path: Path, encoded: bytes
) -> None:
    steps = _modules_after(HEADER_STEPS, tmp_path, encoded)
    for step in ("import", "info", "command"):
        for package in ("torch", "numpy", "PIL", "compressai", "caezip.training", "caezip_bench"):
            assert not _of(package, steps[step]), f"{package} is loaded after {step}"
    assert not _of("click", steps["info"])


def test_encoding_and_decoding_loads_only_the_coder_of_compressai_and_no_torch(
    tmp_path: Path, encoded: bytes
) -> None:
    steps = _modules_after(IMAGE_STEPS, tmp_path, encoded)
    assert _of("openvino", steps["image"])
    for package in (
        "torch",
        "openvino.tools.ovc",
        "openvino_telemetry",
        "png",
        "PIL.TiffImagePlugin",
    ):
        assert not _of(package, steps["image"])
    for modules in steps.values():
        assert set(_of("compressai", modules)) <= {"compressai.ans"}
        for package in ("torchvision", "caezip.training", "caezip_bench", "matplotlib"):
            assert not _of(package, modules)
    assert _of("torch", steps["autoencoder"])


def test_openvinos_converter_is_only_hidden_while_the_package_is_imported(tmp_path: Path) -> None:
    script = (
        "import caezip._openvino as seam, openvino_telemetry, sys\n"
        "openvino = seam.load_openvino()\n"
        "assert not hasattr(openvino, 'convert_model')\n"
        "import openvino.tools.ovc\n"
        "assert seam.load_openvino() is sys.modules['openvino']\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_the_coder_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(name: str, path: object = None) -> None:
        return None

    monkeypatch.delitem(sys.modules, "compressai.ans", raising=False)
    monkeypatch.setattr(PathFinder, "find_spec", find_nothing)
    with pytest.raises(MissingDependencyError, match=r"entropy coder: .* pip install compressai"):
        _rans.load_ans.__wrapped__()


def test_a_coder_that_does_not_load_is_a_missing_dependency(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(loader: object, module: object) -> None:
        raise ImportError("undefined symbol")

    monkeypatch.delitem(sys.modules, "compressai.ans", raising=False)
    monkeypatch.setattr(importlib.machinery.ExtensionFileLoader, "exec_module", fail)
    with pytest.raises(MissingDependencyError, match="entropy coder: undefined symbol"):
        _rans.load_ans.__wrapped__()


@pytest.mark.usefixtures("training")
def test_the_training_seam_offers_working_entropy_models_beside_a_cpu_torch() -> None:
    import torch

    from caezip.training._compressai import GaussianConditional

    zeros = torch.zeros(1, 2, 3, 3)
    with torch.no_grad():
        _, gaussian = GaussianConditional([0.5, 2.0])(zeros, torch.ones_like(zeros), training=False)
    assert gaussian.shape == zeros.shape
    assert np.allclose(gaussian.numpy(), 0.3829, atol=1e-3)  # mass within half a deviation


@pytest.mark.usefixtures("training")
def test_training_without_compressai_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    seam = "caezip.training._compressai"
    monkeypatch.delitem(sys.modules, seam)
    for name in ("compressai", "compressai.entropy_models"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"training needs .* pip install compressai"):
        importlib.import_module(seam)
    assert issubclass(MissingDependencyError, CaeError)
