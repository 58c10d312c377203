"""Forged files that announce more than they are: refused before memory is taken for it."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import forge
from broken_files import png, png_chunk, with_alpha
from caezip import Codec, container, info
from caezip.errors import BitstreamError, CorruptError, TruncatedError, UnsupportedError
from caezip.pretrained import load_model
from caezip.scales import Coded
from passes import coded_latent

SMALL = 1 << 20  # bytes: far below what each file announces, far above what a refusal takes
LARGEST = forge.varint(65535)
FLAT = forge.tile_section(b"\x1e\x90\xff")


@pytest.fixture(scope="module", autouse=True)
def traced() -> Iterator[None]:
    """Allocations are traced as long as this module runs.

    Python may crash when tracing stops while another thread allocates (CPython's issue
    128679), such as one that still compiles networks: so it stops once, when all are idle.
    """
    tracemalloc.start()
    yield
    pause_s = 0.2
    while True:
        before = time.process_time()
        time.sleep(pause_s)
        if time.process_time() - before < pause_s / 10:
            break
    tracemalloc.stop()


def taken_by(work: Callable[[], object]) -> int:
    """Bytes that Python and numpy had at most, above what they had before."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    work()
    return tracemalloc.get_traced_memory()[1] - before


def assert_refused_at_once(
    ask: Callable[[bytes], object], data: bytes, kind: type[BitstreamError], message: str
) -> None:
    def refused() -> None:
        with pytest.raises(kind, match=message) as raised:
            ask(data)
        assert type(raised.value) is kind

    assert taken_by(refused) < SMALL + 2 * len(data)


@pytest.fixture(scope="module")
def loaded(codec: Codec) -> Codec:
    """A codec whose weights are in memory, so that they do not count."""
    codec.decode(codec.encode(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)))
    return codec


@pytest.fixture(scope="module")
def unlimited(loaded: Codec) -> Codec:
    codec = Codec(threads=1, max_pixels=None)
    codec.decode(codec.encode(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)))
    return codec


def asked(codec: Codec) -> tuple[Callable[[bytes], object], ...]:
    """Everything that a codec does with bytes."""
    return (
        codec.decode,
        codec.decode_latents,
        codec.verify,
        codec.salvage,
        lambda data: codec.decode(data, region=(0, 0, 8, 8)),
        lambda data: codec.decode(data, reduction=8),
    )


def cae(*sections: bytes, **fields: int | bytes) -> bytes:
    model = load_model().entry.model_id
    head = forge.head(**{"model_id": model, **fields})  # type: ignore[arg-type]
    return forge.cae(forge.head_section(head), *sections)


# -- dimensions --------------------------------------------------------------


@pytest.mark.parametrize("tile", [FLAT, forge.tile_section(), b""], ids=["flat", "stream", "none"])
@pytest.mark.parametrize("pixel_format", range(4))
def test_the_largest_dimensions_are_refused_at_once(
    loaded: Codec, tile: bytes, pixel_format: int
) -> None:
    data = cae(tile, width=LARGEST, height=LARGEST, pixel_format=pixel_format)
    for ask in asked(loaded):
        assert_refused_at_once(ask, data, UnsupportedError, "dimensions: found 65535x65535 =")


def test_the_limit_of_pixels_counts_all_of_the_image(loaded: Codec) -> None:
    data = cae(FLAT, width=forge.varint(128), height=forge.varint(96))
    assert Codec(max_pixels=12288).decode(data).shape == (96, 128, 3)
    for ask in asked(Codec(max_pixels=12287)):
        with pytest.raises(UnsupportedError, match="12288 pixels, allowed are 12287"):
            ask(data)


def test_a_header_of_any_dimensions_is_read_and_nothing_made_of_it() -> None:
    data = cae(FLAT, width=LARGEST, height=LARGEST)
    assert taken_by(lambda: info(data)) < SMALL


# -- tiles -------------------------------------------------------------------


def test_more_tiles_than_the_limit_are_refused_at_once(unlimited: Codec) -> None:
    data = cae(FLAT, width=LARGEST, height=LARGEST, tile_size=1)
    for read in (lambda data: container.read(data, max_pixels=None), unlimited.verify):
        assert_refused_at_once(read, data, UnsupportedError, "tiles: found 1048576, allowed")


def test_tiles_that_are_not_there_take_no_memory(loaded: Codec) -> None:
    side = forge.varint(9408)  # 147 x 147 tiles of 64
    index = forge.section(forge.INDEX, b"\x03" * 147**2)
    data = cae(index, FLAT, width=side, height=side, tile_size=1)
    # the index is as long as the file; what is made of it is in proportion
    with pytest.raises(TruncatedError, match="tiles: found 1, the header announces 21609"):
        loaded.decode(data)
    short = cae(forge.section(forge.INDEX, b"\x03"), FLAT, width=side, height=side, tile_size=1)
    for ask in asked(loaded)[:4]:
        assert_refused_at_once(ask, short, CorruptError, "INDEX section: tile length: needs 1")


class Unsearchable(list[int]):
    def __contains__(self, _: object) -> bool:
        raise AssertionError("a list is searched from its start, again for every tile")


def test_thousands_of_tiles_are_not_looked_up_in_a_list() -> None:
    side = forge.varint(9408)
    tiles = 147**2
    index = forge.section(forge.INDEX, b"\x03" * tiles)
    data = cae(index, *[FLAT] * tiles, width=side, height=side, tile_size=1)
    parsed = container.read(data, wanted=Unsearchable(range(tiles)))
    assert parsed.tiles == (b"\x1e\x90\xff",) * tiles


