"""Lean decoders draw symbols that are mostly 0 as they draw all of a latent, sooner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import caezip.openvino_networks
from caezip import Codec
from caezip.compiled import load_loops
from caezip.patches import columns_by_row, write_patches
from caezip.picture import Samples
from caezip.scales import Floats, Integers
from images import photo_like, psnr_db
from tiles import tiles_of

LOOPS = load_loops()
pytestmark = pytest.mark.skipif(LOOPS is None, reason="caezip was installed without a compiler")
OUTSIDE = 77  # what no sample of a picture starts with


def expected(streamed: Floats, symbols: Integers, columns: Floats) -> Samples:
    """Whole cells, ``[16 h, 16 w, 3]``."""
    patches = streamed + np.einsum("nhw,ns->hws", symbols, columns)
    levels = np.floor(np.clip(patches * 255 + 128, 0, 255)).astype(np.uint8)
    height, width = symbols.shape[1:]
    cells = levels.reshape(height, width, 16, 16, 3).swapaxes(1, 2)
    samples: Samples = cells.reshape(16 * height, 16 * width, 3)
    return samples


@given(
    seed=st.integers(0, 999),
    channels=st.integers(0, 9) | st.just(512),
    height=st.integers(1, 4),
    width=st.integers(1, 5) | st.integers(15, 18),
    left=st.integers(-20, 20),
    top=st.integers(-20, 20),
    picture=st.tuples(st.integers(1, 70), st.integers(1, 90)),
    share=st.sampled_from([0.0, 0.05, 1.0]),
)
def test_cells_of_all_kinds_are_written_where_they_belong_and_nothing_else_is(
    seed: int,
    channels: int,
    height: int,
    width: int,
    left: int,
    top: int,
    picture: tuple[int, int],
    share: float,
) -> None:
    assert LOOPS is not None
    rng = np.random.default_rng(seed)
    # parts of larger arrays, as they are when a window has several tiles
    streamed = rng.uniform(-0.6, 0.6, (height + 1, width + 2, 768)).astype(np.float32)[1:, 1:-1]
    symbols = rng.integers(-3, 4, (channels, height + 2, width + 1)).astype(np.int32)
    symbols = (symbols * (rng.random(symbols.shape) < share))[:, 1:-1, 1:]
    columns = (rng.normal(0, 0.05, (channels, 768))).astype(np.float32)
    whole = np.full((picture[0] + 2, picture[1] + 2, 3), OUTSIDE, np.uint8)
    part = whole[1:-1, 1:-1]
    write_patches(LOOPS, streamed, symbols, columns_by_row(columns), part, left, top)
    cells = expected(streamed, symbols, columns)
    inside = np.zeros(whole.shape[:2], bool)
    for y in range(max(0, top), min(picture[0], top + 16 * height)):
        for x in range(max(0, left), min(picture[1], left + 16 * width)):
            inside[y + 1, x + 1] = True
            # sums are in another order
            assert np.abs(part[y, x].astype(int) - cells[y - top, x - left]).max() <= 1
    assert (whole[~inside] == OUTSIDE).all()


def arrays() -> dict[str, Any]:
    return {
        "streamed": np.zeros((2, 3, 768), np.float32),
        "symbols": np.zeros((4, 2, 3), np.int32),
        "columns": np.zeros((16, 4, 48), np.float32),
        "picture": np.zeros((32, 48, 3), np.uint8),
    }


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("streamed", np.zeros((2, 3, 769), np.float32)),
        ("streamed", np.zeros((2, 768, 3), np.float32).transpose(0, 2, 1)),
        ("streamed", np.zeros((2, 3, 768))),
        ("symbols", np.zeros((4, 3, 2), np.int32)),
        ("symbols", np.zeros((4, 2, 6), np.int32)[:, :, ::2]),
        ("symbols", np.zeros((4, 2, 3), np.int64)),
        ("columns", np.zeros((16, 5, 48), np.float32)),
        ("columns", np.zeros((17, 4, 48), np.float32)[1:, :, ::-1]),
        ("picture", np.zeros((32, 48, 4), np.uint8)),
        ("picture", np.zeros((32, 48, 6), np.uint8)[:, :, ::2]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, array: Any) -> None:
    assert LOOPS is not None
    write_patches(LOOPS, **arrays(), left=0, top=0)
    with pytest.raises(ValueError, match=f"{name}: found "):
        write_patches(LOOPS, **arrays() | {name: array}, left=0, top=0)


def test_more_channels_than_there_is_room_for_are_refused() -> None:
    assert LOOPS is not None
    many = {
        "symbols": np.zeros((513, 2, 3), np.int32),
        "columns": np.zeros((16, 513, 48), np.float32),
    }
    with pytest.raises(ValueError, match="symbols: found 513 channels, allowed are 512"):
        write_patches(LOOPS, **arrays() | many, left=0, top=0)


def test_levels_far_beyond_the_ends_are_clamped() -> None:
    assert LOOPS is not None
    parts = arrays()
    parts["streamed"][0, 0, :4] = [1e30, -1e30, np.inf, -np.inf]
    write_patches(LOOPS, **parts, left=0, top=0)
    assert parts["picture"][0, :2].ravel().tolist() == [255, 0, 255, 0, 128, 128]


# -- by a decoder ------------------------------------------------------------


@pytest.fixture
def whole_latents(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Codec]:
    """A codec whose networks see all of a latent."""

    def make() -> Codec:
        monkeypatch.setattr(caezip.openvino_networks, "can_draw", lambda _: False)
        codec = Codec(threads=2)
        codec.decode(codec.encode(photo_like(32, 32), tune="fastdecode"))
        monkeypatch.undo()
        return codec

    return make


def alike(ours: Samples, theirs: Samples) -> bool:
    return bool(np.abs(ours.astype(int) - theirs).max() <= 1) and psnr_db(ours, theirs) > 60


@pytest.mark.parametrize("quality", [10, 60, 100])
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (37, 130), (150, 200)])
def test_pictures_are_those_of_whole_latents(
    shape: tuple[int, int], quality: int, whole_latents: Callable[[], Codec]
) -> None:
    theirs, ours = whole_latents(), Codec(threads=2)
    with tiles_of(64):
        data = ours.encode(photo_like(*shape), quality=quality, tune="fastdecode")
        assert alike(ours.decode(data), theirs.decode(data))
    height, width = shape
    region = (width // 3, height // 3, max(1, width // 2), max(1, height // 2))
    assert alike(ours.decode(data, region=region), theirs.decode(data, region=region))


def test_tiles_of_one_colour_and_damaged_ones_may_be_beside(
    whole_latents: Callable[[], Codec],
) -> None:
    theirs, ours = whole_latents(), Codec(threads=2)
    picture = photo_like(128, 192)
    picture[64:, :64] = 9
    with tiles_of(64):
        data = ours.encode(picture, quality=60, tune="fastdecode")
    assert alike(ours.decode(data), theirs.decode(data))
    damaged = bytearray(data)
    damaged[-40] ^= 255  # in the last tile, or what follows it
    (found, lines), (expected_picture, _) = (c.salvage(bytes(damaged)) for c in (ours, theirs))
    assert lines
    assert alike(found.samples, expected_picture.samples)


@pytest.mark.parametrize(
    "picture",
    [photo_like(64, 80)[..., 0], photo_like(64, 80).astype(np.uint16) * 257],
    ids=["gray", "16 bits"],
)
def test_pictures_of_other_kinds_are_made_of_whole_latents(
    picture: Samples, whole_latents: Callable[[], Codec]
) -> None:
    theirs, ours = whole_latents(), Codec(threads=2)
    data = ours.encode(picture, quality=60, tune="fastdecode")
    assert np.array_equal(ours.decode(data), theirs.decode(data))
    small = ours.decode(data, reduction=2)
    assert np.array_equal(small, theirs.decode(data, reduction=2))
