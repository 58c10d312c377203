"""Compiled networks that outlive a process: found again, never trusted, never in the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caezip import Codec, compiled_networks, openvino_layers
from caezip.network_cache import FOLDER_VARIABLE, KEPT_FILES, NetworkCache, users_folder
from images import photo_like

PICTURE = photo_like(64, 80)
COMPILED = b"what an engine made of a network"
as_nobody_else = pytest.mark.skipif(sys.platform == "win32", reason="folders have no modes there")


def test_what_was_saved_is_found_by_a_cache_of_the_same_identity_only(tmp_path: Path) -> None:
    NetworkCache(tmp_path, "int8").save("analysis", COMPILED)
    assert NetworkCache(tmp_path, "int8").load("analysis") == COMPILED
    assert NetworkCache(tmp_path, "int8").load("synthesis") is None
    assert NetworkCache(tmp_path, "float32").load("analysis") is None


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped"])
def test_what_is_damaged_is_not_found(tmp_path: Path, damage: str) -> None:
    cache = NetworkCache(tmp_path, "int8")
    cache.save("analysis", COMPILED)
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    data[20] ^= 1
    damaged = {"cut": data[:-1], "empty": bytearray(), "flipped": data}
    file.write_bytes(damaged[damage])
    assert cache.load("analysis") is None


@as_nobody_else
def test_a_folder_that_others_can_write_to_is_not_used(tmp_path: Path) -> None:
    cache = NetworkCache(tmp_path, "int8")
    cache.save("analysis", COMPILED)
    tmp_path.chmod(0o777)
    cache.save("synthesis", COMPILED)
    assert cache.load("analysis") is cache.load("synthesis") is None
    tmp_path.chmod(0o755)
    assert cache.load("analysis") == COMPILED
    assert cache.load("synthesis") is None


@as_nobody_else
def test_a_new_folder_is_the_users_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "caezip"
    NetworkCache(folder, "int8").save("analysis", COMPILED)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_without_a_folder_that_can_be_used_nothing_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"mine")
    for folder in (None, file, file / "below"):
        cache = NetworkCache(folder, "int8")
        cache.save("analysis", COMPILED)
        assert cache.load("analysis") is None
    assert file.read_bytes() == b"mine"


def test_the_oldest_make_room(tmp_path: Path) -> None:
    cache = NetworkCache(tmp_path, "int8")
    (tmp_path / "something else").write_bytes(b"stays")
    for number in range(KEPT_FILES + 3):
        cache.save(str(number), COMPILED)
        for file in tmp_path.glob(f"*-{number}.*"):
            os.utime(file, (number, number))
    found = [n for n in range(KEPT_FILES + 3) if cache.load(str(n)) is not None]
    assert found == list(range(3, KEPT_FILES + 3))
    assert (tmp_path / "something else").exists()


def test_the_environment_chooses_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, "/somewhere")
    assert users_folder() == Path("/somewhere")
    monkeypatch.setenv(FOLDER_VARIABLE, "")
    assert users_folder() is None
    monkeypatch.delenv(FOLDER_VARIABLE)
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
        assert users_folder() == Path("/caches/caezip")
        monkeypatch.setenv("XDG_CACHE_HOME", "")
        monkeypatch.setenv("HOME", "/home/anyone")
        assert users_folder() == Path("/home/anyone/.cache/caezip")


@pytest.fixture
def engine_runs_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_networks, "load_loops", lambda: None)


def _round_trip(**options: Any) -> tuple[bytes, np.ndarray[Any, Any]]:
    codec = Codec(engine="openvino", threads=1, **options)
    data = codec.encode(PICTURE, quality=50)
    return data, codec.decode(data)


def _filled(folder: Path) -> tuple[bytes, np.ndarray[Any, Any]]:
    """The same in a process of its own, which ends when all is written."""
    script = (
        "import sys, numpy, caezip.compiled_networks; from caezip import Codec\n"
        "from images import photo_like\n"
        "caezip.compiled_networks.load_loops = lambda: None\n"  # an engine runs all of them
        "codec = Codec(engine='openvino', threads=1, cache_folder=sys.argv[1])\n"
        "data = codec.encode(photo_like(64, 80), quality=50)\n"
        "numpy.save(sys.argv[2], codec.decode(data)); sys.stdout.buffer.write(data)"
    )
    pixels = folder.parent / "pixels.npy"
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), str(pixels)],
        cwd=Path(__file__).parent,
        capture_output=True,
        check=True,
    )
    return done.stdout, np.load(pixels)


@pytest.mark.usefixtures("engine_runs_all")
def test_kept_networks_do_what_new_ones_do_and_nothing_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    filled = _filled(folder)
    assert len(list(folder.iterdir())) == 5  # four to encode, two of them and one more to decode
    plain = _round_trip()
    monkeypatch.setattr(openvino_layers, "GraphBuilder", None)  # nothing can be built now
    kept = _round_trip(cache_folder=folder)
    assert filled[0] == kept[0] == plain[0]
    assert (filled[1] == plain[1]).all()
    assert (kept[1] == plain[1]).all()


@pytest.mark.usefixtures("engine_runs_all")
def test_kept_networks_that_the_engine_cannot_read_are_compiled_anew(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    filled = _filled(folder)
    for file in folder.iterdir():
        identity, _, name = file.stem.partition("-")
        cache = NetworkCache(folder, "")
        cache._identity = identity
        cache.save(name, COMPILED)  # whole, as far as its check tells
    found = _round_trip(cache_folder=folder)
    assert found[0] == filled[0]
    assert (found[1] == filled[1]).all()


@pytest.mark.usefixtures("engine_runs_all")
def test_the_library_keeps_nothing_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    _round_trip()
    assert list(tmp_path.iterdir()) == []
