"""Tables of symbol frequencies, and what they make symbols cost. FORMAT.md has the rules."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from caezip.errors import WeightsError
from caezip.integers import Integers

PRECISION_BITS = 16  # table frequencies sum to 2^16
# How often a coefficient of `caezip.adaptive_filter` is 0, ±1, ±2 and so on, each sign, as
# counted in filters of training photographs, smoothed; the rest is the escape's.
FILTER_COEFFICIENTS = 108
MAX_FILTER_COEFFICIENT = 127
FILTER_FREQUENCIES = (
    *(38654, 5130, 2680, 1400, 900, 720, 600, 480, 370, 280, 205, 155, 115),
    *(88, 68, 53, 41, 32, 25, 20, 16, 14, 12, 11, 10),
)
NO_FILTER, FILTER = 0, 1  # the symbol in front of the coefficients


@dataclass(frozen=True)
class FrequencyTables:
    """Ragged tables of symbol frequencies; the last entry of each is the escape.

    ``frequencies`` uint16, all tables one after the other, each summing to 2^16;
    ``lengths`` int32, entries per table; ``offsets`` int32, each table's first symbol.
    """

    frequencies: NDArray[np.uint16]
    lengths: Integers
    offsets: Integers

    def __post_init__(self) -> None:
        if len(self.lengths) != len(self.offsets) or int(self.lengths.sum()) != len(
            self.frequencies
        ):
            raise WeightsError("frequency tables: their lengths do not add up")
        if len(self.lengths) == 0 or int(self.lengths.min()) < 2:
            raise WeightsError("frequency tables: each needs at least two entries")
        if int(self.frequencies.min()) < 1:
            raise WeightsError("frequency tables: found a frequency of 0")
        sums = np.add.reduceat(self.frequencies.astype(np.int64), self._starts())
        if (sums != 1 << PRECISION_BITS).any():
            raise WeightsError("frequency tables: found one that does not sum to 65536")

    def _starts(self) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(self.lengths.astype(np.int64))[:-1]])

    def cumulative(self) -> list[list[int]]:
        """Per table: 0, running sums, 65536."""
        out = []
        for start, length in zip(self._starts(), self.lengths, strict=True):
            part = self.frequencies[start : start + length].astype(np.int64)
            out.append([0, *np.cumsum(part).tolist()])
        return out


class CoderTables(NamedTuple):
    """Tables as compressai's coder reads them, which takes longer the more there are."""

    cdfs: list[list[int]]
    sizes: list[int]
    offsets: list[int]

    @classmethod
    def of(cls, tables: FrequencyTables) -> CoderTables:
        cdfs = tables.cumulative()
        return cls(cdfs, [len(cdf) for cdf in cdfs], tables.offsets.tolist())

    def up_to(self, last: int) -> CoderTables:
        """Without the tables behind ``last``: those of large scales are long and rarely used."""
        end = last + 1
        return CoderTables(self.cdfs[:end], self.sizes[:end], self.offsets[:end])

    def chosen(self, numbers: NDArray[np.uint16]) -> CoderTables:
        """The tables of these ``numbers``, one after the other."""
        places = numbers.tolist()
        return CoderTables(
            [self.cdfs[place] for place in places],
            [self.sizes[place] for place in places],
            [self.offsets[place] for place in places],
        )

    def shifted(self, shift: int) -> CoderTables:
        """For symbols to which ``shift`` was added."""
        return self._replace(offsets=[offset + shift for offset in self.offsets])

    def followed_by(self, others: CoderTables) -> CoderTables:
        return CoderTables(
            self.cdfs + others.cdfs, self.sizes + others.sizes, self.offsets + others.offsets
        )


@cache
def filter_tables() -> CoderTables:
    """First that of the symbol in front, then that of coefficients."""
    whole = 1 << PRECISION_BITS
    largest = len(FILTER_FREQUENCIES) - 1
    both_signs = [*FILTER_FREQUENCIES[:0:-1], *FILTER_FREQUENCIES]
    coefficients = [*both_signs, whole - sum(both_signs)]
    front = [whole // 2, whole // 2 - 1, 1]
    return CoderTables.of(
        FrequencyTables(
            np.array([*front, *coefficients], np.uint16),
            np.array([len(front), len(coefficients)], np.int32),
            np.array([NO_FILTER, -largest], np.int32),
        )
    )


@cache
def filter_bits() -> NDArray[np.float64]:
    """Code length of a filter's coefficient by its magnitude, ``[MAX_FILTER_COEFFICIENT + 1]``."""
    cdf, offset = filter_tables().cdfs[1], filter_tables().offsets[1]
    return code_lengths(cdf, offset, np.arange(MAX_FILTER_COEFFICIENT + 1))


def code_lengths(cdf: list[int], offset: int, symbols: NDArray[np.int64]) -> NDArray[np.float64]:
    """In bits, of ``symbols`` under a table of cumulative frequencies."""
    lengths = PRECISION_BITS - np.log2(np.diff(cdf))
    last = len(lengths) - 1  # the escape
    entries = symbols - offset
    bits: NDArray[np.float64] = lengths[np.where((entries < 0) | (entries > last), last, entries)]
    # behind an escape: how many nibbles, and these (FORMAT.md, "Escapes")
    beyond = np.where(entries < 0, -2 * entries - 1, 2 * (entries - last))
    nibbles = np.ceil(np.log2(np.maximum(beyond, 0) + 1) / 4)
    bits += np.where((entries < 0) | (entries >= last), 4 + 4 * nibbles, 0)
    return bits
