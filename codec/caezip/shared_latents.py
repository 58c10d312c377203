"""Latents that several parts of a picture need, while these are worked on side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from caezip.integers import Integers
from caezip.networks import Floats
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
        return self.latent[cells.within(self.cells).slices]

    def symbols_of(self, cells: Box) -> Integers:
        return self.symbols[cells.within(self.cells).slices]


class Uses:
    """How often parts need each of several latents, so that none is kept for nobody.

    ``needed``: their numbers, each as often as a part needs it.
    """

    def __init__(self, needed: Iterable[int]) -> None:
        self._left, self._changing = Counter(needed), Lock()

    def end(self, numbers: Sequence[int]) -> list[int]:
        """A part has had what it needs of these; those of them that no other needs."""
        with self._changing:
            self._left.subtract(numbers)
            return [number for number in numbers if not self._left[number]]


class SharedLatents(Generic[Latent]):
    """Latents that several parts need: made by the first to ask, kept for the last.

    An encoder's tiles need that of their block. ``make`` makes one; ``needed`` is what `Uses`
    takes.
    """

    def __init__(self, make: Callable[[int], Latent], needed: Iterable[int]) -> None:
        self._make, self._uses = make, Uses(needed)
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
        for number in self._uses.end(numbers):
            del self._latents[number]
