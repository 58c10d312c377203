"""The bytes of a .cae file: varints, and sections with their checksums. See FORMAT.md."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from caezip.errors import CorruptError, ParameterError, TruncatedError

MAGIC = b"\xcaEZ"
FORMAT_VERSION = 1
SIGNATURE = MAGIC + bytes([FORMAT_VERSION])
CRC_BYTES = 4
MAX_VARINT_BYTES = 4  # 28 bits: a section holds less than 256 MiB


def varint(value: int) -> bytes:
    """LEB128: seven bits a byte, least significant first, the top bit says "more"."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def section(kind: int, payload: bytes, covered: bytes = b"") -> bytes:
    if len(payload) >= 1 << (7 * MAX_VARINT_BYTES):
        raise ParameterError(f"section: found {len(payload)} bytes, allowed are below 256 MiB")
    body = bytes([kind]) + varint(len(payload)) + payload
    return body + zlib.crc32(covered + body).to_bytes(CRC_BYTES, "little")


class Reader:
    """Reads fields in order; every failure names the field and its offset."""

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self.data, self.position, self.end = data, position, end

    def skip(self, count: int, field: str) -> None:
        if count > self.end - self.position:
            raise TruncatedError(
                f"{field}: needs {count} bytes at offset {self.position}, "
                f"found {self.end - self.position}"
            )
        self.position += count

    def take(self, count: int, field: str) -> bytes:
        self.skip(count, field)
        return self.data[self.position - count : self.position]

    def uint(self, count: int, field: str) -> int:
        return int.from_bytes(self.take(count, field), "little")

    def varint(self, field: str) -> int:
        start, value = self.position, 0
        for shift in range(0, 7 * MAX_VARINT_BYTES, 7):
            byte = self.uint(1, field)
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                if byte == 0 and shift:
                    raise CorruptError(f"{field} at offset {start}: not in its shortest form")
                return value
        raise CorruptError(f"{field} at offset {start}: longer than {MAX_VARINT_BYTES} bytes")


@dataclass(frozen=True)
class Section:
    """Where a section is; its checksum is not yet verified."""

    kind: int
    position: int
    start: int  # of the payload
    end: int
    following: int  # where the next section begins

    def payload(self, data: bytes) -> bytes:
        """The payload, verified. Raises CorruptError."""
        # the first section's checksum vouches for the signature too
        first = 0 if self.position == len(SIGNATURE) else self.position
        stored = int.from_bytes(data[self.end : self.following], "little")
        if zlib.crc32(memoryview(data)[first : self.end]) != stored:
            raise CorruptError(
                f"section {self.kind:#04x} at offset {self.position}: its checksum does not "
                "match; the file was altered or damaged"
            )
        return data[self.start : self.end]


def find_section(data: bytes, position: int) -> Section:
    reader = Reader(data, position, len(data))
    kind = reader.uint(1, "section type")
    length = reader.varint("section length")
    start = reader.position
    reader.skip(length, f"section {kind:#04x}")
    end = reader.position
    reader.skip(CRC_BYTES, f"checksum of section {kind:#04x}")
    return Section(kind, position, start, end, reader.position)
