"""One file, or a region of it, back to samples: window by window, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np

from caezip.adaptive_filter import kernel_of
from caezip.config import PATCH_SIZE
from caezip.container import Header
from caezip.errors import BitstreamError, ParameterError, UnsupportedError
from caezip.frequency_tables import FILTER_COEFFICIENTS
from caezip.networks import Floats
from caezip.picture import Samples
from caezip.planes import Drawing
from caezip.pretrained import Model
from caezip.shared_latents import SharedLatents, TileLatent
from caezip.tile_coder import Latents, TileCoder
from caezip.tiling import Box, Edges, TileGrid, equal_windows
from caezip.workers import Map

WINDOW_SIDE = 896  # pixels, of a square one, about; tiles may be larger
MAX_STREAM_PIXELS = 1 << 22  # of one tile, whose symbols are in memory all at once
REDUCTIONS = (1, 2, 4, 8)
FLAT_BYTES_AT_MOST = 6  # of a flat tile's payload; streams are longer
HOLE_SQUARE = 8  # pixels; holes are drawn as a board of dark and light squares


def sample_type(header: Header) -> type[Any]:
    return np.uint16 if header.pixel_format.endswith("16") else np.uint8


def is_gray(header: Header) -> bool:
    return header.pixel_format.startswith("gray")


def flat_payload(colour: Samples) -> bytes:
    """The payload of a flat tile: its samples, little-endian."""
    flat = np.atleast_1d(colour)
    return flat.astype(flat.dtype.newbyteorder("<")).tobytes()


def flat_colour(payload: bytes | None, header: Header) -> Samples | None:
    """The colour ``[1]`` or ``[3]`` of a flat tile; None for streams, which are longer."""
    kind = np.dtype(sample_type(header)).newbyteorder("<")
    samples = 1 if is_gray(header) else 3
    if payload is None or len(payload) != samples * kind.itemsize:
        return None  # the entropy coder refuses what is too short to be a stream
    return np.frombuffer(payload, kind).astype(sample_type(header))


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


def tile_latents(
    model: Model, header: Header, grid: TileGrid, number: int, payload: bytes
) -> Latents:
    """The integers of one tile. Raises CorruptError with the tile's place."""
    coder = model.coder
    if flat_colour(payload, header) is not None:
        return Latents(
            np.empty((coder.hyper_channels, 0, 0), np.int32),
            np.empty((coder.latent_channels, 0, 0), np.int32),
            np.zeros(FILTER_COEFFICIENTS, np.int32),
        )
    box = grid.box(number)
    cells = box.divided(PATCH_SIZE)
    try:
        if box.width * box.height > MAX_STREAM_PIXELS:
            raise UnsupportedError(
                f"tile stream: found one of {box.width * box.height} pixels, "
                f"allowed are {MAX_STREAM_PIXELS}"
            )
        shape = (cells.height, cells.width)
        has_filter = header.has_filters
        return Latents(
            *coder.decode(payload, header.quality_hundredths, shape, has_filter=has_filter)
        )
    except BitstreamError as error:
        raise type(error)(f"{grid.place(number)}: {error}") from None


