"""Colour profiles, made by hand: just enough of the ICC's format for one purpose each."""

from __future__ import annotations

import itertools
import struct

from PIL import ImageCms


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def cmyk_profile() -> bytes:
    """Inks that are all gray: lightness is what black leaves of the mean of the others."""
    identity = bytes(range(256))
    nodes = bytearray()
    for cyan, magenta, yellow, black in itertools.product((0, 1), repeat=4):
        lightness = (1 - black) * (1 - (cyan + magenta + yellow) / 3)
        nodes += bytes([round(255 * lightness), 128, 128])  # CIELAB; 128 is no colour
    matrix = struct.pack(">9i", *(65536 * (place % 4 == 0) for place in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix  # inks, CIELAB, grid points
    table += 4 * identity + nodes + 3 * identity
    table += bytes(-len(table) % 4)
    header = bytearray(128)
    struct.pack_into(">I4sI4s4s4s", header, 0, 144 + len(table), b"", 0x02400000, *_KIND)
    header[36:40] = b"acsp"
    struct.pack_into(">3i", header, 68, 0xF6D6, 0x10000, 0xD32D)  # the white of CIELAB
    return bytes(header) + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


_KIND = (b"prtr", b"CMYK", b"Lab ")  # a printer's, from its inks to CIELAB
