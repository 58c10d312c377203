"""What a wheel contains: the code, the benchmark and the very weights that the manifest names."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

import caezip
from caezip.compiled import load_loops

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("dist"), {})


def built(folder: Path, variables: dict[str, str]) -> Path:
    """Built as a release would be, but with the tools installed here."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run(
        [*command, str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **variables},
    )
    assert done.returncode == 0, done.stderr + done.stdout
    (path,) = folder.iterdir()
    return path


def test_a_wheel_has_the_compiled_loops_and_is_for_this_system_alone(wheel: Path) -> None:
    if load_loops() is None:
        pytest.skip("there was no compiler when caezip was installed")
    system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name == f"caezip-{caezip.__version__}-py3-none-{system}.whl"
    with ZipFile(wheel) as archive:
        assert "caezip/_loops.so" in archive.namelist()


@pytest.mark.parametrize("variables", [{"CAEZIP_COMPILE": "0"}, {"CC": "no-such-compiler"}])
def test_without_a_compiler_a_wheel_is_pure_python_and_for_all_systems(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    path = built(tmp_path, variables)
    assert path.name == f"caezip-{caezip.__version__}-py3-none-any.whl"
    with ZipFile(path) as archive:
        assert "caezip/loops.c" in archive.namelist()
        assert not [name for name in archive.namelist() if name.endswith(".so")]


def test_a_wheel_contains_the_three_packages_and_no_tests(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    packages = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert packages == {"caezip", "caezip_bench", "caezip_weights"}
    assert not [name for name in names if "test" in name.lower() or "__pycache__" in name]
    for package, folder in (("caezip", "codec"), ("caezip_bench", "bench")):
        for path in (ROOT / folder / package).rglob("*"):
            if path.suffix == ".so":  # compiled for every wheel anew
                continue
            if path.is_file() and "__pycache__" not in path.parts:  # data files too
                assert str(path.relative_to(ROOT / folder)) in names
    assert "caezip/py.typed" in names


def test_a_wheel_contains_every_file_of_the_manifest_unaltered(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        manifest = json.loads(archive.read("caezip_weights/manifest.json"))
        assert manifest["models"]
        for model in manifest["models"]:
            weights = archive.read(f"caezip_weights/{model['file']}")
            assert hashlib.sha256(weights).hexdigest() == model["sha256"]


def test_a_wheel_installs_the_command_and_asks_for_what_it_needs(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
    assert re.search(r"^caezip = caezip\.cli:main$", entry_points, re.MULTILINE)
    for package in ("torch", "numpy", "pillow", "pypng", "click", "safetensors", "compressai"):
        assert re.search(rf"^Requires-Dist: {package}\b", metadata, re.MULTILINE)
    assert re.search(r"^Requires-Python: .*3\.10", metadata, re.MULTILINE)
