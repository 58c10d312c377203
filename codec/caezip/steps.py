"""A tile's latent in steps, of its symbols and of what networks predict for each pass."""

from __future__ import annotations

import ctypes

import numpy as np

from caezip.arrays import check_array
from caezip.compiled import load_loops
from caezip.integers import Integers
from caezip.scales import Floats, checkerboard, halves

_Pointer = ctypes.c_void_p


class _Prediction(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("channels", "height", "width", "turning")),
        ("symbols", _Pointer),
        *((name, ctypes.c_int64) for name in ("symbols_plane", "symbols_row")),
        ("means", _Pointer),
        *((name, ctypes.c_int64) for name in ("means_plane", "means_row")),
        ("steps", _Pointer),
    )


def write_steps(
    steps: Floats, symbols: Integers, means: Floats, latent_channels: int, number: int
) -> None:
    """What a pass decodes, ``number`` 0 or 1, of the first M channels; all are ``[M, h, w]``.

    Pass one writes 0 where it codes nothing, pass two leaves what is there. ``symbols`` and
    ``means`` may be parts of larger arrays. By a compiled function where there is one. Raises
    ValueError for arrays that do not fit.
    """
    shape = symbols.shape
    check_array("symbols", symbols, np.int32, shape, whole=1)
    check_array("means", means, np.float32, shape, whole=1)
    check_array("steps", steps, np.float32, shape)
    loops = load_loops()
    if loops is None:
        here = checkerboard(latent_channels, *shape[1:])[: shape[0]] != bool(number)
        if not number:
            steps.fill(0)
        np.add(symbols, means, out=steps, where=here, dtype=np.float32, casting="unsafe")
        return
    turning = halves(latent_channels)[0].stop
    prediction = _Prediction(
        *(*shape, turning),
        *(symbols.ctypes.data, *_apart(symbols)),
        *(means.ctypes.data, *_apart(means)),
        steps.ctypes.data,
    )
    write = loops.caezip_second_steps if number else loops.caezip_first_steps
    write(ctypes.byref(prediction))


def _apart(array: Integers | Floats) -> tuple[int, int]:
    """How many numbers planes and rows are apart."""
    plane, row, _ = array.strides
    return plane // array.itemsize, row // array.itemsize
