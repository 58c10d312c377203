"""Grids of tiles, their index, and files of which a part is read or damaged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import forge
from caezip import container
from caezip.errors import CorruptError, TruncatedError, UnsupportedError
from caezip.tiling import (
    Box,
    Edges,
    TileGrid,
    best_side,
    blocks_of_tiles,
    equal_windows,
    parts_of_tile,
)

PAYLOADS = [bytes([n]) * (8 + 4 * n) for n in range(6)]


def tiled(payloads: list[bytes] = PAYLOADS, width: int = 150, height: int = 128) -> bytes:
    """Three columns, the last 22 pixels wide, and two rows."""
    return container.write(
        model_id=1,
        width=width,
        height=height,
        quality_hundredths=5000,
        pixel_format="rgb8",
        tile_side=64,
        tiles=payloads,
    )


sides = st.integers(1, 700)


@given(width=sides, height=sides, side=st.sampled_from([0, 64, 128, 640]))
def test_tiles_cover_every_pixel_once(width: int, height: int, side: int) -> None:
    grid = TileGrid(width, height, side)
    boxes = [grid.box(number) for number in range(grid.count)]
    assert sum(box.width * box.height for box in boxes) == width * height
    assert all(box.width > 0 and box.height > 0 for box in boxes)
    assert all(box == box.clipped(Box(0, 0, width, height)) for box in boxes)


@given(
    width=sides,
    height=sides,
    side=st.sampled_from([0, 64, 128]),
    halo=st.integers(0, 64),
    largest=st.integers(1, 3000),
)
def test_blocks_have_every_tile_once_and_are_rectangles_of_no_more_cells_than_allowed(
    width: int, height: int, side: int, halo: int, largest: int
) -> None:
    grid = TileGrid(width, height, side)
    blocks = blocks_of_tiles(grid, 16, halo, largest)
    assert sorted(number for block in blocks for number in block) == list(range(grid.count))
    for block in blocks:
        first, last = grid.box(block[0]), grid.box(block[-1])
        whole = Box(first.left, first.top, last.right, last.bottom)
        assert block == grid.touching(whole)
        seen = whole.grown(halo, Box(0, 0, width, height))
        cells = -(-seen.width // 16) * -(-seen.height // 16)
        assert len(block) == 1 or cells <= largest


def test_blocks_are_those_that_make_the_least_work() -> None:
    grid = TileGrid(4000, 1000, 1000)  # four beside each other
    assert blocks_of_tiles(grid, 16, 64, 1 << 14) == [[0, 1, 2, 3]]
    assert blocks_of_tiles(grid, 16, 64, 9000) == [[0, 1], [2, 3]]
    assert blocks_of_tiles(grid, 16, 64, 4000) == [[0], [1], [2], [3]]


@given(data=st.data(), width=sides, height=sides, side=st.sampled_from([0, 64, 128]))
def test_a_region_touches_the_tiles_that_have_its_pixels(
    data: st.DataObject, width: int, height: int, side: int
) -> None:
    grid = TileGrid(width, height, side)
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    region = Box(left, top, right, bottom)
    expected = []
    for number in range(grid.count):
        common = grid.box(number).clipped(region)
        if common.width > 0 and common.height > 0:
            expected.append(number)
    assert grid.touching(region) == expected


@given(data=st.data(), limit=sides, unit=st.sampled_from([1, 8, 64]))
def test_a_box_widens_to_whole_units_if_there_is_room(
    data: st.DataObject, limit: int, unit: int
) -> None:
    left = data.draw(st.integers(0, limit - 1))
    right = data.draw(st.integers(left + 1, limit))
    room = Box(0, 0, limit, limit)
    wide = Box(left, left, right, right).widened(unit, room)
    assert wide == wide.clipped(room)
    assert (wide.left, wide.right) == (wide.top, wide.bottom)
    assert wide.left <= left
    assert wide.right >= right
    needed = -(-(right - left) // unit) * unit
    assert wide.width == min(needed, limit)


@pytest.mark.parametrize(
    ("width", "height", "side"),
    [
        (1281, 1, 768),  # two tiles in any case
        (1920, 1080, 1088),  # no row of 56 pixels
        (4000, 3000, 1024),
        (4608, 3456, 1152),
        (3072, 3072, 1024),
    ],
)
def test_tiles_are_as_large_as_makes_least_work(width: int, height: int, side: int) -> None:
    assert best_side(width, height, 1024, 64, 64) == side


def test_small_tiles_for_tests_keep_their_side() -> None:
    for side in (64, 128):
        assert best_side(300, 200, side, 64, 64) == side


def test_all_tiles_are_read_back_in_order() -> None:
    parsed = container.read(tiled())
    assert list(parsed.tiles) == PAYLOADS
    assert parsed.header.tile_side == 64


def test_only_wanted_tiles_are_read_and_verified() -> None:
    data = bytearray(tiled())
    place = bytes(data).index(PAYLOADS[2])
    data[place] ^= 1
    parsed = container.read(bytes(data), wanted=[1, 4])
    assert parsed.tiles == (None, PAYLOADS[1], None, None, PAYLOADS[4], None)
    with pytest.raises(CorruptError, match=r"tile 2 \(pixels 128,0 22x64\): .*checksum"):
        container.read(bytes(data), wanted=[2])


@pytest.mark.parametrize("number", range(6))
def test_salvage_returns_all_tiles_but_the_damaged_one(number: int) -> None:
    whole = tiled()
    start = whole.index(PAYLOADS[number]) - 2  # its type and length
    for place in range(start, start + 2 + len(PAYLOADS[number]) + 4):
        data = bytearray(whole)
        data[place] ^= 0x20
        with pytest.raises((CorruptError, TruncatedError), match=f"tile {number} "):
            container.read(bytes(data))
        parsed = container.read(bytes(data), salvage=True)
        expected = [None if n == number else payload for n, payload in enumerate(PAYLOADS)]
        assert list(parsed.tiles) == expected
        assert [text.split(":")[0][:6] for text in parsed.damaged] == [f"tile {number}"]


def test_salvage_of_a_truncated_file_returns_what_came_before() -> None:
    whole = tiled()
    end = whole.index(PAYLOADS[3]) + 5
    parsed = container.read(whole[:end], salvage=True)
    assert list(parsed.tiles) == [*PAYLOADS[:3], None, None, None]
    assert len(parsed.damaged) == 3


def with_index(payload: bytes) -> bytes:
    head = forge.head(tile_size=1, width=forge.varint(150), height=forge.varint(128))
    tiles = [forge.tile_section(payload) for payload in PAYLOADS]
    return forge.cae(forge.head_section(head), forge.section(forge.INDEX, payload), *tiles)


INDEX = bytes(len(payload) for payload in PAYLOADS)


def test_the_index_holds_the_lengths_of_the_tiles() -> None:
    assert with_index(INDEX) == tiled()


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (INDEX[:-1], "INDEX section: tile length: needs 1 bytes"),
        (INDEX + b"\x08", "INDEX section: 1 bytes too long"),
        (b"\x09" + INDEX[1:], "tile 0 .*: tile length: found 8, the index says 9"),
        (INDEX[:5] + b"\x9c\x00", "tile length at offset 5: not in its shortest form"),
    ],
)
def test_a_wrong_index_is_refused(index: bytes, message: str) -> None:
    with pytest.raises(CorruptError, match=message):
        container.read(with_index(index))


def test_several_tiles_need_an_index() -> None:
    head = forge.head(tile_size=1, width=forge.varint(150), height=forge.varint(128))
    tiles = [forge.tile_section(payload) for payload in PAYLOADS]
    with pytest.raises(CorruptError, match="INDEX section: found none, files of several tiles"):
        container.read(forge.cae(forge.head_section(head), *tiles))


def test_missing_tiles_are_counted() -> None:
    with pytest.raises(TruncatedError, match=r"tile 5 .*: tiles: found 5, the header announces 6"):
        container.read(tiled()[: -len(forge.tile_section(PAYLOADS[5]))])


def test_more_tiles_than_the_limit_are_refused_before_anything_is_read() -> None:
    side = forge.varint(65535)
    head = forge.head(tile_size=1, width=side, height=side)
    with pytest.raises(UnsupportedError, match="tiles: found 1048576, allowed are 65536"):
        container.read(forge.cae(forge.head_section(head)), max_pixels=None)


# -- windows -----------------------------------------------------------------


@given(
    image=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
    halo=st.integers(0, 5),
    largest=st.sampled_from([1, 36, 144, 400, 10_000]),
)
def test_windows_have_one_shape_and_see_what_they_need(
    image: tuple[int, int], corners: tuple[float, ...], halo: int, largest: int
) -> None:
    limit = Box(0, 0, *image)
    left, right = sorted(round(x * (image[0] - 1)) for x in corners[:2])
    top, bottom = sorted(round(y * (image[1] - 1)) for y in corners[2:])
    inside = Box(left, top, right + 1, bottom + 1)
    windows = equal_windows(inside, limit, halo, largest)
    assert len({(window.around.width, window.around.height) for window in windows}) == 1
    covered = np.zeros(image[::-1], int)
    for window in windows:
        cells, needed = window.inside, window.inside.grown(halo, limit)
        assert cells.width > 0
        assert cells.height > 0
        covered[cells.top : cells.bottom, cells.left : cells.right] += 1
        assert window.around.clipped(needed) == needed
        assert window.around.clipped(inside.grown(halo, limit)) == window.around
    assert covered.sum() == inside.width * inside.height
    assert (covered[top : bottom + 1, left : right + 1] == 1).all()


@pytest.mark.parametrize(
    ("size", "layout"),
    [((64, 64), (1, 1)), ((77, 51), (1, 1)), ((109, 73), (2, 1)), ((73, 109), (1, 2))],
)
def test_windows_are_as_many_as_make_the_least_work(
    size: tuple[int, int], layout: tuple[int, int]
) -> None:
    whole = Box(0, 0, *size)
    windows = equal_windows(whole, whole, 4, 80 * 80)
    corners = [(window.inside.top, window.inside.left) for window in windows]
    assert tuple(len({corner[axis] for corner in corners}) for axis in (1, 0)) == layout
    assert corners == sorted(corners)
    assert len(corners) == layout[0] * layout[1]
    assert all(window.around.width * window.around.height <= 80 * 80 for window in windows)


def test_windows_of_large_pictures_keep_to_their_size() -> None:
    whole = Box(0, 0, 250, 188)
    windows = equal_windows(whole, whole, 4, 5184)
    cells = [window.around.width * window.around.height for window in windows]
    assert max(cells) <= 5184
    assert sum(cells) <= 1.21 * 250 * 188


@given(
    cells=st.tuples(*[st.integers(1, 40)] * 4),
    unit=st.integers(1, 5),
    count=st.integers(1, 6),
)
def test_parts_of_a_tile_are_cut_at_multiples_and_cover_it(
    cells: tuple[int, int, int, int], unit: int, count: int
) -> None:
    left, top, width, height = cells
    tile = Box(left, top, left + width, top + height)
    parts = parts_of_tile(tile, unit, count)
    assert 1 <= len(parts) <= count
    covered = np.zeros((height, width), int)
    for part in parts:
        here = part.within(tile)
        covered[here.slices] += 1
        assert here.left % unit == here.top % unit == 0
    assert (covered == 1).all()
    if max(width, height) >= 2 * unit * count:
        assert len(parts) == count
        assert max(p.width * p.height for p in parts) <= 1.5 * width * height / count + unit * 40


def test_a_part_has_those_of_its_tiles_edges_that_it_reaches() -> None:
    tile, edges = Box(0, 0, 12, 8), Edges(left=True, right=True, bottom=True)
    assert edges.of(tile, tile) == edges
    assert edges.of(Box(0, 0, 8, 8), tile) == Edges(left=True, bottom=True)
    assert edges.of(Box(4, 0, 12, 4), tile) == Edges(right=True)
    assert edges.of(Box(4, 4, 8, 8), tile) == Edges(bottom=True)


def test_a_picture_for_several_is_cut_into_as_many_windows_at_least() -> None:
    whole = Box(0, 0, 48, 32)
    assert len(equal_windows(whole, whole, 3, 3844)) == 1
    assert len(equal_windows(whole, whole, 3, 3844, 2)) == 2
    assert len(equal_windows(whole, whole, 3, 3844, 4)) == 4
    assert len(equal_windows(Box(0, 0, 2, 1), Box(0, 0, 2, 1), 3, 3844, 4)) == 1  # too small
