"""What is made of a key once, and kept for the next time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")
KEPT_QUALITIES = 4  # of what each is small


class Kept(Generic[Key, Value]):
    """Values of the last ``most`` keys at least. Several threads may ask for them.

    What depends on a quality alone is kept so: pictures that follow each other mostly have one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[Key, Value] = {}

    def of(self, key: Key, make: Callable[[Key], Value]) -> Value:
        """What ``make`` made of ``key``, always the same function."""
        try:
            return self._values[key]
        except KeyError:
            value = make(key)
        if len(self._values) >= self._most:
            self._values.clear()
        self._values[key] = value
        return value
