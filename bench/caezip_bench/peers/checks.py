"""Whether a codec returned the picture that it was given, and how its failures are told."""

from __future__ import annotations

import numpy as np

from caezip.errors import CaeError
from caezip.image_io import Pixels, as_rgb
from caezip_bench.peers.base import Peer


class WrongResultError(CaeError):
    """A codec returned something that is not the picture it was given, or no file."""


def checked_pixels(peer: Peer, decoded: object, pixels: Pixels) -> Pixels:
    """What ``peer`` decoded, as uint8 ``[H, W, 3]`` like the original ``pixels``.

    Raises WrongResultError for another type or size, and if a lossless codec lost anything.
    """
    if not isinstance(decoded, np.ndarray) or decoded.dtype != np.uint8:
        kind = getattr(decoded, "dtype", type(decoded).__name__)
        raise WrongResultError(f"the decoded image is {kind}, not a uint8 array")
    rgb = as_rgb(decoded) if decoded.ndim == 2 else decoded
    if rgb.shape != pixels.shape:
        raise WrongResultError(
            f"the decoded image has the shape {list(decoded.shape)}, "
            f"the original {list(pixels.shape)}"
        )
    if peer.lossless and not np.array_equal(rgb, pixels):
        raise WrongResultError("a lossless codec returned different pixels")
    return rgb


def one_line(error: Exception) -> str:
    """The error's kind and text without line breaks; of a wrong result only the text."""
    text = " ".join(str(error).split())
    if isinstance(error, WrongResultError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
