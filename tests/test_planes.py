"""Decoders with a renderer write their samples to a picture as the engine would, sooner."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import caezip.openvino_networks
from caezip import Codec
from caezip.compiled import load_loops
from caezip.picture import Samples
from caezip.planes import write_planes
from images import photo_like
from tiles import tiles_of

LOOPS = load_loops()
pytestmark = pytest.mark.skipif(LOOPS is None, reason="caezip was installed without a compiler")
OUTSIDE = 77


@given(
    seed=st.integers(0, 999),
    height=st.integers(1, 4),
    width=st.integers(1, 5) | st.integers(62, 67) | st.just(130),
    left=st.integers(-9, 9),
    top=st.integers(-9, 9),
    picture=st.tuples(st.integers(1, 20), st.integers(1, 30) | st.integers(240, 280)),
)
def test_cells_of_all_kinds_are_written_where_they_belong_and_nothing_else_is(
    seed: int, height: int, width: int, left: int, top: int, picture: tuple[int, int]
) -> None:
    assert LOOPS is not None
    planes = np.random.default_rng(seed).integers(0, 256, (48, height, width), np.uint8)
    whole = np.full((picture[0] + 2, picture[1] + 2, 3), OUTSIDE, np.uint8)
    write_planes(LOOPS, planes, whole[1:-1, 1:-1], left, top)
    samples = planes.reshape(4, 4, 3, height, width).transpose(3, 0, 4, 1, 2)
    samples = samples.reshape(4 * height, 4 * width, 3)
    expected = np.full_like(whole, OUTSIDE)
    for y in range(max(0, top), min(picture[0], top + 4 * height)):
        for x in range(max(0, left), min(picture[1], left + 4 * width)):
            expected[y + 1, x + 1] = samples[y - top, x - left]
    assert np.array_equal(whole, expected)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("planes", np.zeros((47, 2, 3), np.uint8)),
        ("planes", np.zeros((48, 3, 2), np.uint8).transpose(0, 2, 1)),
        ("planes", np.zeros((48, 2, 3), np.int8)),
        ("picture", np.zeros((8, 12, 4), np.uint8)),
        ("picture", np.zeros((8, 12, 6), np.uint8)[:, :, ::2]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, array: Any) -> None:
    assert LOOPS is not None
    arrays = {"planes": np.zeros((48, 2, 3), np.uint8), "picture": np.zeros((8, 12, 3), np.uint8)}
    write_planes(LOOPS, **arrays, left=0, top=0)
    with pytest.raises(ValueError, match=f"{name}: found "):
        write_planes(LOOPS, **arrays | {name: array}, left=0, top=0)


# -- by a decoder ------------------------------------------------------------


@pytest.fixture
def engine_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Codec]:
    """A codec whose engine brings samples into a picture's order."""
    codec = Codec(threads=2)
    with monkeypatch.context() as patched:
        patched.setattr(caezip.openvino_networks, "load_loops", lambda: None)
        codec.decode(codec.encode(photo_like(16, 16)))  # it begins to load networks
        yield codec


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (37, 130), (150, 200)])
def test_pictures_are_those_of_the_engine_alone(
    shape: tuple[int, int], engine_alone: Codec
) -> None:
    picture = photo_like(*shape)
    if min(shape) > 100:
        picture[64:128, :64] = 9  # a tile of one colour
    height, width = shape
    region = (width // 3, height // 3, max(1, width // 2), max(1, height // 2))
    with tiles_of(64):
        data = engine_alone.encode(picture, quality=60, tune="archive")
    theirs = engine_alone.decode(data), engine_alone.decode(data, region=region)
    assert np.array_equal(decoded(data), theirs[0])
    assert np.array_equal(decoded(data, region=region), theirs[1])


def decoded(data: bytes, **settings: Any) -> Samples:
    """By a codec that may use all that there is."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(caezip.openvino_networks, "load_loops", load_loops)
        return Codec(threads=2).decode(data, **settings)
