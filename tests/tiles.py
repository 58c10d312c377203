"""Small tiles, for small images of several, and what happens to files of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from caezip import container, decoding, pipeline


@contextmanager
def tiles_of(side: int) -> Iterator[None]:
    """Images of more than ``side`` pixels a side are coded in tiles of it, and decoded so."""
    with (
        mock.patch.multiple(pipeline, TILE_SIDE=side, LARGEST_SINGLE=side),
        mock.patch.multiple(decoding, WINDOW_SIDE=side, LEAN_WINDOW_SIDE=side),
    ):
        yield


def damage(data: bytes, *numbers: int) -> bytes:
    """``data`` with one altered byte in the payload of each of these tiles."""
    altered = bytearray(data)
    payloads = container.read(data).tiles
    for number in numbers:
        payload = payloads[number]
        assert payload is not None
        altered[data.index(payload) + len(payload) // 2] ^= 1
    return bytes(altered)
