"""The commands encode, decode and info: files, folders and standard streams."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import caezip
from caezip import Codec
from caezip.file_jobs import EXIT_CODES
from caezip.image_io import Pixels
from commands import assert_refused, names, run, succeed
from images import gray_of, photo_like

pytestmark = pytest.mark.usefixtures("one_thread")
PICTURE = photo_like(40, 52)
COMMAND = Path(sysconfig.get_path("scripts")) / "caezip"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds photo.png and gray.png."""
    Image.fromarray(PICTURE).save(tmp_path / "photo.png")
    Image.fromarray(gray_of(PICTURE)).save(tmp_path / "gray.png")
    return tmp_path


def png_of(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pixels_of(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


# -- files -------------------------------------------------------------------


def test_encode_writes_beside_its_input_and_decode_writes_a_png(folder: Path, codec: Codec) -> None:
    done = succeed("encode", folder / "photo.png")
    data = (folder / "photo.cae").read_bytes()
    assert caezip.info(data).quality == 75
    assert re.search(rf"52x40, quality 75, {len(data)} bytes, \d+\.\d+ bpp", done.stderr)
    assert done.stdout_bytes == b""

    (folder / "photo.png").unlink()
    done = succeed("decode", folder / "photo.cae")
    assert "52x40, RGB" in done.stderr
    decoded = pixels_of((folder / "photo.png").read_bytes())
    assert np.array_equal(decoded, codec.decode(data))
    assert names(folder) == ["gray.png", "photo.cae", "photo.png"]


def test_gray_images_stay_gray(folder: Path) -> None:
    succeed("encode", folder / "gray.png", "-q", "50.25")
    assert caezip.info((folder / "gray.cae").read_bytes()).quality == 50.25
    done = succeed("decode", folder / "gray.cae", "-o", folder / "again.png")
    assert "gray" in done.stderr
    with Image.open(folder / "again.png") as image:
        assert (image.mode, image.size) == ("L", (52, 40))


def test_a_single_output_is_named_by_o_and_may_be_a_folder(folder: Path) -> None:
    succeed("encode", folder / "photo.png", "-o", folder / "new" / "name with spaces é.cae")
    assert (folder / "new" / "name with spaces é.cae").exists()
    succeed("encode", folder / "photo.png", "-o", folder / "new")
    succeed("encode", folder / "photo.png", "-o", f"{folder}/other/")
    assert (folder / "new" / "photo.cae").exists()
    assert (folder / "other" / "photo.cae").exists()


def test_several_inputs_go_into_a_folder_or_beside_themselves(folder: Path) -> None:
    inputs = [folder / "photo.png", folder / "gray.png"]
    succeed("encode", *inputs, "-o", folder / "coded")
    succeed("encode", *inputs)
    assert names(folder / "coded") == ["gray.cae", "photo.cae"]
    coded = [folder / "coded" / "photo.cae", folder / "coded" / "gray.cae"]
    succeed("decode", *coded, "-o", folder / "decoded")
    assert names(folder / "decoded") == ["gray.png", "photo.png"]
    assert pixels_of((folder / "decoded" / "gray.png").read_bytes()).shape == (40, 52)


@pytest.mark.parametrize(("name", "kind"), [("a.ppm", "PPM"), ("a.jpg", "JPEG"), ("a", "PNG")])
def test_the_output_name_chooses_the_kind_of_picture(folder: Path, name: str, kind: str) -> None:
    succeed("encode", folder / "photo.png")
    succeed("decode", folder / "photo.cae", "-o", folder / name)
    with Image.open(folder / name) as image:
        assert image.format == kind


def test_quiet_prints_nothing(folder: Path) -> None:
    done = succeed("encode", folder / "photo.png", "--quiet")
    assert done.output == ""
    assert succeed("decode", folder / "photo.cae", "--quiet", "--force").output == ""


def test_threads_device_and_precision_change_no_stream(folder: Path) -> None:
    options = ["--threads", 1, "--device", "cpu", "--precision", "float32"]
    succeed("encode", folder / "photo.png", *options)
    done = succeed("decode", folder / "photo.cae", "-o", "-", "--precision", "bfloat16")
    assert pixels_of(done.stdout_bytes).shape == PICTURE.shape


# -- standard input and output -----------------------------------------------


def test_dashes_stand_for_standard_input_and_output(codec: Codec) -> None:
    encoded = succeed("encode", "-", stdin=png_of(PICTURE)).stdout_bytes
    assert caezip.info(encoded).width == 52
    decoded = succeed("decode", "-", "-o", "-", stdin=encoded).stdout_bytes
    assert np.array_equal(pixels_of(decoded), codec.decode(encoded))


def test_one_side_may_be_a_file(folder: Path) -> None:
    succeed("encode", "-", "-o", folder / "out.cae", stdin=png_of(PICTURE))
    piped = succeed("encode", folder / "photo.png", "-o", "-").stdout_bytes
    assert piped == (folder / "out.cae").read_bytes()
    assert json.loads(succeed("info", "-", "--json", stdin=piped).stdout)["width"] == 52


def test_real_processes_pipe_into_each_other(codec: Codec) -> None:
    encode = subprocess.run(
        [COMMAND, "encode", "-", "-o", "-", "--quiet", "--threads", "1"],
        input=png_of(PICTURE),
        capture_output=True,
        check=True,
    )
    assert encode.stderr == b""
    decode = subprocess.run(
        [COMMAND, "decode", "-", "-o", "-", "--threads", "1"],
        input=encode.stdout,
        capture_output=True,
        check=True,
    )
    expected = codec.decode(encode.stdout).astype(int)
    assert np.abs(pixels_of(decode.stdout) - expected).max() <= 1
    assert decode.stderr.startswith(b"- -> -: 52x40, RGB")


# -- targets -----------------------------------------------------------------


def test_a_size_or_rate_is_not_exceeded_and_a_psnr_is_reached(folder: Path, codec: Codec) -> None:
    photo, out = folder / "photo.png", folder / "out.cae"
    lowest, highest = (len(codec.encode(PICTURE, quality=q)) for q in (1, 100))
    limit = (lowest + highest) // 2
    succeed("encode", photo, "-o", out, "--size", limit)
    by_size = out.read_bytes()
    assert lowest <= len(by_size) <= limit
    succeed("encode", photo, "-o", out, "-f", "--bpp", 8 * (limit + 0.5) / (40 * 52))
    assert out.read_bytes() == by_size
    succeed("encode", photo, "-o", out, "-f", "--psnr", 5)
    assert caezip.info(out.read_bytes()).quality == 1


@pytest.mark.parametrize(("option", "value"), [("--size", 30), ("--bpp", 0.0001), ("--psnr", 99.5)])
def test_an_unreachable_target_exits_with_7(folder: Path, option: str, value: float) -> None:
    before = names(folder)
    assert_refused(run("encode", folder / "photo.png", option, value), 7, "photo.png", "quality 1")
    assert names(folder) == before


@pytest.mark.parametrize(
    "options",
    [
        ["--bpp", 1, "--psnr", 30],
        ["--bpp", 1, "--size", 300],
        ["--psnr", 30, "--size", 300],
        ["-q", 50, "--size", 300],
        ["--quality", 50, "--bpp", 1, "--psnr", 30, "--size", 300],
    ],
)
def test_targets_exclude_each_other(folder: Path, options: list[object]) -> None:
    done = run("encode", folder / "photo.png", *options)
    assert_refused(done, 2, "targets, allowed is one", *[o for o in options if "--" in str(o)])
    assert names(folder) == ["gray.png", "photo.png"]


@pytest.mark.parametrize(
    "options",
    [
        ["-q", 0],
        ["-q", 100.5],
        ["-q", "nan"],
        ["--bpp", 0],
        ["--bpp", "nan"],
        ["--psnr", -3],
        ["--size", 0],
        ["--device", "no-such-device"],
    ],
)
def test_options_out_of_range_exit_with_2(folder: Path, options: list[object]) -> None:
    assert_refused(run("encode", folder / "photo.png", *options), 2, "found")
    assert names(folder) == ["gray.png", "photo.png"]


# -- info --------------------------------------------------------------------


def test_info_prints_the_header(folder: Path) -> None:
    succeed("encode", folder / "photo.png", "-q", "33.5")
    header = caezip.info((folder / "photo.cae").read_bytes())
    fields = json.loads(succeed("info", folder / "photo.cae", "--json").stdout)
    assert fields == {
        "format_version": 1,
        "model_id": header.model_id,
        "width": 52,
        "height": 40,
        "quality": 33.5,
        "pixel_format": "rgb8",
        "tile_side": 0,
        "file_size_bytes": header.file_size_bytes,
        "has_filters": False,
        "tiles_continue": False,
        "bpp": round(header.bpp, 6),
    }
    text = succeed("info", folder / "photo.cae").stdout
    shown = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert shown == {name: str(value) for name, value in fields.items()}


# -- help --------------------------------------------------------------------


def exit_codes_in(text: str) -> set[str]:
    listing = text[text.index("Exit codes") :] if "Exit codes" in text else ""
    return set(re.findall(r"^ *(\d+)  \w", listing, re.MULTILINE))


def test_help_lists_every_command_and_exit_code() -> None:
    text = succeed("--help").stdout
    for command in ("bench", "decode", "encode", "info", "train", "verify"):
        assert re.search(rf"^  {command} +\S", text, re.MULTILINE)
    assert exit_codes_in(text) == {"0", *[str(code) for _, code, _ in EXIT_CODES]}


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize("command", ["encode", "decode", "info", "verify", "bench", "train"])
def test_every_command_has_help(command: str) -> None:
    text = succeed(command, "--help").stdout
    assert text.startswith(f"Usage: main {command} ")
    assert "--help" in text


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize("command", ["encode", "decode", "info", "verify", "bench", "train"])
def test_the_help_of_every_command_lists_exit_codes(command: str) -> None:
    assert {"0", "2"} <= exit_codes_in(succeed(command, "--help").stdout)


def test_the_version_is_printed() -> None:
    assert succeed("--version").stdout == f"caezip, version {caezip.__version__}\n"


def test_unknown_commands_and_options_exit_with_2() -> None:
    for arguments in (["compress"], ["encode"], ["encode", "--nothing"], ["info"]):
        done = run(*arguments)
        assert done.exit_code == 2
        assert "Error: " in done.stderr


def test_exit_codes_follow_the_error_tree() -> None:
    from caezip import errors
    from caezip.file_jobs import exit_code_of

    expected = {
        "ParameterError": 2,
        "ImageError": 3,
        "TrainingDataError": 3,
        "BitstreamError": 4,
        "NotCaeError": 8,
        "TruncatedError": 9,
        "CorruptError": 10,
        "UnsupportedError": 11,
        "WeightsError": 5,
        "UnknownModelError": 5,
        "CheckpointError": 5,
        "OutputError": 6,
        "TargetError": 7,
        "MissingDependencyError": 1,
        "CaeError": 1,
    }
    assert {name: exit_code_of(getattr(errors, name)("x")) for name in expected} == expected
