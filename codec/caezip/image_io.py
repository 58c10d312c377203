"""Pixels in and out: image files, PIL images and arrays to uint8 arrays and back."""

from __future__ import annotations

import io
import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from caezip.container import Metadata
from caezip.errors import CorruptError, ImageError, OutputError
from caezip.picture import Picture, as_picture

if TYPE_CHECKING:
    from PIL.Image import Exif, Image

Pixels = NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
IMAGE_KINDS = " ".join(sorted(IMAGE_SUFFIXES))
PNG_HEADER_BYTES = 33  # signature and IHDR; other chunks may follow
PNG_BITS_OFFSET = 24  # bits a sample, in IHDR
KINDS_WITH_ALPHA = frozenset({"PNG", "WEBP", "TIFF", "AVIF", "JPEG2000", "TGA"})
KINDS_WITH_SIXTEEN_BIT_GRAY = frozenset({"PNG", "TIFF", "JPEG2000", "PPM"})
TIFF_XMP_TAG = 700


def as_pixels(image: Image | Pixels | Picture) -> Pixels:
    """uint8 ``[H, W]`` or ``[H, W, 3]`` of a PIL image or an array, for those who know no more.

    Raises ImageError for anything else, 16 bits and alpha included.
    """
    picture = as_picture(image)
    if picture.alpha is not None:
        raise ImageError("image: it has an alpha channel, which is not allowed here")
    if picture.samples.dtype != np.uint8:
        raise ImageError(f"image dtype: found {picture.samples.dtype}, allowed is uint8 (0…255)")
    return picture.samples


@contextmanager
def _pixel_limit(max_pixels: int | None) -> Iterator[None]:
    """Let Pillow open images of up to so many pixels; None: leave its limits as they are."""
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        if max_pixels is not None:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            Image.MAX_IMAGE_PIXELS = max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def read_picture(
    source: Path | BinaryIO, *, frame: int | None = None, max_pixels: int | None = None
) -> Picture:
    """An image file. ``frame`` counts from 1; files of several need it.

    Raises ImageError if it is missing, not an image, damaged or unsupported, or has more
    than ``max_pixels`` (None: Pillow's limits, which warn first).
    """
    from PIL import Image, UnidentifiedImageError

    name = str(source) if isinstance(source, Path) else "standard input"
    try:
        # what matters is raised; Pillow's remarks would only stand beside the error
        with _pixel_limit(max_pixels), Image.open(source) as image:
            return as_picture(image, frame=frame)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not an image in a format that Pillow reads") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name}: {error} A higher max_pixels allows it") from None
    except Exception as error:  # on damaged files Pillow's plug-ins raise anything
        raise ImageError(f"{name}: cannot be read as an image: {error}") from error


def read_rgb(source: Path) -> Pixels:
    """An image file as uint8 RGB ``[H, W, 3]``; 16 bits are rounded. Raises ImageError."""
    picture = read_picture(source)
    samples = picture.samples
    if samples.dtype == np.uint16:
        samples = np.rint(samples / 257).astype(np.uint8)
    try:
        return as_rgb(as_pixels(Picture(samples, picture.alpha)))
    except ImageError as error:
        raise ImageError(f"{source}: {error}") from None


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
    """The alpha channel in a PNG. Raises CorruptError unless it has this size and type.

    Both are compared before a pixel is decoded: a forged PNG may claim any size.
    """
    from PIL.PngImagePlugin import PngImageFile

    # some versions of Pillow have a mode of 32 bits for PNGs of 16
    modes, bits = (("L",), 8) if np.dtype(dtype).itemsize == 1 else (("I;16", "I"), 16)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what matters is raised
            # `Image.open` has a limit of its own, which max_pixels could not lift
            with PngImageFile(io.BytesIO(data)) as image:
                found = image.width, image.height, data[PNG_BITS_OFFSET]
                if image.mode not in modes or found != (width, height, bits):
                    raise CorruptError(
                        f"ALPHA section: found {image.mode} {found[0]}x{found[1]} of {found[2]} "
                        f"bits, allowed is {modes[0]} {width}x{height} of {bits} bits"
                    )
                return np.array(image, dtype)
    except CorruptError:
        raise
    except Exception as error:  # on damaged files Pillow raises anything
        raise CorruptError("ALPHA section: not a PNG that can be read") from error


def encode_png(pixels: Pixels) -> bytes:
    """The pixels as a PNG file."""
    return encode_image(Picture(pixels), ".png")


