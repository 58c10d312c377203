"""caezip: a learned image codec. Small files, one model for every rate, same result everywhere.

>>> import caezip, numpy
>>> data = caezip.encode(numpy.zeros((32, 48, 3), numpy.uint8), quality=50)
>>> caezip.info(data).width, caezip.decode(data).shape
(48, (32, 48, 3))

Importing the package loads neither torch nor numpy; the first call that needs
them does.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from caezip.container import Header, as_bytes, read_header
from caezip.errors import (
    BitstreamError,
    CaeError,
    CheckpointError,
    CorruptError,
    ImageError,
    MissingDependencyError,
    NotCaeError,
    OutputError,
    ParameterError,
    TargetError,
    TrainingDataError,
    TruncatedError,
    UnknownModelError,
    UnsupportedError,
    WeightsError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

    from caezip.autoencoder import ConvolutionalAutoencoder, Latent
    from caezip.memory import return_freed_memory
    from caezip.picture import Picture
    from caezip.pipeline import Codec
    from caezip.tile_coder import Latents

__version__ = "0.1.0"

_LAZY = {
    "Codec": "caezip.pipeline",
    "Picture": "caezip.picture",
    "Latents": "caezip.tile_coder",
    "ConvolutionalAutoencoder": "caezip.autoencoder",
    "Latent": "caezip.autoencoder",
    "return_freed_memory": "caezip.memory",
}

__all__ = [
    "BitstreamError",
    "CaeError",
    "CheckpointError",
    "Codec",
    "ConvolutionalAutoencoder",
    "CorruptError",
    "Header",
    "ImageError",
    "Latent",
    "Latents",
    "MissingDependencyError",
    "NotCaeError",
    "OutputError",
    "ParameterError",
    "Picture",
    "TargetError",
    "TrainingDataError",
    "TruncatedError",
    "UnknownModelError",
    "UnsupportedError",
    "WeightsError",
    "__version__",
    "decode",
    "encode",
    "info",
    "return_freed_memory",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _default_codec() -> Codec:
    from caezip.pipeline import Codec

    return Codec()


def encode(
    image: Image | NDArray[Any] | Picture,
    *,
    quality: float = 75,
    effort: int = 2,
    tune: Literal["psnr", "archive", "ssim", "fastdecode"] = "psnr",
    strip: bool = False,
) -> bytes:
    """A .cae file of ``image``: a PIL image, a `Picture`, or an array, uint8 or uint16.

    Arrays are ``[H, W]`` (gray), ``[H, W, 2]`` (gray, alpha), ``[H, W, 3]`` (RGB) or
    ``[H, W, 4]`` (RGBA). Alpha is kept exactly; so are the ICC profile, EXIF and XMP of
    PIL images unless ``strip``. EXIF orientation is applied.

    ``quality`` is 1…100. ``effort`` 1…9 makes smaller files for more time, from 3 up with the
    weights for "archive" where ``tune`` is "psnr". ``tune``
    says what the picture is to be close in: pixels, or structure as the eye sees it ("ssim");
    "archive" is pixels in smaller files that take longer to decode, "fastdecode" in larger
    ones that take less.
    Raises ImageError, ParameterError, UnknownModelError, WeightsError.
    """
    return _default_codec().encode(image, quality=quality, effort=effort, tune=tune, strip=strip)


def decode(data: bytes, *, region: Sequence[int] | None = None, reduction: int = 1) -> NDArray[Any]:
    """The picture in a .cae file: an array as `encode` takes them.

    ``region``: left, top, width and height in pixels of the part to decode, for which
    only the tiles that it needs are read. ``reduction`` 2, 4 or 8 makes a preview of a
    half, a quarter or an eighth of the size. `Codec.decode_picture` gives metadata too.
    Raises BitstreamError, one of its kinds, ParameterError or UnknownModelError.
    """
    return _default_codec().decode(data, region=region, reduction=reduction)


def info(data: bytes) -> Header:
    """What a .cae file says of itself, without decoding it or importing torch.

    Raises NotCaeError, TruncatedError, CorruptError or UnsupportedError.
    """
    return read_header(as_bytes(data))
