"""Pictures to compare by eye: what each codec makes of an image at about the same file size."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caezip.errors import CaeError, ImageError
from caezip.image_io import Pixels, as_rgb, read_rgb
from caezip_bench.metrics import METRICS, bits_per_pixel
from caezip_bench.peers import CaezipPeer, Peer
from caezip_bench.runner import Measurement, RunResult

TARGETS_BPP = (0.15, 0.5, 1.0)
TOLERANCE = 0.25  # of the target; beyond it, sizes differ more than most codecs do
MOST_CODECS = 8  # to show all of them; with more, variants of one format are left out
SHOWN_WIDTH = 768  # pixels, at most
SHOWN_HEIGHT = 512
# of all pictures together, which are without loss: about 15 MB in the page
SHOWN_PIXELS = 11_500_000
SEARCH_STEPS = 3
CLOSE_ENOUGH = 0.02  # of the target
WEBP_EFFORT = 50  # of 0…100; at 100 a few percent smaller and several times slower
WEBP_METHOD = 4  # of 0…6


@dataclass(frozen=True)
class CodedPicture:
    """What became of an image that one codec coded at one quality.

    ``size_bytes``, ``bpp`` and ``metrics`` (by the names in `caezip_bench.metrics.METRICS`,
    None as in `Measurement`) are of the whole image; ``webp`` has its shown part, the very
    pixels that were measured, as lossless WebP.
    """

    codec: str
    quality: float | None
    size_bytes: int
    bpp: float
    metrics: Mapping[str, float | None]
    webp: bytes


@dataclass(frozen=True)
class Comparison:
    """One image as several codecs code it with about ``target_bpp`` bits per pixel.

    ``width`` and ``height`` are the whole image's, in pixels, ``shown_width`` and
    ``shown_height`` those of the part in its middle that is shown. ``original`` is lossless
    WebP of that part. ``left_out`` says why codecs are absent.
    """

    image: str
    width: int
    height: int
    shown_width: int
    shown_height: int
    target_bpp: float
    original: bytes
    coded: tuple[CodedPicture, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Middle:
    """The part of a picture that is shown, at most this large."""

    width: int
    height: int

    def of(self, pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        top = max(0, (height - self.height) // 2)
        left = max(0, (width - self.width) // 2)
        return pixels[top : top + self.height, left : left + self.width]


class _LeftOutError(CaeError):
    """Why a codec has no picture here."""


def count_pictures(
    peers: Sequence[Peer], *, images: int = 2, targets_bpp: Sequence[float] = TARGETS_BPP
) -> int:
    """How often `make_comparisons` advances if there are as many images."""
    return images * len(targets_bpp) * len(_pictured(peers))


def make_comparisons(
    files: Sequence[Path],
    peers: Sequence[Peer],
    result: RunResult,
    *,
    folder: Path,
    images: int = 2,
    targets_bpp: Sequence[float] = TARGETS_BPP,
    advance: Callable[[int], object] = lambda steps: None,
) -> list[Comparison]:
    """Code some of the run's images again with each lossy codec, near each target.

    The ``images`` are spread evenly over those of the run; the more pictures there will be,
    the smaller a part of each is shown (`SHOWN_PIXELS`). A codec's quality comes from its
    measurements on that image, interpolated in the logarithm of bpp and searched from
    there; where that does not work, it is the measured one nearest to the target. A codec
    that gets no closer than `TOLERANCE`, or fails, is left out with a reason; so are, with
    more than `MOST_CODECS`, all but the first codec of each file format, caezip's own
    excepted. An image that cannot be read any more is left out altogether. ``advance`` is
    told of each of `count_pictures`.
    """
    by_name = {file.relative_to(folder).as_posix(): file for file in files}
    measured = [
        name for name in METRICS if any(row.metric(name) is not None for row in result.measurements)
    ]
    pictured = _pictured(peers)
    variants = [
        f"{peer.name}: only one codec of each file format is shown"
        for peer in peers
        if peer not in pictured and not peer.lossless
    ]
    area = SHOWN_PIXELS / max(1, images * (1 + len(targets_bpp) * len(pictured)))
    scale = min(1.0, math.sqrt(area / (SHOWN_WIDTH * SHOWN_HEIGHT)))
    shown = _Middle(round(SHOWN_WIDTH * scale), round(SHOWN_HEIGHT * scale))
    comparisons = []
    for name in _spread(result.images, images):
        try:
            pixels = read_rgb(by_name[name])
        except ImageError:
            advance(len(targets_bpp) * len(pictured))
            continue
        part = shown.of(pixels)
        original = _lossless_webp(part)
        for target_bpp in targets_bpp:
            coded, left_out = [], list(variants)
            for peer in pictured:
                rows = [
                    row
                    for row in result.measurements
                    if row.image == name and row.codec == peer.name
                ]
                try:
                    coded.append(_coded_near(target_bpp, pixels, peer, rows, measured, shown))
                except _LeftOutError as reason:
                    left_out.append(f"{peer.name}: {reason}")
                advance(1)
            comparisons.append(
                Comparison(
                    image=name,
                    width=pixels.shape[1],
                    height=pixels.shape[0],
                    shown_width=part.shape[1],
                    shown_height=part.shape[0],
                    target_bpp=target_bpp,
                    original=original,
                    coded=tuple(coded),
                    left_out=tuple(left_out),
                )
            )
    return comparisons


def _pictured(peers: Sequence[Peer]) -> list[Peer]:
    """The codecs to show."""
    lossy = [peer for peer in peers if not peer.lossless]
    if len(lossy) <= MOST_CODECS:
        return lossy
    first: dict[str, Peer] = {}
    for peer in lossy:
        first.setdefault(peer.suffix, peer)
    return [p for p in lossy if isinstance(p, CaezipPeer) or p is first[p.suffix]]


def _spread(names: Sequence[str], count: int) -> list[str]:
    """``count`` of the names, each from the middle of an equal share of them."""
    count = min(count, len(names))
    return [names[(2 * index + 1) * len(names) // (2 * count)] for index in range(count)]


def _coded_near(
    target_bpp: float,
    pixels: Pixels,
    peer: Peer,
    rows: Sequence[Measurement],
    metrics: Sequence[str],
    shown: _Middle,
) -> CodedPicture:
    """Raises _LeftOutError if there is none near enough, or the codec fails."""
    if not rows:
        raise _LeftOutError("failed on this image")
    points = [(row.bpp, row.quality) for row in rows]
    nearest_bpp, nearest = min(points, key=lambda point: _distance(point[0], target_bpp))
    between = _interpolated_quality(points, target_bpp)
    if between is None and _distance(nearest_bpp, target_bpp) > TOLERANCE:
        raise _LeftOutError(f"its nearest is {nearest_bpp:.3f} bpp")
    found: list[CodedPicture] = []
    failure = ""
    try:
        for _ in range(SEARCH_STEPS):
            tried = [picture.quality for picture in found]
            if between is None or between in tried:
                break
            found.append(_coded(pixels, peer, between, metrics, shown))
            if _distance(found[-1].bpp, target_bpp) <= CLOSE_ENOUGH:
                break
            points.append((found[-1].bpp, between))
            between = _interpolated_quality(points, target_bpp)
    except Exception as error:  # other people's codecs raise anything; the page survives
        failure = " ".join(f"{type(error).__name__}: {error}".split())
    closest = min((_distance(picture.bpp, target_bpp) for picture in found), default=math.inf)
    if _distance(nearest_bpp, target_bpp) < closest:
        try:
            found.append(_coded(pixels, peer, nearest, metrics, shown))
        except Exception as error:
            failure = " ".join(f"{type(error).__name__}: {error}".split())
    if not found:
        raise _LeftOutError(f"failed, {failure}")
    best = min(found, key=lambda picture: _distance(picture.bpp, target_bpp))
    if _distance(best.bpp, target_bpp) > TOLERANCE:
        raise _LeftOutError(f"its nearest is {best.bpp:.3f} bpp")
    return best


def _distance(bpp: float, target_bpp: float) -> float:
    """As a share of the target."""
    return abs(bpp / target_bpp - 1)


def _interpolated_quality(
    points: Sequence[tuple[float, float | None]], target_bpp: float
) -> float | None:
    """The quality that should reach the target, None outside of the points' bpp.

    A whole number if all measured qualities are: there may be none between them.
    """
    curve = sorted((math.log(bpp), quality) for bpp, quality in points if quality is not None)
    target = math.log(target_bpp)
    if not curve or not curve[0][0] <= target <= curve[-1][0]:
        return None
    rates, qualities = zip(*curve, strict=True)
    quality = float(np.interp(target, rates, qualities))
    whole = all(float(value).is_integer() for value in qualities)
    return float(round(quality)) if whole else quality


def _coded(
    pixels: Pixels, peer: Peer, quality: float | None, metrics: Sequence[str], shown: _Middle
) -> CodedPicture:
    """Raises whatever the codec raises, and ImageError if it returns another size or type."""
    data = peer.encode(pixels, quality)
    returned = np.asarray(peer.decode(data))
    decoded = as_rgb(returned) if returned.ndim == 2 else returned
    if decoded.shape != pixels.shape or decoded.dtype != np.uint8:
        raise ImageError(
            f"decoded image: found {decoded.dtype} {list(returned.shape)}, "
            f"allowed is uint8 {list(pixels.shape)}"
        )
    height, width = pixels.shape[:2]
    return CodedPicture(
        codec=peer.name,
        quality=quality,
        size_bytes=len(data),
        bpp=bits_per_pixel(len(data), width, height),
        metrics={name: METRICS[name].measure(pixels, decoded) for name in metrics},
        webp=_lossless_webp(shown.of(decoded)),
    )


def _lossless_webp(pixels: Pixels) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.save(buffer, "WEBP", lossless=True, quality=WEBP_EFFORT, method=WEBP_METHOD)
    return buffer.getvalue()
