"""``caezip bench`` from its command line to the files it writes; no weights needed."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from caezip.errors import ImageError, MissingDependencyError, OutputError, UnknownModelError
from caezip.image_io import Pixels
from caezip_bench import cache, peers
from caezip_bench.command import OUTPUT_NAMES, bench
from caezip_bench.cost.result import CostResult, describe_machine
from caezip_bench.metrics import METRICS
from caezip_bench.peers import PeerOptions, make_peers
from caezip_bench.runner import Task

PEERS = "jpeg420,jpeg444,webp,png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, one of them large enough for MS-SSIM."""
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for name, height, width in (("large.png", 170, 180), ("small.png", 40, 64)):
        ramp = np.linspace(20, 220, width)[None, :, None] * np.ones((height, 1, 3))
        noisy = np.clip(ramp + rng.normal(0, 8, ramp.shape), 0, 255)
        Image.fromarray(noisy.astype(np.uint8)).save(images / name)
    return images


def _bench(*arguments: object, catch: bool = True) -> Result:
    # in this process, where tests can replace things
    texts = [str(argument) for argument in (*arguments, "--jobs", 1, "--pictures", 1)]
    return CliRunner().invoke(bench, texts, catch_exceptions=catch)


@pytest.fixture
def short_qualities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five points a codec instead of twelve: these tests are about what becomes of them."""
    for peer in (peers.JpegPeer, peers.WebpPeer):
        monkeypatch.setattr(peer, "qualities", (10.0, 30.0, 50.0, 70.0, 90.0))


@pytest.mark.usefixtures("short_qualities")
def test_a_run_writes_table_csv_json_and_plot(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 nothing more")
    output = tmp_path / "new" / "results"
    done = _bench(folder, "-o", output, "--peers", PEERS, catch=False)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in output.iterdir()) == sorted([*OUTPUT_NAMES, "cache"])

    table = (output / "table.md").read_text("utf-8")
    details = (output / "details.md").read_text("utf-8")
    assert done.stdout == f"{table}\n{details}"
    assert len(_rows(details)) == 2 + 2 * len(METRICS)  # of two codecs, by every metric
    assert "broken.jpg" in table
    cells = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in _rows(table)}
    assert [cell.strip() for cell in cells["jpeg420"][:2]] == ["anchor", "anchor"]
    assert [cell.strip() for cell in cells["png"][:2]] == ["lossless", "lossless"]
    assert float(cells["webp"][0]) < 0

    rows = list(csv.DictReader(io.StringIO((output / "results.csv").read_text("utf-8"))))
    assert len(rows) == 2 * (3 * 5 + 1)
    first = rows[0]
    assert (first["image"], first["codec"], float(first["quality"])) == ("large.png", "jpeg420", 10)
    assert float(first["bpp"]) == 8 * int(first["size_bytes"]) / (180 * 170)
    png = next(row for row in rows if row["codec"] == "png" and row["image"] == "small.png")
    assert (png["quality"], png["identical"], png["psnr_db"]) == ("", "true", "")
    assert png["ms_ssim"] == ""
    assert all(float(row["encode_s"]) > 0 and float(row["decode_s"]) > 0 for row in rows)

    _check_document(json.loads((output / "results.json").read_text("utf-8")))

    with Image.open(output / "curves.png") as plot:
        assert plot.format == "PNG"
        assert min(plot.size) > 400


def _rows(table: str) -> list[str]:
    return [line for line in table.splitlines() if line.startswith("|")]


def test_every_key_is_documented(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.png").write_bytes(b"no image")
    options = ("--peers", "jpeg420,webp", "--metrics", "psnr_db", "--pictures", 0)
    _bench(folder, "-o", tmp_path / "out", *options, catch=False)
    document = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    described = (Path(__file__).parent.parent / "bench" / "RESULTS.md").read_text("utf-8")
    rows = [
        *(document[name][0] for name in ("codecs", "metrics", "skipped", "measurements")),
        document["averages"][0],
        document["averages"][0]["metrics"]["psnr_db"],
        document["bd_rates"][0],
        document["machine"],
    ]
    for keys in (document, *rows):
        assert [key for key in keys if f"`{key}`" not in described] == []


def _check_document(document: dict[str, Any]) -> None:
    assert (document["schema"], document["schema_version"]) == ("caezip-bench", 3)
    assert document["images"] == ["large.png", "small.png"]
    assert document["compared_images"] == ["large.png", "small.png"]
    assert [skipped["image"] for skipped in document["skipped"]] == ["broken.jpg"]
    assert document["failures"] == []
    assert {"system", "architecture", "cpu_count", "python"} <= set(document["machine"])
    assert document["versions"]["bjontegaard"]
    assert [codec["name"] for codec in document["codecs"]] == PEERS.split(",")
    assert len(document["measurements"]) == 2 * (3 * 5 + 1)
    assert len(document["averages"]) == 3 * 5 + 1
    assert document["measurements"][0]["encode_s"] > 0
    assert {"encode_s", "decode_s"} <= set(document["definitions"])
    png = document["averages"][-1]
    assert (png["codec"], png["quality"]) == ("png", None)
    assert "psnr_db" not in png["metrics"]
    jpeg = document["averages"][0]
    assert (jpeg["images"], jpeg["metrics"]["ms_ssim"]["images"]) == (2, 1)
    assert set(jpeg["metrics"]["psnr_db"]) == {"images", "bpp", "mean", "curve_value"}
    assert [metric["name"] for metric in document["metrics"]] == list(METRICS)
    assert set(METRICS) < set(document["definitions"])
    rates = {(r["codec"], r["metric"]): r for r in document["bd_rates"]}
    assert set(rates) == {(c, m) for c in ("jpeg444", "webp") for m in METRICS}
    assert rates["webp", "psnr_db"]["rate_percent"] < 0
    assert rates["webp", "psnr_db"]["anchor"] == "jpeg420"


@pytest.mark.parametrize("name", OUTPUT_NAMES)
def test_existing_results_are_refused_before_anything_runs(
    folder: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(OutputError, match=name):
        _bench(folder, "-o", tmp_path, "--peers", "png", catch=False)
    assert (tmp_path / name).read_text() == "precious"


def test_force_overwrites_and_threads_are_limited(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", threads.append)  # it outlasts the test
    (tmp_path / "table.md").write_text("old")
    done = _bench(folder, "-o", tmp_path, "--peers", "png", "--force", "--threads", 1, catch=False)
    assert done.exit_code == 0
    assert threads == [1, torch.get_num_threads()]  # the second as it was before
    assert (tmp_path / "table.md").read_text("utf-8").startswith("| codec")


def test_the_plot_of_an_earlier_run_is_not_an_image_to_measure(folder: Path) -> None:
    for _ in range(2):
        done = _bench(folder, "-o", folder, "--peers", "png", "--force", catch=False)
        assert done.exit_code == 0
        document = json.loads((folder / "results.json").read_text("utf-8"))
        assert document["images"] == ["large.png", "small.png"]


def test_an_output_that_is_a_file_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made a folder"):
        _bench(folder, "-o", tmp_path / "file", "--peers", "png", catch=False)


def test_an_empty_folder_is_an_image_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no images in this folder") as caught:
        _bench(tmp_path, "-o", tmp_path / "out", "--peers", "png", catch=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_nothing_measured_is_exit_status_1(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    done = _bench(tmp_path, "-o", tmp_path / "out", "--peers", "png")
    assert done.exit_code == 1
    assert "broken.png" in done.stderr
    assert "nothing could be measured" in done.stderr


def test_caezip_failing_everywhere_keeps_the_others_results(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: peers.CaezipPeer) -> None:
        raise RuntimeError("no weights")

    monkeypatch.setattr(peers.CaezipPeer, "_loaded", fail)
    done = _bench(folder, "-o", tmp_path / "out", "--peers", "caezip,caezip-e3,png")
    assert done.exit_code == 1
    assert "caezip: bench: caezip, caezip-e3 failed on every image" in done.stderr
    assert "caezip failed on 2 of 2 images: large.png (RuntimeError: no weights)" in done.stdout
    document = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    assert len(document["failures"]) == 4
    assert {point["codec"] for point in document["averages"]} == {"png"}


@pytest.mark.usefixtures("short_qualities")
def test_missing_default_codecs_are_noted_and_the_others_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_weights(options: peers.PeerOptions) -> peers.Peer:
        raise UnknownModelError("caezip-ssim: no such weights")

    def no_library(options: peers.PeerOptions) -> peers.Peer:
        raise MissingDependencyError("avif444: no such library")

    default = ("caezip", "caezip-ssim", "jpeg420", "avif444", "png")
    monkeypatch.setattr(peers, "DEFAULT_PEERS", default)
    monkeypatch.setitem(peers.PEERS, "caezip", lambda _: peers.JpegPeer("caezip", "4:2:0"))
    monkeypatch.setitem(peers.PEERS, "caezip-ssim", no_weights)
    monkeypatch.setitem(peers.PEERS, "avif444", no_library)
    done = _bench(folder, "-o", tmp_path / "out", catch=False)
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    names = [codec["name"] for codec in document["codecs"]]
    assert names == ["caezip", "jpeg420", "png"]
    assert document["missing"] == [
        {"name": "caezip-ssim", "reason": "no such weights"},
        {"name": "avif444", "reason": "no such library"},
    ]
    assert document["notes"][:2] == [
        "caezip-ssim is missing: no such weights",
        "avif444 is missing: no such library",
    ]
    assert "- Note: caezip-ssim is missing: no such weights.\n" in done.stdout

    for name, error in (("caezip-ssim", UnknownModelError), ("avif444", MissingDependencyError)):
        with pytest.raises(error, match=f"{name}: no such"):
            _bench(folder, "-o", tmp_path / "other", "--peers", f"{name},png", catch=False)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--peers", "png,gif", "found gif"),
        ("--peers", ",", "found none"),
        ("--qualities", "10,high", "not a list of numbers"),
        ("--qualities", "0", "found 0, allowed are numbers from 1 to 100"),
        ("--threads", "0", "0 is not in the range"),
        ("--metrics", "psnr_db,beauty", "found beauty, allowed are psnr_db, "),
    ],
)
def test_wrong_options_are_usage_errors(
    folder: Path, tmp_path: Path, option: str, value: str, message: str
) -> None:
    done = _bench(folder, "-o", tmp_path / "out", option, value)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("short_qualities")
def test_resume_takes_what_was_measured_and_measures_the_rest(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coded: list[str] = []
    encode = peers.JpegPeer.encode

    def counted(self: peers.JpegPeer, pixels: Pixels, quality: float | None) -> bytes:
        coded.append(self.name)
        return encode(self, pixels, quality)

    monkeypatch.setattr(peers.JpegPeer, "encode", counted)
    output = tmp_path / "out"
    options = ("-o", output, "--metrics", "psnr_db", "--pictures", 0)

    def measurements(*more: object) -> list[dict[str, Any]]:
        coded.clear()
        done = _bench(folder, *options, *more, catch=False)
        assert done.exit_code == 0, done.output
        rows: list[dict[str, Any]] = json.loads((output / "results.json").read_text("utf-8"))[
            "measurements"
        ]
        return rows

    first = measurements("--peers", "jpeg420")
    assert len(coded) == 10
    both = measurements("--peers", "jpeg420,jpeg444", "--resume")
    assert coded == ["jpeg444"] * 10
    assert [row for row in both if row["codec"] == "jpeg420"] == first  # seconds and all
    (folder / "large.png").rename(folder / "renamed.png")
    assert measurements("--peers", "jpeg420", "--resume")[-1]["image"] == "small.png"
    assert coded == []  # the same picture under another name
    Image.new("RGB", (170, 175), (1, 2, 3)).save(folder / "renamed.png")
    measurements("--peers", "jpeg420", "--resume")
    assert coded == ["jpeg420"] * 5
    for file in (output / "cache").iterdir():
        file.write_text("damaged")
    measurements("--peers", "jpeg420", "--resume")
    assert coded == ["jpeg420"] * 10


@pytest.mark.parametrize(
    ("name", "forgotten"), [("jpeg420", False), ("caezip", True), ("klt", True)]
)
def test_other_codecs_results_outlive_a_change_of_caezip(
    name: str, forgotten: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "image_io.py").write_text("reads")
    monkeypatch.setattr(cache, "_folders", lambda package: [source])
    (peer,) = make_peers([name], PeerOptions())
    task = Task(folder / "small.png", "small.png", peer, ("psnr_db",))

    def place() -> str:
        return cache.Cache(tmp_path)._path(task).name

    before = place()
    (source / "codec.py").write_text("changed")
    assert (place() != before) == forgotten
    (source / "image_io.py").write_text("reads otherwise")  # what all of them see
    changed = place()
    assert changed != before
    peer.settings += ", slower"
    assert place() != changed


@pytest.mark.usefixtures("short_qualities")
def test_compare_prints_what_moved_and_fails_if_files_grew(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--peers", "jpeg420", "--metrics", "psnr_db", "--pictures", 0)
    assert _bench(folder, "-o", tmp_path / "old", *options, catch=False).exit_code == 0
    old = tmp_path / "old" / "results.json"
    same = _bench(folder, "-o", tmp_path / "same", *options, "--compare", old, catch=False)
    assert same.exit_code == 0
    assert "Regression" not in same.stdout

    encode = peers.JpegPeer.encode
    monkeypatch.setattr(
        peers.JpegPeer, "encode", lambda *a: (data := encode(*a)) + bytes(len(data) // 10)
    )
    worse = _bench(folder, "-o", tmp_path / "worse", *options, "--compare", old, catch=False)
    assert worse.exit_code == 1
    assert "Regression: jpeg420: files grew by " in worse.stdout
    more = ("--compare", old, "--threshold", 11)
    assert _bench(folder, "-o", tmp_path / "more", *options, *more, catch=False).exit_code == 0


def test_peers_are_listed_with_what_they_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(options: peers.PeerOptions) -> peers.Peer:
        raise MissingDependencyError("webp: no such library")

    monkeypatch.setitem(peers.PEERS, "webp", no_library)
    done = CliRunner().invoke(bench, ["--list-peers"], catch_exceptions=False)
    assert CliRunner().invoke(bench, []).exit_code == 2  # otherwise DIR is needed
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert "* jpeg420: Pillow, 4:2:0, optimize, progressive" in lines
    assert "* webp: missing: no such library" in lines
    assert [line[2:].split(":")[0] for line in lines[:-1]] == list(peers.PEERS)


def test_cost_writes_its_own_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[tuple[list[str], list[str], float]] = []

    def fake(
        files: list[Path], made: dict[int, list[peers.Peer]], options: Any, progress: Any
    ) -> CostResult:
        names = [peer.name for peer in next(iter(made.values()))]
        measured.append(([file.name for file in files], names, options.seconds))
        progress(1.0, "done")
        return CostResult(options, describe_machine(), {})

    monkeypatch.setattr("caezip_bench.cost.command.run_cost", fake)
    output = tmp_path / "cost"
    options = ("-o", output, "--cost", "--peers", "webp,png", "--cost-seconds", 5)
    assert _bench(folder, *options, catch=False).exit_code == 0
    assert measured == [(["large.png", "small.png"], ["webp", "png"], 5.0)]
    assert sorted(path.name for path in output.iterdir()) == ["cost.json", "cost.md"]
    with pytest.raises(OutputError, match=r"has cost\.md, cost\.json already"):
        _bench(folder, *options, catch=False)
    assert _bench(folder, "-o", output, "--cost", "--peers", "gif").exit_code == 2
