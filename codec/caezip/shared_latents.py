"""Latents that several parts of a picture need, while these are worked on side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from caezip.networks import Floats
from caezip.scales import Integers
from caezip.tiling import Box

Latent = TypeVar("Latent")


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


class SharedLatents(Generic[Latent]):
    """Latents that several parts need: made by the first to ask, kept for the last.

    A decoder's windows need those of the tiles that they see, an encoder's tiles that of their
    block. ``make`` makes one. ``needed``: their numbers, each as often as a part needs it.
    """

    def __init__(self, make: Callable[[int], Latent], needed: Iterable[int]) -> None:
        self._make, self._waiting = make, Counter(needed)
        self._latents: dict[int, Future[Latent]] = {}
        self._changing = Lock()

    def of(self, numbers: Sequence[int]) -> dict[int, Latent]:
        """First those that nobody has begun with, so that no two workers wait for each other."""
        for number in numbers:
            with self._changing:
                if number in self._latents:
                    continue
                made = self._latents[number] = Future()
            try:
                made.set_result(self._make(number))
            except BaseException as error:  # the others that wait for it have to know
                made.set_exception(error)
        return {number: self._latents[number].result() for number in numbers}

    def seen(self, numbers: Sequence[int]) -> None:
        """A part has had what it needs of them: behind the last one their memory is another's."""
        with self._changing:
            self._waiting.subtract(numbers)
            for number in numbers:
                if not self._waiting[number]:
                    del self._latents[number]
