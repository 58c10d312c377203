"""What a file keeps of an image: samples, alpha, and metadata. Arrays and PIL images to it."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caezip.container import Metadata
from caezip.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

Samples = NDArray[Any]  # uint8 or uint16
MAX_SIDE = 32768  # pixels; the format's own limit is 65,535

# what each PIL mode is converted to; the second entry has alpha
_MODES = {"1": "L", "L": "L", "RGB": "RGB", "LA": "LA", "RGBA": "RGBA", "PA": "RGBA"}
_SIXTEEN_BIT_GRAY = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_REFUSALS = {
    "RGBa": "its alpha is multiplied into its colours",
    "La": "its alpha is multiplied into its levels",
    "YCbCr": "its colours are YCbCr samples, not RGB",
    "LAB": "its colours are CIELAB",
    "HSV": "its colours are HSV",
    "I": "its samples have 32 bits",
    "F": "its samples are floating-point numbers",
}


@dataclass(frozen=True)
class Picture:
    """An image as the codec takes it and gives it back.

    ``samples`` uint8 or uint16, ``[H, W]`` (gray) or ``[H, W, 3]`` (RGB); ``alpha``
    of the same type, ``[H, W]``, or None.
    """

    samples: Samples
    alpha: Samples | None = None
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def array(self) -> Samples:
        """``[H, W]``, ``[H, W, 2]`` (gray, alpha), ``[H, W, 3]`` or ``[H, W, 4]`` (RGBA)."""
        if self.alpha is None:
            return self.samples
        return np.dstack([self.samples, self.alpha])


def as_picture(image: Image | Samples | Picture) -> Picture:
    """A PIL image or an array as a picture. Raises ImageError for what cannot be kept."""
    from PIL.Image import Image as PilImage

    if isinstance(image, Picture):
        return image
    if isinstance(image, PilImage):
        return _of_pil(image)
    return _of_array(image)


def _of_array(array: object) -> Picture:
    if not isinstance(array, np.ndarray):
        raise ImageError(
            f"image: found {type(array).__name__}, allowed are a PIL image and a numpy array"
        )
    if array.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"image dtype: found {array.dtype}, allowed are uint8 and uint16")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (2, 3, 4)):
        raise ImageError(
            f"image shape: found {list(array.shape)}, allowed are [H, W] and "
            "[H, W, 2], [H, W, 3], [H, W, 4]"
        )
    height, width = array.shape[:2]
    _check_size(width, height)
    if array.ndim == 2 or array.shape[2] == 3:
        return Picture(array)
    colours = array[:, :, 0] if array.shape[2] == 2 else array[:, :, :3]
    return Picture(colours, array[:, :, -1])


def _check_size(width: int, height: int) -> None:
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ImageError(
            f"image size: found {width}x{height}, allowed are 1 to {MAX_SIDE} pixels a side"
        )


def _of_pil(image: Image) -> Picture:
    """EXIF orientation is applied, and removed from the EXIF data that are kept."""
    from PIL import ImageOps

    _check_size(image.width, image.height)
    try:
        if image.mode == "CMYK":
            image = _cmyk_through_its_profile(image)
        if _has_sixteen_bit_colours(image):
            return _sixteen_bit_colours(image)
        if image.mode in _SIXTEEN_BIT_GRAY:
            upright = ImageOps.exif_transpose(image)
            return Picture(np.asarray(upright).astype(np.uint16), None, _metadata(upright))
        upright = ImageOps.exif_transpose(image).convert(_target_mode(image))
        kept = _metadata(ImageOps.exif_transpose(image))
        array = np.array(upright, np.uint8)
    except ImageError:
        raise
    except Exception as error:  # files are read here, and Pillow's plug-ins raise anything
        raise ImageError(f"cannot be read as an image: {error}") from error
    picture = _of_array(array)
    if picture.alpha is not None and (picture.alpha == 255).all():
        return Picture(picture.samples, None, kept)  # an alpha channel that says nothing
    return Picture(picture.samples, picture.alpha, kept)


def _target_mode(image: Image) -> str:
    transparent = "transparency" in image.info
    if image.mode == "P":
        palette_mode = image.palette.mode if image.palette is not None else "RGB"
        return "RGBA" if transparent or palette_mode == "RGBA" else "RGB"
    target = _MODES.get(image.mode)
    if target is None:
        reason = _REFUSALS.get(image.mode, "its kind of samples is not known")
        raise ImageError(
            f"image mode {image.mode}: {reason}; allowed are gray and RGB of 8 or 16 bits, "
            "with or without alpha, palettes, and CMYK with a profile"
        )
    return {"L": "LA", "RGB": "RGBA"}[target] if transparent else target


def _metadata(image: Image) -> Metadata:
    exif = image.getexif()
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode()
    return Metadata(
        icc_profile=image.info.get("icc_profile") or None,
        exif=exif.tobytes().removeprefix(b"Exif\x00\x00") if len(exif) else None,
        xmp=xmp or None,
    )


def _cmyk_through_its_profile(image: Image) -> Image:
    """CMYK as sRGB. Raises ImageError without a profile: nobody knows its inks' colours."""
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if not profile:
        raise ImageError(
            "image mode CMYK: it has no ICC profile that says what its colours are; "
            "convert it to RGB first"
        )
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    if converted is None:
        raise ImageError("image mode CMYK: its ICC profile cannot be used")
    converted.info.pop("icc_profile", None)  # it described the inks
    return converted


def _has_sixteen_bit_colours(image: Image) -> bool:
    """Whether Pillow would silently drop the low bytes of 16-bit RGB samples."""
    tiles: list[Any] = getattr(image, "tile", [])
    return image.mode in ("RGB", "RGBA") and ";16" in "".join(str(tile[3]) for tile in tiles)


def _sixteen_bit_colours(image: Image) -> Picture:
    """16-bit RGB or RGBA, whose high and low bytes Pillow reads one after the other.

    Its unpackers keep the first byte of each sample for "16B" and the second
    for "16L".
    """
    from PIL import Image as PilImages
    from PIL import ImageOps

    stream = getattr(image, "fp", None)
    if stream is None or not stream.seekable():
        raise ImageError("image: its samples have 16 bits, and its file cannot be read twice")
    planes = []
    for order in ("16B", "16L"):
        stream.seek(0)
        with PilImages.open(io.BytesIO(stream.read())) as again:
            tile = again.tile[0]
            mode = str(tile[3]) if isinstance(tile[3], str) else str(tile[3][0])
            raw = mode.rsplit(";", 1)[0] + ";" + order
            again.tile = [(*tile[:3], raw if isinstance(tile[3], str) else (raw, *tile[3][1:]))]
            upright = ImageOps.exif_transpose(again)
            planes.append(np.asarray(upright).astype(np.uint16))
            metadata = _metadata(upright)
    array = planes[0] << 8 | planes[1]
    picture = _of_array(array)
    return Picture(picture.samples, picture.alpha, metadata)
