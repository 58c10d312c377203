"""One file, or a region of it, back to samples: window by window, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from numbers import Integral

import numpy as np

from caezip.adaptive_filter import kernel_of
from caezip.config import PATCH_SIZE
from caezip.container import Container, Header
from caezip.errors import ParameterError
from caezip.image_io import alpha_of_png
from caezip.networks import Floats
from caezip.payloads import flat_colour, is_gray, sample_type, tile_latents
from caezip.picture import Samples
from caezip.planes import Drawing
from caezip.scales import HYPER_STRIDE
from caezip.shared_latents import TileLatent, Uses
from caezip.tile_coder import Latents, TileCoder
from caezip.tiling import Box, Edges, TileGrid, equal_windows, parts_of_tile
from caezip.workers import Map

WINDOW_SIDE = 896  # pixels, of a square one, about; tiles may be larger
LEAN_WINDOW_SIDE = 1280  # of lean decoders, whose activations are fewer
REDUCTIONS = (1, 2, 4, 8)
SMALLEST_SHARED = 1024  # cells, that several threads work on at once
HOLE_SQUARE = 8  # pixels; holes are drawn as a board of dark and light squares


def region_box(region: Sequence[int] | None, width: int, height: int) -> Box:
    """Raises ParameterError unless the region is four integers inside the image."""
    if region is None:
        return Box(0, 0, width, height)
    numbers = tuple(region) if isinstance(region, (tuple, list)) else ()
    if len(numbers) != 4 or not all(
        isinstance(n, Integral) and not isinstance(n, bool) for n in numbers
    ):
        raise ParameterError(
            f"region: found {region!r}, allowed are four integers: left, top, width, height"
        )
    left, top, wide, high = map(int, numbers)
    box = Box(left, top, left + wide, top + high)
    if left < 0 or top < 0 or wide < 1 or high < 1 or box.right > width or box.bottom > height:
        raise ParameterError(
            f"region: found {wide}x{high} at {left},{top}, "
            f"allowed are parts of the image, {width}x{height}"
        )
    return box


def alpha_of(parsed: Container, box: Box, reduction: int) -> Samples | None:
    """The part ``box`` of a file's alpha channel, reduced like its samples."""
    if parsed.alpha is None:
        return None
    header = parsed.header
    alpha = alpha_of_png(parsed.alpha, header.width, header.height, sample_type(header))
    if reduction == 1:
        return alpha[box.top : box.bottom, box.left : box.right]
    squares = box.divided(reduction)
    whole = squares.multiplied(reduction)
    rows = np.arange(whole.top, whole.bottom).clip(max=header.height - 1)
    columns = np.arange(whole.left, whole.right).clip(max=header.width - 1)
    parts = alpha[rows][:, columns].reshape(squares.height, reduction, squares.width, reduction)
    means: Samples = np.rint(parts.mean(axis=(1, 3))).astype(alpha.dtype)
    return means


