"""Halves of a tile's channels as the compiled loops read them: ``half.h``."""

from __future__ import annotations

import ctypes
import math

import numpy as np
from numpy.typing import NDArray

from caezip.arrays import check_array
from caezip.integers import Integers
from caezip.scales import HYPER_STRIDE, Floats
from caezip.scratch import Scratch

PANEL = 16  # cells of the hyper-latent
COLUMNS_AT_ONCE = 32  # of a half, in products.c
READ_BEYOND = 8  # products that are read behind the last, but mean nothing
_Pointer = ctypes.c_void_p
_scratch = Scratch()


class _Half(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("channels", "height", "width", "parity", "shift")),
        ("hyper_channels", ctypes.c_int32),
        *((name, _Pointer) for name in ("weights", "hyper", "bias", "residual")),
        *((name, _Pointer) for name in ("columns", "products")),
    )


class _Telling(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("channels", "told", "height", "width")),
        ("evidence", _Pointer),
        ("nothing", ctypes.c_float),
        ("stride", ctypes.c_int32),
        *((name, _Pointer) for name in ("weights", "same", "sums", "across")),
    )


class HyperPanels:
    """What scales see of a hyper-latent, int32 ``[n, zh, zw]``, as the loops read it: sixteen
    cells at a time."""

    def __init__(self, hyper_latent: Integers) -> None:
        self.channels, *self.blocks = hyper_latent.shape
        count = -(-math.prod(self.blocks) // PANEL)
        cells = np.zeros((self.channels, count * PANEL), np.float32)
        cells[:, : math.prod(self.blocks)] = hyper_latent.reshape(self.channels, -1)
        self.array = np.ascontiguousarray(cells.reshape(-1, count, PANEL).swapaxes(0, 1))


class HalfPass:
    """Where one pass codes one half of a tile's channels; see ``Half`` in the source.

    ``weights`` int8 ``[channels * 16, n]``, ``bias`` int32 ``[channels]``,
    ``residual`` int32 ``[channels, h, w]``, which decoding writes to; for encoding just its shape.
    """

    def __init__(
        self,
        residual: Integers | tuple[int, int, int],
        parity: int,
        shift: int,
        weights: NDArray[np.int8],
        hyper: HyperPanels,
        bias: Integers,
    ) -> None:
        written = None if isinstance(residual, tuple) else residual
        channels, height, width = residual if isinstance(residual, tuple) else residual.shape
        if written is not None:
            check_array("residual", written, np.int32, (channels, height, width))
        if [-(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE)] != hyper.blocks:
            raise ValueError(f"hyper-latent: found {hyper.blocks} of a latent {height, width}")
        check_array("weights", weights, np.int8, (channels * HYPER_STRIDE**2, hyper.channels))
        check_array("bias", bias, np.int32, (channels,))
        columns = _scratch.array("columns", np.float32, hyper.channels, 2 * HYPER_STRIDE)
        row = 2 * PANEL * len(hyper.array)
        products = _scratch.array("products", np.int32, HYPER_STRIDE * row + READ_BEYOND)
        products[-READ_BEYOND:] = 0
        self._arrays = written, weights, hyper.array, bias, columns, products
        self.is_decoded = written is not None
        self.channels, self.grid = channels, (height, width)
        self.across_shape = across_shape(channels, self.grid)
        self.evidence_shape = evidence_shape(channels, self.grid)
        self.struct = _Half(
            *(channels, height, width, parity, shift, hyper.channels),
            *(array.ctypes.data for array in (weights, hyper.array, bias)),
            None if written is None else written.ctypes.data,
            *(array.ctypes.data for array in (columns, products)),
        )


def evidence_shape(channels: int, grid: tuple[int, int]) -> tuple[int, int, int]:
    """Of what pass one tells of a half, with zeros around it, so that every cell has neighbours."""
    return channels, grid[0] + 2, _eights(-(-grid[1] // 2)) + 8


def across_shape(channels: int, grid: tuple[int, int]) -> tuple[int, int, int]:
    """Of what the other half's evidence tells one."""
    return channels, grid[0], _eights(-(-grid[1] // 2))


def told_across(
    library: ctypes.CDLL, weights: Floats, nothing: int, evidence: Floats, grid: tuple[int, int]
) -> Floats:
    """What ``evidence`` of one half tells the other's cells: see `across_shape`.

    ``weights`` float32 ``[told, channels]``; ``nothing``: the evidence of what is not coded. Until
    the next call from the same thread.
    """
    told, channels = weights.shape
    check_array("evidence", evidence, np.float32, evidence_shape(channels, grid))
    rows = np.zeros((channels, _eights(told)), np.float32)
    rows[:, :told] = weights.T
    same = rows.sum(axis=0) * np.float32(nothing)
    sums = _scratch.array("sums", np.float32, COLUMNS_AT_ONCE, len(same))
    out: Floats = _scratch.array("across", np.float32, *across_shape(told, grid))
    telling = _Telling(
        *(channels, told, *grid),
        *(evidence.ctypes.data, nothing, len(same)),
        *(array.ctypes.data for array in (rows, same, sums, out)),
    )
    library.caezip_across(ctypes.byref(telling))
    return out


def _eights(count: int) -> int:
    """Rounded up to a multiple of 8."""
    return -(-count // 8) * 8