class Decoder:
    """Decodes one box of one image; keeps the latents that several windows need.

    ``load`` makes the tile coder: it is called when a network is needed, which
    images of one colour do not. With a ``reduction`` the samples are means of squares
    of so many pixels; the box then grows to whole squares.
    """

    def __init__(
        self, load: Callable[[], TileCoder], header: Header, box: Box, reduction: int = 1
    ) -> None:
        self._load, self._header, self._reduction = load, header, reduction
        self._image = Box(0, 0, header.width, header.height)
        self._box = box.divided(reduction).multiplied(reduction).clipped(self._image)
        self._grid = TileGrid(header.width, header.height, header.tile_side)
        self._tiles: Sequence[bytes | None] = ()

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

    @property
    def wanted(self) -> list[int]:
        """Numbers of the tiles that `samples` needs."""
        if self._box == self._image:  # no margin to know, and no network to load for it
            return list(range(self._grid.count))
        return self._grid.touching(self._box.grown(self._margin, self._image))

    @property
    def jobs(self) -> int:
        """How many things there are to do side by side, at most."""
        return len(self.wanted)

    def samples(self, tiles: Sequence[bytes | None], each: Map) -> Samples:
        """The box's samples, from the payloads of the `wanted` tiles.

        Those that are None are left as holes. ``each`` maps a function over numbers.
        """
        self._tiles = tiles
        windows = self._windows()
        latents = SharedLatents(self._latent, (n for window in windows for n in window.tiles))
        out = np.empty(self._shape(self._box), sample_type(self._header))
        box = self._box.divided(self._reduction)

        def decode(number: int) -> None:
            window = windows[number]
            place = window.inside.divided(self._reduction).within(box)
            part = out[place.top : place.bottom, place.left : place.right]
            self._write_window(window, latents.of(window.tiles), part)
            latents.seen(window.tiles)

        each(decode, range(len(windows)))
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
        largest = (WINDOW_SIDE // PATCH_SIZE + 2 * self._halo) ** 2
        return [
            self._window(window.inside.multiplied(PATCH_SIZE).clipped(self._box), window.around)
            for window in equal_windows(cells, image, self._halo, largest)
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

    def _write_window(
        self, window: _Window, latents: Mapping[int, TileLatent], picture: Samples
    ) -> None:
        """Write the samples of what is ``inside`` a window to that part of the picture.

        ``latents`` are those of its tiles.
        """
        cells = window.inside.divided(PATCH_SIZE)
        inside = self._touching(cells)
        if window.around is None:
            colour = flat_colour(self._tiles[inside[0]], self._header)
            if colour is None:
                picture[...] = self._hole(window.inside)
            else:
                picture[...] = colour[0] if is_gray(self._header) else colour
            return
        latent, around = self._assembled(latents, window.around, cells), window.around
        if self._drawing is not None:
            common = {n: self._grid.box(n).divided(PATCH_SIZE).clipped(cells) for n in inside}
            symbols = [
                (box.within(around), latents[number].symbols_of(box))
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
            kernel=latents[inside[0]].kernel if self._filters else None,
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

    def _assembled(self, latents: Mapping[int, TileLatent], around: Box, inside: Box) -> Floats:
        """The latent of the cells ``around``, from all tiles that have some of them.

        Holes beside a window show it the nearest cells of its ``inside``.
        """
        numbers = self._touching(around)
        only = latents.get(numbers[0]) if len(numbers) == 1 else None
        if only is not None and only.cells == around:
            return only.latent
        out = np.empty(0, np.float32)
        holes = []
        for number in numbers:
            common = self._grid.box(number).divided(PATCH_SIZE).clipped(around)
            if self._tiles[number] is None:
                holes.append(common)
                continue
            latent = latents[number].of(common)
            if not out.size:
                out = np.empty((len(latent), around.height, around.width), np.float32)
            to = common.within(around)
            out[:, to.top : to.bottom, to.left : to.right] = latent
        for hole in holes:
            rows = np.arange(hole.top, hole.bottom).clip(inside.top, inside.bottom - 1)
            columns = np.arange(hole.left, hole.right).clip(inside.left, inside.right - 1)
            near = out[:, rows - around.top][:, :, columns - around.left]
            to = hole.within(around)
            out[:, to.top : to.bottom, to.left : to.right] = near
        return out

    def _latent(self, number: int) -> TileLatent:
        payload = self._tiles[number] or b""
        cells = self._grid.box(number).divided(PATCH_SIZE)
        colour = flat_colour(payload, self._header)
        integers = tile_latents(self._coder.model, self._header, self._grid, number, payload)
        if colour is not None:
            latent = self._coder.flat_latent(np.broadcast_to(colour, 3))[: self._float_channels]
            shape = (len(latent), cells.height, cells.width)
            # nobody reads symbols of what is only seen beside windows
            return TileLatent(cells, np.broadcast_to(latent, shape), integers.residual, None)
        coefficients = integers.filter_coefficients
        kernel = kernel_of(coefficients) if coefficients.any() else None
        edges = self._grid.inner_edges(number) if self._header.tiles_continue else Edges()
        channels = self._float_channels
        latent = self._coder.latent(integers, edges, channels)
        symbols = integers.residual[channels:]
        if 2 * len(symbols) < len(integers.residual):
            symbols = symbols.copy()  # so that most of the residual does not stay in memory
        return TileLatent(cells, latent, symbols, kernel)


@dataclass(frozen=True)
class _Window:
    """What is decoded at once: pixels ``inside``.

    ``around``: the cells that the networks see for it; None if they have no part in it.
    ``tiles``: those that have some of these cells and are not damaged.
    """

    inside: Box
    around: Box | None
    tiles: tuple[int, ...]