class Decoder:
    """Decodes one box of one image; keeps the latents that several windows need.

    ``load`` makes the tile coder: it is called when a network is needed, which
    images of one colour do not. With a ``reduction`` the samples are means of squares
    of so many pixels; the box then grows to whole squares. ``parts``: in how
    many, at least, the picture is worked on, where networks do not share a call out themselves.
    """

    def __init__(
        self,
        load: Callable[[], TileCoder],
        header: Header,
        box: Box,
        reduction: int = 1,
        parts: int = 1,
    ) -> None:
        self._load, self._header, self._reduction = load, header, reduction
        self._most_parts = parts
        self._image = Box(0, 0, header.width, header.height)
        self._box = box.divided(reduction).multiplied(reduction).clipped(self._image)
        self._grid = TileGrid(header.width, header.height, header.tile_side)
        self._tiles: Sequence[bytes | None] = ()
        self._latents: dict[int, TileLatent] = {}

    @cached_property
    def _coder(self) -> TileCoder:
        coder = self._load()
        coder.prepare_decoding(
            self._reduction,
            gray=is_gray(self._header),
            dtype=sample_type(self._header),
            has_filters=self._filters,
        )
        return coder

    @property
    def _filters(self) -> bool:
        """Whether filters have a part: they are too fine for means of squares."""
        return self._header.has_filters and self._reduction == 1

    @cached_property
    def _halo(self) -> int:
        """Cells around a window that its pixels depend on; filters see two pixels more."""
        return self._coder.synthesis_halo + self._header.has_filters

    @cached_property
    def _margin(self) -> int:
        """Pixels around a window that its own depend on."""
        return PATCH_SIZE * self._halo if self._grid.count > 1 else 0

    @cached_property
    def _least_parts(self) -> int:
        """How many parts of the picture there are to be at least.

        Networks of a lean decoder take one thread each. Others share all out among themselves.
        """
        most = self._parts_at_most
        return most if most > 1 and self._coder.model.sizes.lean_decoder else 1

    @property
    def wanted(self) -> list[int]:
        """Numbers of the tiles that `samples` needs."""
        if self._box == self._image:  # no margin to know, and no network to load for it
            return list(range(self._grid.count))
        return self._grid.touching(self._box.grown(self._margin, self._image))

    @property
    def jobs(self) -> int:
        """How many things there are to do side by side, at most."""
        return max(len(self.wanted), self._parts_at_most)

    @property
    def _parts_at_most(self) -> int:
        """Threads that wait for each other take longer than they save on what is small."""
        large = self._box.divided(PATCH_SIZE).area >= SMALLEST_SHARED
        return self._most_parts if large else 1

    def samples(self, tiles: Sequence[bytes | None], each: Map) -> Samples:
        """The box's samples, from the payloads of the `wanted` tiles.

        Those that are None are left as holes. ``each`` maps a function over numbers.
        """
        self._tiles = tiles
        windows = self._windows()
        out = np.empty(self._shape(self._box), sample_type(self._header))
        box = self._box.divided(self._reduction)
        uses = Uses(number for window in windows for number in window.tiles)

        def draw(window: _Window) -> None:
            place = window.inside.divided(self._reduction).within(box)
            part = out[place.top : place.bottom, place.left : place.right]
            self._write_window(window, part)
            for number in uses.end(window.tiles):  # its memory is the next tile's
                del self._latents[number]

        jobs: list[Callable[[], None]] = []
        needs: list[Sequence[int]] = []
        made_by: dict[int, range] = {}  # of a tile, the places of the jobs that make its latent
        for window in windows:
            for number in window.tiles:
                if number in made_by:
                    continue
                tile, first = _Tile(number, self._parts(number)), len(jobs)
                jobs += [partial(self._read, tile)]
                jobs += [partial(self._predict, tile, part) for part in tile.parts]
                needs += [(), *([first] for _ in tile.parts)]
                made_by[number] = range(first, len(jobs))
            jobs.append(partial(draw, window))
            needs.append([place for number in window.tiles for place in made_by[number]])
        each(lambda number: jobs[number](), range(len(jobs)), needs)
        return out

    def _windows(self) -> list[_Window]:
        """In row-major order, all of one shape, or one for each tile if any has something special.

        That is filters, a single colour, or damage.
        """
        numbers = self._grid.touching(self._box)
        colours = (flat_colour(self._tiles[n], self._header) is not None for n in numbers)
        if any(self._tiles[n] is None for n in numbers) or any(colours):
            one_each = True
        else:
            one_each = self._filters and self._grid.count > 1
        if one_each:
            return [self._window_of(number) for number in numbers]
        cells, image = (box.divided(PATCH_SIZE) for box in (self._box, self._image))
        side = LEAN_WINDOW_SIDE if self._coder.model.sizes.lean_decoder else WINDOW_SIDE
        largest = (side // PATCH_SIZE + 2 * self._halo) ** 2
        return [
            self._window(window.inside.multiplied(PATCH_SIZE).clipped(self._box), window.around)
            for window in equal_windows(cells, image, self._halo, largest, self._least_parts)
        ]

    def _window_of(self, number: int) -> _Window:
        """The window of a tile."""
        inside = self._grid.box(number).clipped(self._box)
        payload = self._tiles[number]
        if payload is None or flat_colour(payload, self._header) is not None:
            return _Window(inside, None, ())
        cells = inside.divided(PATCH_SIZE)
        return self._window(inside, cells.grown(self._halo, self._image.divided(PATCH_SIZE)))

    def _window(self, inside: Box, around: Box) -> _Window:
        whole = (n for n in self._touching(around) if self._tiles[n] is not None)
        return _Window(inside, around, tuple(whole))

    def _touching(self, cells: Box) -> list[int]:
        return self._grid.touching(cells.multiplied(PATCH_SIZE).clipped(self._image))

    def _shape(self, box: Box) -> tuple[int, ...]:
        small = box.divided(self._reduction)
        return (small.height, small.width, 3)[: 2 if is_gray(self._header) else 3]

    @cached_property
    def _drawing(self) -> Drawing | None:
        return self._coder.drawing(
            self._reduction,
            gray=is_gray(self._header),
            dtype=sample_type(self._header),
            has_filters=self._filters,
        )

    @property
    def _float_channels(self) -> int:
        """Of the latent: the networks read the first ones as floats, of others the symbols."""
        drawing = self._drawing
        return self._coder.model.sizes.latent_channels if drawing is None else drawing.channels

    def _write_window(self, window: _Window, picture: Samples) -> None:
        """Write the samples of what is ``inside`` a window to that part of the picture."""
        cells = window.inside.divided(PATCH_SIZE)
        inside = self._touching(cells)
        if window.around is None:
            colour = flat_colour(self._tiles[inside[0]], self._header)
            if colour is None:
                picture[...] = self._hole(window.inside)
            else:
                picture[...] = colour[0] if is_gray(self._header) else colour
            return
        latent, around = self._assembled(window.around, cells), window.around
        if self._drawing is not None:
            common = {n: self._grid.box(n).divided(PATCH_SIZE).clipped(cells) for n in inside}
            symbols = [
                (box.within(around), self._latents[number].symbols_of(box))
                for number, box in common.items()
            ]
            place = window.inside.within(around.multiplied(PATCH_SIZE))
            self._drawing(latent, cells.within(around), symbols, picture, place)
            return
        # what is behind the blocks sees two pixels beyond
        drawn = cells.grown(1, around)
        whole = self._coder.synthesise(
            latent,
            self._reduction,
            gray=is_gray(self._header),
            dtype=sample_type(self._header),
            kernel=self._latents[inside[0]].kernel if self._filters else None,
            cells=drawn.within(around),
        )
        seen = drawn.multiplied(PATCH_SIZE).divided(self._reduction)
        place = window.inside.divided(self._reduction).within(seen)
        picture[...] = whole[place.top : place.bottom, place.left : place.right]

    def _hole(self, window: Box) -> Samples:
        """What no picture looks like by chance: a board of dark and light gray squares."""
        kind, shape = sample_type(self._header), self._shape(window)
        rows, columns = (np.arange(side) // HOLE_SQUARE for side in shape[:2])
        light = (rows[:, None] + columns) % 2 > 0
        board: Samples = np.where(light, np.iinfo(kind).max // 4 * 3, np.iinfo(kind).max // 4)
        board = board.astype(kind)
        return board if len(shape) == 2 else np.repeat(board[:, :, None], 3, axis=2)

    def _assembled(self, around: Box, inside: Box) -> Floats:
        """The latent of the cells ``around``, from all tiles that have some of them.

        Holes beside a window show it the nearest cells of its ``inside``.
        """
        numbers = self._touching(around)
        only = self._latents.get(numbers[0]) if len(numbers) == 1 else None
        if only is not None and only.cells == around:
            return only.latent
        out = np.empty(0, np.float32)
        holes = []
        for number in numbers:
            common = self._grid.box(number).divided(PATCH_SIZE).clipped(around)
            if self._tiles[number] is None:
                holes.append(common)
                continue
            latent = self._latents[number].of(common)
            if not out.size:
                out = np.empty((len(latent), around.height, around.width), np.float32)
            out[common.within(around).slices] = latent
        for hole in holes:
            rows = np.arange(hole.top, hole.bottom).clip(inside.top, inside.bottom - 1)
            columns = np.arange(hole.left, hole.right).clip(inside.left, inside.right - 1)
            near = out[:, rows - around.top][:, :, columns - around.left]
            out[hole.within(around).slices] = near
        return out

    def _read(self, tile: _Tile) -> None:
        """The first job of a tile: its stream."""
        number = tile.number
        payload = self._tiles[number] or b""
        cells = self._grid.box(number).divided(PATCH_SIZE)
        colour = flat_colour(payload, self._header)
        integers = tile_latents(self._coder.model, self._header, self._grid, number, payload)
        channels = self._float_channels
        shape = (channels, cells.height, cells.width)
        if colour is not None:
            latent = self._coder.flat_latent(np.broadcast_to(colour, 3))[:channels]
            # nobody reads symbols of what is only seen beside windows
            self._latents[number] = TileLatent(
                cells, np.broadcast_to(latent, shape), integers.residual, None
            )
            return
        coefficients = integers.filter_coefficients
        kernel = kernel_of(coefficients) if coefficients.any() else None
        symbols = integers.residual[channels:]
        if 2 * len(symbols) < len(integers.residual):
            symbols = symbols.copy()  # so that most of the residual does not stay in memory
        tile.integers.append(integers)
        self._latents[number] = TileLatent(cells, np.empty(shape, np.float32), symbols, kernel)

    def _parts(self, number: int) -> list[Box]:
        """Of a tile, in its cells: those that are predicted at once."""
        if flat_colour(self._tiles[number], self._header) is not None:
            return []
        cells = self._grid.box(number).divided(PATCH_SIZE)
        count = math.ceil(self._least_parts * cells.area / self._wanted_cells)
        return parts_of_tile(cells.within(cells), HYPER_STRIDE, count)

    @cached_property
    def _wanted_cells(self) -> int:
        return sum(self._grid.box(number).divided(PATCH_SIZE).area for number in self.wanted)

    def _predict(self, tile: _Tile, part: Box) -> None:
        """The other jobs of a tile: what the synthesis transform reads of a ``part`` of it."""
        edges = self._grid.inner_edges(tile.number) if self._header.tiles_continue else Edges()
        latent = self._latents[tile.number].latent
        self._coder.decode_into(latent[part.slices], tile.integers[0], edges, part)
        tile.predicted.append(part)
        if len(tile.predicted) == len(tile.parts):
            tile.integers.clear()  # their memory is the next tile's


@dataclass(frozen=True)
class _Tile:
    """What a tile's jobs leave for each other: ``parts`` are ``predicted`` from ``integers``."""

    number: int
    parts: Sequence[Box]
    integers: list[Latents] = field(default_factory=list)  # while there are any
    predicted: list[Box] = field(default_factory=list)


@dataclass(frozen=True)
class _Window:
    """What is decoded at once: pixels ``inside``.

    ``around``: the cells that the networks see for it; None if they have no part in it.
    ``tiles``: those that have some of these cells and are not damaged.
    """

    inside: Box
    around: Box | None
    tiles: tuple[int, ...]
