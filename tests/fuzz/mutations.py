"""Files and streams changed at random: their bytes, or their sections behind right checksums.

Whoever draws the random numbers drives it: `choose(low, high)` gives an integer
between the two, both included. It knows the frame of a .cae file from FORMAT.md and
nothing of caezip, whose reader is what is tested.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

Choose = Callable[[int, int], int]
Section = tuple[int, bytes]  # type and payload

SIGNATURE = b"\xca\x45\x5a\x01"
TILE, INDEX = 0x02, 0x03
EDGE_BYTES = (0x00, 0x01, 0x7F, 0x80, 0xFF)
EDGE_PAYLOADS = (b"", b"\0", b"\xff" * 2, b"\x7f" * 3, bytes(6), bytes(8), b"\xff" * 12)
SECTION_TYPES = (0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x7F, 0x80, 0x81, 0x82, 0x83, 0x84, 0xFF)


def mutated(data: bytes, others: Sequence[bytes], choose: Choose) -> bytes:
    """A .cae file changed in its bytes, its sections or both; ``others`` to splice with."""
    way = choose(0, 3)
    if way > 0:
        sections = split(data)
        for _ in range(max(1, choose(-2, 3))):
            sections = _changed_sections(sections, others, choose)
        if choose(0, 1):
            sections = _with_right_index(sections)
        data = join(sections)
    if way in (0, 3):
        data = changed_bytes(data, others, choose)
        if choose(0, 1):
            data = repaired(data)
    return data


def changed_bytes(data: bytes, others: Sequence[bytes], choose: Choose) -> bytes:
    """One to four changes of any bytes."""
    for _ in range(choose(1, 4)):
        change = _BYTE_CHANGES[choose(0, len(_BYTE_CHANGES) - 1)]
        data = change(data, others, choose)
    return data


def split(data: bytes) -> list[Section]:
    """The sections of a file, up to the first that is not whole; checksums are not looked at."""
    return [(data[start], data[begin:end]) for start, begin, end in _frames(data)]


def join(sections: Sequence[Section]) -> bytes:
    """A file of these sections, with right lengths and checksums."""
    out = bytearray(SIGNATURE)
    for number, (kind, payload) in enumerate(sections):
        body = bytes([kind]) + _varint(len(payload)) + payload
        covered = SIGNATURE + body if number == 0 else body
        out += body + zlib.crc32(covered).to_bytes(4, "little")
    return bytes(out)


def repaired(data: bytes) -> bytes:
    """The same bytes with right checksums, as far as whole sections can be found."""
    out = bytearray(data)
    for start, _, end in _frames(data):
        first = 0 if start == len(SIGNATURE) else start
        out[end : end + 4] = zlib.crc32(out[first:end]).to_bytes(4, "little")
    return bytes(out)


# -- parts -------------------------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _frames(data: bytes) -> list[tuple[int, int, int]]:
    """Where each whole section, its payload and its checksum start."""
    found: list[tuple[int, int, int]] = []
    position = len(SIGNATURE)
    while position < len(data):
        length, begin = 0, position + 1
        for shift in range(0, 28, 7):
            if begin >= len(data):
                return found
            byte, begin = data[begin], begin + 1
            length |= (byte & 127) << shift
            if byte < 128:
                break
        if begin + length + 4 > len(data):
            return found
        found.append((position, begin, begin + length))
        position = begin + length + 4
    return found


def _with_right_index(sections: list[Section]) -> list[Section]:
    lengths = b"".join(_varint(len(payload)) for kind, payload in sections if kind == TILE)
    return [(kind, lengths if kind == INDEX else payload) for kind, payload in sections]


def _changed_sections(
    sections: list[Section], others: Sequence[bytes], choose: Choose
) -> list[Section]:
    if not sections:
        return [(SECTION_TYPES[choose(0, len(SECTION_TYPES) - 1)], b"")]
    out, way = list(sections), choose(0, 7)
    place, second = choose(0, len(out) - 1), choose(0, len(out) - 1)
    kind, payload = out[place]
    if way <= 2:  # the most telling: the right frame around wrong contents
        payload = changed_bytes(payload, others, choose)
        if kind == TILE and choose(0, 3):  # other lengths are refused and no more
            payload = payload[: len(payload) // 4 * 4]
        out[place] = (kind, payload)
    elif way == 3:
        out[place] = (kind, EDGE_PAYLOADS[choose(0, len(EDGE_PAYLOADS) - 1)])
    elif way == 4:
        out[place] = (SECTION_TYPES[choose(0, len(SECTION_TYPES) - 1)], payload)
    elif way == 5:
        out[place], out[second] = out[second], out[place]
    elif way == 6:
        del out[place]
    else:
        foreign = split(others[choose(0, len(others) - 1)]) if others else out
        if foreign:
            out.insert(second, foreign[choose(0, len(foreign) - 1)])
    return out


def _flip(data: bytes, others: Sequence[bytes], choose: Choose) -> bytes:
    if not data:
        return b"\x80"
    place = choose(0, len(data) - 1)
    return data[:place] + bytes([data[place] ^ 1 << choose(0, 7)]) + data[place + 1 :]


def _overwrite(data: bytes, others: Sequence[bytes], choose: Choose) -> bytes:
    place = choose(0, len(data))
    value = EDGE_BYTES[choose(0, len(EDGE_BYTES) - 1)]
    count = min(choose(1, 8), len(data) - place)
    return data[:place] + bytes([value]) * count + data[place + count :]


def _insert(data: bytes, others: Sequence[bytes], choose: Choose) -> bytes:
    place = choose(0, len(data))
    new = bytes(choose(0, 255) for _ in range(choose(1, 8)))
    return data[:place] + new + data[place:]


def _delete(data: bytes, others: Sequence[bytes], choose: Choose) -> bytes:
    place = choose(0, len(data))
    return data[:place] + data[place + choose(1, 16) :]


def _swap(data: bytes, others: Sequence[bytes], choose: Choose) -> bytes:
    a, b, c, d = sorted(choose(0, len(data)) for _ in range(4))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _truncate(data: bytes, others: Sequence[bytes], choose: Choose) -> bytes:
    return data[: choose(0, len(data))]


def _repeat(data: bytes, others: Sequence[bytes], choose: Choose) -> bytes:
    a, b = sorted(choose(0, len(data)) for _ in range(2))
    return data[:b] + data[a : min(b, a + 64)] * choose(1, 8) + data[b:]


def _splice(data: bytes, others: Sequence[bytes], choose: Choose) -> bytes:
    other = others[choose(0, len(others) - 1)] if others else data
    return data[: choose(0, len(data))] + other[choose(0, len(other)) :]


_BYTE_CHANGES = (_flip, _flip, _overwrite, _insert, _delete, _swap, _truncate, _repeat, _splice)
