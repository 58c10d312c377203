"""Pixels in and out: image files, PIL images and arrays to uint8 arrays and back."""

from __future__ import annotations

import io
import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from caezip.errors import CorruptError, ImageError, OutputError

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
IMAGE_KINDS = " ".join(sorted(IMAGE_SUFFIXES))
MAX_SIDE = 32768  # pixels; the format's own limit is 65,535

# what each PIL mode becomes; modes that would lose something are refused instead
_CONVERSIONS = {"1": "L", "L": "L", "RGB": "RGB"}
_REFUSALS = {
    "RGBA": "it has an alpha channel",
    "LA": "it has an alpha channel",
    "PA": "it has an alpha channel",
    "RGBa": "it has an alpha channel",
    "La": "it has an alpha channel",
    "CMYK": "its colours are CMYK",
    "YCbCr": "its colours are YCbCr samples, not RGB",
    "LAB": "its colours are CIELAB",
    "HSV": "its colours are HSV",
}


def check_pixels(array: object) -> Pixels:
    """The array itself if it is uint8 ``[H, W]`` or ``[H, W, 3]`` with 1…32,768 a side.

    Raises ImageError otherwise.
    """
    if not isinstance(array, np.ndarray):
        raise ImageError(
            f"image: found {type(array).__name__}, allowed are a PIL image and a numpy array"
        )
    if array.dtype != np.uint8:
        raise ImageError(f"image dtype: found {array.dtype}, allowed is uint8 (0…255)")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        shape = list(array.shape)
        raise ImageError(f"image shape: found {shape}, allowed are [H, W] and [H, W, 3]")
    height, width = array.shape[:2]
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ImageError(
            f"image size: found {width}x{height}, allowed are 1 to {MAX_SIDE} pixels a side"
        )
    return array


def as_pixels(image: Image | Pixels) -> Pixels:
    """uint8 ``[H, W]`` or ``[H, W, 3]`` of a PIL image or an array. Raises ImageError."""
    from PIL.Image import Image as PilImage

    return pixels_of_image(image) if isinstance(image, PilImage) else check_pixels(image)


def pixels_of_image(image: Image) -> Pixels:
    """Pixels of a PIL image: ``[H, W]`` if it is gray, else ``[H, W, 3]``.

    EXIF orientation is applied. A palette without transparency becomes RGB.
    Raises ImageError for what cannot be kept: alpha, CMYK, 16 bits, animation.
    """
    from PIL import ImageOps

    # further pictures of an MPO are a phone's previews and depth maps, not frames
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise ImageError(f"image: found {getattr(image, 'n_frames', 0)} frames, allowed is one")
    if not (1 <= image.width <= MAX_SIDE and 1 <= image.height <= MAX_SIDE):
        raise ImageError(
            f"image size: found {image.width}x{image.height}, "
            f"allowed are 1 to {MAX_SIDE} pixels a side"
        )
    target = _CONVERSIONS.get(image.mode)
    if image.mode == "P":
        target = "RGB"
    palette_mode = image.palette.mode if image.palette is not None else "RGB"
    if "transparency" in image.info or palette_mode == "RGBA":
        raise ImageError(
            f"image mode {image.mode}: it has transparency, which is not yet supported"
        )
    if target is None:
        reason = _REFUSALS.get(image.mode, "its samples have more than 8 bits")
        raise ImageError(
            f"image mode {image.mode}: {reason}, which is not yet supported; "
            "allowed are 8-bit gray, RGB, palette and 1-bit images"
        )
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode != target:
            upright = upright.convert(target)
        pixels = np.array(upright, dtype=np.uint8)
    except Exception as error:  # files are read here, and Pillow's plug-ins raise anything
        raise ImageError(f"cannot be read as an image: {error}") from error
    return check_pixels(pixels)


