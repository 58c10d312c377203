"""What both sides predict of a latent before they code it: means and scale indexes."""

from __future__ import annotations

from ctypes import CDLL
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from caezip.config import rate_of_quality
from caezip.integers import Integers
from caezip.networks import Floats, Networks
from caezip.scales import HYPER_STRIDE, Coded, IntegerScales, TileScales, checkerboard
from caezip.tile_passes import TilePasses
from caezip.tiling import Box, Edges

Values = TypeVar("Values", bound=np.generic)
NO_EDGES = Edges()


class Continuation:
    """A tile and what networks for its means see beyond ``edges``: FORMAT.md, "Continued tiles".

    They see the outermost row or column of the hyper-latent once more, and residuals of 0,
    instead of nothing: latents look otherwise at the border of a picture, and means that
    expect one there draw a line of one or two levels through a sky. ``grid`` is the
    latent's height and width. Without edges all of this does nothing.
    """

    def __init__(self, edges: Edges, grid: tuple[int, int]) -> None:
        height, width = grid
        self._rows = int(edges.top), int(edges.bottom)  # of the hyper-latent
        self._columns = int(edges.left), int(edges.right)
        self.does_anything = edges != NO_EDGES
        around = edges.grown(width, height, HYPER_STRIDE)
        self.grid = around.height, around.width
        top, left = -around.top, -around.left
        bottom, right = around.bottom - height, around.right - width
        self._cells = (0, 0), (top, bottom), (left, right)
        self._inside = np.s_[..., top : top + height, left : left + width]

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """Left, right, top and bottom: how many cells of the hyper-latent there are more."""
        return (*self._columns, *self._rows)

    def hyper(self, hyper_latent: NDArray[Values]) -> NDArray[Values]:
        """The hyper-latent ``[Z, zh, zw]`` and what is seen beyond it."""
        if not self.does_anything:
            return hyper_latent
        return np.pad(hyper_latent, ((0, 0), self._rows, self._columns), mode="edge")

    def residual(self, residual: NDArray[Values]) -> NDArray[Values]:
        """Residuals ``[C, h, w]`` and what is seen beyond them."""
        if not self.does_anything:
            return residual
        seen = np.zeros((len(residual), *self.grid), residual.dtype)
        self.inside(seen)[...] = residual
        return seen

    def analysed(self, latent: Floats) -> Floats:
        """A latent ``[C, h, w]`` and what its hyper-latent's analysis sees beyond it: a mirror.

        This is only the encoder's: of what was tried, it leaves the least to see in skies
        for the fewest bits.
        """
        return np.pad(latent, self._cells, mode="reflect") if self.does_anything else latent

    def inside(self, values: Any) -> Any:
        """The tile's part, of an array or a tensor ``[..., h, w]``."""
        return values[self._inside] if self.does_anything else values

    def hyper_inside(self, hyper_latent: Floats) -> Floats:
        """The tile's part of a hyper-latent ``[Z, zh, zw]``."""
        zh, zw = hyper_latent.shape[1:]
        (top, bottom), (left, right) = self._rows, self._columns
        return hyper_latent[:, top : zh - bottom, left : zw - right]


def decoded_tile(
    networks: Networks, hyper_latent: Integers, residual: Integers, rate: float, edges: Edges
) -> Floats:
    """`decode_tile_into`, of all of a tile and of all channels of ``residual``."""
    out = np.empty(residual.shape, np.float32)
    tile = Box(0, 0, *residual.shape[:0:-1])
    decode_tile_into(out, networks, hyper_latent, residual, rate, edges, tile)
    return out


def decode_tile_into(
    out: Floats,
    networks: Networks,
    hyper_latent: Integers,
    residual: Integers,
    rate: float,
    edges: Edges,
    part: Box,
) -> None:
    """What the synthesis transform reads of a tile, in steps, as many channels as ``out`` has.

    These are the latent's first ones, those that have means at least, of a ``part`` of the tile's
    cells, whose corners are the tile's or multiples of `HYPER_STRIDE`.
    """
    predicted, tile = networks.config.predicted_channels, Box(0, 0, *residual.shape[:0:-1])
    seen = part.grown(HYPER_STRIDE, tile)  # networks for means see no further
    around = Continuation(edges.of(seen, tile), (seen.height, seen.width))
    hyper = around.hyper(hyper_latent[seen.divided(HYPER_STRIDE).slices])
    symbols = around.residual(residual[:predicted][seen.slices])
    steps = around.inside(networks.decoded(hyper, symbols, rate))
    out[:predicted] = steps[part.within(seen).slices]
    out[predicted:] = residual[predicted : len(out)][part.slices]


class LatentPredictor:
    """Means (float, in steps) and scale indexes (integer) of one tile's latent, pass by pass.

    ``hyper_latent`` int32 ``[Z, zh, zw]``, ``grid`` the latent's height and width.
    ``first_mean`` is ``[M, h, w]``, of the channels that have one, meant where pass one codes,
    which ``first`` says. Compiled loops compute indexes themselves, from ``passes``.
    """

    def __init__(
        self,
        networks: Networks,
        scales: IntegerScales,
        hyper_latent: Integers,
        quality_hundredths: int,
        grid: tuple[int, int],
        edges: Edges = NO_EDGES,
    ) -> None:
        self._networks, self._channels = networks, scales.bias.shape[1]
        self._rate = rate_of_quality(quality_hundredths)
        self._around = Continuation(edges, grid)
        self._features, self._first_mean = networks.first_means(
            self._around.hyper(hyper_latent), self._rate, self._around.grid
        )
        self.first_mean: Floats = np.ascontiguousarray(self._around.inside(self._first_mean))
        self._coded_with = scales, hyper_latent, quality_hundredths, grid

    @cached_property
    def _scales(self) -> TileScales:
        return TileScales(*self._coded_with)

    @property
    def first(self) -> Coded:
        """What pass one codes."""
        return self._scales.first

    def passes(self, library: CDLL) -> TilePasses:
        """What compiled loops are given."""
        return TilePasses(library, *self._coded_with)

    def second_mean(self, first_steps: Floats) -> Floats:
        """Means of pass two ``[M, h, w]``, given pass one's decoded latent, 0 elsewhere."""
        if self._around.does_anything:
            seen = self._first_mean * self.first_cells(self._around.grid)
            self._around.inside(seen)[...] = first_steps
            first_steps = seen
        means: Floats = self._networks.second_means(self._features, first_steps, self._rate)
        inside: Floats = np.ascontiguousarray(self._around.inside(means))
        return inside

    def first_cells(self, grid: tuple[int, int]) -> NDArray[np.bool_]:
        """Where pass one codes channels that have means: ``[M, *grid]``."""
        cells: NDArray[np.bool_] = checkerboard(self._channels, *grid)[: len(self._first_mean)]
        return cells

    def second(self, first_symbols: Integers) -> Coded:
        """What pass two codes, given the symbols ``[n]`` of ``first``."""
        return self._scales.second(first_symbols)
