"""Which images and arrays are taken, what becomes of their samples, and why some are refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import png
import pytest
from PIL import Image

import caezip
from caezip import Codec
from caezip.container import Metadata
from caezip.errors import ImageError
from caezip.image_io import Pixels, as_pixels, encode_image, read_picture, read_rgb
from caezip.picture import Picture, Samples, as_picture
from images import file_of, gray_of, noise, photo_like, sixteen_bits, smooth
from profiles import cmyk_profile, srgb_profile

ORIENTATION = 0x0112

# what each EXIF orientation asks of a viewer
UPRIGHT: dict[int, Callable[[Samples], Samples]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}
DEEP = sixteen_bits(noise(13, 11))
DEEP_RGBA = np.dstack([DEEP, DEEP[:, ::-1, 0]])


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def with_transparency(mode: str, transparent: object) -> Image.Image:
    """A PNG of 4x3 in which one pixel, at 1,2, has the transparent colour."""
    image = Image.new(mode, (4, 3))
    if mode == "P":
        image.putpalette(bytes(range(48)))
    image.putpixel((1, 2), transparent)  # type: ignore[arg-type]
    return opened(file_of(image, "PNG", transparency=transparent))


# -- 8 bits ------------------------------------------------------------------


def test_rgb_and_gray_images_keep_their_samples() -> None:
    picture = noise(5, 7)
    for samples in (picture, gray_of(picture)):
        found = as_picture(Image.fromarray(samples))
        assert np.array_equal(found.samples, samples)
        assert found.alpha is None
        assert found.metadata == Metadata()


def test_a_one_bit_image_becomes_black_and_white() -> None:
    image = Image.new("1", (3, 2))
    image.putpixel((1, 0), 1)
    assert as_pixels(image).tolist() == [[0, 255, 0], [0, 0, 0]]


def test_a_palette_becomes_its_colours() -> None:
    image = Image.new("P", (3, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert as_pixels(image).shape == (2, 3, 3)
    assert (as_pixels(image) == [10, 20, 30]).all()


# -- alpha -------------------------------------------------------------------


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_is_kept_apart_from_the_samples(codec: Codec, channels: int, kind: str) -> None:
    array = np.dstack([noise(9, 14), gray_of(noise(9, 14, 1))])[:, :, 4 - channels :]
    picture = as_picture(opened(file_of(Image.fromarray(array), kind)))
    assert np.array_equal(picture.samples, array[:, :, :-1].squeeze())
    assert np.array_equal(picture.array, array)
    data = codec.encode(Image.fromarray(array))
    assert data == codec.encode(array) == codec.encode(picture)
    assert np.array_equal(codec.decode(data)[:, :, -1], array[:, :, -1])
    assert codec.decode(data).shape == array.shape


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_alpha_channel_of_an_image_that_is_opaque_everywhere_is_left_out(dtype: Any) -> None:
    array = np.full((3, 4, 4), np.iinfo(dtype).max, dtype)
    data = encode_image(Picture(array[:, :, :3], array[:, :, 3]), ".png")
    assert as_picture(opened(data)).alpha is None
    assert as_picture(array).alpha is not None  # an array is taken at its word


@pytest.mark.parametrize(
    ("mode", "transparent"), [("1", 1), ("P", 7), ("L", 7), ("RGB", (1, 2, 3)), ("I;16", 999)]
)
def test_a_transparent_colour_becomes_alpha(mode: str, transparent: object) -> None:
    picture = as_picture(with_transparency(mode, transparent))
    assert picture.alpha is not None
    peak = np.iinfo(picture.samples.dtype).max
    expected = np.full((3, 4), peak)
    expected[2, 1] = 0
    assert picture.alpha.dtype == picture.samples.dtype
    assert np.array_equal(picture.alpha, expected)
    assert picture.samples.shape == ((3, 4, 3) if mode in ("P", "RGB") else (3, 4))


def test_a_transparent_colour_of_16_bits_becomes_alpha() -> None:
    buffer = io.BytesIO()
    writer = png.Writer(2, 2, greyscale=False, bitdepth=16, transparent=(1, 256, 3))
    writer.write(buffer, [[1, 256, 3, 5, 6, 7], [1, 0, 3, 1, 256, 4]])
    picture = as_picture(opened(buffer.getvalue()))
    assert picture.samples.tolist() == [[[1, 256, 3], [5, 6, 7]], [[1, 0, 3], [1, 256, 4]]]
    assert picture.array[:, :, 3].tolist() == [[0, 65535], [65535, 65535]]


def test_the_alpha_of_a_palette_is_kept() -> None:
    image = Image.new("P", (3, 2), 1)
    image.putpalette([0, 0, 0, 255, 10, 20, 30, 128], "RGBA")
    assert (as_picture(image).array == [10, 20, 30, 128]).all()


# -- 16 bits -----------------------------------------------------------------


def deep_png(array: Samples) -> bytes:
    buffer, channels = io.BytesIO(), 1 if array.ndim == 2 else array.shape[2]
    writer = png.Writer(
        array.shape[1],
        array.shape[0],
        bitdepth=16,
        greyscale=channels < 3,
        alpha=channels in (2, 4),
        interlace=channels == 4,
    )
    writer.write_array(buffer, array.ravel().tolist())
    return buffer.getvalue()


def deep_ppm(array: Samples) -> bytes:
    kind = b"P5" if array.ndim == 2 else b"P6"
    size = f" {array.shape[1]} {array.shape[0]} 65535\n".encode()
    return kind + size + array.astype(">u2").tobytes()


def deep_tiff(array: Samples, **options: Any) -> bytes:
    tifffile = pytest.importorskip("tifffile")  # comes with scikit-image
    buffer = io.BytesIO()
    options.setdefault("photometric", "minisblack" if array.ndim == 2 else "rgb")
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("make", "array"),
    [
        (deep_png, DEEP),
        (deep_png, DEEP[:, :, 0]),
        (deep_png, DEEP[:, :, :2]),
        (deep_png, DEEP_RGBA),
        (deep_ppm, DEEP),
        (deep_ppm, DEEP[:, :, 0]),
        (deep_tiff, DEEP),
        (deep_tiff, DEEP[:, :, 0]),
        (lambda a: deep_tiff(a, extrasamples=["unassalpha"]), DEEP_RGBA),
        (lambda a: deep_tiff(a, byteorder=">"), DEEP),
        (lambda a: deep_tiff(a, byteorder=">"), DEEP[:, :, 1]),
        (lambda a: deep_tiff(a, rowsperstrip=5), DEEP),
        (lambda a: deep_tiff(a, compression="zlib", rowsperstrip=4), DEEP),
        (lambda a: deep_tiff(a, compression="zlib", byteorder=">"), DEEP),
    ],
)
def test_all_16_bits_are_kept(make: Callable[[Samples], bytes], array: Samples) -> None:
    image = opened(make(array))
    for _ in range(2):  # the image can be read again
        picture = as_picture(image)
        assert picture.samples.dtype == np.uint16
        assert np.array_equal(picture.array, array)


def test_16_bit_images_survive_a_round_trip_through_files(codec: Codec, tmp_path: Path) -> None:
    smooth16 = sixteen_bits(smooth(20, 30))
    for array in (
        smooth16,
        smooth16[:, :, 0],
        smooth16[:, :, :2],
        np.dstack([smooth16] * 2)[:, :, :4],
    ):
        path = tmp_path / "deep.png"
        path.write_bytes(deep_png(array))
        data = codec.encode(read_picture(path), quality=100)
        assert caezip.info(data).pixel_format in ("gray16", "rgb16")
        decoded = codec.decode_picture(data)
        assert np.abs(decoded.samples.astype(int) - as_picture(array).samples).mean() < 2 * 257
        path.write_bytes(encode_image(decoded, ".png"))
        assert np.array_equal(read_picture(path).array, decoded.array)


def test_the_right_page_of_16_bits_is_read() -> None:
    data = deep_tiff(np.stack([DEEP, DEEP[::-1]]))
    for number, page in ((1, DEEP), (2, DEEP[::-1])):
        assert np.array_equal(read_picture(io.BytesIO(data), frame=number).samples, page)


def test_16_bits_are_rounded_only_for_those_who_ask_for_8(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    path.write_bytes(deep_png(DEEP))
    assert np.array_equal(read_rgb(path), np.rint(DEEP / 257).astype(np.uint8))
    with pytest.raises(ImageError, match="image dtype: found uint16, allowed is uint8"):
        as_pixels(opened(deep_png(DEEP)))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: deep_tiff(np.moveaxis(DEEP, 2, 0), planarconfig="separate"), r"\(raw, R\)"),
        (lambda: deep_tiff(DEEP_RGBA, extrasamples=["assocalpha"]), r"\(raw, RGBa;16"),
        (lambda: b"P6 2 1 4095\n" + bytes(12), r"\(ppm, RGB\)"),
        (lambda: b"P3 2 1 65535\n1 2 3 4 5 6\n", r"\(ppm_plain, RGB\)"),
    ],
)
def test_arrangements_of_16_bits_that_cannot_be_read_are_refused(
    make: Callable[[], bytes], reason: str
) -> None:
    with pytest.raises(ImageError, match=rf"more than 8 bits, arranged in .* not read {reason}"):
        as_picture(opened(make()))


# -- CMYK --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_goes_through_its_profile(kind: str) -> None:
    image = Image.new("CMYK", (24, 16))  # no ink is white
    image.paste((0, 0, 0, 255), (0, 0, 8, 16))
    image.paste((255, 255, 255, 0), (8, 0, 16, 16))
    exif = Image.Exif()
    exif[ORIENTATION], exif[271] = 6, "maker"
    options = {"icc_profile": cmyk_profile(), "exif": exif.tobytes()}
    picture = as_picture(opened(file_of(image, kind, **options)))
    assert picture.samples.shape == (24, 16, 3)  # upright
    levels = picture.samples.astype(int)
    assert np.abs(levels[17:] - 255).max() <= 3
    assert levels[:15].max() <= 3
    assert picture.metadata.icc_profile is None  # it described the inks
    assert picture.metadata.exif is not None
    assert b"maker" in picture.metadata.exif


def test_cmyk_without_a_usable_profile_is_refused() -> None:
    image = Image.new("CMYK", (4, 3))
    with pytest.raises(ImageError, match=r"image mode CMYK: it has no ICC profile that says"):
        as_picture(image)
    for profile in (b"no profile", srgb_profile()):
        image.info["icc_profile"] = profile
        with pytest.raises(ImageError, match=r"image mode CMYK: its ICC profile cannot be used"):
            as_picture(image)


# -- what is refused ---------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("RGBa", "its alpha is multiplied into its colours"),
        ("La", "its alpha is multiplied into its levels"),
        ("YCbCr", "its colours are YCbCr samples, not RGB"),
        ("LAB", "its colours are CIELAB"),
        ("HSV", "its colours are HSV"),
        ("I", "its samples have 32 bits"),
        ("F", "its samples are floating-point numbers"),
        ("RGBX", "its kind of samples is not known"),
    ],
)
def test_modes_that_would_lose_something_are_refused_with_the_reason(
    mode: str, reason: str
) -> None:
    with pytest.raises(
        ImageError, match=f"image mode {mode}: {reason}; allowed are gray and RGB of 8 or 16 bits"
    ):
        caezip.encode(Image.new(mode, (4, 3)))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Picture(np.zeros((4, 3), np.float32)), "image dtype: found float32"),
        (Picture(np.zeros((4, 3, 4), np.uint8)), "image: found alpha among the samples"),
        (
            Picture(np.zeros((4, 3, 3), np.uint8), np.zeros((3, 4), np.uint8)),
            r"alpha: found uint8 \[3, 4\], allowed is uint8 \[4, 3\]",
        ),
        (
            Picture(np.zeros((4, 3, 3), np.uint8), np.zeros((4, 3), np.uint16)),
            r"alpha: found uint16 \[4, 3\], allowed is uint8 \[4, 3\]",
        ),
        (Picture([[1]]), "image: found list"),  # type: ignore[arg-type]
    ],
)
def test_pictures_that_do_not_fit_together_are_refused(picture: Picture, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        caezip.encode(picture)


def test_an_image_object_whose_file_is_cut_short_is_an_image_error(codec: Codec) -> None:
    for data in (
        file_of(Image.fromarray(noise(64, 64)), "JPEG"),
        deep_png(sixteen_bits(noise(40, 40))),
    ):
        with pytest.raises(ImageError, match="cannot be read as an image"):
            codec.encode(opened(data[: len(data) // 2]))


# -- frames ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_a_frame_has_to_be_chosen_if_there_are_several(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = file_of(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    for take in (as_picture, as_pixels, caezip.encode):
        with pytest.raises(ImageError, match="found 3 frames, allowed is one; --frame N takes one"):
            take(opened(data))
    for number, frame in enumerate(frames, 1):
        found = read_picture(io.BytesIO(data), frame=number)
        assert np.array_equal(found.samples, np.array(frame))
    for number in (0, 4, -1):
        with pytest.raises(ImageError, match=f"frame: found {number}, allowed are 1 to 3"):
            read_picture(io.BytesIO(data), frame=number)
    image = opened(data)
    image.seek(1)
    assert np.array_equal(as_pixels(image.copy().convert("RGB")), np.array(frames[1]))
    single = file_of(frames[0], kind, **options)
    assert as_pixels(opened(single)).shape == (8, 8, 3)
    assert read_picture(io.BytesIO(single), frame=1).samples.shape == (8, 8, 3)


def test_a_phones_photo_with_further_pictures_in_it_is_its_first_picture() -> None:
    photo, preview = Image.fromarray(smooth(32, 40)), Image.new("RGB", (40, 32))
    image = opened(file_of(photo, "MPO", save_all=True, append_images=[preview]))
    assert (image.format, getattr(image, "n_frames", 1)) == ("MPO", 2)
    assert np.abs(as_pixels(image).astype(int) - np.array(photo)).mean() < 4
    second = opened(file_of(photo, "MPO", save_all=True, append_images=[preview]))
    assert as_picture(second, frame=2).samples.max() < 4


# -- orientation -------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(codec: Codec, orientation: int) -> None:
    stored = photo_like(20, 36)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = opened(file_of(Image.fromarray(stored), "PNG", exif=exif))
    upright = np.array(UPRIGHT[orientation](stored))
    assert np.array_equal(as_pixels(image), upright)
    data = codec.encode(image, strip=True)
    assert data == codec.encode(upright)
    assert codec.decode(data).shape == upright.shape


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("array", [DEEP[:, :, 0], DEEP[:, :, :2], DEEP, DEEP_RGBA])
def test_images_of_16_bits_are_turned_upright_too(array: Samples, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    metadata = Metadata(exif=exif.tobytes().removeprefix(b"Exif\0\0"))
    picture = as_picture(array)
    data = encode_image(Picture(picture.samples, picture.alpha, metadata), ".png")
    assert np.array_equal(as_picture(opened(data)).array, UPRIGHT[orientation](array))


def test_a_sideways_gray_image_stays_gray() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    gray: Pixels = gray_of(noise(4, 9))
    image = opened(file_of(Image.fromarray(gray), "PNG", exif=exif))
    assert np.array_equal(as_pixels(image), np.rot90(gray, -1))
