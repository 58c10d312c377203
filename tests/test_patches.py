"""Lean decoders draw symbols that are mostly 0 as they draw all of a latent, sooner."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import caezip.openvino_networks
from caezip import Codec
from caezip.compiled import load_loops
from caezip.integers import Integers
from caezip.patches import LastLayer, Planes, write_patches
from caezip.picture import Samples
from caezip.scales import Floats
from images import photo_like, psnr_db
from tiles import tiles_of

LOOPS = load_loops()
pytestmark = pytest.mark.skipif(LOOPS is None, reason="caezip was installed without a compiler")
OUTSIDE = 77  # what no sample of a picture starts with
BIAS = 5.0  # levels


def expected(
    stream: Floats, symbols: Integers, planes: Floats, kinds: NDArray[Any], colours: Floats
) -> Samples:
    """Whole cells, ``[16 h, 16 w, 3]``; ``planes`` [256, C] of both, ``kinds`` [C]."""
    values = np.concatenate([stream, symbols])
    patches = np.einsum("chw,pc,cs->hwps", values, planes, colours[kinds], optimize=True)
    levels = np.floor(np.clip(patches * 255 + BIAS + 128, 0, 255)).astype(np.uint8)
    height, width = symbols.shape[1:]
    cells = levels.reshape(height, width, 16, 16, 3).swapaxes(1, 2)
    samples: Samples = cells.reshape(16 * height, 16 * width, 3)
    return samples


def planes_of(planes: Floats, kinds: NDArray[Any], *, by_row: bool) -> Planes:
    """One for each channel."""
    channels = len(kinds)
    return Planes(planes, np.arange(channels), kinds, channels, by_row=by_row)


def layer_of(
    planes: Floats, kinds: NDArray[Any], colours: Floats, streamed: int, bias: float = BIAS / 255
) -> LastLayer:
    return LastLayer(
        planes_of(planes[:, :streamed], kinds[:streamed], by_row=True),
        planes_of(planes[:, streamed:], kinds[streamed:], by_row=False),
        colours,
        np.full((16, 3, 16), bias, np.float32),
    )


@given(
    seed=st.integers(0, 999),
    streamed=st.integers(0, 9) | st.just(512),
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
    streamed: int,
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
    stream = rng.normal(0, 1, (streamed, height + 1, width + 3)).astype(np.float32)[:, 1:, 1:-2]
    symbols = rng.integers(-3, 4, (channels, height + 2, width + 1)).astype(np.int32)
    symbols = (symbols * (rng.random(symbols.shape) < share))[:, 1:-1, 1:]
    both = streamed + channels
    planes = rng.normal(0, 0.2 / (both + 1) ** 0.5, (256, both)).astype(np.float32)
    kinds, colours = rng.integers(0, 3, both), rng.normal(0, 0.6, (3, 3)).astype(np.float32)
    layer = layer_of(planes, kinds, colours, streamed)
    whole = np.full((picture[0] + 2, picture[1] + 2, 3), OUTSIDE, np.uint8)
    part = whole[1:-1, 1:-1]
    write_patches(LOOPS, stream, symbols, layer, part, left, top)
    cells = expected(stream, symbols, planes, kinds, colours)
    inside = np.zeros(whole.shape[:2], bool)
    for y in range(max(0, top), min(picture[0], top + 16 * height)):
        for x in range(max(0, left), min(picture[1], left + 16 * width)):
            inside[y + 1, x + 1] = True
            # sums are in another order
            assert np.abs(part[y, x].astype(int) - cells[y - top, x - left]).max() <= 1
    assert (whole[~inside] == OUTSIDE).all()


def arrays(**others: Any) -> dict[str, Any]:
    layer = layer_of(np.zeros((256, 6), np.float32), np.zeros(6, int), np.eye(3, dtype="f4"), 2, 0)
    fitting = {
        "stream": np.zeros((2, 2, 3), np.float32),
        "symbols": np.zeros((4, 2, 3), np.int32),
        "layer": layer,
        "picture": np.zeros((32, 48, 3), np.uint8),
    }
    of_layer = {name: array for name, array in others.items() if name in ("colours", "bias")}
    others = {name: array for name, array in others.items() if name not in of_layer}
    return fitting | others | {"layer": dataclasses.replace(layer, **of_layer)}


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("stream", np.zeros((3, 2, 3), np.float32)),
        ("stream", np.zeros((2, 3, 2), np.float32).transpose(0, 2, 1)),
        ("stream", np.zeros((2, 2, 3))),
        ("symbols", np.zeros((4, 3, 2), np.int32)),
        ("symbols", np.zeros((4, 2, 6), np.int32)[:, :, ::2]),
        ("symbols", np.zeros((4, 2, 3), np.int64)),
        ("symbols", np.zeros((5, 2, 3), np.int32)),
        ("colours", np.zeros((3, 4), np.float32)),
        ("colours", np.zeros((3, 3))),
        ("bias", np.zeros((16, 48), np.float32)),
        ("bias", np.zeros((16, 16, 3), np.float32)),
        ("picture", np.zeros((32, 48, 4), np.uint8)),
        ("picture", np.zeros((32, 48, 6), np.uint8)[:, :, ::2]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, array: Any) -> None:
    assert LOOPS is not None
    write_patches(LOOPS, **arrays(), left=0, top=0)
    with pytest.raises(ValueError, match=f"{name}: found "):
        write_patches(LOOPS, **arrays(**{name: array}), left=0, top=0)


def test_planes_that_are_read_in_another_order_are_refused() -> None:
    assert LOOPS is not None
    layer = arrays()["layer"]
    other = planes_of(np.zeros((256, 2), np.float32), np.zeros(2, int), by_row=False)
    with pytest.raises(ValueError, match="by_row"):
        dataclasses.replace(layer, stream=other)


@pytest.mark.parametrize(("count", "kind"), [(769, 0), (2, 3)])
def test_more_planes_or_colours_than_there_is_room_for_are_refused(count: int, kind: int) -> None:
    planes = np.zeros((256, count), np.float32)
    with pytest.raises(ValueError, match=f"found {count} of . colours, allowed are 768 of 3"):
        planes_of(planes, np.full(count, kind), by_row=True)


@pytest.mark.parametrize("channel", [-1, 3])
def test_planes_of_channels_that_there_are_not_are_refused(channel: int) -> None:
    planes, kinds = np.zeros((256, 2), np.float32), np.zeros(2, int)
    with pytest.raises(ValueError, match="channel_of: allowed are those of 3"):
        Planes(planes, np.array([0, channel]), kinds, 3, by_row=True)


def test_a_channel_may_have_planes_of_several_colours() -> None:
    assert LOOPS is not None
    parts = arrays()
    planes = np.repeat(np.array([[0.11, 0.21]], np.float32), 256, axis=0)
    both = [
        Planes(planes, np.array([1, 1]), np.array([2, 0]), channels, by_row=channels == 2)
        for channels in (2, 4)
    ]
    parts["layer"] = dataclasses.replace(parts["layer"], stream=both[0], others=both[1])
    parts["stream"][1, 0, 0], parts["symbols"][1, 1, 2] = 1, -2
    write_patches(LOOPS, **parts, left=0, top=0)
    assert (parts["picture"][:16, :16] == [181, 128, 156]).all()
    assert (parts["picture"][16:, 32:] == [20, 128, 71]).all()
    assert (parts["picture"][16:, :32] == 128).all()


def test_levels_far_beyond_the_ends_are_clamped() -> None:
    assert LOOPS is not None
    bias = np.zeros((16, 3, 16), np.float32)
    bias[0, :, 0] = [1e30, -1e30, np.inf]
    bias[0, 0, 1] = -np.inf
    parts = arrays(bias=bias)
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
