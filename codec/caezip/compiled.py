"""The loops of ``loops.c``, where a compiler was at hand when caezip was installed.

Decoding a tile's symbols with them takes a third of the time that numpy and compressai's coder
take together. They give the same integers; without them all works as well. Only what no encoder
writes can make a difference: an escape of more than 32 bits is refused, as FORMAT.md has it, where
compressai's coder overlooks the rest of it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caezip.arrays import check_array
from caezip.compiled_hyper_prior import CompiledHyperPrior, HyperPass
from caezip.frequency_tables import PRECISION_BITS
from caezip.hyper_prior import HYPER_TABLE_COUNT
from caezip.integers import Integers
from caezip.scales import SCALE_COUNT, Floats
from caezip.tile_passes import TilePasses

LIBRARY = "_loops.so"
VERSION = 13  # of the functions, see `caezip_loops_version`
WORDS_OF_SYMBOL = 3  # at most: 16 bits of an escape, 4 of the count, up to 36 behind
LISTED_BEYOND = 8  # that may be written behind what is coded, and mean nothing
LARGEST_WEIGHED = 15  # symbols above are rounded as if they were this
COARSE = 256  # parts of a table's frequencies, each with the entry that it begins in
_Pointer = ctypes.c_void_p


class SymbolBeyondLimitError(Exception):
    """A stream has a symbol that is larger than its field may be."""


class _Stream(ctypes.Structure):
    _fields_ = (
        ("words", _Pointer),
        ("count", ctypes.c_int64),
        ("next", ctypes.c_int64),
        ("x", ctypes.c_uint64),
    )


class _Tables(ctypes.Structure):
    _fields_ = tuple(
        (name, _Pointer)
        for name in ("cumulative", "start", "length", "offset", "coarse", "reciprocals", "shifts")
    )


class _Rounding(ctypes.Structure):
    _fields_ = (
        *((name, _Pointer) for name in ("scaled", "means", "worth", "savings")),
        ("predicted", ctypes.c_int32),
        *((name, _Pointer) for name in ("places", "symbols", "indexes", "steps")),
        ("count", ctypes.c_int64),
    )


class LoopTables:
    """Frequency tables as the loops read them.

    ``cumulative``: each table's running sums from 0 to 2^16; ``offsets``: their first symbols.
    """

    def __init__(self, cumulative: Sequence[Sequence[int]], offsets: Sequence[int]) -> None:
        sums = [np.array(table, np.uint32) for table in cumulative]
        sizes = np.array([len(table) for table in sums])
        parts = np.arange(COARSE) << (PRECISION_BITS - 8)
        coarse = [np.searchsorted(table, parts, side="right") - 1 for table in sums]
        self._arrays = (
            np.concatenate(sums),
            (np.cumsum(sizes) - sizes).astype(np.int32),
            (sizes - 1).astype(np.int32),
            np.array(offsets, np.int32),
            np.concatenate(coarse).astype(np.uint16),
            *_reciprocals(np.concatenate([np.diff(table, append=table[-1:]) for table in sums])),
        )
        self.count = len(sums)
        self.struct = _Tables(*(array.ctypes.data for array in self._arrays))


def _reciprocals(frequencies: NDArray[np.uint32]) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """What ``rans.c`` multiplies with instead of dividing by frequencies ``[n]``, see there.

    0 for 1, and for what is behind the last entry of a table.
    """
    divisors = frequencies.clip(1).astype(np.uint64)
    shifts = np.frexp((divisors - 1).astype(np.float64))[1].astype(np.uint64)  # bits of it
    # ceil(2^(63 + shift) / divisor), by two steps of long division
    half = np.uint64(32)
    high, rest = np.divmod(np.uint64(1) << shifts + np.uint64(31), divisors)
    low = ((rest << half) + divisors - np.uint64(1)) // divisors
    return np.where(divisors > 1, (high << half) + low, np.uint64(0)), shifts.astype(np.uint8)


class StreamDecoder:
    """Reads a tile's stream from its start."""

    def __init__(self, library: ctypes.CDLL, stream: bytes) -> None:
        self.library = library
        self._words = np.frombuffer(stream, "<u4").astype(np.uint32)
        x = int(self._words[0]) | int(self._words[1]) << 32
        self._stream = _Stream(self._words.ctypes.data, len(self._words), 2, x)

    def read_symbols(self, tables: LoopTables, numbers: NDArray[np.uint16], limit: int) -> Integers:
        """As many symbols ``[n]`` as there are ``numbers`` of tables.

        Raises SymbolBeyondLimitError.
        """
        _check_numbers(tables, numbers)
        out = np.empty(len(numbers), np.int32)
        self._call("symbols", tables, numbers.ctypes.data, len(numbers), limit, out.ctypes.data)
        return out

    def read_hyper_latent(
        self,
        tables: LoopTables,
        prior: CompiledHyperPrior,
        quality_hundredths: int,
        blocks: tuple[int, int],
    ) -> Integers:
        """The hyper-latent ``[Z, *blocks]``. Raises SymbolBeyondLimitError."""
        if tables.count != HYPER_TABLE_COUNT:
            raise ValueError(f"tables: found {tables.count}, allowed are {HYPER_TABLE_COUNT}")
        out = np.empty((prior.channels, *blocks), np.int32)
        job = HyperPass(prior, quality_hundredths, out)
        self._call("read_hyper", tables, ctypes.byref(job.struct))
        return out

    def first_pass(self, tables: LoopTables, passes: TilePasses, limit: int) -> None:
        """Raises SymbolBeyondLimitError."""
        self._pass("first", tables, passes, limit)

    def second_pass(self, tables: LoopTables, passes: TilePasses, limit: int) -> None:
        """Once the first is done. Raises SymbolBeyondLimitError."""
        self._pass("second", tables, passes, limit)

    def _pass(self, name: str, tables: LoopTables, passes: TilePasses, limit: int) -> None:
        if tables.count != SCALE_COUNT:
            raise ValueError(f"tables: found {tables.count}, allowed are {SCALE_COUNT}")
        if not passes.is_decoded:
            raise ValueError("passes: found some without a residual to write to")
        self._call(f"{name}_pass", tables, ctypes.byref(passes.struct), limit)

    def _call(self, name: str, tables: LoopTables, *arguments: Any) -> None:
        function = getattr(self.library, f"caezip_{name}")
        if function(ctypes.byref(self._stream), ctypes.byref(tables.struct), *arguments):
            raise SymbolBeyondLimitError


