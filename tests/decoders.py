"""The two ways to code a tile's stream, compiled and plain, and that they agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from caezip import entropy
from caezip.entropy import EntropyCoder
from caezip.errors import CorruptError
from caezip.integers import Integers
from caezip.scales import Coded

Decoded = tuple[Integers, Integers, Integers]


@contextmanager
def plain_coder() -> Iterator[None]:
    """Streams are coded as where caezip was installed without a compiler."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entropy, "load_loops", lambda: None)
        yield


def decoded_both_ways(
    coder: EntropyCoder,
    stream: bytes,
    quality: int,
    grid: tuple[int, int],
    *,
    has_filter: bool = False,
) -> Decoded:
    """What ``coder`` decodes, or raises, with the compiled loops and without: the same.

    With one exception: compressai's coder overlooks what is beyond 32 bits of an escape, so
    without the loops some forged streams decode to integers that nobody encoded.
    """

    def decoded() -> Decoded | str:
        try:
            return coder.decode(stream, quality, grid, has_filter=has_filter)
        except CorruptError as error:
            return str(error)

    found = decoded()
    with plain_coder():
        plain = decoded()
    if isinstance(found, str):
        assert found == plain or "symbol: found one beyond the allowed" in found
        raise CorruptError(found)
    assert not isinstance(plain, str), plain
    for one, other in zip(found, plain, strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
    return found


def encoded_both_ways(
    coder: EntropyCoder,
    hyper_latent: Integers,
    quality: int,
    passes: Sequence[tuple[Coded, Integers]],
    filter_coefficients: Integers | None = None,
) -> bytes:
    """The stream that ``coder`` makes with the compiled loops, and without: the same."""
    stream = coder.encode(hyper_latent, quality, passes, filter_coefficients)
    with plain_coder():
        assert coder.encode(hyper_latent, quality, passes, filter_coefficients) == stream
    return stream
