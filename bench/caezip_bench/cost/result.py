"""What to measure of codecs' cost, and what was measured."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any, Literal

from caezip.errors import ParameterError
from caezip.processor import usable_cores
from caezip_bench.metrics import bits_per_pixel
from caezip_bench.runner import SkippedImage
from caezip_bench.versions import machine

# caezip and whom it is compared with
DEFAULT_COST_PEERS = (
    "caezip",
    "jpeg420",
    "webp",
    "jpeg2000",
    "jxl-e3",
    "jxl-e7",
    "avif444-s8",
    "avif444",
)
SMALL_MEGAPIXELS = 0.4  # about Kodak's: what qualities are chosen on, and processes warmed up with

Series = Literal["throughput", "scaling"]


@dataclass(frozen=True)
class CostOptions:
    """How long and on what to measure. Raises ParameterError for numbers out of range.

    ``seconds`` is about the wall time of the whole; one round is run in any case. A
    lossy codec takes that of its qualities whose file is nearest to ``bpp``.
    ``megapixels`` (10⁶ pixels) is the size of the ``pictures`` different pictures of the
    table, ``sizes`` are those of the scaling curve, in megapixels. Calls expected to take
    more than ``call_limit_s`` seconds are left out.
    """

    seconds: float = 480.0
    bpp: float = 0.5
    megapixels: float = 2.0
    pictures: int = 4
    max_rounds: int = 20
    sizes: tuple[float, ...] = (0.1, 0.4, 1.0, 2.0, 5.0, 12.0, 25.0, 50.0)
    size_rounds: int = 3
    call_limit_s: float = 40.0
    cold_runs: int = 3  # of each cold call, 0 for none
    weights_folder: Path | None = None  # of cold calls; None: the installed ones

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            for number in value if isinstance(value, tuple) else (value,):
                if number is None or isinstance(number, Path):
                    continue
                zero = item.name == "cold_runs" and number == 0
                if not (zero or 0 < number < math.inf):
                    allowed = "0 and more" if item.name == "cold_runs" else "more than 0"
                    raise ParameterError(f"{item.name}: found {number:g}, allowed is {allowed}")


@dataclass(frozen=True)
class Sample:
    """One picture encoded and decoded by one codec on so many cores.

    Seconds and ``peak_bytes`` are those of `caezip_bench.cost.worker.Coded`. ``round``
    counts from 0; in one round all codecs have the same picture.
    """

    series: Series
    round: int
    codec: str
    threads: int
    quality: float | None
    width: int
    height: int
    size_bytes: int
    encode_s: float
    decode_s: float
    peak_bytes: int | None

    @property
    def megapixels(self) -> float:
        """10⁶ pixels."""
        return self.width * self.height / 1e6

    @property
    def bpp(self) -> float:
        """Bits per pixel of the whole file."""
        return bits_per_pixel(self.size_bytes, self.width, self.height)

    @property
    def encode_mpx_per_s(self) -> float:
        """Megapixels encoded in a second."""
        return self.megapixels / self.encode_s

    @property
    def decode_mpx_per_s(self) -> float:
        """Megapixels decoded in a second."""
        return self.megapixels / self.decode_s


@dataclass(frozen=True)
class CostFailure:
    """A codec that failed while ``doing`` something; it is not measured from then on."""

    codec: str
    threads: int | None
    doing: str
    reason: str


@dataclass(frozen=True)
class ColdCall:
    """Wall seconds of one command, in a new process each time."""

    command: str
    seconds: tuple[float, ...]


@dataclass
class CostResult:
    """All that was measured, in order.

    ``settings`` are by codec, in the order of the tables. ``baseline_bytes``, the peak
    memory of a process before its first picture, is by codec and cores.
    """

    options: CostOptions
    machine: dict[str, Any]
    settings: dict[str, str]
    photographs: list[str] = field(default_factory=list)
    skipped: list[SkippedImage] = field(default_factory=list)
    baseline_bytes: dict[tuple[str, int], int | None] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    cold: list[ColdCall] = field(default_factory=list)
    failures: list[CostFailure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Spread:
    """The median of ``count`` values, and the lowest and highest of them."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Of one value or more."""
    return Spread(median(values), min(values), max(values), len(values))


def thread_counts() -> tuple[int, ...]:
    """What to measure on: one core, and all that this process may use."""
    return tuple(sorted({1, usable_cores()}))


def describe_machine() -> dict[str, Any]:
    """`caezip_bench.versions.machine`, and what matters for speed: ``null`` if unknown.

    ``load_average`` is how many processes ran or waited in the last minute; whoever
    calls this before measuring learns what else the machine was doing.
    """
    described = machine() | {
        "platform": platform.platform(),
        "usable_cores": usable_cores(),
        "memory_bytes": None,
        "load_average": None,
        "can_confine_to_cores": hasattr(os, "sched_setaffinity"),
    }
    try:
        described["memory_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        described["load_average"] = round(os.getloadavg()[0], 2)
    except (AttributeError, OSError, ValueError):  # Windows, and systems that do not say
        pass
    return described