class PassRounder:
    """Rounds what one pass codes of a latent in steps ``[C, h, w]``, and lists it.

    ``means`` float32 ``[M, h, w]`` of the first channels; ``worth`` float32 ``[C]``, or None for
    plain rounding; ``savings`` float32 ``[64, 16]``: see `caezip.quantisation`. ``steps`` float32
    ``[M, h, w]``: where pass one writes what it decodes of those channels, and 0 elsewhere.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        scaled: Floats,
        means: Floats,
        worth: Floats | None,
        savings: Floats,
        steps: Floats | None = None,
    ) -> None:
        channels, *grid = scaled.shape
        check_array("scaled", scaled, np.float32, (channels, *grid))
        check_array("means", means, np.float32, (min(len(means), channels), *grid))
        check_array("savings", savings, np.float32, (SCALE_COUNT, LARGEST_WEIGHED + 1))
        if worth is not None:
            check_array("worth", worth, np.float32, (channels,))
        if steps is not None:
            check_array("steps", steps, np.float32, means.shape)
        self._library, self._scaled, self._means = library, scaled, means
        self._worth, self._savings, self._steps = worth, savings, steps
        cells = channels * grid[0] * -(-grid[1] // 2) + LISTED_BEYOND
        self._places, self._symbols = np.empty(cells, np.int32), np.empty(cells, np.int32)
        self._indexes = np.empty(cells, np.uint8)
        self._count = 0

    def listed(self) -> tuple[Integers, Integers, NDArray[np.uint8]]:
        """Places in the latent, symbols and scale indexes ``[n]`` of what was coded."""
        some = slice(self._count)
        return self._places[some], self._symbols[some], self._indexes[some]

    def round_first(self, passes: TilePasses) -> None:
        self._call("first", passes)

    def round_second(self, passes: TilePasses) -> None:
        """Of the next latent, once another has rounded what pass one codes."""
        self._call("second", passes)

    def _call(self, name: str, passes: TilePasses) -> None:
        if passes.shape != self._scaled.shape:
            raise ValueError(f"latent: found {self._scaled.shape}, allowed is {passes.shape}")
        arrays = self._scaled, self._means, self._worth, self._savings
        listed = self._places, self._symbols, self._indexes, self._steps
        rounding = _Rounding(
            *(None if array is None else array.ctypes.data for array in arrays),
            len(self._means),
            *(None if array is None else array.ctypes.data for array in listed),
            0,
        )
        function = getattr(self._library, f"caezip_round_{name}")
        function(ctypes.byref(rounding), ctypes.byref(passes.struct))
        self._count = rounding.count


class StreamEncoder:
    """Writes a tile's stream from its end."""

    def __init__(self, library: ctypes.CDLL, symbols: int) -> None:
        """``symbols``: how many there will be in all."""
        self._library = library
        self._words = np.empty(WORDS_OF_SYMBOL * symbols + 2, np.uint32)
        size = len(self._words)
        self._stream = _Stream(self._words.ctypes.data, size, size, 1 << 31)
        self._room = symbols

    def write_symbols(
        self, tables: LoopTables, numbers: NDArray[np.uint16], symbols: Integers
    ) -> None:
        """Put ``symbols`` [n], each with the table of its number, before what is there."""
        _check_numbers(tables, numbers)
        check_array("symbols", symbols, np.int32, numbers.shape)
        self._room -= len(symbols)
        if self._room < 0:
            raise ValueError(f"symbols: found {-self._room} more than were announced")
        self._library.caezip_write(
            ctypes.byref(self._stream),
            ctypes.byref(tables.struct),
            numbers.ctypes.data,
            symbols.ctypes.data,
            len(symbols),
        )

    def finished(self) -> bytes:
        """The stream: the coder's final state, then its words."""
        x, start = self._stream.x, self._stream.next - 2
        self._words[start : start + 2] = x & 0xFFFFFFFF, x >> 32
        stream: bytes = self._words[start:].astype("<u4").tobytes()
        return stream


