"""A second decoder of the container and the entropy layer, written from FORMAT.md alone.

Plain Python and numpy: no torch, no compressai, and nothing of caezip. It is
slow and strict, and exists so that FORMAT.md cannot be wrong unnoticed.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import png
from numpy.typing import NDArray

HEAD, TILE, INDEX, ALPHA, ICC, EXIF, XMP = 0x01, 0x02, 0x03, 0x04, 0x81, 0x82, 0x83
FILTER = [
    *(38654, 5130, 2680, 1400, 900, 720, 600, 480, 370, 280, 205, 155, 115),
    *(88, 68, 53, 41, 32, 25, 20, 16, 14, 12, 11, 10),
]
FLAT_LENGTHS = (1, 3, 2, 6)  # by pixel_format


@dataclass
class Parsed:
    model_id: int
    quality: int
    pixel_format: int
    side: int
    width: int
    height: int
    has_filters: bool
    tiles: list[bytes]
    others: dict[int, bytes]
    """Payloads of ALPHA, ICC, EXIF and XMP, as far as there are any."""

    @property
    def sixteen_bits(self) -> bool:
        return self.pixel_format >= 2


@dataclass
class Flat:
    """A tile of one colour: its level, or its red, green and blue."""

    colour: tuple[int, ...]


@dataclass
class Integers:
    """What the stream of a tile says: ``z`` ``[Z, zh, zw]``, ``r`` ``[C, h, w]`` and its filter.

    ``filter``: coefficients in the order in which they are stored; empty if there are none.
    """

    z: NDArray[np.int64]
    r: NDArray[np.int64]
    filter: list[int]


def parse(data: bytes) -> Parsed:
    """Signature and sections; ValueError for whatever FORMAT.md forbids."""
    if data[:4] != b"\xca\x45\x5a\x01":
        raise ValueError("signature")
    sections = _sections(data)
    if not sections or sections[0][0] != HEAD:
        raise ValueError("first section")
    kinds = [kind for kind, _ in sections]
    first_tile = kinds.index(TILE) if TILE in kinds else len(kinds)
    others = sections[1:first_tile]
    if set(kinds[first_tile:]) - {TILE} or len(others) > 63:
        raise ValueError("order or number of sections")
    for kind, _ in others:
        if kind < 0x80 and kind not in (INDEX, ALPHA):
            raise ValueError("unknown critical section")
        if kind in (INDEX, ALPHA, ICC, EXIF, XMP) and kinds.count(kind) > 1:
            raise ValueError("a section occurs twice")
    parsed = _parse_head(sections[0][1])
    parsed.tiles = [payload for kind, payload in sections if kind == TILE]
    named = (ALPHA, ICC, EXIF, XMP)
    parsed.others = {kind: payload for kind, payload in others if kind in named}
    columns, rows = _grid(parsed)
    if len(parsed.tiles) != rows * columns or len(parsed.tiles) > 65536:
        raise ValueError("number of tiles")
    index = [payload for kind, payload in others if kind == INDEX]
    if len(index) != (1 if parsed.side else 0) or (index and others[-1][0] != INDEX):
        raise ValueError("INDEX")
    if index and _varints(index[0]) != [len(tile) for tile in parsed.tiles]:
        raise ValueError("lengths in INDEX")
    return parsed


def _sections(data: bytes) -> list[tuple[int, bytes]]:
    position, found = 4, []
    while position < len(data):
        start = 0 if position == 4 else position
        length, used = _varint(data, position + 1)
        begin = position + 1 + used
        end = begin + length
        if end + 4 > len(data):
            raise ValueError("end of the file")
        if zlib.crc32(data[start:end]) != int.from_bytes(data[end : end + 4], "little"):
            raise ValueError("checksum")
        found.append((data[position], data[begin:end]))
        position = end + 4
    return found


def _parse_head(head: bytes) -> Parsed:
    width, used = _varint(head, 7)
    height, used_too = _varint(head, 7 + used)
    parsed = Parsed(
        int.from_bytes(head[1:3], "little"),
        int.from_bytes(head[3:5], "little"),
        head[5],
        64 * head[6],
        width,
        height,
        bool(head[0] & 1),
        [],
        {},
    )
    if head[0] > 3 or 7 + used + used_too != len(head) or parsed.pixel_format > 3:
        raise ValueError("HEAD")
    if not (1 <= width <= 65535 and 1 <= height <= 65535 and 100 <= parsed.quality <= 10_000):
        raise ValueError("ranges of HEAD")
    if parsed.side and _grid(parsed) == (1, 1):
        raise ValueError("tile_size of a single tile")
    return parsed


def _grid(parsed: Parsed) -> tuple[int, int]:
    """Columns and rows of tiles."""
    if not parsed.side:
        return 1, 1
    return -(-parsed.width // parsed.side), -(-parsed.height // parsed.side)


def tile_size(parsed: Parsed, number: int) -> tuple[int, int]:
    """Width and height of a tile in pixels."""
    if not parsed.side:
        return parsed.width, parsed.height
    row, column = divmod(number, _grid(parsed)[0])
    return (
        min(parsed.side, parsed.width - parsed.side * column),
        min(parsed.side, parsed.height - parsed.side * row),
    )


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(data[position : position + 4]):
        value |= (byte & 127) << (7 * count)
        if byte < 128:
            if count and not byte:
                raise ValueError("varint that is not in its shortest form")
            return value, count + 1
    raise ValueError("varint")


def _varints(data: bytes) -> list[int]:
    position, values = 0, []
    while position < len(data):
        value, used = _varint(data, position)
        values.append(value)
        position += used
    return values


def alpha(parsed: Parsed) -> NDArray[Any] | None:
    """The alpha channel ``[H, W]``; ValueError if it does not fit the image."""
    if ALPHA not in parsed.others:
        return None
    width, height, rows, info = png.Reader(bytes=parsed.others[ALPHA]).read()
    bits = 16 if parsed.sixteen_bits else 8
    if (width, height, info["bitdepth"]) != (parsed.width, parsed.height, bits):
        raise ValueError("ALPHA")
    if not info["greyscale"] or info["alpha"]:
        raise ValueError("channels of ALPHA")
    return np.array([list(row) for row in rows])


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


def integer(weights: dict[str, NDArray[Any]], name: str) -> NDArray[np.int64]:
    """A tensor of the scale predictor, wide enough for any sum."""
    tensor: NDArray[np.int64] = weights[f"integer_scales.{name}"].astype(np.int64)
    return tensor


def at_quality(table: NDArray[np.int64], quality: int) -> NDArray[np.int64]:
    anchors = len(table)
    p = (quality - 100) * (anchors - 1)
    low = min(p // 9900, anchors - 2)
    f = p - 9900 * low
    bias: NDArray[np.int64] = (table[low] * (9900 - f) + table[low + 1] * f + 4950) // 9900
    return bias


def hyper_latent(
    weights: dict[str, NDArray[Any]],
    quality: int,
    grid: tuple[int, int],
    symbol: Callable[[tuple[int, int, int], int, int], int],
) -> NDArray[np.int64]:
    """``z``: ``symbol`` is asked for each, given position, table and the mean's whole steps."""
    prior = {
        name.removeprefix("integer_hyper_prior."): tensor.astype(np.int64)
        for name, tensor in weights.items()
        if name.startswith("integer_hyper_prior.")
    }
    first_shift, second_shift = int(prior["first_shift"]), int(prior["second_shift"])
    channels = len(prior["second"]) // 2
    sizes = [round(16 * math.log(1 + m)) for m in range(16)]

    def seen(symbols: NDArray[np.int64]) -> NDArray[np.int64]:
        values = np.clip(symbols, -15, 15)
        return np.array([*values, *(sizes[abs(value)] for value in values)])

    z = np.zeros((channels, *grid), np.int64)
    for row, column in np.ndindex(*grid):
        x: list[int] = []
        for down, right in ((0, -1), (-1, 0), (-1, -1), (-1, 1)):
            inside = row + down >= 0 and 0 <= column + right < grid[1]
            x += seen(z[:, row + down, column + right] if inside else 0 * z[:, 0, 0]).tolist()
        first = prior["first"] @ np.array(x) + at_quality(prior["first_bias"], quality)
        hidden = np.clip((first + (1 << (first_shift - 1))) >> first_shift, 0, 255)
        second = prior["second"] @ hidden + at_quality(prior["second_bias"], quality)
        for channel in range(channels):
            sums = second + prior["before"] @ seen(z[:, row, column])
            sums = (sums + (1 << (second_shift - 1))) >> second_shift
            mean = min(max(int(sums[channel]), -1016), 1016)
            scale = min(max(int(sums[channels + channel]), 0), 31)
            whole = (mean + 4) // 8
            table = 8 * scale + mean - 8 * whole + 4
            value = symbol((channel, row, column), table, whole)
            if abs(value) > 127:
                raise ValueError("z")
            z[channel, row, column] = value
    return z


