"""One image to the payloads of its tiles: analysed in windows, coded side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from caezip.config import PATCH_SIZE, TUNES
from caezip.container import quality_in_hundredths
from caezip.errors import ParameterError
from caezip.image_io import as_rgb
from caezip.networks import Floats
from caezip.payloads import flat_payload
from caezip.picture import Samples
from caezip.shared_latents import SharedLatents
from caezip.tile_coder import EFFORT_ITERATIONS, TileCoder
from caezip.tiling import Box, TileGrid, blocks_of_tiles
from caezip.workers import Map

if TYPE_CHECKING:
    from caezip.refinement import Report

# Cells: the analysis transform sees windows whose sides are multiples of this where there is room.
# Engines prepare themselves for every shape that is new to them, so there should be few.
WINDOW_UNIT = 4
LARGEST_WINDOW = 10_000  # cells, if a tile is not larger: each takes some 6 kB

Analysed = SharedLatents[tuple[Box, Floats]]  # of blocks of tiles


@dataclass(frozen=True)
class Settings:
    """What `caezip.Codec.encode` is asked for. Raises ParameterError."""

    quality: float
    effort: int
    tune: str
    strip: bool

    def __post_init__(self) -> None:
        quality_in_hundredths(self.quality)
        if type(self.effort) is not int or self.effort not in EFFORT_ITERATIONS:
            raise ParameterError(f"effort: found {self.effort!r}, allowed are integers from 1 to 9")
        if self.tune not in TUNES:
            raise ParameterError(f"tune: found {self.tune!r}, allowed are {TUNES}")

    @property
    def hundredths(self) -> int:
        return quality_in_hundredths(self.quality)


class Encoder:
    """Encodes the tiles of one image.

    ``load`` makes the tile coder: it is called when a network is needed, which tiles of one
    colour do not. ``together``: the analysis transform may see several tiles at once, which is
    less work, as each alone needs to see what is around it; engines that take one thread for
    each call are better off with one tile for each.
    """

    def __init__(
        self,
        load: Callable[[], TileCoder],
        samples: Samples,
        grid: TileGrid,
        effort: int,
        report: Report | None,
        *,
        together: bool,
    ) -> None:
        self._load, self._samples, self._grid, self._effort = load, samples, grid, effort
        self._image = Box(0, 0, grid.width, grid.height)
        self._progress = _Progress(report, EFFORT_ITERATIONS[effort] * grid.count)
        self._together = together
        boxes = {number: grid.box(number) for number in range(grid.count)}
        self._flat = {number for number, box in boxes.items() if _is_flat(self._pixels(box))}

    def payloads(self, each: Map) -> list[bytes]:
        """The tiles' payloads. ``each`` maps a function over numbers."""
        numbers = list(range(self._grid.count))
        blocks = [[number] for number in numbers]
        if self._together and not self._flat and len(numbers) > 1:
            halo = self._load().analysis_halo
            blocks = blocks_of_tiles(self._grid, PATCH_SIZE, halo, LARGEST_WINDOW)
        block_of = {number: n for n, block in enumerate(blocks) for number in block}
        # kept by nothing of this object's, or both would wait for the garbage collector
        analysed = SharedLatents(lambda n: self._analyse(blocks[n]), block_of.values())
        order = [number for block in blocks for number in block]

        def payload(number: int) -> bytes:
            return self._payload(number, analysed, block_of[number])

        with self._progress.stopped_at_the_end():
            payloads = dict(zip(order, each(payload, order), strict=True))
        return [payloads[number] for number in numbers]

    def _payload(self, number: int, analysed: Analysed, block: int) -> bytes:
        pixels = self._pixels(self._grid.box(number))
        if number in self._flat:
            return flat_payload(pixels[0, 0])  # exactly
        coder, edges = self._load(), self._grid.inner_edges(number)
        latent = self._latent(number, analysed, block)
        return coder.encode(latent, as_rgb(pixels), edges, self._effort, self._progress)

    def _pixels(self, box: Box) -> Samples:
        return self._samples[box.top : box.bottom, box.left : box.right]

    def _latent(self, number: int, analysed: Analysed, block: int) -> Floats:
        """A tile's part of its block's latent ``[C, h, w]``."""
        seen, whole = analysed.of([block])[block]
        cells = self._grid.box(number).divided(PATCH_SIZE).within(seen)
        latent = whole[cells.slices]
        analysed.seen([block])
        return latent

    def _analyse(self, tiles: Sequence[int]) -> tuple[Box, Floats]:
        """The cells that are seen of a block of tiles, and their latent."""
        coder = self._load()
        first, last = (self._grid.box(number) for number in (tiles[0], tiles[-1]))
        block = Box(first.left, first.top, last.right, last.bottom)
        image = self._image.divided(PATCH_SIZE)
        seen = block.grown(coder.analysis_halo, self._image).divided(PATCH_SIZE)
        cells = seen.widened(WINDOW_UNIT, image)
        coder.prepare_encoding(self._samples.dtype.type)
        pixels = self._pixels(cells.multiplied(PATCH_SIZE).clipped(self._image))
        return cells, coder.analyse(as_rgb(pixels))


def _is_flat(samples: Samples) -> bool:
    """Whether all are of one colour. Two rows tell most; pictures with a frame need the second."""
    row = samples[0]
    candidate = (row == row[0]).all() and (samples[len(samples) // 2] == row).all()
    return bool(candidate and (samples == row).all())


class _Progress:
    """Counts the iterations of all tiles, and stops those under way once one has failed."""

    def __init__(self, report: Report | None, total: int) -> None:
        self._report, self._total = report, total
        self._done, self._stopped = 0, False
        self._lock = Lock()

    def __call__(self, _done: int, _total: int) -> None:
        with self._lock:
            if self._stopped:
                raise RuntimeError("another tile failed, or the user interrupted")
            self._done += 1
            if self._report is not None:
                self._report(self._done, self._total)

    @contextmanager
    def stopped_at_the_end(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._stopped = True
