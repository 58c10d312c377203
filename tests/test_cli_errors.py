"""What the command does when something is wrong: one line, an exit code, and no half-done files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from caezip import Codec, pretrained
from commands import assert_refused, names, run, succeed
from forge import with_model_id
from images import photo_like

pytestmark = pytest.mark.usefixtures("one_thread")
COMMAND = Path(sysconfig.get_path("scripts")) / "caezip"
FULL = Path("/dev/full")


@pytest.fixture
def folder(tmp_path: Path, encoded: bytes) -> Path:
    """photo.png, file.cae and several broken things."""
    Image.fromarray(photo_like(30, 44)).save(tmp_path / "photo.png")
    Image.new("CMYK", (8, 8)).save(tmp_path / "inks.tiff")
    (tmp_path / "half.png").write_bytes((tmp_path / "photo.png").read_bytes()[:200])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.cae").write_bytes(encoded)
    (tmp_path / "half.cae").write_bytes(encoded[: len(encoded) // 2])
    (tmp_path / "altered.cae").write_bytes(encoded[:-9] + bytes([encoded[-9] ^ 4]) + encoded[-8:])
    (tmp_path / "foreign.cae").write_bytes(with_model_id(encoded, 1999))
    return tmp_path


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    files = [name for name in names(folder) if (folder / name).is_file()]
    return {name: (folder / name).read_bytes() for name in files}


# -- inputs ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.png", "no such file"),
        ("text.png", "not an image in a format that Pillow reads"),
        ("empty", "not an image in a format that Pillow reads"),
        ("half.png", "cannot be read as an image"),
        ("inks.tiff", "image mode CMYK: it has no ICC profile"),
        ("folder", "cannot be read as an image"),
        (".", "cannot be read as an image"),
        ("file.cae", "not an image in a format that Pillow reads"),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
def test_pictures_that_cannot_be_encoded_exit_with_3(
    folder: Path, name: str, reason: str, beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = snapshot(folder)
    output = ["--force"] if beside else ["-o", "out.cae"]
    assert_refused(run("encode", name, *output), 3, f"{name}: ", reason)
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("missing.cae", 4, "cannot be read: No such file"),
        ("text.png", 8, "signature: found"),
        ("empty", 8, "signature: found no bytes at all"),
        ("half.cae", 9, "needs"),
        ("altered.cae", 10, "its checksum does not match"),
        ("folder", 4, "cannot be read: Is a directory"),
        (".", 4, "cannot be read: Is a directory"),
        ("photo.png", 8, "signature: found"),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
def test_files_that_cannot_be_decoded_exit_with_the_code_of_the_reason(
    folder: Path, name: str, code: int, reason: str, beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = snapshot(folder)
    output = ["--force"] if beside else ["-o", "out.png"]
    assert_refused(run("decode", name, *output), code, f"{name}: ", reason)
    assert_refused(run("verify", name), code, f"{name}: ", reason)
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    ("name", "code"),
    [("missing.cae", 4), ("text.png", 8), ("empty", 8), ("folder", 4), ("photo.png", 8)],
)
def test_info_on_other_things_exits_with_the_code_of_the_reason(
    folder: Path, name: str, code: int
) -> None:
    assert_refused(run("info", folder / name), code, f"{folder / name}: ")


@pytest.mark.parametrize(
    ("command", "code"), [("encode", 3), ("decode", 8), ("info", 8), ("verify", 8)]
)
@pytest.mark.parametrize("stdin", [b"", b"neither a picture nor a .cae file"])
def test_standard_input_is_named_when_it_is_wrong(command: str, code: int, stdin: bytes) -> None:
    assert_refused(run(command, "-", stdin=stdin), code, "standard input: ")


def test_a_name_that_is_empty_is_refused() -> None:
    for command, code in (("encode", 3), ("decode", 4)):
        done = run(command, "")
        assert_refused(done, 2 if done.exit_code == 2 else code)


def test_max_pixels_is_respected(folder: Path) -> None:
    done = run("decode", folder / "file.cae", "--max-pixels", 100)
    assert_refused(done, 11, "allowed are 100")


# -- weights -----------------------------------------------------------------


def test_a_file_of_unknown_weights_exits_with_5_and_names_them(folder: Path) -> None:
    before = snapshot(folder)
    assert_refused(run("decode", folder / "foreign.cae"), 5, "foreign.cae: ", "model 1999")
    assert snapshot(folder) == before


@pytest.mark.parametrize("command", [["encode", "photo.png"], ["decode", "file.cae"]])
def test_folders_without_usable_weights_exit_with_5(
    folder: Path, weights_folder: Path, command: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    arguments = [command[0], folder / command[1], "-o", folder / "out"]
    weights = tmp_path_factory.mktemp("weights")
    assert_refused(run(*arguments, "--weights", weights), 5, "manifest.json does not exist")
    shutil.copy(weights_folder / "manifest.json", weights)
    assert_refused(run(*arguments, "--weights", weights), 5, "cannot be read: No such file")
    for entry in pretrained.list_models(weights_folder).values():
        altered = bytearray(entry.file.read_bytes())
        altered[len(altered) // 2] ^= 1
        (weights / Path(str(entry.file)).name).write_bytes(altered)
    assert_refused(run(*arguments, "--weights", weights), 5, "the manifest says")
    assert not (folder / "out").exists()


# -- several inputs ----------------------------------------------------------


def test_one_bad_input_does_not_stop_the_others(folder: Path) -> None:
    Image.fromarray(photo_like(9, 9)).save(folder / "second.png")
    inputs = [folder / name for name in ("photo.png", "text.png", "missing.png", "second.png")]
    done = run("encode", *inputs, "-o", folder / "out", "--quiet")
    assert done.exit_code == 3
    assert names(folder / "out") == ["photo.cae", "second.cae"]
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"caezip: {folder / 'text.png'}: not an image")
    assert lines[1].startswith(f"caezip: {folder / 'missing.png'}: no such file")


def test_the_exit_code_is_that_of_the_first_failure(folder: Path) -> None:
    inputs = [folder / name for name in ("file.cae", "foreign.cae", "half.cae")]
    done = run("decode", *inputs, "-o", folder / "out")
    assert done.exit_code == 5
    assert names(folder / "out") == ["file.png"]
    assert sum(line.startswith("caezip: ") for line in done.stderr.splitlines()) == 2
    assert sum(" -> " in line for line in done.stderr.splitlines()) == 1


def test_inputs_that_would_share_an_output_are_refused_before_any_work(folder: Path) -> None:
    (folder / "folder" / "photo.jpg").write_bytes(b"")
    before = snapshot(folder)
    inputs = [folder / "photo.png", folder / "folder" / "photo.jpg"]
    done = run("encode", *inputs, "-o", folder / "out")
    assert_refused(done, 2, "both", "photo.png", "photo.jpg", "photo.cae")
    assert_refused(run("encode", inputs[0], inputs[0]), 2, "would be written to it")
    assert snapshot(folder) == before


def test_several_inputs_need_a_folder_and_one_standard_input_at_most(folder: Path) -> None:
    inputs = [folder / "photo.png", folder / "inks.tiff"]
    assert_refused(run("encode", *inputs, "-o", folder / "text.png"), 6, "need a folder")
    assert_refused(run("encode", *inputs, "-o", "-"), 2, "one input only")
    assert_refused(run("encode", "-", "-"), 2, "standard input: found more than once")
    assert_refused(run("encode", "-", "-o", folder), 2, "needs a file name")


# -- outputs -----------------------------------------------------------------


@pytest.mark.parametrize("command", [["encode", "photo.png"], ["decode", "file.cae"]])
def test_existing_files_are_kept_unless_forced(folder: Path, command: list[str]) -> None:
    target = folder / "out.bin.png"
    target.write_bytes(b"precious")
    before = snapshot(folder)
    arguments = [command[0], folder / command[1], "-o", target]
    assert_refused(run(*arguments), 6, target, "exists already; --force overwrites it")
    assert snapshot(folder) == before
    succeed(*arguments, "--force")
    assert target.read_bytes() != b"precious"
    assert snapshot(folder).keys() == before.keys()


def test_a_forced_write_that_has_nothing_to_write_keeps_the_old_file(folder: Path) -> None:
    target = folder / "out.png"
    target.write_bytes(b"precious")
    for name in ("half.cae", "altered.cae", "foreign.cae"):
        assert run("decode", folder / name, "-o", target, "--force").exit_code in (5, 9, 10)
        assert target.read_bytes() == b"precious"


def test_an_input_is_never_its_own_output_by_accident(folder: Path) -> None:
    before = snapshot(folder)
    assert_refused(run("encode", folder / "photo.png", "-o", folder / "photo.png"), 6, "exists")
    assert snapshot(folder) == before


@pytest.mark.parametrize("target", ["folder.cae", "text.png/out.cae"])
def test_outputs_that_cannot_be_files_exit_with_6(folder: Path, target: str) -> None:
    (folder / "folder.cae").mkdir()
    (folder / "folder.png").write_bytes((folder / "photo.png").read_bytes())
    before = snapshot(folder)
    source = folder / "folder.png" if target == "folder.cae" else folder / "photo.png"
    options = [] if target == "folder.cae" else ["-o", folder / target]
    assert_refused(run("encode", source, "--force", *options), 6, folder / target)
    assert snapshot(folder) == before


@pytest.mark.parametrize("suffix", [".nothing", ".xbm"])
def test_picture_kinds_that_cannot_be_written_exit_with_6(folder: Path, suffix: str) -> None:
    before = names(folder)
    assert_refused(run("decode", folder / "file.cae", "-o", folder / f"out{suffix}"), 6, suffix)
    assert names(folder) == before


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_failing_disk_exits_with_6_and_leaves_everything_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    target = folder / "out.cae"
    target.write_bytes(b"precious")
    before = snapshot(folder)
    monkeypatch.setattr(os, step, fail)
    done = run("encode", folder / "photo.png", "-o", target, "--force")
    assert_refused(done, 6, target, "No space left on device")
    assert snapshot(folder) == before


def test_an_interrupted_encode_leaves_no_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> bytes:
        raise KeyboardInterrupt

    before = names(folder)
    monkeypatch.setattr(Codec, "encode", interrupt)
    done = run("encode", folder / "photo.png")
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert names(folder) == before


# -- in a process of its own -------------------------------------------------


def real(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    command: list[str] = [str(COMMAND), *[str(argument) for argument in arguments]]
    return subprocess.run(command, stderr=subprocess.PIPE, check=False, **options)  # type: ignore[call-overload, no-any-return]


def test_a_damaged_file_is_a_single_line_in_a_real_process_too(folder: Path) -> None:
    done = real("decode", folder / "text.png", "-o", folder / "out", stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (8, b"")
    assert done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"caezip: ")


def test_warnings_of_pillow_are_not_printed_beside_the_error(folder: Path) -> None:
    path = folder / "odd.tiff"
    Image.fromarray(photo_like(9, 9)).save(path)
    compression = bytes([3, 1, 3, 0, 1, 0, 0, 0])  # tag 259, of which there must be one
    odd = path.read_bytes().replace(compression, compression[:4] + bytes([255, 0, 0, 0]))
    path.write_bytes(odd[:-100])
    done = real("encode", path, "-o", folder / "out", "--threads", 1)
    assert done.returncode == 3
    assert done.stderr.count(b"\n") == 1, done.stderr
    assert done.stderr.startswith(b"caezip: ")


def _closed_pipe() -> int:
    read_end, write_end = os.pipe()
    os.close(read_end)
    return write_end


def _full_device() -> int:
    if not FULL.exists():
        pytest.skip("this system has no /dev/full")
    return os.open(FULL, os.O_WRONLY)


@pytest.mark.parametrize("make", [_closed_pipe, _full_device])
def test_a_standard_output_that_fails_exits_with_6(folder: Path, make: Callable[[], int]) -> None:
    stdout = make()
    try:
        done = real("decode", folder / "file.cae", "-o", "-", "--threads", 1, stdout=stdout)
    finally:
        os.close(stdout)
    assert done.stderr.decode().splitlines()[0].startswith("caezip: standard output: ")
    assert done.stderr.count(b"\n") == 1, done.stderr
    assert done.returncode == 6
