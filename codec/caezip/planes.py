"""The last step of a decoder with a renderer, with the function of ``planes.c``: to a picture.

The renderer makes cells of 4x4 pixels with 48 channels. An engine that has to bring them into a
picture's order moves every sample twice, and the parts that are in the picture once more.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from caezip.arrays import check_array
from caezip.config import PATCH_SIZE, RENDER_STRIDE
from caezip.integers import Integers
from caezip.patches import LeanDrawing, Target, target_of
from caezip.picture import Samples
from caezip.scales import Floats
from caezip.tiling import Box

CELL_SAMPLES = 3 * RENDER_STRIDE**2  # in the order of an image's: row, column, channel
_Pointer = ctypes.c_void_p


class _Planes(ctypes.Structure):
    _fields_ = (
        ("planes", _Pointer),
        ("target", Target),
        *((name, ctypes.c_int32) for name in ("height", "width")),
    )


class PlaneDrawing:
    """Pictures of a model with a renderer.

    ``channels``: how many the latent has. ``planes`` is an engine's: what `write_planes` takes,
    of some of the cells of a latent ``[channels, h, w]`` in steps.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        channels: int,
        planes: Callable[[Floats, Box], NDArray[np.uint8]],
    ) -> None:
        self.channels = channels
        self._library, self._planes = library, planes

    def __call__(
        self,
        steps: Floats,
        cells: Box,
        symbols: Sequence[tuple[Box, Integers]],
        picture: Samples,
        place: Box,
    ) -> None:
        """As `caezip.patches.LeanDrawing`: there are no other channels, whose symbols count."""
        # what is behind the blocks sees two pixels beyond
        drawn = cells.grown(1, Box(0, 0, steps.shape[2], steps.shape[1]))
        planes, first = self._planes(steps, drawn), drawn.multiplied(PATCH_SIZE)
        write_planes(self._library, planes, picture, first.left - place.left, first.top - place.top)


Drawing = LeanDrawing | PlaneDrawing  # what writes pictures sooner than networks alone


def write_planes(
    library: ctypes.CDLL,
    planes: NDArray[np.uint8],
    picture: NDArray[np.uint8],
    left: int,
    top: int,
) -> None:
    """Write cells to the ``picture`` uint8 ``[H, W, 3]``, as far as they are inside.

    ``planes`` uint8 ``[48, h, w]``: samples of cells of 4x4 pixels, in the order of an image's;
    ``left`` and ``top``: where the first cell's first pixel is in the picture, or would be.
    The picture may be part of a larger one.
    """
    height, width = planes.shape[1:]
    check_array("planes", planes, np.uint8, (CELL_SAMPLES, height, width), whole=3)
    library.caezip_planes(
        ctypes.byref(
            _Planes(
                planes.ctypes.data,
                target_of(picture, left, top),
                *(height, width),
            )
        )
    )
