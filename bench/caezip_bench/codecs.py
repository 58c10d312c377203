"""The codecs that are compared: each is one small class, registered in `PEERS`."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caezip.errors import ParameterError
from caezip.image_io import Pixels
from caezip.pretrained import find_model

if TYPE_CHECKING:
    from caezip import Codec

MIN_CAEZIP_QUALITY = 1.0
MAX_CAEZIP_QUALITY = 100.0
CAEZIP_QUALITIES = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0)
# above 95 libjpeg's files grow with hardly any gain
JPEG_QUALITIES = (5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 85.0, 90.0, 95.0)
WEBP_QUALITIES = (1.0, *JPEG_QUALITIES)  # its lowest end is better than JPEG's


@dataclass(frozen=True)
class PeerOptions:
    """What the command line says about codecs: caezip's qualities (1…100) and CPU threads."""

    caezip_qualities: tuple[float, ...] = CAEZIP_QUALITIES
    threads: int | None = None
    weights_folder: Path | None = None  # None: the installed ones


class Peer(ABC):
    """One codec with its settings.

    ``qualities`` are the settings to measure, in ascending order; a codec without
    such a setting has the single quality None. ``lossless`` promises that decoding
    returns the very pixels, which the runner verifies.
    """

    name: str
    suffix: str
    settings: str
    qualities: tuple[float | None, ...]
    lossless: bool = False

    @abstractmethod
    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        """The whole file for uint8 RGB ``[H, W, 3]``. May raise anything."""

    @abstractmethod
    def decode(self, data: bytes) -> Pixels:
        """The pixels of a whole file, uint8 ``[H, W, 3]`` or ``[H, W]``. May raise anything."""


class CaezipPeer(Peer):
    """caezip itself, as its Python interface codes."""

    name = "caezip"
    suffix = ".cae"

    def __init__(self, options: PeerOptions):
        self.qualities = tuple(sorted(set(options.caezip_qualities)))
        self._options = options
        entry = find_model(None, options.weights_folder)
        self.settings = f"model {entry.model_id} ({entry.name}), float32, default settings"
        self._codec: Codec | None = None

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        return self._loaded().encode(pixels, quality=_given(quality))

    def decode(self, data: bytes) -> Pixels:
        return self._loaded().decode(data)

    def _loaded(self) -> Codec:
        if self._codec is None:
            from caezip import Codec  # brings in torch, which takes seconds

            self._codec = Codec(
                threads=self._options.threads, weights_folder=self._options.weights_folder
            )
        return self._codec


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
    qualities = JPEG_QUALITIES

    def __init__(self, name: str, subsampling: str):
        self.name = name
        self._subsampling = subsampling
        self.settings = f"Pillow, {subsampling}, optimize, progressive"

    def save_options(self, quality: float | None) -> dict[str, Any]:
        return {
            "quality": round(_given(quality)),
            "subsampling": self._subsampling,
            "optimize": True,
            "progressive": True,
        }


class WebpPeer(PillowPeer):
    """Lossy WebP by libwebp at its slowest, best method."""

    name = "webp"
    suffix = ".webp"
    pillow_format = "WEBP"
    settings = "Pillow, lossy, method 6"
    qualities = WEBP_QUALITIES

    def save_options(self, quality: float | None) -> dict[str, Any]:
        return {"quality": round(_given(quality)), "method": 6}


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


def _given(quality: float | None) -> float:
    if quality is None:
        raise ParameterError("quality: found none, this codec needs one")
    return quality


PEERS: dict[str, Callable[[PeerOptions], Peer]] = {
    "caezip": CaezipPeer,
    "jpeg420": lambda options: JpegPeer("jpeg420", "4:2:0"),
    "jpeg444": lambda options: JpegPeer("jpeg444", "4:4:4"),
    "webp": lambda options: WebpPeer(),
    "png": lambda options: PngPeer(),
}


def make_peers(names: Sequence[str], options: PeerOptions) -> list[Peer]:
    """The named codecs, each once, in the order given.

    Raises ParameterError for a name that `PEERS` lacks, for none at all, and for
    a caezip quality outside 1…100.
    """
    unknown = [name for name in names if name not in PEERS]
    if unknown or not names:
        found = ", ".join(unknown) or "none"
        raise ParameterError(f"peers: found {found}, allowed are {', '.join(PEERS)}")
    if not options.caezip_qualities:
        raise ParameterError("qualities: found none, allowed are numbers from 1 to 100")
    for quality in options.caezip_qualities:
        if not MIN_CAEZIP_QUALITY <= quality <= MAX_CAEZIP_QUALITY:  # also refuses NaN
            raise ParameterError(f"qualities: found {quality:g}, allowed are numbers from 1 to 100")
    return [PEERS[name](options) for name in dict.fromkeys(names)]
