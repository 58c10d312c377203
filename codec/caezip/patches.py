"""The last step of a lean decoder with the function of ``patches.c``: from a stream to samples.

A lean decoder's last layer (`caezip.blocks.ColouredPlanes`) is linear, and most of what it reads
are symbols as they were decoded, nearly all of them 0. So an engine only runs the blocks; what
their stream makes of a patch is a product of matrices, and the other channels add what they have
for each symbol that is not 0.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caezip.arrays import check_array
from caezip.config import PATCH_SIZE, RENDER_STRIDE, ModelConfig
from caezip.integers import Integers
from caezip.picture import Samples
from caezip.scales import Floats
from caezip.tiling import Box

COLOURS = 3  # of samples, and of planes
CACHE_LINE = 64  # bytes
MOST_PLANES = 768  # that there is room for on the function's stack
_Pointer = ctypes.c_void_p


class Target(ctypes.Structure):
    """The picture that cells are part of, as seen from the first cell; see `target_of`."""

    _fields_ = (
        ("picture", ctypes.c_int64),  # an address that may be before the picture's
        ("row", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("left", "top", "right", "bottom")),
    )


class _Matrix(ctypes.Structure):
    _fields_ = (("order", _Pointer), ("planes", _Pointer), ("ends", ctypes.c_int32 * COLOURS))


class _Cells(ctypes.Structure):
    _fields_ = (
        ("stream", _Pointer),
        ("stream_plane", ctypes.c_int64),
        ("stream_row", ctypes.c_int64),
        ("of_stream", _Matrix),
        ("symbols", _Pointer),
        ("symbols_plane", ctypes.c_int64),
        ("symbols_row", ctypes.c_int64),
        ("of_symbols", _Matrix),
        ("colours", _Pointer),
        ("bias", _Pointer),
        ("target", Target),
        *((name, ctypes.c_int32) for name in ("height", "width")),
    )


class Planes:
    """What channels add to the planes of patches, as `write_patches` reads it.

    ``planes`` float32 ``[256, n]``: of 1 in a channel each, in units of 255 levels, in the order
    of `plane_rows`; ``channel_of`` ``[n]``: which of the ``channels``; ``colour_of`` ``[n]``: which
    of three colours. The function reads those of the stream ``by_row``, of all planes together.
    """

    def __init__(
        self,
        planes: Floats,
        channel_of: NDArray[np.intp],
        colour_of: NDArray[np.intp],
        channels: int,
        *,
        by_row: bool,
    ) -> None:
        self.channels, self.by_row, count = channels, by_row, len(colour_of)
        self._ends = np.bincount(colour_of, minlength=COLOURS).cumsum()
        if count > MOST_PLANES or len(self._ends) != COLOURS:
            raise ValueError(
                f"planes: found {count} of {len(self._ends)} colours, "
                f"allowed are {MOST_PLANES} of {COLOURS}"
            )
        if not ((channel_of >= 0) & (channel_of < channels)).all():
            raise ValueError(f"channel_of: allowed are those of {channels}")
        by_colour = np.argsort(colour_of, kind="stable")
        self._order = channel_of[by_colour].astype(np.int32)
        ordered = planes[:, by_colour].reshape(PATCH_SIZE, PATCH_SIZE, count)
        self._planes = _aligned(ordered.transpose((0, 2, 1) if by_row else (2, 0, 1)))

    @property
    def struct(self) -> _Matrix:
        ends = (ctypes.c_int32 * COLOURS)(*self._ends.tolist())
        return _Matrix(self._order.ctypes.data, self._planes.ctypes.data, ends)


@dataclass(frozen=True)
class LastLayer:
    """A lean decoder's last layer, its inputs' gains included.

    ``stream`` and ``others``: what the stream's channels add, and the others' symbols. A patch is
    its planes times ``colours`` float32 ``[3, 3]``, rows of red, green and blue, and ``bias``
    float32 ``[16, 3, 16]`` of row, sample and column: around 0, in units of 255 levels.
    """

    stream: Planes
    others: Planes
    colours: Floats
    bias: Floats

    def __post_init__(self) -> None:
        if not self.stream.by_row or self.others.by_row:
            raise ValueError("by_row: the stream's planes are read by row, the others' are not")

    @cached_property
    def in_levels(self) -> tuple[Floats, Floats]:
        """The colours and the bias that samples are rounded down from."""
        return np.float32(255) * self.colours, np.float32(255) * self.bias + np.float32(128)


def last_layer(
    planes: Floats, colours: Floats, colour_of: Floats, bias: Floats, gains: Floats, streamed: int
) -> LastLayer:
    """As `caezip.blocks.ColouredPlanes` has it, of inputs that are multiplied by ``gains`` [C].

    The first ``streamed`` channels are the stream's.
    """
    channel, colour = colour_of.nonzero()
    added = planes[plane_rows(), :, 0, 0] * gains[channel]
    first, others = channel < streamed, len(gains) - streamed
    rest = ~first
    return LastLayer(
        Planes(added[:, first], channel[first], colour[first], streamed, by_row=True),
        Planes(added[:, rest], channel[rest] - streamed, colour[rest], others, by_row=False),
        colours,
        bias[patch_rows()].reshape(PATCH_SIZE, PATCH_SIZE, COLOURS).swapaxes(1, 2).copy(),
    )


def plane_rows() -> NDArray[np.intp]:
    """Where a plane's pixels, in the order of an image's, are among those of the last layer."""
    cells = PATCH_SIZE // RENDER_STRIDE
    order = (RENDER_STRIDE, RENDER_STRIDE, cells, cells)  # row and column, cell's
    return np.arange(PATCH_SIZE**2).reshape(order).transpose(2, 0, 3, 1).ravel()


def patch_rows() -> NDArray[np.intp]:
    """The same of a patch's samples, which come colour by colour in the last layer."""
    return (plane_rows()[:, None] + PATCH_SIZE**2 * np.arange(COLOURS)).ravel()


