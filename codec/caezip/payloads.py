"""What a tile's payload is: a stream of symbols, or the samples of its only colour."""

from __future__ import annotations

from typing import Any

import numpy as np

from caezip.config import PATCH_SIZE
from caezip.container import Header
from caezip.errors import BitstreamError, UnsupportedError
from caezip.frequency_tables import FILTER_COEFFICIENTS
from caezip.picture import Samples
from caezip.pretrained import Model
from caezip.tile_coder import Latents
from caezip.tiling import TileGrid

MAX_STREAM_PIXELS = 1 << 22  # of one tile, whose symbols are in memory all at once
FLAT_BYTES_AT_MOST = 6  # of a flat tile's payload; streams are longer


def sample_type(header: Header) -> type[Any]:
    return np.uint16 if header.pixel_format.endswith("16") else np.uint8


def is_gray(header: Header) -> bool:
    return header.pixel_format.startswith("gray")


def flat_payload(colour: Samples) -> bytes:
    """The payload of a flat tile: its samples, little-endian."""
    flat = np.atleast_1d(colour)
    return flat.astype(flat.dtype.newbyteorder("<")).tobytes()


def flat_colour(payload: bytes | None, header: Header) -> Samples | None:
    """The colour ``[1]`` or ``[3]`` of a flat tile; None for streams, which are longer."""
    kind = np.dtype(sample_type(header)).newbyteorder("<")
    samples = 1 if is_gray(header) else 3
    if payload is None or len(payload) != samples * kind.itemsize:
        return None  # the entropy coder refuses what is too short to be a stream
    return np.frombuffer(payload, kind).astype(sample_type(header))


def tile_latents(
    model: Model, header: Header, grid: TileGrid, number: int, payload: bytes
) -> Latents:
    """The integers of one tile. Raises CorruptError with the tile's place."""
    coder = model.coder
    if flat_colour(payload, header) is not None:
        return Latents(
            np.empty((coder.hyper_channels, 0, 0), np.int32),
            np.empty((coder.latent_channels, 0, 0), np.int32),
            np.zeros(FILTER_COEFFICIENTS, np.int32),
        )
    box = grid.box(number)
    cells = box.divided(PATCH_SIZE)
    try:
        if box.width * box.height > MAX_STREAM_PIXELS:
            raise UnsupportedError(
                f"tile stream: found one of {box.width * box.height} pixels, "
                f"allowed are {MAX_STREAM_PIXELS}"
            )
        shape = (cells.height, cells.width)
        has_filter = header.has_filters
        return Latents(
            *coder.decode(payload, header.quality_hundredths, shape, has_filter=has_filter)
        )
    except BitstreamError as error:
        raise type(error)(f"{grid.place(number)}: {error}") from None
