"""The last step of a lean decoder with the function of ``patches.c``: from a stream to samples.

A lean decoder's last layer (`caezip.transforms.SynthesisTransform`) is linear, and most of what
it reads are symbols as they were decoded, nearly all of them 0. So an engine computes
only what the stream's channels make of a patch; the other channels add one column of the
layer's matrix for each symbol that is not 0.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caezip.config import PATCH_SAMPLES, PATCH_SIZE, RENDER_STRIDE, ModelConfig
from caezip.picture import Samples
from caezip.scales import Floats, Integers
from caezip.tiling import Box

PATCH_ROW = 3 * PATCH_SIZE  # samples
MOST_CHANNELS = 512  # that there is room for on the function's stack
_Pointer = ctypes.c_void_p


class Target(ctypes.Structure):
    """The picture that cells are part of, as seen from the first cell; see `target_of`."""

    _fields_ = (
        ("picture", ctypes.c_int64),  # an address that may be before the picture's
        ("row", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("left", "top", "right", "bottom")),
    )


class _Cells(ctypes.Structure):
    _fields_ = (
        ("streamed", _Pointer),
        ("streamed_row", ctypes.c_int64),
        ("symbols", _Pointer),
        ("symbols_plane", ctypes.c_int64),
        ("symbols_row", ctypes.c_int64),
        ("columns", _Pointer),
        ("target", Target),
        *((name, ctypes.c_int32) for name in ("channels", "height", "width")),
    )


def patch_rows() -> NDArray[np.intp]:
    """Where a patch's samples, in the order of an image's, are among those of the last layer."""
    cells = PATCH_SIZE // RENDER_STRIDE
    order = (3, RENDER_STRIDE, RENDER_STRIDE, cells, cells)  # channel, row and column, cell's
    return np.arange(PATCH_SAMPLES).reshape(order).transpose(3, 1, 4, 2, 0).ravel()


def columns_by_row(columns: Floats) -> Floats:
    """What `write_patches` takes, ``[16, N, 48]``, of what a symbol adds to a patch, ``[N, 768]``.

    Patches are in the order of an image's samples, in units of 255 levels.
    """
    rows = columns.reshape(len(columns), PATCH_SIZE, PATCH_ROW)
    return np.ascontiguousarray(rows.swapaxes(0, 1), np.float32)


def can_draw(config: ModelConfig) -> bool:
    """Whether `LeanDrawing` can make pictures of such a model's latent."""
    outside = config.latent_channels - config.synthesis_channels
    return config.lean_decoder and outside <= MOST_CHANNELS


class LeanDrawing:
    """Pictures of a model that `can_draw`: of its stream's channels, and the others' symbols.

    ``columns``: see `write_patches`. ``streamed`` is an engine's: patches ``[h, w, 768]``,
    around 0, of the stream's ``channels`` ``[channels, H, W]`` in steps, for some of the cells,
    without what the other channels add.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        channels: int,
        columns: Floats,
        streamed: Callable[[Floats, Box], Floats],
    ) -> None:
        self.channels = channels
        self._library, self._columns, self._streamed = library, columns, streamed

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
        patches = self._streamed(steps, cells)
        for box, values in symbols:
            part = box.within(cells)
            write_patches(
                self._library,
                patches[part.top : part.bottom, part.left : part.right],
                values,
                self._columns,
                picture,
                PATCH_SIZE * box.left - place.left,
                PATCH_SIZE * box.top - place.top,
            )


def write_patches(
    library: ctypes.CDLL,
    streamed: Floats,
    symbols: Integers,
    columns: Floats,
    picture: NDArray[np.uint8],
    left: int,
    top: int,
) -> None:
    """Write cells to the ``picture`` uint8 ``[H, W, 3]``, as far as they are inside.

    ``streamed`` float32 ``[h, w, 768]``: what the stream makes of patches, around 0;
    ``symbols`` int32 ``[N, h, w]`` of the other channels; ``columns`` see `columns_by_row`;
    ``left`` and ``top``: where the first cell's first pixel is in the picture, or would be.
    Of the arrays all but the columns may be parts of larger ones.
    """
    height, width, _ = streamed.shape
    channels = len(symbols)
    check_array("streamed", streamed, np.float32, (height, width, PATCH_SAMPLES), whole=2)
    check_array("symbols", symbols, np.int32, (channels, height, width), whole=1)
    check_array("columns", columns, np.float32, (PATCH_SIZE, channels, PATCH_ROW), whole=3)
    if channels > MOST_CHANNELS:
        raise ValueError(f"symbols: found {channels} channels, allowed are {MOST_CHANNELS}")
    library.caezip_patches(
        ctypes.byref(
            _Cells(
                streamed.ctypes.data,
                streamed.strides[0] // streamed.itemsize,
                symbols.ctypes.data,
                symbols.strides[0] // symbols.itemsize,
                symbols.strides[1] // symbols.itemsize,
                columns.ctypes.data,
                target_of(picture, left, top),
                *(channels, height, width),
            )
        )
    )


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


def check_array(
    name: str, array: NDArray[Any], kind: type[Any], shape: Sequence[int], *, whole: int
) -> None:
    """The function reads and writes memory as it is told: nothing else may reach it.

    Of the array the last ``whole`` axes have to lie without gaps.
    """
    gapless = array[(0,) * (array.ndim - whole)] if array.size else array
    if array.dtype != kind or array.shape != tuple(shape) or not gapless.flags.c_contiguous:
        raise ValueError(
            f"{name}: found {array.dtype} {array.shape} {array.strides}, "
            f"allowed is {np.dtype(kind)} {tuple(shape)}"
        )