def read_image(source: Path | BinaryIO) -> Pixels:
    """Pixels of an image file: ``[H, W]`` or ``[H, W, 3]`` uint8.

    Raises ImageError if it is missing, not an image, damaged or unsupported.
    """
    from PIL import Image, UnidentifiedImageError

    name = str(source) if isinstance(source, Path) else "standard input"
    try:
        with warnings.catch_warnings():
            # what matters is raised; Pillow's remarks would only stand beside the error
            warnings.simplefilter("ignore", UserWarning)
            with Image.open(source) as image:
                return pixels_of_image(image)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not an image in a format that Pillow reads") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name}: {error}") from None
    except Exception as error:  # on damaged files Pillow's plug-ins raise anything
        raise ImageError(f"{name}: cannot be read as an image: {error}") from error


def read_rgb(source: Path) -> Pixels:
    """Like `read_image`, but gray images become ``[H, W, 3]`` too."""
    return as_rgb(read_image(source))


def image_files(folder: Path, *, recursive: bool) -> list[Path]:
    """Files in ``folder`` whose name ends like an image's, sorted; hidden ones are left out.

    Raises ImageError if the folder cannot be listed.
    """
    try:
        entries = sorted(folder.rglob("*") if recursive else folder.iterdir())
    except OSError as error:
        raise ImageError(f"{folder}: cannot be listed: {error.strerror or error}") from error
    return [
        path
        for path in entries
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]


def as_rgb(pixels: Pixels) -> Pixels:
    """``[H, W]`` repeated into ``[H, W, 3]``; RGB as it is."""
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def png_of_alpha(alpha: NDArray[Any]) -> bytes:
    """A PNG of an alpha channel ``[H, W]``, uint8 or uint16."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(alpha).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def alpha_of_png(data: bytes, width: int, height: int, dtype: Any) -> NDArray[Any]:
    """The alpha channel in a PNG. Raises CorruptError unless it has this size and type."""
    from PIL import Image

    mode = "L" if np.dtype(dtype).itemsize == 1 else "I;16"
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if (image.mode, image.width, image.height) != (mode, width, height):
                raise CorruptError(
                    f"ALPHA section: found {image.mode} {image.width}x{image.height}, "
                    f"allowed is {mode} {width}x{height}"
                )
            return np.array(image, dtype)
    except CorruptError:
        raise
    except Exception as error:  # on damaged files Pillow raises anything
        raise CorruptError(f"ALPHA section: not a PNG that can be read: {error}") from error


def encode_png(pixels: Pixels) -> bytes:
    """The pixels as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def encode_image(pixels: Pixels, suffix: str) -> bytes:
    """The pixels as an image file of the kind that ``suffix`` (".png", ".ppm" …) names.

    Raises OutputError if Pillow cannot write that kind.
    """
    from PIL import Image

    if suffix.lower() in (".png", ""):
        return encode_png(pixels)
    kind = Image.registered_extensions().get(suffix.lower())
    if kind is None or kind not in Image.SAVE:
        raise OutputError(f"output type {suffix}: not one that Pillow writes; try .png")
    buffer = io.BytesIO()
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    try:
        Image.fromarray(pixels).save(buffer, format=kind, **options)
    except (OSError, ValueError, KeyError) as error:
        raise OutputError(f"output type {suffix}: {error}; try .png") from error
    return buffer.getvalue()


def write_atomically(target: Path, data: bytes, *, force: bool) -> None:
    """Write ``data`` so that ``target`` is either the whole of it or what it was before.

    Raises OutputError if the target exists (without ``force``) or cannot be written.
    """
    if target.is_dir():
        raise OutputError(f"{target}: is a folder")
    if target.exists() and not force:
        raise OutputError(f"{target}: exists already; --force overwrites it")
    temporary: str | None = None
    try:
        target = target.resolve()  # a link stays a link
        if target.exists() and not target.is_file():
            target.write_bytes(data)  # a device or pipe takes bytes and must stay what it is
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes it private
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
