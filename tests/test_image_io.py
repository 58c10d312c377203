"""Image files in and out: what they hold, what goes along with it, and whole files only."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from caezip import Codec
from caezip.container import Metadata
from caezip.errors import ImageError, OutputError
from caezip.image_io import encode_image, read_picture, read_rgb, write_atomically
from caezip.picture import Picture, as_picture
from images import file_of, gray_of, noise, photo_like, sixteen_bits, smooth
from profiles import srgb_profile

# -- image files -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_lossless_files_are_read_exactly(tmp_path: Path, kind: str) -> None:
    picture = noise(9, 11)
    path = tmp_path / "picture"
    path.write_bytes(file_of(Image.fromarray(picture), kind))
    assert np.array_equal(read_picture(path).samples, picture)
    path.write_bytes(file_of(Image.fromarray(gray_of(picture)), kind))
    assert np.array_equal(read_picture(path).samples, gray_of(picture))
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
            read_picture(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_a_refused_kind_is_named_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "inks.jpg"
    Image.new("CMYK", (3, 3)).save(path)
    with pytest.raises(ImageError, match=r"inks\.jpg: image mode CMYK: it has no ICC profile"):
        read_picture(path)
    path = tmp_path / "alpha.png"
    Image.new("RGBA", (3, 3)).save(path)
    with pytest.raises(ImageError, match=r"alpha\.png: image: it has an alpha channel"):
        read_rgb(path)


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
        assert read_picture(io.BytesIO(bytes(damaged))).samples.dtype == np.uint8
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
            read_picture(io.BytesIO(damaged))
        except ImageError:
            continue


def test_pictures_beyond_pillows_limit_are_image_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.png"
    Image.new("L", (50, 50)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match=r"large\.png: .*2500 pixels"):
        read_picture(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=r"large\.png: .*2500 pixels"):
            read_picture(path)


@pytest.mark.parametrize("suffix", [".png", ".PNG", "", ".ppm", ".bmp", ".tiff"])
def test_pictures_are_written_losslessly_in_the_kind_that_the_suffix_names(suffix: str) -> None:
    for picture in (noise(6, 5), gray_of(noise(6, 5))):
        with Image.open(io.BytesIO(encode_image(Picture(picture), suffix))) as image:
            assert np.array_equal(np.array(image), picture)
            kinds = {".ppm": "PPM", ".bmp": "BMP", ".tiff": "TIFF"}
            assert image.format == kinds.get(suffix, "PNG")


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".tga", ".jp2"])
def test_alpha_is_written_losslessly(suffix: str) -> None:
    for samples in (noise(6, 5), gray_of(noise(6, 5))):
        written = Picture(samples, gray_of(noise(6, 5, 1)))
        found = read_picture(io.BytesIO(encode_image(written, suffix)))
        assert np.array_equal(found.array, written.array)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".ppm", ".jp2"])
def test_gray_of_16_bits_is_written_losslessly(suffix: str) -> None:
    samples = sixteen_bits(gray_of(noise(6, 5)))
    found = read_picture(io.BytesIO(encode_image(Picture(samples), suffix)))
    assert found.samples.dtype == np.uint16
    assert np.array_equal(found.samples, samples)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_and_alpha_of_16_bits_are_written_to_png(channels: int) -> None:
    array = sixteen_bits(np.dstack([noise(6, 5), noise(6, 5, 1)]))[:, :, :channels]
    written = as_picture(array)
    data = encode_image(written, ".png")
    assert np.array_equal(read_picture(io.BytesIO(data)).array, array)
    with Image.open(io.BytesIO(data)) as image:
        image.load()  # by the rules, or Pillow would complain


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".gif", ".bmp", ".avif", ".tga", ".tiff"])
def test_kinds_without_16_bits_are_refused_for_them(suffix: str) -> None:
    samples = sixteen_bits(noise(6, 5))
    pictures = [Picture(samples), Picture(samples[:, :, 0], samples[:, :, 1])]
    if suffix != ".tiff":
        pictures.append(Picture(samples[:, :, 0]))
    for picture in pictures:
        with pytest.raises(OutputError, match=rf"{suffix}: cannot hold 16-bit samples; try \.png"):
            encode_image(picture, suffix)


@pytest.mark.parametrize("shape", [(7, 5, 3), (7, 5), (1, 1, 3)])
def test_portable_pixmaps_are_those_that_pillow_writes(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    expected = io.BytesIO()
    Image.fromarray(array).save(expected, "PPM")
    for part in (array, array[::-1][::-1]):  # whole, and with strides of its own
        assert encode_image(Picture(part), ".ppm") == expected.getvalue()


@pytest.mark.parametrize("suffix", [".jpg", ".gif", ".bmp", ".ppm", ".pdf"])
def test_kinds_without_alpha_are_refused_for_it(suffix: str) -> None:
    picture = Picture(noise(6, 5), gray_of(noise(6, 5)))
    with pytest.raises(OutputError, match=rf"{suffix}: has no alpha channel; try \.png"):
        encode_image(picture, suffix)


def test_jpeg_output_is_close_to_the_pixels() -> None:
    picture = photo_like(32, 32)
    with Image.open(io.BytesIO(encode_image(Picture(picture), ".jpg"))) as image:
        assert image.format == "JPEG"
        assert np.abs(np.array(image).astype(int) - picture).mean() < 3


@pytest.mark.parametrize("suffix", [".nothing", ".cae", ".txt", ".xbm", ".palm", ".hdf"])
def test_kinds_that_cannot_be_written_are_output_errors(suffix: str) -> None:
    with pytest.raises(OutputError, match=rf"\{suffix}"):
        encode_image(Picture(noise(4, 4)), suffix)


def test_metadata_that_a_kind_has_no_room_for_is_an_output_error() -> None:
    exif = Image.Exif()
    exif[270] = 70_000 * "x"
    picture = Picture(noise(4, 4), None, Metadata(exif=exif.tobytes().removeprefix(b"Exif\0\0")))
    with pytest.raises(OutputError, match=r"output type \.jpg: .*too long; try \.png"):
        encode_image(picture, ".jpg")
    assert read_picture(io.BytesIO(encode_image(picture, ".png"))).metadata == picture.metadata


# -- metadata ----------------------------------------------------------------


def metadata() -> Metadata:
    """All of it; the EXIF data have a directory of their own in them."""
    exif = Image.Exif()
    exif[271], exif[0x8769] = "maker", {36867: "2026:01:02 03:04:05"}
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">\xc3\xa9</x:xmpmeta>'
    return Metadata(srgb_profile(), exif.tobytes().removeprefix(b"Exif\0\0"), xmp)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".webp", ".avif"])
@pytest.mark.parametrize("gray", [False, True])
def test_metadata_go_from_file_to_file(codec: Codec, suffix: str, gray: bool) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow does not write AVIF")
    pixels = gray_of(smooth(9, 14)) if gray else smooth(9, 14)
    source = Picture(pixels, None, metadata())
    read = read_picture(io.BytesIO(encode_image(source, suffix)))
    decoded = codec.decode_picture(codec.encode(read))
    again = read_picture(io.BytesIO(encode_image(decoded, suffix)))
    for picture in (read, decoded, again):
        assert picture.metadata == source.metadata
    assert codec.decode_picture(codec.encode(read, strip=True)).metadata == Metadata()
    assert codec.encode(read, strip=True) == codec.encode(read.samples)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_exif_data_of_upright_images_are_kept_byte_for_byte(codec: Codec, kind: str) -> None:
    exif = Image.Exif()
    exif[271] = "maker"
    whole = exif.tobytes() + b"notes that no tag points to"
    data = codec.encode(Image.open(io.BytesIO(file_of(Image.new("RGB", (4, 4)), kind, exif=whole))))
    assert b"Exif\0\0" + (codec.decode_picture(data).metadata.exif or b"") == whole


def test_exif_data_are_not_made_of_other_metadata(codec: Codec) -> None:
    picture = Picture(noise(4, 6), None, Metadata(xmp=b'<x tiff:Orientation="1"/>'))
    for written in (picture, Picture(picture.samples, None, Metadata(xmp=b"<x/>"))):
        found = read_picture(io.BytesIO(encode_image(written, ".png")))
        assert found.metadata == written.metadata
    turned = Picture(picture.samples, None, Metadata(xmp=b'<x tiff:Orientation="6"/>'))
    found = read_picture(io.BytesIO(encode_image(turned, ".png")))
    assert found.samples.shape == (6, 4, 3)
    assert found.metadata == Metadata(xmp=b"<x />")


def test_metadata_go_into_pngs_of_16_bits() -> None:
    picture = Picture(sixteen_bits(noise(5, 4)), None, metadata())
    assert read_picture(io.BytesIO(encode_image(picture, ".png"))).metadata == picture.metadata


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_the_metadata_that_are_kept_do_not_turn_the_picture_again(codec: Codec, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[271] = 6, "maker"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6" tiff:Make="maker"/>'
    image = Image.fromarray(smooth(16, 40))
    options: dict[str, object] = {} if kind == "PNG" else {"xmp": xmp}
    if kind == "PNG":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())  # type: ignore[attr-defined]
    data = codec.encode(
        Image.open(io.BytesIO(file_of(image, kind, exif=exif.tobytes(), **options)))
    )
    picture = codec.decode_picture(data)
    assert picture.samples.shape == (40, 16, 3)
    kept = Image.Exif()
    kept.load(b"Exif\0\0" + (picture.metadata.exif or b""))
    assert dict(kept) == {271: "maker"}
    assert b"Orientation" not in (picture.metadata.xmp or b"")
    if kind != "TIFF":  # Pillow does not write it to them
        assert b"maker" in (picture.metadata.xmp or b"")
    for suffix in (".png", ".jpg", ".tiff"):
        shown = read_picture(io.BytesIO(encode_image(picture, suffix)))
        assert shown.samples.shape == (40, 16, 3)


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


@pytest.mark.parametrize("step", ["replace", "fsync"])
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


def test_an_interruption_as_soon_as_a_file_is_there_leaves_no_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Path.open

    def opened_and_interrupted(self: Path, mode: str) -> None:
        begin(self, mode).close()
        assert self.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "open", opened_and_interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new", force=False)
    assert list(tmp_path.iterdir()) == []


def test_what_has_a_temporary_name_already_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "urandom", bytes)
    other = tmp_path / ".file.00000000"
    other.write_bytes(b"somebody else's")
    with pytest.raises(OutputError, match="file: cannot be written: File exists"):
        write_atomically(tmp_path / "file", b"new", force=False)
    assert other.read_bytes() == b"somebody else's"
    assert list(tmp_path.iterdir()) == [other]
