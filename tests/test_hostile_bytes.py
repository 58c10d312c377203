"""Golden files with a bit flipped or an end missing: the error says which it is, every time."""

from __future__ import annotations

from pathlib import Path

import pytest

from caezip import Codec, info
from caezip.errors import (
    BitstreamError,
    CorruptError,
    NotCaeError,
    TruncatedError,
    UnsupportedError,
)
from caezip.sections import MAGIC, SIGNATURE, find_section
from golden_files import GOLDEN

LARGEST = 400  # bytes; of these every bit is flipped
FILES = sorted(path for path in GOLDEN.glob("*.cae") if path.stat().st_size <= LARGEST)
LARGER = sorted(path for path in GOLDEN.glob("*.cae") if path.stat().st_size > LARGEST)
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
each_larger_file = pytest.mark.parametrize("path", LARGER, ids=lambda path: path.stem)


def length_fields(data: bytes) -> set[int]:
    """Offsets of the bytes that say how long a section is: damage to them moves its end."""
    found, position = set(), len(SIGNATURE)
    while position < len(data):
        section = find_section(data, position)
        found |= set(range(section.position + 1, section.start))
        position = section.following
    return found


def refusals(place: int, lengths: set[int]) -> tuple[type[BitstreamError], ...]:
    """What a changed byte at this offset may be called."""
    if place < len(MAGIC):
        return (NotCaeError,)
    if place < len(SIGNATURE):
        return (UnsupportedError,)
    return (CorruptError, TruncatedError) if place in lengths else (CorruptError,)


def assert_each_flip_is_refused(codec: Codec, data: bytes, places: range) -> None:
    lengths = length_fields(data)
    for place in places:
        for bit in range(8):
            altered = bytearray(data)
            altered[place] ^= 1 << bit
            with pytest.raises(BitstreamError) as raised:
                codec.decode(bytes(altered))
            assert type(raised.value) in refusals(place, lengths), f"bit {bit} of byte {place}"


def test_small_golden_files_are_of_every_kind() -> None:
    kinds = {info(path.read_bytes()).pixel_format for path in FILES + LARGER}
    assert {"gray8", "rgb8"} <= kinds
    assert len(FILES) >= 4


@each_file
def test_every_flipped_bit_is_named_for_what_it_damages(codec: Codec, path: Path) -> None:
    data = path.read_bytes()
    assert_each_flip_is_refused(codec, data, range(len(data)))


@each_larger_file
def test_flipped_bits_of_larger_files_are_named_too(codec: Codec, path: Path) -> None:
    data = path.read_bytes()
    assert_each_flip_is_refused(codec, data, range(100))
    assert_each_flip_is_refused(codec, data, range(100, len(data), 1 + len(data) // 50))


@pytest.mark.parametrize("path", FILES + LARGER, ids=lambda path: path.stem)
def test_every_truncation_is_named_as_one(codec: Codec, path: Path) -> None:
    data = path.read_bytes()
    with pytest.raises(NotCaeError, match="signature: found no bytes at all"):
        codec.decode(b"")
    for length in range(1, len(data), 1 + len(data) // 1000):
        with pytest.raises(TruncatedError) as raised:
            codec.decode(data[:length])
        assert type(raised.value) is TruncatedError


@each_file
def test_all_that_reads_files_refuses_the_same_damage(codec: Codec, path: Path) -> None:
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        altered = bytearray(data)
        altered[place] ^= 4
        for damaged in (bytes(altered), data[:place]):
            refused = []
            for read in (codec.decode, codec.decode_latents, codec.verify):
                with pytest.raises(BitstreamError) as raised:
                    read(damaged)
                refused.append((type(raised.value), str(raised.value)))
            assert len(set(refused)) == 1


@each_file
def test_the_header_of_damaged_files_is_right_or_refused(path: Path) -> None:
    data = path.read_bytes()
    whole = info(data)
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= 0x10
        try:
            found = info(bytes(altered))
        except BitstreamError:
            assert place < find_section(data, len(SIGNATURE)).following
        else:
            assert found == whole


@each_file
def test_files_with_bytes_added_or_removed_inside_are_refused(codec: Codec, path: Path) -> None:
    data = path.read_bytes()
    for place in range(len(data)):
        for altered in (
            data[:place] + b"\x00" + data[place:],
            data[:place] + b"\xff\xff" + data[place:],
            data[:place] + data[place + 1 :],
        ):
            with pytest.raises(BitstreamError):
                codec.decode(altered)
    with pytest.raises(BitstreamError):
        codec.decode(data + data)