@pytest.mark.parametrize(("width", "height"), [(2049, 2048), (1025, 4096), (65535, 1000)])
def test_a_stream_of_too_many_pixels_is_refused_at_once(
    unlimited: Codec, width: int, height: int
) -> None:
    data = cae(forge.tile_section(), width=forge.varint(width), height=forge.varint(height))
    message = f"found one of {width * height} pixels, allowed are 4194304"
    for ask in (unlimited.decode_latents, unlimited.verify, unlimited.salvage):
        kind = CorruptError if ask == unlimited.salvage else UnsupportedError
        assert_refused_at_once(ask, data, kind, message)
    with pytest.raises(UnsupportedError, match=message):
        unlimited.decode(data)


def test_a_stream_longer_than_its_tile_can_need_is_refused_at_once(loaded: Codec) -> None:
    data = cae(forge.tile_section(bytes(1 << 21)), width=b"\x10", height=b"\x10")
    for ask in asked(loaded):
        with pytest.raises(CorruptError, match="found 2097152 bytes, no tile of this size needs"):
            ask(data)
    # what a coder without this limit would pad it to is sixteen times as long
    assert_refused_at_once(loaded.verify, data, CorruptError, "no tile of this size needs")


def test_the_longest_stream_that_an_encoder_writes_is_below_that_limit() -> None:
    coder = load_model().coder
    z = np.full((coder.hyper_channels, 1, 1), -127, np.int32)
    residual = np.full((coder.latent_channels, 4, 4), -32767, np.int32)
    symbols = residual.ravel()
    of_one_index = [
        [(Coded(np.arange(symbols.size), np.full(symbols.shape, index, np.uint8)), symbols)]
        for index in (1, 63)
    ]
    for passes in (coded_latent(coder.scales, z, residual, 10000).passes, *of_one_index):
        stream = coder.encode(z, 5000, passes)
        assert len(stream) < 8 + 5.1 * (z.size + residual.size)


# -- sections ----------------------------------------------------------------


@pytest.mark.parametrize("kind", [forge.TILE, forge.INDEX, 0x04, 0x81, 0x82, 0x83, 0xFF])
def test_a_section_cannot_announce_more_than_the_file_has(loaded: Codec, kind: int) -> None:
    most = forge.varint((1 << 28) - 1)
    data = cae(forge.section(kind, b"abc", length=most), FLAT)
    for ask in asked(loaded):
        expected = f"section {kind:#04x}: needs 268435455 bytes"
        assert_refused_at_once(ask, data, TruncatedError, expected)


def test_no_section_is_longer_than_28_bits_can_say(loaded: Codec) -> None:
    data = cae(forge.section(0x81, b"abc", length=b"\xff\xff\xff\xff\x7f"), FLAT)
    for ask in asked(loaded):
        assert_refused_at_once(ask, data, CorruptError, "section length .* longer than 4 bytes")


def test_metadata_take_no_more_than_the_file_has(loaded: Codec) -> None:
    profile = bytes(1 << 20)
    data = cae(forge.section(0x81, profile), FLAT)
    pictures = []
    taken = taken_by(lambda: pictures.append(loaded.decode_picture(data)))
    assert pictures[0].metadata.icc_profile == profile
    assert taken < SMALL + 2 * len(data)


# -- alpha -------------------------------------------------------------------


@pytest.mark.parametrize("side", [2000, 12000, 65535, 2**31 - 1])
def test_an_alpha_channel_of_other_dimensions_is_never_decoded(loaded: Codec, side: int) -> None:
    data = with_alpha(png(side, side, rows=bytes(33 * 24)))
    for ask in (loaded.decode, loaded.verify):
        assert_refused_at_once(ask, data, CorruptError, f"found L {side}x{side} of 8 bits, allowed")


def test_a_second_header_in_the_alpha_png_changes_nothing(loaded: Codec) -> None:
    second = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 50000, 50000, 8, 0, 0, 0, 0))
    data = with_alpha(png(extra=second))
    assert_refused_at_once(loaded.decode, data, CorruptError, "found L 50000x50000 of 8 bits, allo")


def test_alpha_samples_beyond_the_image_are_not_inflated(loaded: Codec) -> None:
    data = with_alpha(png(rows=bytes(1 << 27)))
    assert len(data) < 1 << 18
    pictures = []
    assert taken_by(lambda: pictures.append(loaded.decode_picture(data))) < SMALL + 3 * len(data)
    assert pictures[0].alpha is not None
    assert pictures[0].alpha.shape == (24, 32)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_bomb_beside_the_alpha_samples_is_refused(loaded: Codec, kind: bytes) -> None:
    start = b"name\0\1\0\0\0" if kind == b"iTXt" else b"name\0\0"
    bomb = png_chunk(kind, start + zlib.compress(bytes(1 << 27), 9))
    data = with_alpha(png(extra=bomb))
    for ask in (loaded.decode, loaded.verify):

        def refused(ask: Callable[[bytes], object] = ask) -> None:
            with pytest.raises(CorruptError, match="ALPHA section: not a PNG that can be read"):
                ask(data)

        assert taken_by(refused) < 8 * SMALL  # Pillow inflates a megabyte before it gives up


def test_max_pixels_alone_limits_alpha(unlimited: Codec) -> None:
    side = 13500  # more pixels than Pillow would open without a word
    alpha = png(side, side, rows=b"")
    data = with_alpha(alpha, width=forge.varint(side), height=forge.varint(side))
    with pytest.raises(CorruptError, match="ALPHA section: not a PNG that can be read"):
        unlimited.verify(data)  # for want of samples, not for its size
