"""A second decoder of the container and the entropy layer, written from FORMAT.md alone.

Plain Python and numpy: no torch, no compressai, and nothing of caezip. It is
slow and strict, and exists so that FORMAT.md cannot be wrong unnoticed.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class Parsed:
    model_id: int
    quality: int
    pixel_format: int
    width: int
    height: int
    stream: bytes


def parse(data: bytes) -> Parsed:
    """Signature, sections and HEAD; ValueError for whatever FORMAT.md forbids."""
    if data[:4] != b"\xca\x45\x5a\x01":
        raise ValueError("signature")
    position, sections = 4, []
    while position < len(data):
        start = 0 if position == 4 else position
        kind = data[position]
        length, used = _varint(data, position + 1)
        begin = position + 1 + used
        end = begin + length
        if zlib.crc32(data[start:end]) != int.from_bytes(data[end : end + 4], "little"):
            raise ValueError("checksum")
        sections.append((kind, data[begin:end]))
        position = end + 4
    head = sections[0][1]
    width, used = _varint(head, 7)
    height, used_too = _varint(head, 7 + used)
    if sections[0][0] != 1 or head[0] or head[6] or 7 + used + used_too != len(head):
        raise ValueError("HEAD")
    (stream,) = [payload for kind, payload in sections if kind == 2]
    return Parsed(
        int.from_bytes(head[1:3], "little"),
        int.from_bytes(head[3:5], "little"),
        head[5],
        width,
        height,
        stream,
    )


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for count in range(4):
        byte = data[position + count]
        value |= (byte & 127) << (7 * count)
        if byte < 128:
            return value, count + 1
    raise ValueError("varint")


class Rans:
    def __init__(self, stream: bytes) -> None:
        self.words = [int(w) for w in np.frombuffer(stream, "<u4")]
        self.next = 2
        self.x = self.words[0] | self.words[1] << 32

    def _refill(self) -> None:
        if self.x < 1 << 31:
            word = self.words[self.next] if self.next < len(self.words) else 0
            self.next += 1
            self.x = self.x << 32 | word

    def nibble(self) -> int:
        value = self.x & 15
        self.x >>= 4
        self._refill()
        return value

    def symbol(self, frequencies: NDArray[Any], cumulative: NDArray[Any], offset: int) -> int:
        u = self.x & 0xFFFF
        v = int(np.searchsorted(cumulative, u, side="right")) - 1
        self.x = int(frequencies[v]) * (self.x >> 16) + u - int(cumulative[v])
        self._refill()
        if v < len(frequencies) - 1:
            return v + offset
        count = 0
        while (n := self.nibble()) == 15:
            count += n
        raw = sum(self.nibble() << (4 * place) for place in range(count + n))
        half = raw >> 1
        return (-half - 1 if raw & 1 else half + len(frequencies) - 1) + offset


def tables(weights: dict[str, NDArray[Any]], name: str) -> list[tuple[Any, Any, int]]:
    out, start = [], 0
    for length, offset in zip(
        weights[f"{name}.lengths"].tolist(), weights[f"{name}.offsets"].tolist(), strict=True
    ):
        frequencies = weights[f"{name}.frequencies"][start : start + length].astype(np.int64)
        out.append((frequencies, np.concatenate([[0], np.cumsum(frequencies)]), offset))
        start += length
    return out


def scale_indexes(
    weights: dict[str, NDArray[Any]], z: NDArray[Any], quality: int, h: int, w: int
) -> NDArray[Any]:
    weight = weights["scales.weight"].astype(np.int64)
    bias = weights["scales.bias"].astype(np.int64)
    shift = int(weights["scales.shift"][0])
    anchors, channels = bias.shape
    p = (quality - 100) * (anchors - 1)
    low = min(p // 9900, anchors - 2)
    f = p - 9900 * low
    b = (bias[low] * (9900 - f) + bias[low + 1] * f + 4950) // 9900
    index = np.zeros((channels, h, w), np.int64)
    for row in range(h):
        for column in range(w):
            phase = 4 * (row % 4) + column % 4
            s = weight[phase::16] @ z[:, row // 4, column // 4]
            index[:, row, column] = np.clip((s + b + (1 << (shift - 1))) >> shift, 0, 63)
    return index


def decode(
    data: bytes, weights: dict[str, NDArray[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``(z, r)`` of a file, given the tensors of the weights that it names."""
    parsed = parse(data)
    h, w = -(-parsed.height // 16), -(-parsed.width // 16)
    zh, zw = -(-h // 4), -(-w // 4)
    rans = Rans(parsed.stream)
    hyper = [[rans.symbol(*table) for _ in range(zh * zw)] for table in tables(weights, "hyper")]
    z = np.array(hyper).reshape(-1, zh, zw)
    index = scale_indexes(weights, z, parsed.quality, h, w)
    latent = tables(weights, "latent")
    r = np.array([rans.symbol(*latent[i]) if i else 0 for i in index.ravel().tolist()])
    return z, r.reshape(index.shape)
