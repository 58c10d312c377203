"""A hyper-latent's prior as the compiled functions read it: ``hyper.c``."""

from __future__ import annotations

import ctypes
import math

import numpy as np
from numpy.typing import NDArray

from caezip.arrays import check_array
from caezip.hyper_prior import KNOWN_CELLS, IntegerHyperPrior
from caezip.integers import Integers
from caezip.kept import KEPT_QUALITIES, Kept

_Pointer = ctypes.c_void_p


class _HyperPrior(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("channels", "hidden", "height", "width")),
        *((name, ctypes.c_int32) for name in ("first_shift", "second_shift")),
        *((name, _Pointer) for name in ("first", "first_bias", "second", "second_bias", "before")),
        *((name, _Pointer) for name in ("sums", "hyper_latent", "tables", "symbols")),
    )


class HyperPass:
    """One run over a hyper-latent int32 ``[Z, zh, zw]``, which it reads or writes.

    ``listed``, if symbols are listed: numbers of tables uint16 and what they code int32, ``[n]``.
    """

    def __init__(
        self,
        weights: CompiledHyperPrior,
        quality_hundredths: int,
        hyper_latent: Integers,
        listed: tuple[NDArray[np.uint16], Integers] | None = None,
    ) -> None:
        channels, height, width = hyper_latent.shape
        check_array("hyper_latent", hyper_latent, np.int32, (weights.channels, height, width))
        prior, hidden = weights.prior, len(weights.prior.first)
        first_bias, second_bias = weights.biases.of(quality_hundredths, prior.biases)
        sums = np.empty(hidden + 2 * channels, np.int32)
        kept = weights.first, first_bias, weights.second, second_bias, weights.before, sums
        self._kept = (*kept, hyper_latent, *(listed or ()))  # as long as the struct points there
        self.struct = _HyperPrior(
            *(channels, hidden, height, width, prior.first_shift, prior.second_shift),
            *(array.ctypes.data for array in self._kept),
        )


class CompiledHyperPrior:
    """The weights, in another order: what one value adds to all sums is one piece of memory."""

    def __init__(self, prior: IntegerHyperPrior) -> None:
        self.prior, self.channels = prior, prior.channels
        outputs = 2 * prior.channels
        self.first = _turned(prior.first, (len(KNOWN_CELLS) * outputs, len(prior.first)))
        self.second = _turned(prior.second, (len(prior.first), outputs))
        self.before = _turned(prior.before, (outputs, outputs))
        self.biases: Kept[int, tuple[Integers, Integers]] = Kept(KEPT_QUALITIES)

    def tables_of(
        self, library: ctypes.CDLL, hyper_latent: Integers, quality_hundredths: int
    ) -> tuple[NDArray[np.uint16], Integers]:
        """See `IntegerHyperPrior.tables_of`."""
        count = math.prod(hyper_latent.shape)
        listed = np.empty(count, np.uint16), np.empty(count, np.int32)
        values = np.ascontiguousarray(hyper_latent, np.int32)
        job = HyperPass(self, quality_hundredths, values, listed)
        library.caezip_list_hyper(ctypes.byref(job.struct))
        return listed


def _turned(weights: NDArray[np.int16], shape: tuple[int, int]) -> NDArray[np.int16]:
    turned = np.ascontiguousarray(weights.T, np.int16)
    check_array("weights", turned, np.int16, shape)
    return turned
