"""Many small pictures: how much of their time is networks', in a program and from file to file."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caezip.image_io import Pixels, read_rgb
from caezip.processor import default_threads
from caezip_bench.cost.cold import seconds_of_command
from caezip_bench.report import markdown_table

if TYPE_CHECKING:
    from caezip import Codec
    from caezip.networks import Networks

SIDES = (192, 449)  # pixels
QUALITY = 40.0  # some half a bit per pixel; of all of the page
JPEG_QUALITY = 92
# of `caezip.openvino_networks`: what runs networks, and none of which calls another
NETWORKS = {
    "encode": ("analyse", "hyper_analyse", "first_means", "second_means"),
    "decode": ("decoded", "_stream", "_planes"),
}


def small_images(files: Sequence[Path], *, images: int, in_files: int) -> list[str]:
    """Two tables, as Markdown: of ``images`` crops in a program, and of so many in files."""
    from caezip import Codec

    crops, codec = crops_of(files, images), Codec()
    codec.decode(codec.encode(crops[0][:64, :64], quality=QUALITY))
    megapixels = sum(crop.shape[0] * crop.shape[1] for crop in crops) / 1e6
    coded: list[bytes] = []

    def encode() -> None:
        coded[:] = [codec.encode(crop, quality=QUALITY) for crop in crops]

    def decode() -> None:
        for data in coded:
            codec.decode(data)

    rows = []
    networks_s: dict[str, float] = {}
    for times in ("for the first time", "again"):
        for direction, work in (("encode", encode), ("decode", decode)):
            with _timed_networks(codec, direction) as spent:
                started_s = time.perf_counter()
                work()
                seconds = time.perf_counter() - started_s
            networks_s[direction] = sum(spent) / len(crops)
            speeds = len(crops) / seconds, megapixels / seconds, 100 * sum(spent) / seconds
            rows.append([f"{direction}, {times}", *map("{:.1f}".format, speeds)])
    return [
        f"{len(crops)} crops of {SIDES[0]} to {SIDES[1] - 1} pixels a side, every one of another "
        f"shape, at quality {QUALITY:g}, one after the other by one codec:",
        "",
        markdown_table(["", "images a second", "Mpx/s", "of the time in networks, %"], rows),
        "",
        *_from_file_to_file(crops_of(files, in_files), networks_s),
    ]


def crops_of(files: Sequence[Path], count: int) -> list[Pixels]:
    """Parts of pictures, one after the other."""
    rng, pictures = np.random.default_rng(0), [read_rgb(path) for path in files[:count]]
    crops: list[Pixels] = []
    for number in range(count):
        picture = pictures[number % len(pictures)]
        height, width = (
            min(int(size), side)
            for size, side in zip(rng.integers(*SIDES, 2), picture.shape[:2], strict=True)
        )
        top = rng.integers(picture.shape[0] - height + 1)
        left = rng.integers(picture.shape[1] - width + 1)
        crops.append(np.ascontiguousarray(picture[top : top + height, left : left + width]))
    return crops


@contextmanager
def _timed_networks(codec: Codec, direction: str) -> Iterator[list[float]]:
    """Seconds of each call of a network inside."""
    spent: list[float] = []
    loaded: list[Networks] = [loading() for loading in vars(codec)["_networks"].values()]
    for networks in loaded:
        for name in NETWORKS[direction]:
            if hasattr(networks, name):
                vars(networks)[name] = partial(_timed, spent, getattr(networks, name))
    try:
        yield spent
    finally:
        for networks in loaded:
            for name in NETWORKS[direction]:
                vars(networks).pop(name, None)


def _timed(spent: list[float], function: Callable[..., Any], *arguments: Any) -> Any:
    started_s = time.perf_counter()
    try:
        return function(*arguments)
    finally:
        spent.append(time.perf_counter() - started_s)


def _from_file_to_file(crops: Sequence[Pixels], networks_s: dict[str, float]) -> list[str]:
    """``networks_s``: what networks take of one picture, by direction."""
    from PIL import Image

    jobs = default_threads()
    megapixels = sum(crop.shape[0] * crop.shape[1] for crop in crops) / 1e6
    rows = []
    with tempfile.TemporaryDirectory(prefix="caezip-") as name:
        folder = Path(name)
        (folder / "jpeg").mkdir()
        for number, crop in enumerate(crops):
            Image.fromarray(crop).save(folder / "jpeg" / f"{number}.jpg", quality=JPEG_QUALITY)
        for direction, source, target in (
            ("encode", "jpeg", "coded"),
            ("decode", "coded", "png"),
        ):
            arguments = [direction, str(folder / source), "-r", "-o", str(folder / target)]
            options = ["--jobs", str(jobs), "--quiet"]
            if direction == "encode":
                options += ["--quality", str(QUALITY)]
            seconds = seconds_of_command(f"caezip {direction}", [*arguments, *options])
            figures = seconds, len(crops) / seconds, megapixels / seconds
            networks = len(crops) * networks_s[direction] / jobs
            rows.append(
                [
                    f"{direction}, {source} to {target}",
                    *map("{:.1f}".format, figures),
                    f"{networks:.1f}",
                ]
            )
    return [
        f"{len(crops)} such crops in files, by one call of the command with `--jobs {jobs}`, from "
        "its start to its end; networks as above, shared out among as many cores:",
        "",
        markdown_table(["", "seconds", "images a second", "Mpx/s", "networks, seconds"], rows),
        "",
    ]