def can_draw(config: ModelConfig) -> bool:
    """Whether `LeanDrawing` can make pictures of such a model's latent.

    Channels behind the stream are symbols to it: none of them may have means.
    """
    known = config.predicted_channels <= config.synthesis_channels
    return config.lean_decoder and known and config.plane_count <= MOST_PLANES


class LeanDrawing:
    """Pictures of a model that `can_draw`: of its stream's channels, and the others' symbols.

    ``stream`` is an engine's: of the stream's ``channels`` ``[channels, h, w]`` in steps, what the
    blocks make of them, of the same shape.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        channels: int,
        layer: LastLayer,
        stream: Callable[[Floats], Floats],
    ) -> None:
        self.channels = channels
        self._library, self._layer, self._stream = library, layer, stream

    def __call__(
        self,
        steps: Floats,
        cells: Box,
        symbols: Sequence[tuple[Box, Integers]],
        picture: Samples,
        place: Box,
    ) -> None:
        """Write to ``picture`` uint8 ``[H, W, 3]`` what the networks make of all channels there.

        ``steps`` ``[channels, h, w]``: what the networks see of a window. ``cells``: those that
        are drawn; ``symbols``: boxes of them, and the other channels of these; ``place``:
        which of the window's pixels the picture is, all of them of these cells.
        """
        stream = self._stream(steps)
        for box, values in symbols:
            write_patches(
                self._library,
                stream[box.slices],
                values,
                self._layer,
                picture,
                PATCH_SIZE * box.left - place.left,
                PATCH_SIZE * box.top - place.top,
            )


def write_patches(
    library: ctypes.CDLL,
    stream: Floats,
    symbols: Integers,
    layer: LastLayer,
    picture: NDArray[np.uint8],
    left: int,
    top: int,
) -> None:
    """Write cells to the ``picture`` uint8 ``[H, W, 3]``, as far as they are inside.

    ``stream`` float32 ``[S, h, w]`` and ``symbols`` int32 ``[N, h, w]``: what the ``layer`` reads;
    ``left`` and ``top``: where the first cell's first pixel is in the picture, or would be.
    All three may be parts of larger ones. Raises ValueError for arrays that do not fit.
    """
    height, width = stream.shape[1:]
    check_array("stream", stream, np.float32, (layer.stream.channels, height, width), whole=1)
    check_array("symbols", symbols, np.int32, (layer.others.channels, height, width), whole=1)
    check_array("colours", layer.colours, np.float32, (COLOURS, COLOURS), whole=2)
    check_array("bias", layer.bias, np.float32, (PATCH_SIZE, COLOURS, PATCH_SIZE), whole=3)
    library.caezip_patches(
        ctypes.byref(
            _Cells(
                *_plane_of(stream),
                layer.stream.struct,
                *_plane_of(symbols),
                layer.others.struct,
                *(array.ctypes.data for array in layer.in_levels),
                target_of(picture, left, top),
                *(height, width),
            )
        )
    )


def _aligned(array: Floats) -> Floats:
    """A copy whose rows of 16 numbers each are one line of a cache."""
    room = np.empty(array.size + CACHE_LINE // 4, np.float32)
    start = -room.ctypes.data % CACHE_LINE // 4
    copy: Floats = room[start : start + array.size].reshape(array.shape)
    copy[...] = array
    return copy


def _plane_of(array: NDArray[Any]) -> tuple[int, int, int]:
    """Where an array ``[C, h, w]`` begins, and how many numbers apart its planes and rows are."""
    plane, row, _ = (stride // array.itemsize for stride in array.strides)
    return array.ctypes.data, plane, row


def target_of(picture: NDArray[np.uint8], left: int, top: int) -> Target:
    """A ``picture`` uint8 ``[H, W, 3]``, which may be part of a larger one.

    ``left`` and ``top``: where the first cell's first pixel is in it, or would be. Raises
    ValueError for an array of another kind.
    """
    check_array("picture", picture, np.uint8, (*picture.shape[:2], 3), whole=2)
    return Target(
        picture.ctypes.data + top * picture.strides[0] + left * 3,
        picture.strides[0],
        *(-left, -top, picture.shape[1] - left, picture.shape[0] - top),
    )