def listed_hyper(
    weights: dict[str, NDArray[Any]], z: NDArray[np.int64], quality: int
) -> list[tuple[int, int]]:
    """Tables and what they code of ``z``, in the order of the stream."""
    listed: list[tuple[int, int]] = []

    def symbol(position: tuple[int, int, int], table: int, whole: int) -> int:
        listed.append((table, int(z[position]) - whole))
        return int(z[position])

    hyper_latent(weights, quality, (z.shape[1], z.shape[2]), symbol)
    return listed


def pass_one(channels: int, h: int, w: int) -> NDArray[np.bool_]:
    even = np.add.outer(np.arange(h), np.arange(w)) % 2 == 0
    return np.array([even if c < channels // 2 else ~even for c in range(channels)])


def index_of(weights: dict[str, NDArray[Any]], v: NDArray[np.int64]) -> NDArray[np.int64]:
    shift = int(weights["integer_scales.shift"])
    return np.clip((v + (1 << (shift - 1))) >> shift, 0, 63)


def hyper_features(
    weights: dict[str, NDArray[Any]], z: NDArray[np.int64], quality: int
) -> NDArray[np.int64]:
    """None, if the weights have none."""
    prefix = "integer_hyper_features."
    if prefix + "weight" not in weights:
        return z[:0]
    weight, bias, shift = (
        weights[prefix + name].astype(np.int64) for name in ("weight", "bias", "shift")
    )
    channels, zh, zw = z.shape
    out = np.zeros((len(weight), zh, zw), np.int64)
    for row, column in np.ndindex(zh, zw):
        sums = at_quality(bias, quality) + (1 << (int(shift) - 1))
        for y, x in np.ndindex(3, 3):
            j, i = row + y - 1, column + x - 1
            if 0 <= j < zh and 0 <= i < zw:
                first = channels * (3 * y + x)
                sums = sums + weight[:, first : first + channels] @ z[:, j, i]
        out[:, row, column] = np.clip(sums >> int(shift), 0, 127)
    return out


def first_sums(
    weights: dict[str, NDArray[Any]], z: NDArray[np.int64], quality: int, h: int, w: int
) -> NDArray[np.int64]:
    weight, bias = integer(weights, "weight"), at_quality(integer(weights, "bias"), quality)
    z = np.concatenate([z, hyper_features(weights, z, quality)])
    s = np.zeros((len(bias), h, w), np.int64)
    for row in range(h):
        for column in range(w):
            phase = 4 * (row % 4) + column % 4
            s[:, row, column] = bias + weight[phase::16] @ z[:, row // 4, column // 4]
    return s


def second_sums(
    weights: dict[str, NDArray[Any]], s: NDArray[np.int64], r: NDArray[np.int64], quality: int
) -> NDArray[np.int64]:
    """``r`` counts at pass one's positions only."""
    across, around = integer(weights, "across"), integer(weights, "around")
    bias = at_quality(integer(weights, "second_bias"), quality)
    shift = int(weights["integer_scales.evidence_shift"])
    level = np.minimum(np.abs(r), 31)
    e = integer(weights, "evidence")[index_of(weights, s), level] * pass_one(*s.shape)
    _, h, w = s.shape
    out = np.zeros(s.shape, np.int64)
    for row in range(h):
        for column in range(w):
            total = across @ e[:, row, column]
            above_left_right_below = (-1, 0), (0, -1), (0, 1), (1, 0)
            for n, (down, right) in enumerate(above_left_right_below):
                y, x = row + down, column + right
                if 0 <= y < h and 0 <= x < w:
                    total += around[:, n] * e[:, y, x]
            evidence = (total + (1 << (shift - 1))) >> shift
            out[:, row, column] = s[:, row, column] + bias + evidence
    return out


def scale_indexes(
    weights: dict[str, NDArray[Any]], z: NDArray[np.int64], r: NDArray[np.int64], quality: int
) -> NDArray[np.int64]:
    """Of every position, each in its pass."""
    s = first_sums(weights, z, quality, r.shape[1], r.shape[2])
    second = second_sums(weights, s, r, quality)
    return index_of(weights, np.where(pass_one(*r.shape), s, second))


def decode(data: bytes, weights: dict[str, NDArray[Any]]) -> list[Integers | Flat]:
    """What the tiles of a file say, given the tensors of the weights that it names.

    Raises ValueError for whatever FORMAT.md tells decoders to refuse.
    """
    parsed = parse(data)
    return [_decode_tile(parsed, number, weights) for number in range(len(parsed.tiles))]


def _decode_tile(parsed: Parsed, number: int, weights: dict[str, NDArray[Any]]) -> Integers | Flat:
    payload = parsed.tiles[number]
    if len(payload) == FLAT_LENGTHS[parsed.pixel_format]:
        return Flat(tuple(np.frombuffer(payload, "<u2" if parsed.sixteen_bits else "u1").tolist()))
    if len(payload) % 4 or len(payload) < 8:
        raise ValueError("length of the tile")
    width, height = tile_size(parsed, number)
    h, w = -(-height // 16), -(-width // 16)
    zh, zw = -(-h // 4), -(-w // 4)
    rans = Rans(payload)
    hyper = tables(weights, "hyper")

    def read_hyper(_: tuple[int, int, int], table: int, whole: int) -> int:
        return whole + rans.symbol(*hyper[table])

    z = hyper_latent(weights, parsed.quality, (zh, zw), read_hyper)
    s = first_sums(weights, z, parsed.quality, h, w)
    r = np.zeros(s.shape, np.int64)
    latent = tables(weights, "latent")

    def read_pass(index: NDArray[np.int64], here: NDArray[np.bool_]) -> None:
        for position in zip(*np.nonzero((index > 0) & here), strict=True):  # last index fastest
            symbol = rans.symbol(*latent[index[position]])
            if abs(symbol) > 32767:
                raise ValueError("r")
            r[position] = symbol

    first = pass_one(*s.shape)
    read_pass(index_of(weights, s), first)
    read_pass(index_of(weights, second_sums(weights, s, r, parsed.quality)), ~first)
    return Integers(z, r, _filter(rans) if parsed.has_filters else [])


def _filter(rans: Rans) -> list[int]:
    front = np.array([32768, 32767, 1])
    has_one = rans.symbol(front, np.concatenate([[0], np.cumsum(front)]), 0)
    if has_one not in (0, 1):
        raise ValueError("first symbol of a filter")
    if not has_one:
        return []
    frequencies = np.array([*FILTER[:0:-1], *FILTER, 32])
    table = frequencies, np.concatenate([[0], np.cumsum(frequencies)]), -24
    found = [rans.symbol(*table) for _ in range(108)]
    if max(map(abs, found)) > 127:
        raise ValueError("coefficient of a filter")
    return found
