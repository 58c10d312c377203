"""Latents of tiles while the windows of a picture are decoded that see them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock

from caezip.networks import Floats
from caezip.scales import Integers
from caezip.tiling import Box


@dataclass(frozen=True)
class TileLatent:
    """What the synthesis transform reads of a tile's ``cells``.

    ``latent``: in steps, ``[channels, h, w]``; ``symbols``: of the other channels, those that
    are not in it; ``kernel``: of its filter, if it has one.
    """

    cells: Box
    latent: Floats
    symbols: Integers
    kernel: Floats | None

    def of(self, cells: Box) -> Floats:
        place = cells.within(self.cells)
        return self.latent[:, place.top : place.bottom, place.left : place.right]

    def symbols_of(self, cells: Box) -> Integers:
        place = cells.within(self.cells)
        return self.symbols[:, place.top : place.bottom, place.left : place.right]


class SharedLatents:
    """Latents of tiles that several windows see: made by the first to ask, kept for the last.

    ``make`` makes that of a tile. ``seen``: numbers of tiles, each as often as a window sees it.
    """

    def __init__(self, make: Callable[[int], TileLatent], seen: Iterable[int]) -> None:
        self._make, self._waiting = make, Counter(seen)
        self._latents: dict[int, Future[TileLatent]] = {}
        self._changing = Lock()

    def of(self, tiles: Sequence[int]) -> dict[int, TileLatent]:
        """First those that nobody has begun with, so that no two workers wait for each other."""
        for number in tiles:
            with self._changing:
                if number in self._latents:
                    continue
                made = self._latents[number] = Future()
            try:
                made.set_result(self._make(number))
            except BaseException as error:  # the others that wait for it have to know
                made.set_exception(error)
        return {number: self._latents[number].result() for number in tiles}

    def seen(self, tiles: Sequence[int]) -> None:
        """A window that sees them is drawn: the last one's memory is another's."""
        with self._changing:
            self._waiting.subtract(tiles)
            for number in tiles:
                if not self._waiting[number]:
                    del self._latents[number]
