"""What a codec must offer to be compared, and what the command line says to all of them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from caezip.errors import CaeError, ParameterError
from caezip.image_io import Pixels

CAEZIP_QUALITIES = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0)


class PeerError(CaeError):
    """Another codec's program failed, took too long or wrote nothing useful."""


@dataclass(frozen=True)
class PeerOptions:
    """What the command line says about codecs: caezip's qualities (1…100) and CPU threads."""

    caezip_qualities: tuple[float, ...] = CAEZIP_QUALITIES
    threads: int | None = None
    weights_folder: Path | None = None  # None: the installed ones


class Peer(ABC):
    """One codec with its settings. Must be picklable, since it is sent to worker processes.

    ``settings`` says all that decides the file: what else changes is taken for the same
    codec by the cache of earlier results. ``qualities`` are the settings to measure, in
    ascending order of quality; a codec without such a setting has the single quality
    None. ``lossless`` promises that decoding returns the very pixels, which the runner
    verifies. ``suffix`` is that of the codec's files. ``is_made_of_caezip`` if a change of
    caezip's sources or weights may change its results.
    """

    name: str
    suffix: str
    settings: str
    qualities: tuple[float | None, ...]
    lossless: bool = False
    is_made_of_caezip: bool = False

    @abstractmethod
    def encode(self, pixels: Pixels, quality: float | None) -> bytes:
        """The whole file for uint8 RGB ``[H, W, 3]``. May raise anything."""

    @abstractmethod
    def decode(self, data: bytes) -> Pixels:
        """The pixels of a whole file, uint8 ``[H, W, 3]`` or ``[H, W]``. May raise anything."""


def required_quality(quality: float | None) -> float:
    """``quality`` of a codec that has such a setting. Raises ParameterError if it is None."""
    if quality is None:
        raise ParameterError("quality: found none, this codec needs one")
    return quality


def several_threads(threads: int | None) -> int:
    """At least two: ``threads``, or as many as this process may use cores.

    libaom writes other bytes in one thread than in several, and the same in any number
    of several; with two at least, files are the same on every machine.
    """
    if threads is None:
        known = hasattr(os, "sched_getaffinity")
        threads = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return max(2, threads)
