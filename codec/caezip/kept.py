"""What is made of a key once, and kept for the next time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")
KEPT_QUALITIES = 4  # of what each is small


class Kept(Generic[Key, Value]):
    """What ``make`` makes of keys, the last ``most`` of them at least. Several threads may call it.

    What depends on a quality alone is kept so: pictures that follow each other mostly have one.
    """

    def __init__(self, make: Callable[[Key], Value], most: int) -> None:
        self._make, self._most = make, most
        self._values: dict[Key, Value] = {}

    def __call__(self, key: Key) -> Value:
        try:
            return self._values[key]
        except KeyError:
            value = self._make(key)
        if len(self._values) >= self._most:
            self._values.clear()
        self._values[key] = value
        return value
