"""Files that the encoder would never write, put together from FORMAT.md by hand."""

from __future__ import annotations

import zlib

SIGNATURE = b"\xca\x45\x5a\x01"
HEAD, TILE, INDEX, ALPHA = 0x01, 0x02, 0x03, 0x04


def varint(value: int, *, pad: int = 0) -> bytes:
    """LEB128; ``pad`` adds that many needless bytes."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    for _ in range(pad):
        out[-1] |= 128
        out.append(0)
    return bytes(out)


def section(
    kind: int, payload: bytes, *, length: bytes | None = None, first: bool = False
) -> bytes:
    """Type, length, payload and a checksum that matches."""
    body = bytes([kind]) + (varint(len(payload)) if length is None else length) + payload
    return body + zlib.crc32((SIGNATURE if first else b"") + body).to_bytes(4, "little")


def head(
    *,
    flags: int = 0,
    model_id: int = 1,
    quality: int = 5000,
    pixel_format: int = 1,
    tile_size: int = 0,
    width: bytes = b"\x20",
    height: bytes = b"\x18",
    rest: bytes = b"",
) -> bytes:
    """The payload of a HEAD section; width and height are varints."""
    fixed = bytes([flags]) + model_id.to_bytes(2, "little") + quality.to_bytes(2, "little")
    return fixed + bytes([pixel_format, tile_size]) + width + height + rest


def head_section(payload: bytes | None = None) -> bytes:
    return section(HEAD, head() if payload is None else payload, first=True)


def tile_section(stream: bytes = bytes(8)) -> bytes:
    return section(TILE, stream)


def cae(*sections: bytes) -> bytes:
    """A file of these sections."""
    return SIGNATURE + b"".join(sections)


def with_model_id(data: bytes, model_id: int) -> bytes:
    """``data`` as if it had been written by another model, checksum and all."""
    payload_end = 6 + data[5]  # signature, type, a length of one byte
    payload = data[6:7] + model_id.to_bytes(2, "little") + data[9:payload_end]
    return SIGNATURE + head_section(payload) + data[payload_end + 4 :]
