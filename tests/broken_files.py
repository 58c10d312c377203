"""Broken files, one for every rule of the format: how they are made, and what they raise.

``python tests/broken_files.py`` writes tests/golden_errors: the files, and the message
that each raises. Run it again when weights, rules or messages change, and read the
difference. Which class each raises is laid down here.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from unittest import mock

import numpy as np

import forge
from caezip import Codec
from caezip.errors import (
    CaeError,
    CorruptError,
    NotCaeError,
    TruncatedError,
    UnknownModelError,
    UnsupportedError,
)
from caezip.frequency_tables import FILTER_COEFFICIENTS
from caezip.pretrained import list_models, load_model
from forge import cae, head, head_section, section, tile_section, varint
from passes import coded_latent

FOLDER = Path(__file__).parent / "golden_errors"
EXPECTED = FOLDER / "expected.json"
INSTALLED = "installed are: {models}"
UNLIMITED = frozenset({"tiles_too_many", "tile_stream_too_large"})  # without max_pixels
ALPHA, ICC = 0x04, 0x81
UNKNOWN_MODEL = 0xFFFF  # colours need no weights
RGB_TILE = tile_section(b"\x1e\x90\xff")  # flat
LARGEST = varint(65535)
Rules = dict[str, tuple[type[CaeError], bytes]]


def broken_files() -> Rules:
    """By the name of the rule: the class of error that is due, and the file."""
    return {
        **_signature(),
        **_head(),
        **_frames(),
        **_order(),
        **_index(),
        **_tiles(),
        **_streams(),
        **_alpha(),
    }


def with_head(**fields: bytes | int) -> bytes:
    """A flat file of 32x24 pixels, whole but for these fields of its header."""
    payload = head(**{"model_id": UNKNOWN_MODEL, **fields})  # type: ignore[arg-type]
    return cae(head_section(payload), RGB_TILE)


GOOD = with_head()


def altered(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def _signature() -> Rules:
    return {
        "signature_empty": (NotCaeError, b""),
        "signature_of_a_png": (NotCaeError, b"\x89PNG\r\n\x1a\n" + bytes(24)),
        "signature_of_text": (NotCaeError, "Ê was EZ in Latin-1".encode()),
        "signature_cut": (TruncatedError, forge.SIGNATURE[:3]),
        "version_0": (UnsupportedError, altered(GOOD, 3)),
        "version_2": (UnsupportedError, GOOD[:3] + b"\x02" + GOOD[4:]),
    }


def _head() -> Rules:
    return {
        "head_flags": (UnsupportedError, with_head(flags=4)),
        "head_quality_low": (CorruptError, with_head(quality=99)),
        "head_quality_high": (CorruptError, with_head(quality=10001)),
        "head_pixel_format": (UnsupportedError, with_head(pixel_format=4)),
        "head_tile_size_of_one_tile": (CorruptError, with_head(tile_size=1)),
        "head_width_0": (CorruptError, with_head(width=b"\0")),
        "head_width_65536": (CorruptError, with_head(width=varint(65536))),
        "head_height_0": (CorruptError, with_head(height=b"\0")),
        "head_height_65536": (CorruptError, with_head(height=varint(65536))),
        "head_width_needlessly_long": (CorruptError, with_head(width=varint(32, pad=1))),
        "head_height_of_five_bytes": (CorruptError, with_head(height=b"\xff" * 5)),
        "head_too_long": (CorruptError, with_head(rest=b"\0")),
        "head_too_short": (CorruptError, cae(head_section(head()[:-1]), RGB_TILE)),
        "head_empty": (CorruptError, cae(head_section(b""), RGB_TILE)),
        "pixels_too_many": (UnsupportedError, with_head(width=LARGEST, height=LARGEST)),
        "tiles_too_many": (
            UnsupportedError,
            with_head(width=LARGEST, height=LARGEST, tile_size=1),
        ),
        "model_of_a_release": (
            UnknownModelError,
            cae(head_section(head(model_id=0x7FFF)), tile_section()),
        ),
        "model_of_a_user": (
            UnknownModelError,
            cae(head_section(head(model_id=0xFFFF)), tile_section()),
        ),
    }


def _frames() -> Rules:
    start = len(cae(head_section()))
    long_tile = section(forge.TILE, b"\x1e\x90\xff", length=varint((1 << 28) - 1))
    padded = section(forge.TILE, b"\x1e\x90\xff", length=varint(3, pad=1))
    overlong = section(forge.TILE, b"\x1e\x90\xff", length=b"\x83\x80\x80\x80\0")
    unknown = section(0x84, b"something new")
    return {
        "first_section_missing": (TruncatedError, forge.SIGNATURE),
        "section_length_missing": (TruncatedError, GOOD[: start + 1]),
        "section_payload_cut": (TruncatedError, GOOD[:-5]),
        "section_checksum_cut": (TruncatedError, GOOD[:-1]),
        "section_longer_than_the_file": (TruncatedError, cae(head_section(), long_tile)),
        "section_length_needlessly_long": (CorruptError, cae(head_section(), padded)),
        "section_length_of_five_bytes": (CorruptError, cae(head_section(), overlong)),
        "checksum_of_head": (CorruptError, altered(GOOD, 8)),
        "checksum_without_signature": (
            CorruptError,
            cae(section(forge.HEAD, head()), RGB_TILE),
        ),
        "checksum_of_tile": (CorruptError, altered(GOOD, len(GOOD) - 5)),
        "checksum_of_unknown_type": (
            CorruptError,
            cae(head_section(), altered(unknown, 4), RGB_TILE),
        ),
        "checksum_of_icc": (
            CorruptError,
            cae(head_section(), altered(section(ICC, b"profile"), 4), RGB_TILE),
        ),
        "checksum_of_critical_type": (
            CorruptError,
            cae(head_section(), altered(section(0x05, b"new"), 0), RGB_TILE),
        ),
    }


def _order() -> Rules:
    icc, critical = section(ICC, b"profile"), section(0x05, b"new")
    return {
        "first_section_tile": (
            CorruptError,
            cae(section(forge.TILE, b"\x1e\x90\xff", first=True), head_section()),
        ),
        "first_section_icc": (
            CorruptError,
            cae(section(ICC, b"profile", first=True), head_section(), RGB_TILE),
        ),
        "head_twice": (
            CorruptError,
            cae(head_section(), section(forge.HEAD, head()), RGB_TILE),
        ),
        "icc_twice": (CorruptError, cae(head_section(), icc, icc, RGB_TILE)),
        "alpha_twice": (
            CorruptError,
            cae(head_section(), *[section(ALPHA, png())] * 2, RGB_TILE),
        ),
        "unknown_critical_type": (UnsupportedError, cae(head_section(), critical, RGB_TILE)),
        "sections_too_many": (
            UnsupportedError,
            cae(head_section(), *[section(0x80, b"")] * 64, RGB_TILE),
        ),
        "tile_missing": (TruncatedError, cae(head_section(), icc)),
        "bytes_behind_the_last_tile": (CorruptError, GOOD + b"\0"),
        "second_tile": (CorruptError, cae(head_section(), RGB_TILE, RGB_TILE)),
        "metadata_behind_the_tile": (CorruptError, cae(head_section(), RGB_TILE, icc)),
    }


def tiled(*sections: bytes) -> bytes:
    """A file of two tiles: 100x64 pixels."""
    fields = head(model_id=UNKNOWN_MODEL, tile_size=1, width=varint(100), height=varint(64))
    return cae(head_section(fields), *sections)


def _index() -> Rules:
    two = (RGB_TILE, RGB_TILE)

    def indexed(payload: bytes) -> bytes:
        return tiled(section(forge.INDEX, payload), *two)

    index = section(forge.INDEX, b"\x03\x03")
    return {
        "index_of_one_tile": (
            CorruptError,
            cae(head_section(), section(forge.INDEX, b"\x03"), RGB_TILE),
        ),
        "index_missing": (CorruptError, tiled(*two)),
        "index_twice": (CorruptError, tiled(index, index, *two)),
        "index_too_short": (CorruptError, indexed(b"\x03")),
        "index_too_long": (CorruptError, indexed(b"\x03\x03\x03")),
        "index_needlessly_long": (CorruptError, indexed(b"\x03\x83\0")),
        "index_of_other_lengths": (CorruptError, indexed(b"\x03\x04")),
        "index_checksum": (CorruptError, tiled(altered(index, 2), *two)),
        "index_before_icc": (CorruptError, tiled(index, section(ICC, b"profile"), *two)),
        "tiles_too_few": (TruncatedError, tiled(index, RGB_TILE)),
        "tiles_cut": (TruncatedError, indexed(b"\x03\x03")[:-2]),
        "tile_of_another_type": (CorruptError, tiled(index, RGB_TILE, section(0x05, b"abc"))),
        "tile_checksum": (
            CorruptError,
            tiled(index, RGB_TILE, altered(RGB_TILE, 3)),
        ),
    }


def _tiles() -> Rules:
    """Payloads that are neither a colour nor a stream."""
    cases = {
        "flat_gray_in_rgb": (1, b"\x7f"),
        "flat_rgb_in_gray": (0, b"\x7f\x7f\x7f"),
        "flat_gray16_in_gray": (0, b"\x7f\x7f"),
        "flat_rgb16_in_rgb": (1, b"\x7f" * 6),
        "flat_gray_in_gray16": (2, b"\x7f"),
        "flat_rgb_in_rgb16": (3, b"\x7f" * 3),
        "tile_empty": (1, b""),
        "tile_stream_of_4_bytes": (1, bytes(4)),
        "tile_stream_of_odd_length": (1, bytes(9)),
    }
    return {
        name: (CorruptError, _with_stream(stream, pixel_format=pixel_format))
        for name, (pixel_format, stream) in cases.items()
    }


def _with_stream(stream: bytes, **fields: bytes | int) -> bytes:
    fields = {"model_id": load_model().entry.model_id, **fields}
    return cae(head_section(head(**fields)), tile_section(stream))  # type: ignore[arg-type]


def _streams() -> Rules:
    """Streams whose symbols no encoder writes."""
    coder = load_model().coder
    side, cells = varint(16), 1
    most = 8 + 6 * (coder.latent_channels + coder.hyper_channels)
    z = np.zeros((coder.hyper_channels, cells, cells), np.int32)
    residual = np.zeros((coder.latent_channels, cells, cells), np.int32)
    passes = coded_latent(coder.scales, z, residual, 10000).passes
    beyond_z, ((first, symbols), second) = z.copy(), passes
    beyond_z[0] = -128
    beyond = symbols.copy()
    beyond[0] = 32768
    coefficients = np.zeros(FILTER_COEFFICIENTS, np.int32)
    coefficients[-1] = -128

    # the symbol in front, 0 or 1 in files
    with mock.patch("caezip.compiled_coder.FILTER", 2), mock.patch("caezip.entropy.FILTER", 2):
        of_another_kind = coder.encode(z, 10000, passes, coefficients)

    def one_cell(stream: bytes, flags: int = 0) -> tuple[type[CaeError], bytes]:
        fields = {"quality": 10000, "width": side, "height": side, "flags": flags}
        return CorruptError, _with_stream(stream, **fields)  # type: ignore[arg-type]

    return {
        "hyper_latent_beyond_127": one_cell(coder.encode(beyond_z, 10000, passes)),
        "latent_beyond_32767": one_cell(coder.encode(z, 10000, [(first, beyond), second])),
        "filter_beyond_127": one_cell(coder.encode(z, 10000, passes, coefficients), flags=1),
        "filter_of_another_kind": one_cell(of_another_kind, flags=1),
        "tile_stream_too_long": one_cell(bytes(most + 4)),
        "tile_stream_too_large": (
            UnsupportedError,
            _with_stream(bytes(8), width=varint(2049), height=varint(2048)),
        ),
    }


def png(
    width: int = 32,
    height: int = 24,
    *,
    depth: int = 8,
    colour: int = 0,
    rows: bytes | None = None,
    extra: bytes = b"",
) -> bytes:
    """A PNG, of zeros unless ``rows`` are given."""
    channels = {0: 1, 2: 3, 4: 2}[colour]
    if rows is None:
        rows = bytes((1 + width * channels * depth // 8) * height)
    fields = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = png_chunk(b"IHDR", fields) + extra + png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunks + png_chunk(b"IEND", b"")


def png_chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def with_alpha(payload: bytes, **fields: int | bytes) -> bytes:
    """A flat file, of 32x24 pixels unless the fields say else, with this ALPHA section."""
    tile = RGB_TILE if fields.get("pixel_format", 1) == 1 else tile_section(b"\x7f" * 6)
    model = load_model().entry.model_id
    fields = {"model_id": model, **fields}
    return cae(head_section(head(**fields)), section(ALPHA, payload), tile)  # type: ignore[arg-type]


def _alpha() -> Rules:
    second_header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0))
    bomb = png_chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(1 << 22), 9))
    payloads = {
        "alpha_empty": b"",
        "alpha_of_another_kind": b"GIF89a" + bytes(20),
        "alpha_cut": png()[:50],
        "alpha_without_pixels": png(rows=b""),
        "alpha_of_another_size": png(24, 32),
        "alpha_of_65535x65535": png(65535, 65535, rows=bytes(33 * 24)),
        "alpha_of_two_sizes": png(extra=second_header),
        "alpha_in_colours": png(colour=2),
        "alpha_with_alpha": png(colour=4),
        "alpha_of_4_bits": png(depth=4),
        "alpha_of_16_bits": png(depth=16),
        "alpha_with_a_bomb_of_text": png(extra=bomb),
    }
    out: Rules = {name: (CorruptError, with_alpha(data)) for name, data in payloads.items()}
    out["alpha_of_8_bits"] = (CorruptError, with_alpha(png(), pixel_format=3))
    out["alpha_without_model"] = (
        CorruptError,
        cae(head_section(head(model_id=0xFFFF)), section(ALPHA, b"PNG"), RGB_TILE),
    )
    out["alpha_checksum"] = (
        CorruptError,
        cae(head_section(), altered(section(ALPHA, png()), 40), RGB_TILE),
    )
    return out


# -- expectations ------------------------------------------------------------


def codec_for(name: str) -> Codec:
    return Codec(max_pixels=None) if name in UNLIMITED else Codec()


def installed() -> str:
    """Models that come and go without a change to any rule."""
    return ", ".join(str(model_id) for model_id in list_models())


def raised_by(name: str, data: bytes) -> CaeError:
    """What decoding a broken file raises. Raises AssertionError if that is nothing."""
    try:
        codec_for(name).decode(data)
    except CaeError as error:
        return error
    raise AssertionError(f"{name}: it decodes")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.cae"):
        old.unlink()
    expected = {}
    for name, (kind, data) in sorted(broken_files().items()):
        error = raised_by(name, data)
        if type(error) is not kind:
            raise AssertionError(f"{name}: raised {type(error).__name__}, due is {kind.__name__}")
        (FOLDER / f"{name}.cae").write_bytes(data)
        message = str(error).replace(INSTALLED.format(models=installed()), INSTALLED)
        expected[name] = {"error": kind.__name__, "message": message}
    text = json.dumps(expected, indent=2, ensure_ascii=False)
    EXPECTED.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