def encode_image(picture: Picture, suffix: str) -> bytes:
    """The picture as an image file of the kind that ``suffix`` (".png", ".jpg" …) names.

    With its metadata, as far as that kind has room for them. Raises OutputError if
    Pillow cannot write that kind, or if it would lose samples or alpha.
    """
    from PIL import Image

    suffix = suffix.lower() or ".png"
    # what is asked for most needs none of Pillow's other plug-ins, which take a while to import
    kind = "PNG" if suffix == ".png" else Image.registered_extensions().get(suffix)
    if kind is None or (kind != "PNG" and kind not in Image.SAVE):
        raise OutputError(f"output type {suffix}: not one that Pillow writes; try .png")
    array, metadata = picture.array, picture.metadata
    deep_kinds = KINDS_WITH_SIXTEEN_BIT_GRAY if array.ndim == 2 else {"PNG"}
    if array.dtype == np.uint16 and kind not in deep_kinds:
        raise OutputError(f"output type {suffix}: cannot hold 16-bit samples; try .png")
    if picture.alpha is not None and kind not in KINDS_WITH_ALPHA:
        raise OutputError(f"output type {suffix}: has no alpha channel; try .png")
    if kind == "PNG":
        return _png(array, metadata)
    if kind == "PPM" and array.dtype == np.uint8:  # Pillow would have three more copies
        height, width = array.shape[:2]
        header = f"P{6 if array.ndim == 3 else 5}\n{width} {height}\n255\n"
        return b"".join([header.encode(), np.ascontiguousarray(array).data])
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    if metadata.icc_profile is not None:
        options["icc_profile"] = metadata.icc_profile
    if metadata.exif is not None:
        options["exif"] = b"Exif\0\0" + metadata.exif
    if metadata.xmp is not None:
        options["xmp"] = metadata.xmp
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what matters is raised
            if kind == "TIFF" and metadata.xmp is not None:
                options["exif"] = _tags_with_xmp(metadata)
            Image.fromarray(array).save(buffer, format=kind, **options)
    except Exception as error:  # on metadata that are none Pillow's plug-ins raise anything
        raise OutputError(f"output type {suffix}: {error}; try .png") from error
    return buffer.getvalue()


def _tags_with_xmp(metadata: Metadata) -> Exif:
    """A TIFF file's tags: Pillow does not write XMP otherwise."""
    from PIL.Image import Exif

    tags = Exif()
    tags.load(b"Exif\0\0" + metadata.exif if metadata.exif is not None else b"")
    tags[TIFF_XMP_TAG] = metadata.xmp
    return tags


def _png(array: NDArray[Any], metadata: Metadata) -> bytes:
    """A PNG; Pillow writes neither 16-bit colours nor XMP."""
    buffer = io.BytesIO()
    if array.dtype == np.uint16 and array.ndim == 3:
        import png

        height, width, channels = array.shape
        writer = png.Writer(
            width, height, greyscale=channels == 2, alpha=channels != 3, bitdepth=16, compression=1
        )
        writer.write_packed(buffer, (row.tobytes() for row in array.astype(">u2")))
    else:
        from PIL import Image

        Image.fromarray(array).save(buffer, "PNG", compress_level=1)
    chunks = _png_chunks(metadata)
    if not chunks:
        return buffer.getvalue()
    data = buffer.getbuffer()  # no copy: pictures may be large
    return b"".join([data[:PNG_HEADER_BYTES], chunks, data[PNG_HEADER_BYTES:]])


def _png_chunks(metadata: Metadata) -> bytes:
    if metadata == Metadata():
        return b""
    import png

    chunks = io.BytesIO()
    if metadata.icc_profile is not None:
        png.write_chunk(chunks, b"iCCP", b"icc\0\0" + zlib.compress(metadata.icc_profile))
    if metadata.exif is not None:
        png.write_chunk(chunks, b"eXIf", metadata.exif)
    if metadata.xmp is not None:
        png.write_chunk(chunks, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp)
    return chunks.getvalue()


def write_atomically(target: Path, data: bytes, *, force: bool) -> None:
    """Write ``data`` so that ``target`` is either the whole of it or what it was before.

    Raises OutputError if the target exists (without ``force``) or cannot be written.
    """
    if target.is_dir():
        raise OutputError(f"{target}: is a folder")
    if target.exists() and not force:
        raise OutputError(f"{target}: exists already; --force overwrites it")
    temporary: Path | None = None
    try:
        target = target.resolve()  # a link stays a link
        if target.exists() and not target.is_file():
            target.write_bytes(data)  # a device or pipe takes bytes and must stay what it is
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        # named before it is there: a process may be told to end as soon as it is
        temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
        try:
            file = temporary.open("xb")
        except FileExistsError:
            temporary = None  # somebody else's
            raise
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
