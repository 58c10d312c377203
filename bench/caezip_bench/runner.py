"""Runs every codec over every image, through real files, and measures the results."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np

from caezip.errors import ImageError
from caezip.image_io import IMAGE_KINDS, Pixels, as_rgb, image_files, read_rgb
from caezip_bench import metrics
from caezip_bench.codecs import Peer


@dataclass(frozen=True)
class Measurement:
    """One image coded by one codec at one quality (None: the codec has no such setting).

    ``bpp`` counts the whole file. ``psnr_db`` is None if the decoded pixels are
    identical; ``ssim`` and ``ms_ssim`` are None if the image is too small for them.
    ``encode_s`` and ``decode_s`` are wall seconds of the one call in this process,
    without files: single samples, in which a first call's loading and whatever else
    the machine did are included. They tell minutes from seconds, and are no
    benchmark of cost, which would interleave the codecs and repeat them.
    """

    image: str
    width: int
    height: int
    codec: str
    quality: float | None
    size_bytes: int
    bpp: float
    identical: bool
    psnr_db: float | None
    ssim: float | None
    ms_ssim: float | None
    encode_s: float
    decode_s: float


@dataclass(frozen=True)
class Failure:
    """A codec that failed on an image; its further qualities were not tried there."""

    image: str
    codec: str
    quality: float | None
    reason: str


@dataclass(frozen=True)
class SkippedImage:
    """A file that could not be read as an image."""

    image: str
    reason: str


@dataclass
class RunResult:
    """All that a run measured, in the order of the images, the codecs and the qualities."""

    images: list[str] = field(default_factory=list)
    skipped: list[SkippedImage] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


@dataclass(frozen=True)
class _Coded:
    """What became of an image that went through a file."""

    size_bytes: int
    decoded: Pixels
    encode_s: float
    decode_s: float


class _BadResultError(Exception):
    """A codec returned something that is not the picture it was given."""


def find_images(
    folder: Path, *, recursive: bool = False, excluded: Path | None = None
) -> list[Path]:
    """Files in ``folder`` whose name ends like an image's, sorted; hidden ones are left out.

    ``excluded`` is one file not to take, such as the plot of an earlier run.
    Raises ImageError if there is none or the folder cannot be listed.
    """
    found = [
        path
        for path in image_files(folder, recursive=recursive)
        if excluded is None or path.resolve() != excluded.resolve()
    ]
    if not found:
        raise ImageError(f"{folder}: no images in this folder (looked for {IMAGE_KINDS})")
    return found


def count_steps(files: Sequence[Path], peers: Sequence[Peer]) -> int:
    """How often `run` encodes if nothing fails."""
    return len(files) * sum(len(peer.qualities) for peer in peers)


def run(
    files: Sequence[Path],
    peers: Sequence[Peer],
    *,
    folder: Path,
    advance: Callable[[int], object] = lambda steps: None,
) -> RunResult:
    """Code, decode and measure each file with each codec; gray images as RGB.

    Images are named by their path below ``folder``. Unreadable images are
    skipped and a codec's failure ends only its work on that image; both are
    recorded. ``advance`` is told how many of `count_steps` were done.
    """
    result = RunResult()
    with tempfile.TemporaryDirectory(prefix="caezip-bench-") as temporary:
        for file in files:
            name = file.relative_to(folder).as_posix()
            try:
                pixels = read_rgb(file)
            except ImageError as error:
                reason = str(error).removeprefix(f"{file}: ")
                result.skipped.append(SkippedImage(name, reason))
                advance(count_steps([file], peers))
                continue
            result.images.append(name)
            for peer in peers:
                _run_peer(result, name, pixels, peer, temporary=Path(temporary), advance=advance)
    return result


def _run_peer(
    result: RunResult,
    name: str,
    pixels: Pixels,
    peer: Peer,
    *,
    temporary: Path,
    advance: Callable[[int], object],
) -> None:
    coded = temporary / f"coded{peer.suffix}"
    for done, quality in enumerate(peer.qualities):
        try:
            outcome = _code(pixels, peer, quality, coded)
        except Exception as error:  # other people's codecs raise anything; the run must survive
            result.failures.append(Failure(name, peer.name, quality, _one_line(error)))
            advance(len(peer.qualities) - done)
            return
        result.measurements.append(_measured(name, pixels, peer.name, quality, outcome))
        advance(1)


def _code(pixels: Pixels, peer: Peer, quality: float | None, coded: Path) -> _Coded:
    """The image gone through the file ``coded``."""
    before = perf_counter()
    data = peer.encode(pixels, quality)
    encode_s = perf_counter() - before
    coded.write_bytes(data)
    size_bytes = coded.stat().st_size
    if size_bytes == 0:
        raise _BadResultError("the coded file is empty")
    data = coded.read_bytes()
    before = perf_counter()
    decoded = peer.decode(data)
    decode_s = perf_counter() - before
    decoded = _checked(decoded, pixels)
    if peer.lossless and not np.array_equal(decoded, pixels):
        raise _BadResultError("a lossless codec returned different pixels")
    return _Coded(size_bytes, decoded, encode_s, decode_s)


def _measured(
    name: str, pixels: Pixels, codec: str, quality: float | None, outcome: _Coded
) -> Measurement:
    height, width = pixels.shape[:2]
    psnr_db = metrics.psnr_db(pixels, outcome.decoded)
    return Measurement(
        image=name,
        width=width,
        height=height,
        codec=codec,
        quality=quality,
        size_bytes=outcome.size_bytes,
        bpp=metrics.bits_per_pixel(outcome.size_bytes, width, height),
        identical=psnr_db is None,
        psnr_db=psnr_db,
        ssim=metrics.ssim(pixels, outcome.decoded),
        ms_ssim=metrics.ms_ssim(pixels, outcome.decoded),
        encode_s=outcome.encode_s,
        decode_s=outcome.decode_s,
    )


def _checked(decoded: object, pixels: Pixels) -> Pixels:
    if not isinstance(decoded, np.ndarray) or decoded.dtype != np.uint8:
        kind = getattr(decoded, "dtype", type(decoded).__name__)
        raise _BadResultError(f"the decoded image is {kind}, not a uint8 array")
    rgb = as_rgb(decoded) if decoded.ndim == 2 else decoded
    if rgb.shape != pixels.shape:
        raise _BadResultError(
            f"the decoded image has the shape {list(decoded.shape)}, "
            f"the original {list(pixels.shape)}"
        )
    return rgb


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, _BadResultError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
