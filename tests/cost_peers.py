"""Codecs whose every move is known, for tests of measuring cost; worker processes import this."""

from __future__ import annotations

import os
import signal
import time
from typing import cast

import numpy as np

from caezip.image_io import Pixels
from caezip_bench.peers import Peer


class RawPeer(Peer):
    """Keeps the picture itself and writes ``quality`` hundredths of a bit per pixel."""

    suffix = ".raw"
    settings = "keeps what it gets"
    qualities: tuple[float | None, ...] = (10.0, 20.0, 40.0, 80.0, 160.0)

    def __init__(self, name: str = "raw") -> None:
        self.name = name

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        assert quality is not None
        self.pixels = pixels
        return bytes(round(quality / 100 / 8 * pixels.shape[0] * pixels.shape[1]))

    def decode(self, data: bytes) -> Pixels:
        return self.pixels


class MoodyPeer(RawPeer):
    """Its quality says how it fails."""

    qualities = (100.0,)
    GOOD, RAISES, EMPTY, CROPS, FLOATS, CHANGES, EXITS, IS_KILLED, HANGS = range(9)

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        self.pixels = pixels
        self.mood = quality
        if quality == self.RAISES:
            raise ValueError("out\nof ideas")
        if quality == self.EXITS:
            os._exit(3)
        if quality == self.IS_KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        if quality == self.HANGS:
            time.sleep(600)
        return b"" if quality == self.EMPTY else b"1234"

    def decode(self, data: bytes) -> Pixels:
        if self.mood == self.CROPS:
            return self.pixels[1:]
        if self.mood == self.FLOATS:
            return cast(Pixels, self.pixels.astype(np.float32))
        if self.mood == self.CHANGES:
            return np.invert(self.pixels)
        return self.pixels


class StrictPeer(MoodyPeer):
    """Lossless, it says."""

    lossless = True


class CoresPeer(RawPeer):
    """The size of its file tells what the process was given: cores, and what libraries hear."""

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        self.pixels = pixels
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        return bytes(10 * cores + int(os.environ["OMP_NUM_THREADS"]))


class LatePeer(RawPeer):
    """Cannot be unpickled."""

    def __setstate__(self, state: object) -> None:
        os._exit(4)


class DyingPeer(RawPeer):
    """Dies of pictures of more than 20,000 pixels."""

    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        if pixels.shape[0] * pixels.shape[1] > 20_000:
            os._exit(3)
        return super().encode(pixels, quality)
