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
    block. ``make`` makes one. ``needed``: their numbers, each as often as a part needs it, in the
    order of the parts. ``ahead``: who would wait for another's makes the next one meanwhile.
    """

    def __init__(
        self, make: Callable[[int], Latent], needed: Iterable[int], *, ahead: bool = False
    ) -> None:
        self._make, self._waiting, self._ahead = make, Counter(needed), ahead
        self._latents: dict[int, Future[Latent]] = {}
        self._changing = Lock()

    def of(self, numbers: Sequence[int]) -> dict[int, Latent]:
        """First those that nobody has begun with, so that no two workers wait for each other."""
        for number in numbers:
            self._begin(number)
        if self._ahead and not all(self._latents[number].done() for number in numbers):
            self._begin(self._next())
        return {number: self._latents[number].result() for number in numbers}

    def _begin(self, number: int | None) -> None:
        """Make one, unless somebody has begun with it, or there is none."""
        with self._changing:
            if number is None or number in self._latents or not self._waiting[number]:
                return
            made = self._latents[number] = Future()
        try:
            made.set_result(self._make(number))
        except BaseException as error:  # the others that wait for it have to know
            made.set_exception(error)

    def _next(self) -> int | None:
        """What will be needed first of what nobody has begun with."""
        with self._changing:
            left = (n for n, parts in self._waiting.items() if parts and n not in self._latents)
            return next(left, None)

    def seen(self, numbers: Sequence[int]) -> None:
        """A part has had what it needs of them: behind the last one their memory is another's."""
        with self._changing:
            self._waiting.subtract(numbers)
            for number in numbers:
                if not self._waiting[number]:
                    del self._latents[number]
