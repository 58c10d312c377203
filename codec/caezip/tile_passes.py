"""A tile's two passes as the compiled loops read them: ``tile.h``."""

from __future__ import annotations

import ctypes
import math
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from caezip.arrays import KeptArrays, check_array
from caezip.hyper_features import IntegerHyperFeatures
from caezip.integers import Integers
from caezip.kept import KEPT_QUALITIES, Kept
from caezip.scales import HYPER_STRIDE, IntegerScales
from caezip.scratch import Scratch

PANEL = 16  # cells of the hyper-latent
TOLD_TOGETHER = 32  # channels, in products.c
_Pointer = ctypes.c_void_p
_Two = ctypes.c_void_p * 2
_scratch = Scratch()


class _Scales(ctypes.Structure):
    _fields_ = (
        ("channels", ctypes.c_int32 * 2),
        *((name, ctypes.c_int32) for name in ("hyper_pairs", "shift", "evidence_shift")),
        ("stride", ctypes.c_int32 * 2),
        ("weights", _Two * 2),
        *((name, _Pointer) for name in ("evidence", "around")),
        *((name, _Two) for name in ("across", "same")),
    )


class _Tile(ctypes.Structure):
    _fields_ = (
        ("scales", _Pointer),
        *((name, ctypes.c_int32) for name in ("height", "width")),
        ("bias", _Two),
        *((name, _Pointer) for name in ("hyper", "residual", "room")),
    )


class _Panels(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("channels", "features", "height", "width", "shift")),
        *((name, _Pointer) for name in ("weights", "bias", "hyper_latent", "sums", "panels")),
    )


class CompiledScales:
    """A model's scale predictor, in the order in which the loops read it."""

    def __init__(self, scales: IntegerScales) -> None:
        self._kept = KeptArrays()
        self.channels, features = scales.bias.shape[1], scales.features
        self._hyper_channels, inputs = scales.hyper_channels, scales.weight.shape[1]
        self.pairs = -(-inputs // 2)
        sides = [half.stop - half.start for half in scales.halves]
        strides = [-(-side // TOLD_TOGETHER) * TOLD_TOGETHER for side in sides]
        across = [
            np.pad(told.T, ((0, 0), (0, stride - side)))
            for told, side, stride in zip(scales.packed_across, sides, strides, strict=True)
        ]
        nothing = np.float32(scales.evidence[0, 0])
        self.struct = _Scales(
            (ctypes.c_int32 * 2)(*sides),
            *(self.pairs, scales.shift, scales.evidence_shift),
            (ctypes.c_int32 * 2)(*strides),
            (_Two * 2)(*(self._both_parities(scales, half) for half in (0, 1))),
            *map(self._kept.address_of, (scales.evidence, scales.around)),
            _Two(*map(self._kept.address_of, across)),
            _Two(*(self._kept.address_of(rows.sum(axis=0) * nothing) for rows in across)),
        )
        self._features, self._feature_weights = features, 0
        if features is not None:
            self._feature_weights = self._kept.address_of(features.weight.T)
        self.biases: Kept[int, tuple[Integers, Integers]] = Kept(KEPT_QUALITIES)
        self._feature_bias: Kept[int, Integers] = Kept(KEPT_QUALITIES)

    def _both_parities(self, scales: IntegerScales, half: int) -> ctypes.Array[ctypes.c_void_p]:
        """Addresses of ``[channels, pairs, 8, 2]``."""
        addresses = []
        for parity in (0, 1):
            cells = scales.packed_cells(half, parity)
            channels, places, inputs = cells.shape
            padded = np.zeros((channels, places, 2 * self.pairs), np.int16)
            padded[:, :, :inputs] = cells
            paired = padded.reshape(channels, places, self.pairs, 2).swapaxes(1, 2)
            addresses.append(self._kept.address_of(paired))
        return _Two(*addresses)

    def panels(
        self, library: ctypes.CDLL, hyper_latent: Integers, quality_hundredths: int
    ) -> NDArray[np.int16]:
        """What scales see of a hyper-latent int32 ``[Z, zh, zw]``: ``[panels, pairs, 16, 2]``."""
        blocks = hyper_latent.shape[1:]
        check_array("hyper_latent", hyper_latent, np.int32, (self._hyper_channels, *blocks))
        panels = np.zeros((-(-math.prod(blocks) // PANEL), self.pairs, PANEL, 2), np.int16)
        bias = self._feature_bias.of(quality_hundredths, partial(_feature_bias, self._features))
        job = _Panels(
            *(self._hyper_channels, len(bias), *blocks),
            0 if self._features is None else self._features.shift,
            self._feature_weights,
            *(bias.ctypes.data, hyper_latent.ctypes.data),
            _scratch.array("sums", np.int32, len(bias)).ctypes.data,
            panels.ctypes.data,
        )
        library.caezip_panels(ctypes.byref(job))
        return panels


def _feature_bias(features: IntegerHyperFeatures | None, quality_hundredths: int) -> Integers:
    if features is None:
        return np.empty(0, np.int32)
    return features.rounding_bias(quality_hundredths)


compiled_scales = lru_cache(maxsize=8)(CompiledScales)


class TilePasses:
    """What loops over both passes of a tile's latent are given.

    ``residual`` int32 ``[C, h, w]``: what they write symbols to, if they decode. For one thread,
    and until it makes the next: what they compute in is its own.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        scales: IntegerScales,
        hyper_latent: Integers,
        quality_hundredths: int,
        grid: tuple[int, int],
        residual: Integers | None = None,
    ) -> None:
        weights = compiled_scales(scales)
        self.shape, self.is_decoded = (weights.channels, *grid), residual is not None
        if residual is not None:
            check_array("residual", residual, np.int32, self.shape)
        blocks = tuple(-(-side // HYPER_STRIDE) for side in grid)
        if hyper_latent.shape[1:] != blocks:
            raise ValueError(f"hyper-latent: found {hyper_latent.shape[1:]} of a latent {grid}")
        hyper_latent = np.ascontiguousarray(hyper_latent)
        panels = weights.panels(library, hyper_latent, quality_hundredths)
        biases = weights.biases.of(quality_hundredths, scales.biases)
        self.struct = _Tile(
            *(ctypes.addressof(weights.struct), *grid),
            _Two(*(bias.ctypes.data for bias in biases)),
            panels.ctypes.data,
            None if residual is None else residual.ctypes.data,
        )
        room = _scratch.array("room", np.uint8, library.caezip_tile_room(ctypes.byref(self.struct)))
        self.struct.room = room.ctypes.data
        self._arrays = weights, panels, biases, residual, room
