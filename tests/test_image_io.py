"""Pictures in and out: which kinds are taken, which refused and why, and whole files only."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

import caezip
from caezip import Codec
from caezip.errors import ImageError, OutputError
from caezip.image_io import (
    Pixels,
    as_pixels,
    encode_image,
    read_image,
    read_rgb,
    write_atomically,
)
from images import gray_of, noise, photo_like, smooth

ORIENTATION = 0x0112

# what each EXIF orientation asks of a viewer
UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# -- kinds of pictures -------------------------------------------------------


def test_rgb_and_gray_images_keep_their_samples() -> None:
    picture = noise(5, 7)
    assert np.array_equal(as_pixels(Image.fromarray(picture)), picture)
    assert np.array_equal(as_pixels(Image.fromarray(gray_of(picture))), gray_of(picture))


def test_a_one_bit_image_becomes_black_and_white() -> None:
    image = Image.new("1", (3, 2))
    image.putpixel((1, 0), 1)
    assert as_pixels(image).tolist() == [[0, 255, 0], [0, 0, 0]]


def test_a_palette_becomes_its_colours() -> None:
    image = Image.new("P", (3, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert as_pixels(image).shape == (2, 3, 3)
    assert (as_pixels(image) == [10, 20, 30]).all()


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("RGBA", "it has an alpha channel"),
        ("LA", "it has an alpha channel"),
        ("PA", "it has an alpha channel"),
        ("CMYK", "its colours are CMYK"),
        ("YCbCr", "its colours are YCbCr"),
        ("LAB", "its colours are CIELAB"),
        ("HSV", "its colours are HSV"),
        ("I;16", "more than 8 bits"),
        ("I", "more than 8 bits"),
        ("F", "more than 8 bits"),
    ],
)
def test_modes_that_would_lose_something_are_refused_with_the_reason(
    mode: str, reason: str
) -> None:
    with pytest.raises(ImageError, match=f"image mode {mode}: .*{reason}.*; allowed are 8-bit"):
        caezip.encode(Image.new(mode, (4, 3)))


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_transparent_colours_are_refused(mode: str) -> None:
    options = {"transparency": (1, 2, 3) if mode == "RGB" else 1}
    image = Image.open(io.BytesIO(file_of(Image.new(mode, (4, 3)), "PNG", **options)))
    with pytest.raises(ImageError, match=f"image mode {mode}: it has transparency"):
        as_pixels(image)


def test_a_palette_with_alpha_is_refused() -> None:
    image = Image.new("P", (3, 2), 1)
    image.putpalette([0, 0, 0, 255, 10, 20, 30, 128], "RGBA")
    with pytest.raises(ImageError, match="image mode P: it has"):
        as_pixels(image)


def test_animations_are_refused_and_single_frames_are_not() -> None:
    frames = [Image.fromarray(noise(8, 8, seed)) for seed in range(3)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        data = file_of(frames[0], kind, save_all=True, append_images=frames[1:])
        with pytest.raises(ImageError, match="found 3 frames, allowed is one"):
            as_pixels(Image.open(io.BytesIO(data)))
        single = file_of(frames[0], kind)
        assert as_pixels(Image.open(io.BytesIO(single))).shape == (8, 8, 3)


def test_a_phones_photo_with_further_pictures_in_it_is_its_first_picture() -> None:
    photo, preview = Image.fromarray(smooth(32, 40)), Image.new("RGB", (40, 32))
    image = Image.open(io.BytesIO(file_of(photo, "MPO", save_all=True, append_images=[preview])))
    assert (image.format, getattr(image, "n_frames", 1)) == ("MPO", 2)
    assert np.abs(as_pixels(image).astype(int) - np.array(photo)).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(codec: Codec, orientation: int) -> None:
    stored = photo_like(20, 36)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = Image.open(io.BytesIO(file_of(Image.fromarray(stored), "PNG", exif=exif)))
    upright = np.array(UPRIGHT[orientation](stored))
    assert np.array_equal(as_pixels(image), upright)
    assert codec.encode(image) == codec.encode(upright)
    assert codec.decode(codec.encode(image)).shape == upright.shape


def test_a_sideways_gray_image_stays_gray() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    gray = gray_of(noise(4, 9))
    image = Image.open(io.BytesIO(file_of(Image.fromarray(gray), "PNG", exif=exif)))
    assert np.array_equal(as_pixels(image), np.rot90(gray, -1))


def test_an_image_object_whose_file_is_cut_short_is_an_image_error(codec: Codec) -> None:
    data = file_of(Image.fromarray(noise(64, 64)), "JPEG")
    with pytest.raises(ImageError):
        codec.encode(Image.open(io.BytesIO(data[: len(data) // 2])))


# -- image files -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_lossless_files_are_read_exactly(tmp_path: Path, kind: str) -> None:
    picture = noise(9, 11)
    path = tmp_path / "picture"
    path.write_bytes(file_of(Image.fromarray(picture), kind))
    assert np.array_equal(read_image(path), picture)
    path.write_bytes(file_of(Image.fromarray(gray_of(picture)), kind))
    assert np.array_equal(read_image(path), gray_of(picture))
    assert np.array_equal(read_rgb(path), np.stack([gray_of(picture)] * 3, axis=2))


def test_a_file_that_is_missing_a_folder_or_no_image_is_named_in_the_error(tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("not an image")
    empty = tmp_path / "empty.png"
    empty.touch()
    missing = tmp_path / "missing.png"
    for path, reason in (
        (missing, "no such file"),
        (text, "not an image in a format that Pillow reads"),
        (empty, "not an image in a format that Pillow reads"),
        (tmp_path, "cannot be read as an image"),
    ):
        with pytest.raises(ImageError, match=reason) as caught:
            read_image(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_a_refused_kind_is_named_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "alpha.png"
    Image.new("RGBA", (3, 3)).save(path)
    with pytest.raises(ImageError, match=r"alpha\.png: image mode RGBA: it has an alpha channel"):
        read_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about metadata that it skips
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM"])
@given(data=st.data())
def test_damaged_files_are_read_or_refused_and_nothing_else(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(file_of(Image.fromarray(photo_like(24, 31)), kind))
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1) | st.integers(0, 60))
        damaged[place] = data.draw(st.sampled_from([0, 1, 127, 255]))
    damaged = damaged[: data.draw(st.just(len(damaged)) | st.integers(0, len(damaged)))]
    message = ""
    try:
        assert read_image(io.BytesIO(bytes(damaged))).dtype == np.uint8
    except ImageError as error:
        message = str(error)
    assert message == "" or message.startswith("standard input: ")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow does not read AVIF")
def test_every_damaged_byte_of_an_avif_file_is_survived() -> None:
    # Pillow raises a RuntimeError for some of them
    whole = file_of(Image.fromarray(photo_like(24, 31)), "AVIF")
    for place in range(len(whole)):
        damaged = whole[:place] + b"\xff" + whole[place + 1 :]
        try:
            read_image(io.BytesIO(damaged))
        except ImageError:
            continue


def test_pictures_beyond_pillows_limit_are_image_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.png"
    Image.new("L", (50, 50)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match=r"large\.png: .*2500 pixels"):
        read_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=r"large\.png: .*2500 pixels"):
            read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".PNG", "", ".ppm", ".bmp", ".tiff"])
def test_pictures_are_written_losslessly_in_the_kind_that_the_suffix_names(suffix: str) -> None:
    for picture in (noise(6, 5), gray_of(noise(6, 5))):
        with Image.open(io.BytesIO(encode_image(picture, suffix))) as image:
            assert np.array_equal(np.array(image), picture)
            kinds = {".ppm": "PPM", ".bmp": "BMP", ".tiff": "TIFF"}
            assert image.format == kinds.get(suffix, "PNG")


def test_jpeg_output_is_close_to_the_pixels() -> None:
    picture = photo_like(32, 32)
    with Image.open(io.BytesIO(encode_image(picture, ".jpg"))) as image:
        assert image.format == "JPEG"
        assert np.abs(np.array(image).astype(int) - picture).mean() < 3


@pytest.mark.parametrize("suffix", [".nothing", ".cae", ".txt", ".xbm", ".palm", ".hdf"])
def test_kinds_that_cannot_be_written_are_output_errors(suffix: str) -> None:
    with pytest.raises(OutputError, match=rf"\{suffix}"):
        encode_image(noise(4, 4), suffix)


# -- atomic writing ----------------------------------------------------------


def test_a_new_file_is_whole_and_as_readable_as_any_other(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "file"
    write_atomically(target, b"data", force=False)
    assert target.read_bytes() == b"data"
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)
    assert list(target.parent.iterdir()) == [target]


def test_an_existing_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already; --force overwrites it"):
        write_atomically(target, b"new", force=False)
    assert target.read_bytes() == b"old"
    write_atomically(target, b"new", force=True)
    assert target.read_bytes() == b"new"


def test_a_folder_is_never_overwritten(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        write_atomically(tmp_path, b"new", force=True)
    beneath_a_file = tmp_path / "file" / "child"
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomically(beneath_a_file, b"new", force=True)


def test_what_is_no_ordinary_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    # as root, --force -o /dev/null would otherwise take the device away
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # so that writing to it may succeed
    try:
        with contextlib.suppress(OutputError):
            write_atomically(pipe, b"new", force=True)
        assert pipe.is_fifo()
        assert list(tmp_path.iterdir()) == [pipe]
    finally:
        os.close(reader)


@pytest.mark.parametrize("step", ["replace", "fsync", "chmod"])
def test_a_failing_write_leaves_the_old_bytes_and_no_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    target = tmp_path / "file"
    target.write_bytes(b"old")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OutputError, match="file: cannot be written: No space left on device"):
        write_atomically(target, b"new", force=True)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupted_write_leaves_no_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new", force=False)
    assert list(tmp_path.iterdir()) == []
