"""Datasets on a real Ray cluster of this machine: trees, resuming, and a worker that is killed."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import caezip
from caezip import MissingDependencyError, ParameterError
from images import photo_like, psnr_db

pytest.importorskip("ray", reason="the extra caezip[ray] is not installed")
pytest.importorskip("pyarrow", reason="the extra caezip[ray] is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, of all kinds

from caezip.distributed import (  # noqa: E402  # only where Ray is
    MANIFEST_FOLDER,
    encode_dataset,
    read_manifest,
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers at most, in processes of their own."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "trip").mkdir(parents=True)
    Image.fromarray(photo_like(40, 50)).save(folder / "a.png")
    Image.new("RGB", (20, 10), (1, 2, 3)).save(folder / "trip" / "b.bmp")
    (folder / "trip" / "bad.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("not one either")
    return folder


def files_below(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and MANIFEST_FOLDER not in path.parts
    }


def rows_of(target: Path) -> dict[str, dict[str, Any]]:
    return {row["source"]: row for row in read_manifest(str(target)).to_pylist()}


@pytest.mark.usefixtures("cluster")
def test_a_tree_is_encoded_and_the_manifest_says_how(photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "coded"
    summary = encode_dataset(str(photos), str(target), quality=60, workers=1)
    assert (summary.encoded, summary.skipped, summary.failed) == (2, 0, 1)
    assert files_below(target) == {"a.cae", "trip/b.cae"}
    data = (target / "a.cae").read_bytes()
    assert caezip.info(data).quality == 60
    rows = rows_of(target)
    assert rows.keys() == {"a.png", "trip/b.bmp", "trip/bad.jpg"}
    assert rows["a.png"]["status"] == "encoded"
    assert rows["a.png"]["file_size_bytes"] == len(data)
    assert rows["a.png"]["bpp"] == pytest.approx(8 * len(data) / (40 * 50))
    expected_db = psnr_db(photo_like(40, 50), caezip.decode(data))
    assert rows["a.png"]["psnr_db"] == pytest.approx(expected_db, abs=0.05)
    assert rows["trip/b.bmp"]["psnr_db"] is None  # exact
    assert rows["trip/bad.jpg"]["status"] == "failed"
    assert rows["trip/bad.jpg"]["error"].startswith("ImageError: ")


@pytest.mark.usefixtures("cluster")
def test_a_second_call_does_only_what_is_left(photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "coded"
    encode_dataset(str(photos), str(target), workers=1, measure=False)
    before = {name: (target / name).stat().st_mtime_ns for name in files_below(target)}
    Image.new("RGB", (9, 9), (7, 7, 7)).save(photos / "trip" / "bad.jpg", "PNG")  # mended
    Image.new("RGB", (9, 9), (8, 8, 8)).save(photos / "new.png")
    again = encode_dataset(str(photos), str(target), workers=1)
    assert (again.encoded, again.skipped, again.failed) == (2, 2, 0)
    assert {name: (target / name).stat().st_mtime_ns for name in before} == before
    assert files_below(target) == {"a.cae", "new.cae", "trip/b.cae", "trip/bad.cae"}
    (target / "a.cae").unlink()  # what the manifest says is not enough
    third = encode_dataset(str(photos), str(target), workers=1)
    assert (third.encoded, third.skipped) == (1, 3)
    other = encode_dataset(str(photos), str(target), workers=1, quality=30)
    assert (other.encoded, other.skipped) == (4, 0)


@pytest.mark.usefixtures("cluster")
def test_other_file_systems_are_reached_through_fsspec(photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "coded"
    summary = encode_dataset(f"local://{photos}", f"file://{target}", workers=1)
    assert summary.encoded == 2
    assert files_below(target) == {"a.cae", "trip/b.cae"}


def test_a_worker_that_is_killed_costs_nothing_and_nothing_is_done_twice(
    cluster: Any, tmp_path: Path
) -> None:
    import psutil

    photos, target = tmp_path / "photos", tmp_path / "coded"
    photos.mkdir()
    names = [f"{number:02}.png" for number in range(40)]
    rng = np.random.default_rng(0)
    for name in names:
        noise = rng.integers(0, 99, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(photo_like(96, 96) // 2 + noise).save(photos / name)
    killed: list[int] = []

    def kill_one() -> None:
        """As soon as a few files are there."""
        for _ in range(3000):
            time.sleep(0.02)
            if len(list(target.glob("*.cae"))) < 5:
                continue
            for process in psutil.process_iter(["name", "cmdline"]):
                if "ray::MapWorker" in " ".join(process.info["cmdline"] or []):
                    process.kill()
                    killed.append(process.pid)
                    return

    killer = threading.Thread(target=kill_one)
    killer.start()
    summary = encode_dataset(str(photos), str(target), workers=2, measure=False)
    killer.join()
    assert killed
    assert (summary.encoded, summary.failed) == (40, 0)
    assert files_below(target) == {name.replace("png", "cae") for name in names}
    table = read_manifest(str(target))
    assert sorted(table.column("source").to_pylist()) == names
    codec = caezip.Codec(threads=1)
    for path in target.glob("*.cae"):
        codec.verify(path.read_bytes())
    import pyarrow.parquet as pq

    every_row = pq.read_table(target / MANIFEST_FOLDER)
    assert every_row.num_rows == 40


# -- refusals ------------------------------------------------------------------


def test_what_cannot_be_listed_or_lies_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"dataset: .*none' cannot be listed"):
        encode_dataset(str(tmp_path / "none"), str(tmp_path))
    with pytest.raises(ParameterError, match="is on no known file system"):
        encode_dataset("nowhere://photos", str(tmp_path))
    with pytest.raises(ParameterError, match="quality: found 0"):
        encode_dataset(str(tmp_path), str(tmp_path), quality=0)


def test_two_pictures_never_share_an_output(tmp_path: Path) -> None:
    for suffix in ("png", "bmp"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"a.{suffix}")
    with pytest.raises(ParameterError, match=r"both a\.(png|bmp) and a\.(png|bmp) would be a\.cae"):
        encode_dataset(str(tmp_path), str(tmp_path / "out"))


def test_without_ray_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install caezip\[ray\]"):
        encode_dataset(str(tmp_path), str(tmp_path / "out"))
