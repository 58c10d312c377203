"""Codecs that are programs of their own, used where they are on PATH: files in, files out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from caezip.errors import MissingDependencyError
from caezip.image_io import Pixels
from caezip_bench.peers.base import Peer, PeerError, PeerOptions, required_quality, several_threads
from caezip_bench.peers.pillow import AVIF_QUALITIES, JPEG_QUALITIES, JXL_QUALITIES, WEBP_QUALITIES

TIMEOUT_S = 600.0
VERSION_TIMEOUT_S = 10.0
BPG_MAX_QP = 51


class ProgramPeer(Peer):
    """Base of codecs that are an encoding and a decoding program, with pictures in files.

    Their seconds include starting the program and the files. Raises
    MissingDependencyError if a program is not on PATH.
    """

    encoder: str
    decoder: str
    comes_with: str  # where to get the programs
    version_arguments: tuple[str, ...] = ("--version",)
    picture_suffix = ".png"  # what the encoder reads and the decoder writes
    timeout_s = TIMEOUT_S

    def __init__(self, name: str, settings: str):
        self.name = name
        self._encoder = self._find(self.encoder)
        self._decoder = self._find(self.decoder)
        version = first_line([self._encoder, *self.version_arguments])
        self.settings = f"{self.encoder} ({version}), {settings}"

    @abstractmethod
    def encode_arguments(self, source: Path, target: Path, quality: float) -> list[str]:
        """What follows the encoder's name to code the picture ``source`` as ``target``."""

    @abstractmethod
    def decode_arguments(self, source: Path, target: Path) -> list[str]:
        """What follows the decoder's name to make the picture ``target`` of ``source``."""

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        with temporary_folder() as folder:
            source = folder / f"picture{self.picture_suffix}"
            target = folder / f"coded{self.suffix}"
            write_pixels(source, pixels)
            arguments = self.encode_arguments(source, target, required_quality(quality))
            self._run(self._encoder, arguments, target)
            return target.read_bytes()

    def decode(self, data: bytes) -> Pixels:
        with temporary_folder() as folder:
            source = folder / f"coded{self.suffix}"
            target = folder / f"picture{self.picture_suffix}"
            source.write_bytes(data)
            self._run(self._decoder, self.decode_arguments(source, target), target)
            return read_pixels(target)

    def _find(self, *programs: str) -> str:
        for program in programs:
            found = shutil.which(program)
            if found is not None:
                return os.path.abspath(found)
        raise MissingDependencyError(
            f"{self.name}: {' or '.join(programs)} is not on PATH; it comes with {self.comes_with}"
        )

    def _run(self, program: str, arguments: Sequence[str], target: Path) -> None:
        """Raises PeerError if the program fails, hangs or does not write ``target``."""
        name = Path(program).name
        try:
            done = subprocess.run(  # noqa: S603  # the very program that the peer stands for
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                cwd=target.parent,
                timeout=self.timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PeerError(f"{name} took more than {self.timeout_s:g} s and was stopped") from None
        if done.returncode != 0:
            said = _last_line(done.stderr) or _last_line(done.stdout) or "it said nothing"
            raise PeerError(f"{name} failed with exit status {done.returncode}: {said}")
        if not target.exists():
            raise PeerError(f"{name} wrote no file: {_last_line(done.stderr) or 'it said nothing'}")


class CjxlPeer(ProgramPeer):
    """Lossy JPEG XL by libjxl's own programs."""

    suffix = ".jxl"
    # cjxl before 0.8 refuses what is lower
    qualities = (15.0, *(quality for quality in JXL_QUALITIES if quality >= 20))
    encoder, decoder = "cjxl", "djxl"
    comes_with = "libjxl (package libjxl-tools)"

    def __init__(self, name: str, effort: int):
        super().__init__(name, f"effort {effort}")
        self._effort = effort

    def encode_arguments(self, source: Path, target: Path, quality: float) -> list[str]:
        return [str(source), str(target), "-q", f"{quality:g}", "-e", str(self._effort)]

    def decode_arguments(self, source: Path, target: Path) -> list[str]:
        return [str(source), str(target)]


class AvifencPeer(ProgramPeer):
    """AVIF 4:4:4 by libavif's own programs, several threads (see `AvifPeer`)."""

    suffix = ".avif"
    qualities = AVIF_QUALITIES
    encoder, decoder = "avifenc", "avifdec"
    comes_with = "libavif from 1.0 on (package libavif-bin)"

    def __init__(self, name: str, speed: int, options: PeerOptions):
        super().__init__(name, f"4:4:4, speed {speed}, several threads")
        version = re.search(r"\b(\d+)\.\d+", self.settings)
        if version is not None and int(version[1]) < 1:
            raise MissingDependencyError(
                f"{name}: the avifenc on PATH is {version[0]}, which has no -q; "
                "allowed is 1.0 and up"
            )
        self._speed = speed
        self._threads = several_threads(options.threads)

    def encode_arguments(self, source: Path, target: Path, quality: float) -> list[str]:
        options = ["-s", str(self._speed), "-y", "444", "-q", f"{quality:.0f}"]
        return [*options, "-j", str(self._threads), str(source), str(target)]

    def decode_arguments(self, source: Path, target: Path) -> list[str]:
        return ["-j", str(self._threads), str(source), str(target)]


class CwebpPeer(ProgramPeer):
    """Lossy WebP by libwebp's own programs, at its slowest, best method."""

    suffix = ".webp"
    qualities = WEBP_QUALITIES
    encoder, decoder = "cwebp", "dwebp"
    comes_with = "libwebp (package webp)"
    version_arguments = ("-version",)

    def __init__(self, name: str):
        super().__init__(name, "lossy, method 6")

    def encode_arguments(self, source: Path, target: Path, quality: float) -> list[str]:
        return ["-quiet", "-m", "6", "-q", f"{quality:g}", str(source), "-o", str(target)]

    def decode_arguments(self, source: Path, target: Path) -> list[str]:
        return ["-quiet", str(source), "-o", str(target)]


class MozjpegPeer(ProgramPeer):
    """JPEG 4:2:0 by mozjpeg as it comes: progressive, trellis quantisation, its own tables.

    libjpeg-turbo's encoder has the same name, and is refused.
    """

    suffix = ".jpg"
    qualities = JPEG_QUALITIES
    encoder, decoder = "cjpeg", "djpeg"
    comes_with = "mozjpeg"
    version_arguments = ("-version",)
    picture_suffix = ".ppm"  # not every build reads PNG

    def __init__(self, name: str):
        super().__init__(name, "4:2:0, progressive")
        if "mozjpeg" not in self.settings:
            raise MissingDependencyError(
                f"{name}: the cjpeg on PATH is not mozjpeg's but {self.settings.split(', ')[0]}"
            )

    def encode_arguments(self, source: Path, target: Path, quality: float) -> list[str]:
        options = ["-quality", f"{quality:g}", "-sample", "2x2"]
        return [*options, "-outfile", str(target), str(source)]

    def decode_arguments(self, source: Path, target: Path) -> list[str]:
        return ["-outfile", str(target), str(source)]


class BpgPeer(ProgramPeer):
    """BPG 4:4:4, which is HEVC's intra coding by x265; quality is 51 minus its QP."""

    suffix = ".bpg"
    qualities = (4.0, 9.0, 14.0, 19.0, 24.0, 29.0, 34.0)
    encoder, decoder = "bpgenc", "bpgdec"
    comes_with = "libbpg"
    version_arguments = ("-h",)

    def __init__(self, name: str):
        super().__init__(name, "4:4:4, level 9, quality is 51 - QP")

    def encode_arguments(self, source: Path, target: Path, quality: float) -> list[str]:
        options = ["-q", f"{BPG_MAX_QP - quality:.0f}", "-f", "444", "-m", "9"]
        return [*options, "-o", str(target), str(source)]

    def decode_arguments(self, source: Path, target: Path) -> list[str]:
        return ["-o", str(target), str(source)]


def write_pixels(path: Path, pixels: Pixels) -> None:
    """An image file of the path's kind, quickly rather than small: it is read once."""
    from PIL import Image

    Image.fromarray(pixels).save(path, compress_level=1)


def read_pixels(path: Path) -> Pixels:
    """The samples of an image file as uint8 ``[H, W, 3]``."""
    from PIL import Image

    with Image.open(path) as image:
        return np.array(image.convert("RGB"), dtype=np.uint8)


def first_line(command: Sequence[str]) -> str:
    """The first line that a program says, which is where they name their version."""
    try:
        done = subprocess.run(  # noqa: S603  # found on PATH by the name of a codec
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "version unknown"
    lines = done.stdout.decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in lines if line.strip()), "version unknown")


def _last_line(said: bytes) -> str:
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder, which is removed with all that is in it."""
    with tempfile.TemporaryDirectory(prefix="caezip-bench-") as folder:
        yield Path(folder)
