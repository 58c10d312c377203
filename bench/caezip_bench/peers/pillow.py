"""The codecs that come with Pillow's wheels, and JPEG XL by the pillow-jxl-plugin package."""

from __future__ import annotations

import importlib
import io
from abc import abstractmethod
from importlib import metadata
from typing import Any

import numpy as np

from caezip.errors import MissingDependencyError
from caezip.image_io import Pixels
from caezip_bench.peers.base import Peer, required_quality, several_threads

# below 15 little more than the blocks' means is left: nobody uses that, yet it would decide
# the BD-rates of all others; above 95 files grow with hardly any gain
JPEG_QUALITIES = (15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 85.0, 90.0, 95.0)
WEBP_QUALITIES = (1.0, 5.0, 10.0, *JPEG_QUALITIES[1:])  # its lowest end is better than JPEG's
# 0 gives the same file as 1; above 90, where encoding is slowest, JPEG has nothing to compare
AVIF_QUALITIES = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0)
JXL_QUALITIES = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0)
JPEG2000_BPP = (0.1, 0.15, 0.2, 0.3, 0.45, 0.65, 0.9, 1.2, 1.6, 2.0, 2.5)
SAMPLE_BITS = 24  # of a pixel


class PillowPeer(Peer):
    """Base of the codecs that Pillow brings: a format name and its save options."""

    pillow_format: str

    @abstractmethod
    def save_options(self, quality: float | None) -> dict[str, Any]:
        """Keyword arguments for ``PIL.Image.Image.save``."""

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        from PIL import Image

        buffer = io.BytesIO()
        options = self.save_options(quality)
        Image.fromarray(pixels).save(buffer, format=self.pillow_format, **options)
        return buffer.getvalue()

    def decode(self, data: bytes) -> Pixels:
        from PIL import Image

        with Image.open(io.BytesIO(data), formats=[self.pillow_format]) as image:
            return np.array(image.convert("RGB"), dtype=np.uint8)


class JpegPeer(PillowPeer):
    """JPEG by libjpeg-turbo as small as it gets: optimised Huffman tables, progressive."""

    suffix = ".jpg"
    pillow_format = "JPEG"
    qualities: tuple[float | None, ...] = JPEG_QUALITIES

    def __init__(self, name: str, subsampling: str):
        self.name = name
        self._subsampling = subsampling
        self.settings = f"Pillow, {subsampling}, optimize, progressive"

    def save_options(self, quality: float | None) -> dict[str, Any]:
        return {
            "quality": round(required_quality(quality)),
            "subsampling": self._subsampling,
            "optimize": True,
            "progressive": True,
        }


class PngPeer(PillowPeer):
    """PNG by zlib at its best compression: the lossless mark."""

    name = "png"
    suffix = ".png"
    pillow_format = "PNG"
    settings = "Pillow, optimize"
    qualities = (None,)
    lossless = True

    def save_options(self, quality: float | None) -> dict[str, Any]:
        return {"optimize": True}


class WebpPeer(PillowPeer):
    """Lossy WebP by libwebp at its slowest, best method."""

    name = "webp"
    suffix = ".webp"
    pillow_format = "WEBP"
    settings = "Pillow, lossy, method 6"
    qualities = WEBP_QUALITIES

    def save_options(self, quality: float | None) -> dict[str, Any]:
        return {"quality": round(required_quality(quality)), "method": 6}


class AvifPeer(PillowPeer):
    """AVIF by libavif and libaom; ``speed`` is 0 (best and slowest) to 10.

    As Pillow saves it by default: libavif cuts an image into tiles of about 512×512
    pixels, at most 8 and whatever the number of threads, and threads are several (see
    `several_threads`). ``one_tile`` is AVIF at its smallest instead: in one tile, since
    nothing is predicted across their borders, and in one thread.

    Raises MissingDependencyError if Pillow comes without AVIF.
    """

    suffix = ".avif"
    pillow_format = "AVIF"
    qualities: tuple[float | None, ...] = AVIF_QUALITIES

    def __init__(
        self,
        name: str,
        subsampling: str,
        speed: int,
        *,
        one_tile: bool = False,
        threads: int | None = None,
    ):
        version = avif_version()
        if version is None:
            raise MissingDependencyError(
                f"{name}: this Pillow cannot write AVIF, the wheels from 11.3 on can: "
                "pip install 'pillow>=11.3'"
            )
        self.name = name
        self._subsampling = subsampling
        self._speed = speed
        self._one_tile = one_tile
        self._threads = 1 if one_tile else several_threads(threads)
        tiles = "one tile, one thread" if one_tile else "automatic tiles, several threads"
        self.settings = f"Pillow (libavif {version}), {subsampling}, speed {speed}, {tiles}"

    def save_options(self, quality: float | None) -> dict[str, Any]:
        return {
            "quality": round(required_quality(quality)),
            "subsampling": self._subsampling,
            "speed": self._speed,
            "autotiling": not self._one_tile,
            "max_threads": self._threads,
        }


def avif_version() -> str | None:
    """libavif's version, None if Pillow comes without it."""
    from PIL import features

    # features.check("avif") warns in a Pillow that has not heard of AVIF
    return features.version_module("avif") if "avif" in features.modules else None


class Jpeg2000Peer(PillowPeer):
    """JPEG 2000 by OpenJPEG: the 9/7 wavelet on luma and chroma, one quality layer, one tile.

    Its quality is the bpp that the encoder aims at. Raises MissingDependencyError if
    Pillow comes without OpenJPEG.
    """

    name = "jpeg2000"
    suffix = ".jp2"
    pillow_format = "JPEG2000"
    qualities = JPEG2000_BPP

    def __init__(self) -> None:
        from PIL import features

        version = features.version("jpg_2000")
        if version is None:
            raise MissingDependencyError(
                f"{self.name}: this Pillow cannot write JPEG 2000, its wheels can: "
                "pip install --force-reinstall pillow"
            )
        self.settings = f"Pillow (OpenJPEG {version}), 9/7 wavelet, quality is the target bpp"

    def save_options(self, quality: float | None) -> dict[str, Any]:
        return {
            "quality_mode": "rates",  # of compression
            "quality_layers": [SAMPLE_BITS / required_quality(quality)],
            "irreversible": True,
            "mct": 1,
        }


class JxlPeer(PillowPeer):
    """Lossy JPEG XL by libjxl; ``effort`` is 1 (fastest) to 9.

    Raises MissingDependencyError if there is no pillow-jxl-plugin.
    """

    suffix = ".jxl"
    pillow_format = "JXL"
    qualities: tuple[float | None, ...] = JXL_QUALITIES

    def __init__(self, name: str, effort: int):
        try:
            version = metadata.version("pillow-jxl-plugin")
        except metadata.PackageNotFoundError:
            raise MissingDependencyError(
                f"{name}: JPEG XL needs a plugin of Pillow's: pip install pillow-jxl-plugin"
            ) from None
        self.name = name
        self._effort = effort
        self.settings = f"pillow-jxl-plugin {version}, lossy, effort {effort}"

    def save_options(self, quality: float | None) -> dict[str, Any]:
        return {"quality": required_quality(quality), "effort": self._effort}

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        _register_jxl()
        return super().encode(pixels, quality)

    def decode(self, data: bytes) -> Pixels:
        _register_jxl()
        return super().decode(data)


def _register_jxl() -> None:
    """Lets Pillow know JPEG XL, from then on everywhere in this process."""
    importlib.import_module("pillow_jxl")
