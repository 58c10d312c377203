"""The codecs that are compared: each is one small class, registered in `PEERS`."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caezip.errors import MissingDependencyError, ParameterError, UnknownModelError
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
# 0 gives the same file as 1; from 95 to 100 files about double
AVIF_QUALITIES = (1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0)
AVIF_SPEED = 4  # of 0…10; slower than Pillow's 6
EFFORTS = range(1, 10)
EFFORT_PREFIX = "caezip-e"


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
    """caezip itself, as its Python interface codes; ``effort`` None is the default one.

    Raises UnknownModelError if there are no weights with this ``tune``.
    """

    suffix = ".cae"

    def __init__(
        self, name: str, options: PeerOptions, *, effort: int | None = None, tune: str = "psnr"
    ):
        self.name = name
        self.qualities = tuple(sorted(set(options.caezip_qualities)))
        self._options = options
        try:
            entry = find_model(None, options.weights_folder, tune)
        except UnknownModelError as error:
            raise UnknownModelError(f"{name}: {error}") from None
        if effort is None:
            from caezip.tile_coder import DEFAULT_EFFORT  # brings in torch, which takes seconds

            effort = DEFAULT_EFFORT
        self._effort = effort
        self._tune = tune
        self.settings = (
            f"model {entry.model_id} ({entry.name}), float32, effort {effort}, "
            f"tuned for {tune.upper()}"
        )

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        return self._loaded().encode(
            pixels, quality=_given(quality), effort=self._effort, tune=self._tune
        )

    def decode(self, data: bytes) -> Pixels:
        return self._loaded().decode(data)

    def _loaded(self) -> Codec:
        return _codec(self._options.threads, self._options.weights_folder)


@cache
def _codec(threads: int | None, weights_folder: Path | None) -> Codec:
    """One for all efforts, so that each network is in memory once."""
    from caezip import Codec

    return Codec(threads=threads, weights_folder=weights_folder)


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


class AvifPeer(PillowPeer):
    """AVIF by libavif; ``speed`` is 0 (best and slowest) to 10.

    In one tile, since cutting an image makes its file larger, and in one thread,
    since several write other bytes, and how many there are depends on the machine.
    Raises MissingDependencyError if Pillow comes without AVIF.
    """

    suffix = ".avif"
    pillow_format = "AVIF"
    qualities = AVIF_QUALITIES

    def __init__(self, name: str, subsampling: str, speed: int):
        version = avif_version()
        if version is None:
            raise MissingDependencyError(
                f"{name}: this Pillow cannot write AVIF, the wheels from 11.3 on can: "
                "pip install 'pillow>=11.3'"
            )
        self.name = name
        self._subsampling = subsampling
        self._speed = speed
        self.settings = (
            f"Pillow (libavif {version}), {subsampling}, speed {speed}, one tile, one thread"
        )

    def save_options(self, quality: float | None) -> dict[str, Any]:
        return {
            "quality": round(_given(quality)),
            "subsampling": self._subsampling,
            "speed": self._speed,
            "autotiling": False,
            "max_threads": 1,
        }


def avif_version() -> str | None:
    """libavif's version, None if Pillow comes without it."""
    from PIL import features

    # features.check("avif") warns in a Pillow that has not heard of AVIF
    return features.version_module("avif") if "avif" in features.modules else None


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
    "caezip": partial(CaezipPeer, "caezip"),
    "caezip-ssim": partial(CaezipPeer, "caezip-ssim", tune="ssim"),
    **{
        f"{EFFORT_PREFIX}{effort}": partial(CaezipPeer, f"{EFFORT_PREFIX}{effort}", effort=effort)
        for effort in EFFORTS
    },
    "jpeg420": lambda options: JpegPeer("jpeg420", "4:2:0"),
    "jpeg444": lambda options: JpegPeer("jpeg444", "4:4:4"),
    "webp": lambda options: WebpPeer(),
    "avif444": lambda options: AvifPeer("avif444", "4:4:4", AVIF_SPEED),
    "avif420": lambda options: AvifPeer("avif420", "4:2:0", AVIF_SPEED),
    "png": lambda options: PngPeer(),
}
DEFAULT_PEERS = ("caezip", "caezip-ssim", "jpeg420", "jpeg444", "webp", "avif444", "png")
# these need weights or a library that may be absent
OPTIONAL_PEERS = frozenset({"caezip-ssim", "avif444"})


def make_peers(names: Sequence[str], options: PeerOptions) -> list[Peer]:
    """The named codecs, each once, in the order given.

    Raises ParameterError for a name that `PEERS` lacks, for none at all, and for
    a caezip quality outside 1…100; UnknownModelError or MissingDependencyError,
    which name the codec, if it needs weights or a library that is absent.
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


def make_default_peers(options: PeerOptions) -> tuple[list[Peer], list[str]]:
    """``(peers, notes)``: the codecs to compare if none are named.

    The notes say which of `OPTIONAL_PEERS` are left out, and what they lack.
    Raises what `make_peers` raises, for the other codecs.
    """
    peers: list[Peer] = []
    notes: list[str] = []
    for name in DEFAULT_PEERS:
        try:
            peers += make_peers([name], options)
        except (UnknownModelError, MissingDependencyError) as error:
            if name not in OPTIONAL_PEERS:
                raise
            notes.append(f"{name} is left out: {str(error).removeprefix(f'{name}: ')}")
    return peers, notes
