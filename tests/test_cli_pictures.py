"""The commands on pictures that are more than RGB: alpha, 16 bits, metadata, frames, regions."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import caezip
from caezip import Codec
from caezip.container import Metadata
from caezip.image_io import encode_image, read_picture
from caezip.picture import Picture
from commands import assert_refused, names, run, succeed
from images import file_of, gray_of, photo_like, sixteen_bits
from profiles import srgb_profile

pytestmark = pytest.mark.usefixtures("one_thread")
PICTURE = photo_like(40, 52)
ALPHA = gray_of(photo_like(40, 52, seed=3))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A 16-bit PNG with alpha and all kinds of metadata."""
    exif = Image.Exif()
    exif[271] = "maker"
    metadata = Metadata(srgb_profile(), exif.tobytes().removeprefix(b"Exif\0\0"), b"<x/>")
    picture = Picture(sixteen_bits(PICTURE), sixteen_bits(ALPHA), metadata)
    path = tmp_path / "picture.png"
    path.write_bytes(encode_image(picture, ".png"))
    return path


def test_everything_that_a_picture_has_is_there_and_back(source: Path, codec: Codec) -> None:
    succeed("encode", source)
    data = source.with_suffix(".cae").read_bytes()
    done = succeed("decode", source.with_suffix(".cae"), "-o", source.with_name("again.png"))
    assert "52x40, 16-bit RGB with alpha" in done.stderr
    before, after = read_picture(source), read_picture(source.with_name("again.png"))
    assert after.metadata == before.metadata
    assert after.array.dtype == np.uint16
    assert np.array_equal(after.array[:, :, 3], before.array[:, :, 3])
    assert np.array_equal(after.array, codec.decode(data))


@pytest.mark.parametrize("target", [[], ["--size", 100_000], ["--psnr", 20], ["--bpp", 90]])
def test_strip_leaves_metadata_out_and_nothing_else(source: Path, target: list[object]) -> None:
    out = source.with_suffix(".cae")
    for options in ([], ["--strip"]):
        succeed("encode", source, "--force", *options, *target)
        picture = caezip.Codec().decode_picture(out.read_bytes())
        expected = Metadata() if options else read_picture(source).metadata
        assert picture.metadata == expected
        assert picture.alpha is not None


def test_alpha_without_room_for_it_exits_with_6(source: Path) -> None:
    succeed("encode", source)
    before = names(source.parent)
    for suffix, reason in ((".jpg", "cannot hold 16-bit samples"), (".ppm", "try .png")):
        out = source.with_suffix(suffix)
        assert_refused(run("decode", source.with_suffix(".cae"), "-o", out), 6, suffix, reason)
    assert names(source.parent) == before


# -- frames ------------------------------------------------------------------


@pytest.fixture
def animation(tmp_path: Path) -> Path:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    path = tmp_path / "animation.gif"
    path.write_bytes(file_of(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    return path


def test_one_frame_of_an_animation_is_taken_if_it_is_named(animation: Path, codec: Codec) -> None:
    out = animation.with_suffix(".cae")
    assert_refused(run("encode", animation), 3, "animation.gif: ", "found 3 frames", "--frame N")
    for number, colour in ((1, (255, 0, 0)), (3, (0, 0, 255))):
        succeed("encode", animation, "--frame", number, "-f")
        assert (codec.decode(out.read_bytes()) == colour).all()
    done = succeed("encode", "-", "--frame", 2, stdin=animation.read_bytes())
    assert (codec.decode(done.stdout_bytes) == (0, 255, 0)).all()
    out.unlink()
    assert_refused(run("encode", animation, "--frame", 4), 3, "frame: found 4, allowed are 1 to 3")
    assert run("encode", animation, "--frame", 0).exit_code == 2
    assert names(animation.parent) == ["animation.gif"]


# -- regions and previews ----------------------------------------------------


@pytest.fixture
def coded(tmp_path: Path, codec: Codec) -> Path:
    path = tmp_path / "file.cae"
    path.write_bytes(codec.encode(np.dstack([PICTURE, ALPHA]), quality=60))
    return path


def test_a_region_is_that_part_of_the_picture(coded: Path, codec: Codec) -> None:
    done = succeed("decode", coded, "--region", "7,5,30,20")
    assert "30x20, RGB with alpha" in done.stderr
    part = read_picture(coded.with_suffix(".png")).array.astype(int)
    whole = codec.decode(coded.read_bytes())[5:25, 7:37]
    assert np.abs(part - whole).max() <= 1
    assert np.array_equal(part[:, :, 3], whole[:, :, 3])


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ("0,0,53,40", "region: found 53x40 at 0,0, allowed are parts of the image, 52x40"),
        ("-1,0,5,5", "region: found 5x5 at -1,0"),
        ("0,0,0,5", "region: found 0x5"),
        ("40,35,5,6", "region: found 5x6 at 40,35"),
        ("1,2,3", "allowed are four integers"),
        ("1,2,3,4,5", "allowed are four integers"),
    ],
)
def test_regions_outside_the_picture_exit_with_2(coded: Path, region: str, message: str) -> None:
    assert_refused(run("decode", coded, "--region", region), 2, message)
    assert names(coded.parent) == ["file.cae"]


@pytest.mark.parametrize("region", ["", "a,b,c,d", "1,2,3,4.5", "1 2 3 4"])
def test_what_is_no_region_is_a_usage_error(coded: Path, region: str) -> None:
    done = run("decode", coded, "--region", region)
    assert done.exit_code == 2
    assert "is not four integers like 0,0,640,480" in done.stderr
    assert names(coded.parent) == ["file.cae"]


@pytest.mark.parametrize(("scale", "divisor"), [("1", 1), ("1/2", 2), ("1/4", 4), ("1/8", 8)])
def test_previews_are_smaller_pictures_of_the_same(coded: Path, scale: str, divisor: int) -> None:
    succeed("decode", coded, "--scale", scale, "-o", "-")
    data = succeed("decode", coded, "--scale", scale, "-o", "-").stdout_bytes
    found = read_picture(io.BytesIO(data)).array
    assert found.shape == (-(-40 // divisor), -(-52 // divisor), 4)
    whole = np.dstack([PICTURE, ALPHA])[: 40 // divisor * divisor, : 52 // divisor * divisor]
    squares = whole.reshape(40 // divisor, divisor, 52 // divisor, divisor, 4)
    difference = found[: 40 // divisor, : 52 // divisor] - squares.mean(axis=(1, 3))
    assert np.abs(difference[:, :, 3]).max() <= 0.5
    assert np.abs(difference).mean() < 8


def test_unknown_scales_are_usage_errors(coded: Path) -> None:
    for scale in ("0", "2", "1/3", "0.5", ""):
        assert run("decode", coded, "--scale", scale).exit_code == 2
    assert names(coded.parent) == ["file.cae"]


# -- damaged files -----------------------------------------------------------


def test_salvage_of_a_whole_file_is_decoding(coded: Path) -> None:
    plain = succeed("decode", coded, "-o", "-").stdout_bytes
    assert succeed("decode", coded, "-o", "-", "--salvage").stdout_bytes == plain
    for options in (["--region", "0,0,5,5"], ["--scale", "1/2"]):
        assert_refused(run("decode", coded, "--salvage", *options), 2, "--salvage: found")
