"""The grid of tiles: which pixels each covers, and which tiles a region needs.

Like the container, this knows numbers only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise, product
from types import EllipsisType

SMALLEST_SIDE, LARGEST_SIDE = 0.75, 1.25  # of tiles, as shares of the usual one
WORK_PER_TILE = 1 << 15  # pixels that could be worked on meanwhile, about
WORK_PER_WINDOW = 64  # cells, likewise


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels or cells: left and top are inside, right and bottom are not."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def area(self) -> int:
        return self.width * self.height

    def grown(self, margin: int, limit: Box) -> Box:
        """This box and ``margin`` more on every side, as far as ``limit`` reaches."""
        return Box(
            max(self.left - margin, limit.left),
            max(self.top - margin, limit.top),
            min(self.right + margin, limit.right),
            min(self.bottom + margin, limit.bottom),
        )

    def widened(self, unit: int, limit: Box) -> Box:
        """A box around this one whose sides are multiples of ``unit``, if ``limit`` has room."""
        left, right = _widened(self.left, self.right, unit, limit.left, limit.right)
        top, bottom = _widened(self.top, self.bottom, unit, limit.top, limit.bottom)
        return Box(left, top, right, bottom)

    def clipped(self, limit: Box) -> Box:
        """What this box and ``limit`` have in common, which must be something."""
        return Box(
            max(self.left, limit.left),
            max(self.top, limit.top),
            min(self.right, limit.right),
            min(self.bottom, limit.bottom),
        )

    def multiplied(self, size: int) -> Box:
        """The pixels of this box of cells."""
        return Box(self.left * size, self.top * size, self.right * size, self.bottom * size)

    def divided(self, size: int) -> Box:
        """The cells of ``size`` pixels that this box of pixels has parts of."""
        return Box(
            self.left // size, self.top // size, -(-self.right // size), -(-self.bottom // size)
        )

    @property
    def slices(self) -> tuple[EllipsisType, slice, slice]:
        """What index this part of an array ``[..., height, width]``."""
        return ..., slice(self.top, self.bottom), slice(self.left, self.right)

    def within(self, origin: Box) -> Box:
        """The same rectangle in coordinates that start at ``origin``'s top left."""
        return Box(
            self.left - origin.left,
            self.top - origin.top,
            self.right - origin.left,
            self.bottom - origin.top,
        )


