"""VVC's reference software VTM as a codec: slow, and the best of the standards."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caezip.errors import MissingDependencyError
from caezip.image_io import Pixels
from caezip_bench.peers.base import PeerError, required_quality
from caezip_bench.peers.programs import ProgramPeer, temporary_folder

TIMEOUT_S = 7200.0  # what a large picture at high quality may take
CONFIG = "encoder_intra_vtm.cfg"
CONFIG_VARIABLE = "CAEZIP_VTM_CONFIG"
MAX_QP = 63
_SIZE = struct.Struct("<HH")  # width, height


class VtmPeer(ProgramPeer):
    """VVC's intra coding by its reference software VTM; quality is 63 minus its QP.

    Pictures go in and out as Y'CbCr 4:4:4 of 8 bits by BT.709 (see `ycbcr_of_rgb`), as
    CompressAI's published curves have it. A file is VTM's after four bytes of width and
    height, which its decoder does not tell. VTM takes minutes for a megapixel.

    The configuration encoder_intra_vtm.cfg is looked for in a folder ``cfg`` above the
    program, where VTM's sources have it, unless CAEZIP_VTM_CONFIG names a file.
    """

    suffix = ".vvc"
    qualities = (16.0, 21.0, 26.0, 31.0, 36.0, 41.0, 46.0)
    encoder, decoder = "EncoderApp", "DecoderApp"
    comes_with = "VTM, VVC's reference software"
    version_arguments = ("--help",)
    timeout_s = TIMEOUT_S

    def __init__(self, name: str):
        super().__init__(name, f"4:4:4, BT.709, 8 bits, {CONFIG}, quality is 63 - QP")
        self._config = self._find_config()

    def _find(self, *programs: str) -> str:
        # built from its sources, VTM's programs are linked statically and say so
        return super()._find(*(f"{program}Static" for program in programs), *programs)

    def _find_config(self) -> str:
        named = os.environ.get(CONFIG_VARIABLE)
        parents = Path(self._encoder).resolve().parents
        places = [Path(named)] if named else [parent / "cfg" / CONFIG for parent in parents]
        for place in places:
            if place.is_file():
                return str(place.absolute())
        raise MissingDependencyError(
            f"{self.name}: found no {named or CONFIG}; "
            f"set {CONFIG_VARIABLE} to the file that comes with {self.comes_with}"
        )

    def encode_arguments(self, source: Path, target: Path, quality: float) -> list[str]:
        qp = f"{MAX_QP - quality:.0f}"
        files = ["-c", self._config, "-i", str(source), "-b", str(target), "-q", qp]
        rebuilt = ["-o", str(target.with_name("rebuilt.yuv"))]
        format_ = ["--InputBitDepth=8", "--InputChromaFormat=444", "--ConformanceWindowMode=1"]
        return [*files, *rebuilt, *format_, "-fr", "1", "-f", "1"]

    def decode_arguments(self, source: Path, target: Path) -> list[str]:
        return ["-b", str(source), "-o", str(target), "-d", "8"]

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        height, width = pixels.shape[:2]
        with temporary_folder() as folder:
            source, target = folder / "picture.yuv", folder / f"coded{self.suffix}"
            source.write_bytes(ycbcr_of_rgb(pixels).transpose(2, 0, 1).tobytes())
            arguments = self.encode_arguments(source, target, required_quality(quality))
            size = ["-wdt", str(width), "-hgt", str(height)]
            self._run(self._encoder, [*arguments, *size], target)
            return _SIZE.pack(width, height) + target.read_bytes()

    def decode(self, data: bytes) -> Pixels:
        width, height = _SIZE.unpack_from(data)
        with temporary_folder() as folder:
            source, target = folder / f"coded{self.suffix}", folder / "picture.yuv"
            source.write_bytes(data[_SIZE.size :])
            self._run(self._decoder, self.decode_arguments(source, target), target)
            planes = np.fromfile(target, np.uint8)
        if planes.size != 3 * height * width:
            raise PeerError(
                f"{Path(self._decoder).name} wrote {planes.size} samples, "
                f"expected 3 of {width}x{height}"
            )
        return rgb_of_ycbcr(planes.reshape(3, height, width).transpose(1, 2, 0))


def ycbcr_of_rgb(pixels: Pixels) -> Pixels:
    """R'G'B' ``[H, W, 3]`` as Y'CbCr of full range, 8 bits: ITU-R BT.709-6, items 3.2 and 3.3."""
    red, green, blue = np.moveaxis(pixels.astype(np.float64), -1, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    planes = np.stack([luma, (blue - luma) / 1.8556 + 128, (red - luma) / 1.5748 + 128], axis=-1)
    return _rounded(planes)


def rgb_of_ycbcr(planes: Pixels) -> Pixels:
    """The inverse of `ycbcr_of_rgb`, up to rounding."""
    luma, blue_difference, red_difference = np.moveaxis(planes.astype(np.float64), -1, 0)
    red = luma + 1.5748 * (red_difference - 128)
    blue = luma + 1.8556 * (blue_difference - 128)
    green = (luma - 0.2126 * red - 0.0722 * blue) / 0.7152
    return _rounded(np.stack([red, green, blue], axis=-1))


def _rounded(samples: NDArray[np.float64]) -> Pixels:
    rounded: Pixels = np.clip(np.rint(samples), 0, 255).astype(np.uint8)
    return rounded
