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
from caezip.halves import HalfPass
from caezip.hyper_prior import HYPER_TABLE_COUNT
from caezip.integers import Integers
from caezip.scales import EVIDENCE_LEVELS, SCALE_COUNT, Floats

LIBRARY = "_loops.so"
VERSION = 11  # of the functions, see `caezip_loops_version`
WORDS_OF_SYMBOL = 3  # at most: 16 bits of an escape, 4 of the count, up to 36 behind
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
        (name, _Pointer) for name in ("cumulative", "start", "length", "offset", "coarse")
    )


class _Rounding(ctypes.Structure):
    _fields_ = (
        *((name, _Pointer) for name in ("scaled", "means", "worth", "savings")),
        *((name, ctypes.c_int32) for name in ("predicted", "start")),
        *((name, _Pointer) for name in ("places", "symbols", "indexes")),
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
        )
        self.count = len(sums)
        self.struct = _Tables(*(array.ctypes.data for array in self._arrays))


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

    def first_pass(
        self,
        tables: LoopTables,
        half: HalfPass,
        evidence_table: NDArray[np.int8],
        evidence: Floats,
        limit: int,
    ) -> None:
        """Pass one of a half, whose ``evidence`` is written. Raises SymbolBeyondLimitError."""
        _check_decoded(tables, half)
        arrays = _first_pass_arrays(half, evidence_table, evidence)
        self._call("first_pass", tables, ctypes.byref(half.struct), *arrays, limit)

    def second_pass(
        self,
        tables: LoopTables,
        half: HalfPass,
        across: Floats,
        evidence: Floats,
        around: NDArray[np.int8],
        evidence_shift: int,
        limit: int,
    ) -> None:
        """Pass two of a half, given its own evidence and what the other's tells."""
        _check_decoded(tables, half)
        arrays = _second_pass_arrays(half, across, evidence, around)
        struct = ctypes.byref(half.struct)
        self._call("second_pass", tables, struct, *arrays, evidence_shift, limit)

    def _call(self, name: str, tables: LoopTables, *arguments: Any) -> None:
        function = getattr(self.library, f"caezip_{name}")
        if function(ctypes.byref(self._stream), ctypes.byref(tables.struct), *arguments):
            raise SymbolBeyondLimitError


class PassRounder:
    """Rounds what one pass codes of a latent in steps ``[C, h, w]``, and lists it.

    ``means`` float32 ``[M, h, w]`` of the first channels; ``worth`` float32 ``[C]``, or None for
    plain rounding; ``savings`` float32 ``[64, 16]``: see `caezip.quantisation`.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        scaled: Floats,
        means: Floats,
        worth: Floats | None,
        savings: Floats,
    ) -> None:
        channels, *grid = scaled.shape
        check_array("scaled", scaled, np.float32, (channels, *grid))
        check_array("means", means, np.float32, (min(len(means), channels), *grid))
        check_array("savings", savings, np.float32, (SCALE_COUNT, LARGEST_WEIGHED + 1))
        if worth is not None:
            check_array("worth", worth, np.float32, (channels,))
        self._library, self._scaled, self._means = library, scaled, means
        self._worth, self._savings = worth, savings
        cells = channels * grid[0] * -(-grid[1] // 2)
        self._places, self._symbols = np.empty(cells, np.int32), np.empty(cells, np.int32)
        self._indexes = np.empty(cells, np.uint8)
        self._count, self._channels = 0, 0

    def listed(self) -> tuple[Integers, Integers, NDArray[np.uint8]]:
        """Places in the latent, symbols and scale indexes ``[n]`` of what was coded so far."""
        some = slice(self._count)
        return self._places[some], self._symbols[some], self._indexes[some]

    def round_first(
        self, half: HalfPass, evidence_table: NDArray[np.int8], evidence: Floats
    ) -> None:
        """Pass one of the next half, whose ``evidence`` is written."""
        self._call("first", half, *_first_pass_arrays(half, evidence_table, evidence))

    def round_second(
        self,
        half: HalfPass,
        across: Floats,
        evidence: Floats,
        around: NDArray[np.int8],
        evidence_shift: int,
    ) -> None:
        """Pass two of the next half, given its own evidence and what the other's tells."""
        arrays = _second_pass_arrays(half, across, evidence, around)
        self._call("second", half, *arrays, evidence_shift)

    def _call(self, name: str, half: HalfPass, *arguments: Any) -> None:
        start, cells = self._channels, self._scaled[0].size
        self._channels += half.channels
        if self._channels > len(self._scaled) or half.grid != self._scaled.shape[1:]:
            raise ValueError("half: found one that is not of the latent")
        rounding = _Rounding(
            self._scaled[start:].ctypes.data,
            self._means[start:].ctypes.data,
            None if self._worth is None else self._worth[start:].ctypes.data,
            self._savings.ctypes.data,
            max(0, len(self._means) - start),
            start * cells,
            *(a.ctypes.data for a in (self._places, self._symbols, self._indexes)),
            self._count,
        )
        function = getattr(self._library, f"caezip_round_{name}")
        function(ctypes.byref(rounding), ctypes.byref(half.struct), *arguments)
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


def _first_pass_arrays(
    half: HalfPass, evidence_table: NDArray[np.int8], evidence: Floats
) -> list[int]:
    """Where they are."""
    check_array("evidence table", evidence_table, np.int8, (SCALE_COUNT, EVIDENCE_LEVELS))
    check_array("evidence", evidence, np.float32, half.evidence_shape)
    return [array.ctypes.data for array in (evidence_table, evidence)]


def _second_pass_arrays(
    half: HalfPass, across: Floats, evidence: Floats, around: NDArray[np.int8]
) -> list[int]:
    """Where they are."""
    check_array("across", across, np.float32, half.across_shape)
    check_array("evidence", evidence, np.float32, half.evidence_shape)
    check_array("around", around, np.int8, (half.channels, 4))
    return [array.ctypes.data for array in (across, evidence, around)]


def _check_decoded(tables: LoopTables, half: HalfPass) -> None:
    if tables.count != SCALE_COUNT:
        raise ValueError(f"tables: found {tables.count}, allowed are {SCALE_COUNT}")
    if not half.is_decoded:
        raise ValueError("half: found one without a residual to write to")


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
    library.caezip_first_pass.argtypes = [*[_Pointer] * 5, number]
    library.caezip_second_pass.argtypes = [*[_Pointer] * 6, number, number]
    library.caezip_round_first.argtypes = [_Pointer] * 4
    library.caezip_round_second.argtypes = [*[_Pointer] * 5, number]
    for name in ("across", "first_steps", "second_steps", "patches", "planes"):
        function = getattr(library, f"caezip_{name}")
        function.argtypes, function.restype = [_Pointer], None
    library.caezip_dense_kind.argtypes = []
    if library.caezip_dense_kind():
        names = ("first_means", "second_means", "streamed", "analysed", "hyper_analysed")
        for name in names:
            function = getattr(library, f"caezip_{name}")
            function.argtypes, function.restype = [_Pointer, number, _Pointer], size
    library.caezip_round_first.restype = library.caezip_round_second.restype = None
    return library