def _check_numbers(tables: LoopTables, numbers: NDArray[np.uint16]) -> None:
    check_array("numbers", numbers, np.uint16, (len(numbers),))
    if numbers.size and int(numbers.max()) >= tables.count:
        raise ValueError(f"numbers: found {numbers.max()}, there are {tables.count} tables")


@cache
def load_loops() -> ctypes.CDLL | None:
    """The compiled library; None if it is not there or was compiled from another source."""
    try:
        library = ctypes.CDLL(str(Path(__file__).with_name(LIBRARY)))
        version = int(library.caezip_loops_version())
    except (OSError, AttributeError):
        return None
    if version != VERSION:
        return None
    size, number = ctypes.c_int64, ctypes.c_int32
    library.caezip_symbols.argtypes = [_Pointer, _Pointer, _Pointer, size, number, _Pointer]
    library.caezip_write.argtypes = [_Pointer, _Pointer, _Pointer, _Pointer, size]
    library.caezip_write.restype = None
    library.caezip_read_hyper.argtypes = [_Pointer] * 3
    library.caezip_list_hyper.argtypes, library.caezip_list_hyper.restype = [_Pointer], None
    library.caezip_tile_room.argtypes, library.caezip_tile_room.restype = [_Pointer], size
    for name in ("first_pass", "second_pass"):
        getattr(library, f"caezip_{name}").argtypes = [*[_Pointer] * 3, number]
    for name in ("round_first", "round_second"):
        function = getattr(library, f"caezip_{name}")
        function.argtypes, function.restype = [_Pointer] * 2, None
    for name in ("panels", "first_steps", "second_steps", "patches", "planes"):
        function = getattr(library, f"caezip_{name}")
        function.argtypes, function.restype = [_Pointer], None
    library.caezip_dense_kind.argtypes = []
    if library.caezip_dense_kind():
        names = ("first_means", "second_means", "streamed", "analysed", "hyper_analysed")
        for name in names:
            function = getattr(library, f"caezip_{name}")
            function.argtypes, function.restype = [_Pointer, number, _Pointer], size
    return library
