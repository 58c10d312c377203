"""Which table codes each symbol of a tile's hyper-latent, given those before it: in integers only.

What the decoder reads depends on this, so it is exact on every machine. FORMAT.md gives the same
rules in words ("Hyper-latent").

Shapes: hyper-latent ``[Z, zh, zw]``. Its cells are coded row by row, the channels of a cell one
after the other. A small network sees the four cells around that are known by then, and, for a
channel, those of the groups of channels before its own in the same cell: an autoregressive prior
as that of Minnen et al. 2018, "Joint Autoregressive and Hierarchical Priors for Learned Image
Compression", but on the hyper-latent, which has so few symbols that it costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from caezip.errors import WeightsError
from caezip.integers import MAX_HYPER_SYMBOL, Integers, check_exported, interpolated

# (row, column) of the cells that a cell's symbols depend on: left, above, above left, above right
KNOWN_CELLS = ((0, -1), (-1, 0), (-1, -1), (-1, 1))
GROUP_CHANNELS = 8  # that are predicted together, from the groups before theirs
LARGEST_SEEN = 15  # symbols are seen as if they were no larger
# How large a symbol is, as it is seen: 16 log(1 + |symbol|), rounded.
MAGNITUDES = (0, 11, 18, 22, 26, 29, 31, 33, 35, 37, 38, 40, 41, 42, 43, 44)
_MAGNITUDES = np.array(MAGNITUDES, np.int32)
LARGEST_HIDDEN = 255
HYPER_SCALE_COUNT = 32
PHASES = 8  # parts of a step that means are known to
HYPER_TABLE_COUNT = HYPER_SCALE_COUNT * PHASES
LARGEST_MEAN = PHASES * MAX_HYPER_SYMBOL
# What decodes as many symbols as there are numbers of tables.
ReadSymbols = Callable[[NDArray[np.uint16]], Integers]


@dataclass(frozen=True)
class IntegerHyperPrior:
    """The prior as exported: int16 weights, int32 biases, two shifts.

    With ``x`` [8 Z] what is seen of the known cells, ``y`` [2 Z] what is seen of the cell itself,
    and half a step of each shift in the biases::

        hidden = clamp((first @ x + first_bias(quality)) >> first_shift, 0, 255)
        sums = (second @ hidden + before @ y + second_bias(quality)) >> second_shift

    The first ``Z`` of ``sums`` are means in eighths of a step, the others scale indexes.

    ``first`` int16 ``[H, 8 Z]``, ``second`` int16 ``[2 Z, H]``, ``before`` int16 ``[2 Z, 2 Z]``
    with 0 where a channel would see its own group or one behind it; ``first_bias`` int32
    ``[anchors, H]``, ``second_bias`` int32 ``[anchors, 2 Z]``.
    """

    first: NDArray[np.int16]
    first_bias: Integers
    second: NDArray[np.int16]
    second_bias: Integers
    before: NDArray[np.int16]
    first_shift: int
    second_shift: int

    def __post_init__(self) -> None:
        if self.second.ndim != 2 or self.first_bias.ndim != 2 or len(self.first_bias) < 2:
            raise WeightsError("hyper-prior: weights and biases must be matrices")
        outputs, hidden = self.second.shape
        anchors = len(self.first_bias)
        expected = {
            "first": (hidden, 4 * outputs),
            "first_bias": (anchors, hidden),
            "second_bias": (anchors, outputs),
            "before": (outputs, outputs),
        }
        check_exported("hyper-prior", self, expected, ("first_shift", "second_shift"))
        if outputs % 2:
            raise WeightsError(
                f"hyper-prior second: found {outputs} rows, allowed are even numbers"
            )
        if (self.before * ~seen_before(outputs // 2)).any():
            raise WeightsError("hyper-prior before: found a channel that sees what is not known")
        if self._largest_sum() >= 1 << 31:
            raise WeightsError("hyper-prior: its sums can exceed 31 bits")

    def _largest_sum(self) -> int:
        """Bound on every intermediate value, over all symbols the format allows."""

        def rows(weights: NDArray[np.int16], largest: int) -> NDArray[np.int64]:
            sums: NDArray[np.int64] = np.abs(weights.astype(np.int64)).sum(axis=1) * largest
            return sums

        def bias(values: Integers) -> NDArray[np.int64]:
            largest: NDArray[np.int64] = np.abs(values.astype(np.int64)).max(axis=0)
            return largest

        first = rows(self.first, max(MAGNITUDES)) + bias(self.first_bias)
        second = rows(self.second, LARGEST_HIDDEN) + rows(self.before, max(MAGNITUDES))
        second += bias(self.second_bias)
        half_steps = (1 << (self.first_shift - 1)) + (1 << (self.second_shift - 1))
        return int(max(first.max(initial=0), second.max(initial=0))) + half_steps

    @property
    def channels(self) -> int:
        return len(self.second) // 2

    @cached_property
    def exact(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """``first``, ``second`` and ``before``: products of integers are exact, and fast."""
        first, second, before = (
            weights.astype(np.float64) for weights in (self.first, self.second, self.before)
        )
        return first, second, before

    @cached_property
    def _groups(self) -> list[tuple[slice, NDArray[np.intp], NDArray[np.float64]]]:
        """Of each group: channels, rows of means and scales, and its columns of ``before``."""
        out = []
        for start in range(0, self.channels, GROUP_CHANNELS):
            own = np.arange(start, min(start + GROUP_CHANNELS, self.channels))
            both = np.concatenate([own, own + self.channels])
            told = np.ascontiguousarray(self.exact[2][:, both])
            out.append((slice(start, start + len(own)), both, told))
        return out

    def biases(self, quality_hundredths: int) -> tuple[Integers, Integers]:
        """``[H]`` and ``[2 Z]`` at a quality, half a step of each shift in them."""
        first = interpolated(self.first_bias, quality_hundredths) + (1 << (self.first_shift - 1))
        second = interpolated(self.second_bias, quality_hundredths) + (1 << (self.second_shift - 1))
        return first, second

    def tables_of(
        self, hyper_latent: Integers, quality_hundredths: int
    ) -> tuple[NDArray[np.uint16], Integers]:
        """Numbers of tables and what they code, ``[zh * zw * Z]``, in the order of the stream."""
        channels, zh, zw = hyper_latent.shape
        seen = seen_of(hyper_latent)
        first, second, before = self.exact
        first_bias, second_bias = self.biases(quality_hundredths)
        hidden = self._hidden(first @ known(seen).reshape(-1, zh * zw) + first_bias[:, None])
        sums = second @ hidden + before @ seen.reshape(-1, zh * zw) + second_bias[:, None]
        numbers, middles = self._tables(sums)
        symbols = hyper_latent.reshape(channels, -1) - middles
        return numbers.T.ravel(), symbols.T.ravel()

    def decoded(
        self, read: ReadSymbols, quality_hundredths: int, blocks: tuple[int, int]
    ) -> Integers:
        """The hyper-latent ``[Z, *blocks]`` whose symbols ``read`` gives, a group at a time.

        Symbols are not checked: a hyper-latent that no encoder writes may be beyond its limit.
        """
        out = np.zeros((self.channels, *blocks), np.int32)
        seen = np.zeros((2 * self.channels, blocks[0] + 1, blocks[1] + 2))  # a border of zeros
        first, second, _ = self.exact
        first_bias, second_bias = self.biases(quality_hundredths)
        for row, column in np.ndindex(*blocks):
            cells = [seen[:, 1 + row + down, 1 + column + right] for down, right in KNOWN_CELLS]
            hidden = self._hidden(first @ np.concatenate(cells) + first_bias)
            sums = second @ hidden + second_bias
            for own, both, told in self._groups:
                numbers, middles = self._tables(sums[both])
                symbols = read(numbers) + middles
                out[own, row, column] = symbols
                own_seen = seen_of(symbols)
                seen[both, 1 + row, 1 + column] = own_seen
                sums += told @ own_seen
        return out

    def _hidden(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        hidden: NDArray[np.float64] = np.floor(sums * 2.0**-self.first_shift)
        return hidden.clip(0, LARGEST_HIDDEN)

    def _tables(self, sums: NDArray[np.float64]) -> tuple[NDArray[np.uint16], Integers]:
        """Of ``[2 n, …]`` the numbers of tables and the whole steps of means, ``[n, …]``."""
        # many small arrays come by where nothing is compiled: ufuncs are what takes the least time
        whole, count = np.floor(sums * 2.0**-self.second_shift), len(sums) // 2
        means = np.minimum(np.maximum(whole[:count], -LARGEST_MEAN), LARGEST_MEAN).astype(np.int32)
        rows = np.minimum(np.maximum(whole[count:], 0), HYPER_SCALE_COUNT - 1).astype(np.int32)
        middles = (means + PHASES // 2) >> 3
        phases = means + PHASES // 2 - PHASES * middles
        return (PHASES * rows + phases).astype(np.uint16), middles


def seen_before(channels: int) -> NDArray[np.bool_]:
    """``[2 Z, 2 Z]``: True where a channel's mean or scale may depend on a channel of its cell."""
    groups = np.tile(np.arange(channels) // GROUP_CHANNELS, 2)
    earlier: NDArray[np.bool_] = groups[:, None] > groups
    return earlier


def seen_of(symbols: Integers) -> NDArray[np.float64]:
    """How symbols ``[n, …]`` are seen: ``[2 n, …]``, their values, then their magnitudes."""
    values = np.minimum(np.maximum(symbols, -LARGEST_SEEN), LARGEST_SEEN)
    magnitudes = _MAGNITUDES[np.abs(values)]
    seen: NDArray[np.float64] = np.concatenate([values, magnitudes]).astype(np.float64)
    return seen


def known(seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """What cells see of those around them that are known: ``[4 n, zh, zw]`` of ``[n, zh, zw]``."""
    _, zh, zw = seen.shape
    padded = np.pad(seen, ((0, 0), (1, 0), (1, 1)))
    parts = [
        padded[:, 1 + down : 1 + down + zh, 1 + right : 1 + right + zw]
        for down, right in KNOWN_CELLS
    ]
    return np.concatenate(parts)