def _widened(low: int, high: int, unit: int, lowest: int, highest: int) -> tuple[int, int]:
    high = min(low + -(-(high - low) // unit) * unit, highest)
    return max(high - -(-(high - low) // unit) * unit, lowest), high


@dataclass(frozen=True)
class Edges:
    """Those of a tile behind which another one follows."""

    left: bool = False
    top: bool = False
    right: bool = False
    bottom: bool = False

    def of(self, part: Box, tile: Box) -> Edges:
        """Those that a part of the tile has."""
        return Edges(
            self.left and part.left == tile.left,
            self.top and part.top == tile.top,
            self.right and part.right == tile.right,
            self.bottom and part.bottom == tile.bottom,
        )

    def grown(self, width: int, height: int, margin: int) -> Box:
        """A box ``width`` by ``height`` and ``margin`` more at these edges, from its top left."""
        return Box(
            -margin * self.left,
            -margin * self.top,
            width + margin * self.right,
            height + margin * self.bottom,
        )


@dataclass(frozen=True)
class TileGrid:
    """Square tiles of ``side`` pixels over an image; the last row and column may be smaller.

    A ``side`` of 0 stands for one tile that covers the image.
    """

    width: int
    height: int
    side: int

    @property
    def columns(self) -> int:
        return -(-self.width // self.side) if self.side else 1

    @property
    def rows(self) -> int:
        return -(-self.height // self.side) if self.side else 1

    @property
    def count(self) -> int:
        return self.rows * self.columns

    def inner_edges(self, number: int) -> Edges:
        """The edges of tile ``number`` that are not the image's."""
        row, column = divmod(number, self.columns)
        return Edges(column > 0, row > 0, column + 1 < self.columns, row + 1 < self.rows)

    def box(self, number: int) -> Box:
        """Pixels of tile ``number``, counted in row-major order."""
        if not self.side:
            return Box(0, 0, self.width, self.height)
        row, column = divmod(number, self.columns)
        left, top = column * self.side, row * self.side
        return Box(left, top, min(left + self.side, self.width), min(top + self.side, self.height))

    def place(self, number: int) -> str:
        """How messages name tile ``number``."""
        box = self.box(number)
        return f"tile {number} (pixels {box.left},{box.top} {box.width}x{box.height})"

    def touching(self, box: Box) -> list[int]:
        """Numbers of the tiles that have pixels in ``box``, ascending."""
        if not self.side:
            return [0]
        rows = range(box.top // self.side, -(-box.bottom // self.side))
        columns = range(box.left // self.side, -(-box.right // self.side))
        return [row * self.columns + column for row in rows for column in columns]


def best_side(width: int, height: int, usual: int, unit: int, halo: int) -> int:
    """The side of tiles near ``usual`` that makes the least work of an image.

    ``unit``: sides are multiples of it. ``halo``: pixels around a tile that are worked on
    with it. The smallest of several that are equally good.
    """
    sides = [
        side
        for side in range(unit, 2 * usual, unit)
        if usual * SMALLEST_SIDE <= side <= usual * LARGEST_SIDE
    ]

    def work(side: int) -> int:
        grid = TileGrid(width, height, side)
        return _work(grid, grid.columns, grid.rows, halo)

    return min(sides, key=work)


def _work(grid: TileGrid, across: int, down: int, halo: int) -> int:
    """Pixels that are worked on if the image has so many parts, each of which costs some more."""
    wide, high = grid.width + 2 * halo * (across - 1), grid.height + 2 * halo * (down - 1)
    return wide * high + WORK_PER_TILE * across * down


def blocks_of_tiles(grid: TileGrid, unit: int, halo: int, largest: int) -> list[list[int]]:
    """Numbers of tiles in rectangular blocks that are worked on at once, in row-major order.

    ``unit``: pixels of a cell's side; ``halo``: pixels around a block that are worked on with it;
    ``largest``: cells of a block with that, at most, if it has more than one tile. Blocks are
    those that make the least work.
    """

    def cells(columns: int, rows: int) -> int:
        wide, high = (tiles * grid.side + 2 * halo for tiles in (columns, rows))
        return -(-min(wide, grid.width) // unit) * -(-min(high, grid.height) // unit)

    def work(block: tuple[int, int]) -> int:
        across, down = -(-grid.columns // block[0]), -(-grid.rows // block[1])
        return _work(grid, across, down, halo)

    sizes = list(product(range(1, grid.columns + 1), range(1, grid.rows + 1)))
    fitting = [size for size in sizes if cells(*size) <= largest]
    columns, rows = min(fitting or [(1, 1)], key=work)
    return [
        [
            row * grid.columns + column
            for row in range(top, min(top + rows, grid.rows))
            for column in range(left, min(left + columns, grid.columns))
        ]
        for top in range(0, grid.rows, rows)
        for left in range(0, grid.columns, columns)
    ]


@dataclass(frozen=True)
class Window:
    """A part of a picture that is worked on at once, in cells.

    ``inside``: what comes of it. ``around``: what it needs to see, with that.
    """

    inside: Box
    around: Box


def equal_windows(inside: Box, limit: Box, halo: int, largest: int, least: int = 1) -> list[Window]:
    """Windows that cover ``inside`` and see ``halo`` more, as far as ``limit`` reaches.

    In row-major order. All see as many cells, at most ``largest`` (if the halo leaves it a choice):
    engines prepare themselves for every shape. As many as make the least work, but no fewer than
    ``least``, likewise.
    """

    across = _Axis(inside.left, inside.right, limit.left, limit.right, halo)
    down = _Axis(inside.top, inside.bottom, limit.top, limit.bottom, halo)
    # there may be thousands of layouts, and pictures that take less time than to go through them
    wide, high = ([axis.length(n) for n in range(1, axis.most + 1)] for axis in (across, down))
    layouts = [
        (columns * rows, length * other, columns, rows)
        for columns, length in enumerate(wide, 1)
        for rows, other in enumerate(high, 1)
        if length * other <= largest and columns * rows >= least
    ]
    layouts = layouts or [(len(wide) * len(high), wide[-1] * high[-1], len(wide), len(high))]
    work = [count * (area + WORK_PER_WINDOW) for count, area, _, _ in layouts]
    _, _, columns, rows = layouts[work.index(min(work))]
    return [
        Window(Box(left, top, right, bottom), Box(far_left, far_top, far_right, far_bottom))
        for top, bottom, far_top, far_bottom in down.parts(rows)
        for left, right, far_left, far_right in across.parts(columns)
    ]


def parts_of_tile(cells: Box, unit: int, count: int) -> list[Box]:
    """About ``count`` parts of a tile, cut across its longer side at multiples of ``unit``."""
    wide = cells.width >= cells.height
    side = cells.width if wide else cells.height
    cuts = [0, *(unit * round(side * n / count / unit) for n in range(1, count)), side]
    parts = [(low, high) for low, high in pairwise(cuts) if low < high]
    if wide:
        return [replace(cells, left=cells.left + a, right=cells.left + b) for a, b in parts]
    return [replace(cells, top=cells.top + a, bottom=cells.top + b) for a, b in parts]


class _Axis:
    """One direction of `equal_windows`."""

    def __init__(self, low: int, high: int, lowest: int, highest: int, halo: int) -> None:
        self._low, self._high, self._halo = low, high, halo
        self._first = max(low - halo, lowest)
        self._seen = min(high + halo, highest) - self._first
        self.most = max(1, (high - low) // max(1, 2 * halo))  # each then has cells of its own

    def length(self, count: int) -> int:
        """Cells that each of ``count`` windows sees."""
        return -(-(self._seen + 2 * self._halo * (count - 1)) // count)

    def parts(self, count: int) -> list[tuple[int, int, int, int]]:
        """Where each window's inside begins and ends, and where what it sees does."""
        length, last = self.length(count), max(1, count - 1)
        starts = [self._first + n * (self._seen - length) // last for n in range(count)]
        edges = [self._low, *(start + self._halo for start in starts[1:]), self._high]
        return [(edges[n], edges[n + 1], start, start + length) for n, start in enumerate(starts)]
