"""What a file keeps of an image: samples, alpha, and metadata. Arrays and PIL images to it."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caezip.container import Metadata
from caezip.errors import ImageError
from caezip.sixteen_bits import has_sixteen_bits, read_sixteen_bits, refuse_cut_samples

if TYPE_CHECKING:
    from PIL.Image import Exif, Image

Samples = NDArray[Any]  # uint8 or uint16
MAX_SIDE = 32768  # pixels; the format's own limit is 65,535
STRIP_ROWS = 256  # pixels that are converted at a time

# what each PIL mode is converted to; the second entry has alpha
_MODES = {"1": "L", "L": "L", "RGB": "RGB", "LA": "LA", "RGBA": "RGBA", "PA": "RGBA"}
# TIFF tags that say something about the picture: EXIF and GPS directories, description,
# maker, model, software, date, artist, copyright, and Windows' title to subject
_DIRECTORY_TAGS = frozenset({34665, 34853})
_DESCRIPTIVE_TAGS = _DIRECTORY_TAGS | {270, 271, 272, 305, 306, 315, 33432, *range(40091, 40096)}
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


def as_picture(image: Image | Samples | Picture, *, frame: int | None = None) -> Picture:
    """A PIL image, an array or a picture as a picture. Raises ImageError for what cannot be kept.

    ``frame`` counts from 1; PIL images of several need it.
    """
    from PIL.Image import Image as PilImage

    if isinstance(image, Picture):
        return _checked(image)
    if isinstance(image, PilImage):
        _take_frame(image, frame)
        return _of_pil(image)
    return _of_array(image)


def _checked(picture: Picture) -> Picture:
    samples, alpha = _of_array(picture.samples), picture.alpha
    if samples.alpha is not None:
        raise ImageError("image: found alpha among the samples, its place is Picture.alpha")
    if alpha is not None:
        found = f"{getattr(alpha, 'dtype', type(alpha).__name__)} {list(np.shape(alpha))}"
        allowed = f"{picture.samples.dtype} {list(picture.samples.shape[:2])}"
        if found != allowed:
            raise ImageError(f"alpha: found {found}, allowed is {allowed}")
    return picture


def _take_frame(image: Image, frame: int | None) -> None:
    frames = getattr(image, "n_frames", 1)
    # further pictures of an MPO are a phone's previews and depth maps, not frames
    if frame is None and frames > 1 and image.format != "MPO":
        raise ImageError(
            f"image: found {frames} frames, allowed is one; --frame N takes one, "
            "and so does a copy of a PIL image"
        )
    if frame is not None:
        if not 1 <= frame <= frames:
            raise ImageError(f"frame: found {frame}, allowed are 1 to {frames}")
        image.seek(frame - 1)


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
    from PIL.ExifTags import Base

    _check_size(image.width, image.height)
    try:
        refuse_cut_samples(image)
        if has_sixteen_bits(image):
            array, upright = read_sixteen_bits(image)
        else:
            turned = image.getexif().get(Base.Orientation, 1) != 1
            upright = ImageOps.exif_transpose(image) if turned else image  # or it is a copy
            if upright.mode == "CMYK":
                upright = _cmyk_through_its_profile(upright)
            array = _samples(upright, _target_mode(upright))
        kept = _metadata(image, upright)
    except ImageError:
        raise
    except Exception as error:  # files are read here, and Pillow's plug-ins raise anything
        raise ImageError(f"cannot be read as an image: {error}") from error
    picture = _of_array(array)
    if picture.alpha is not None and (picture.alpha == np.iinfo(array.dtype).max).all():
        return Picture(picture.samples, None, kept)  # an alpha channel that says nothing
    return Picture(picture.samples, picture.alpha, kept)


def _samples(image: Image, mode: str) -> Samples:
    """All of an image in ``mode``. In strips: whole conversions would be two further copies."""
    channels = len(mode) if mode != "L" else 1
    out = np.empty((image.height, image.width, channels), np.uint8)
    for top in range(0, image.height, STRIP_ROWS):
        bottom = min(top + STRIP_ROWS, image.height)
        strip = image.crop((0, top, image.width, bottom)).convert(mode)
        out[top:bottom] = np.asarray(strip).reshape(bottom - top, image.width, channels)
    return out[:, :, 0] if channels == 1 else out


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


def _metadata(image: Image, upright: Image) -> Metadata:
    """What ``image``, a file's, says besides its samples; ``upright`` is a copy of it."""
    xmp = upright.info.get("xmp") or upright.info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode()
    return Metadata(
        icc_profile=upright.info.get("icc_profile") or None,
        exif=_exif(image, upright),
        xmp=xmp or None,
    )


def _exif(image: Image, upright: Image) -> bytes | None:
    """Byte for byte what the file has, if the image did not have to be turned."""
    tags, stored = upright.getexif(), upright.info.get("exif")
    if image.format == "TIFF":
        tags, stored = _descriptive(image.getexif()), None
    elif stored is None and "Raw profile type exif" not in upright.info:
        return None  # Pillow may have made tags of the XMP
    if not len(tags):
        return None
    data: bytes = stored if isinstance(stored, bytes) else tags.tobytes()
    return data.removeprefix(b"Exif\x00\x00")


def _descriptive(tags: Exif) -> Exif:
    """Of the tags of a TIFF file those that describe the picture and not the file."""
    from PIL.Image import Exif

    kept = Exif()
    for tag in _DESCRIPTIVE_TAGS & set(tags):
        kept[tag] = tags.get_ifd(tag) if tag in _DIRECTORY_TAGS else tags[tag]
    return kept


def _cmyk_through_its_profile(image: Image) -> Image:
    """CMYK as sRGB. Raises ImageError without a profile: nobody knows its inks' colours."""
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if not profile:
        raise ImageError(
            "image mode CMYK: it has no ICC profile that says what its colours are; "
            "convert it to RGB first"
        )
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (OSError, ImageCms.PyCMSError) as error:
        raise ImageError(f"image mode CMYK: its ICC profile cannot be used: {error}") from None
    if converted is None:
        raise ImageError("image mode CMYK: its ICC profile cannot be used")
    # all of what the file says, but the profile, which described the inks
    converted.info = {key: value for key, value in image.info.items() if key != "icc_profile"}
    return converted
