"""What ``caezip encode`` and ``caezip decode`` do for each file: `caezip.file_runs.Work`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caezip import info
from caezip.file_jobs import STANDARD, read_bytes
from caezip.file_runs import Product

if TYPE_CHECKING:
    from caezip.picture import Picture
    from caezip.pipeline import Codec
    from caezip.refinement import Report

DEFAULT_QUALITY = 75.0


@dataclass(frozen=True)
class CodecOptions:
    """What a `caezip.Codec` is made of."""

    engine: str
    device: str
    threads: int | None
    precision: str
    weights_folder: Path | None
    max_pixels: int | None = None


@cache
def codec_of(options: CodecOptions) -> Codec:
    """One in each process."""
    from caezip.network_cache import users_folder
    from caezip.pipeline import Codec

    settings = {name: value for name, value in asdict(options).items() if value is not None}
    return Codec(**settings, cache_folder=users_folder())


@dataclass(frozen=True)
class Encoding:
    """`caezip.file_runs.Work` of ``caezip encode``."""

    options: CodecOptions
    quality: float | None
    bpp: float | None
    psnr: float | None
    size: int | None
    effort: int | None
    tune: str
    strip: bool
    frame: int | None
    max_pixels: int
    bar: bool

    def read(self, source: str) -> tuple[Picture, int]:
        """The picture, and the size of its file in bytes."""
        from caezip.image_io import read_picture

        codec_of(self.options).prepare_encoding(effort=self._effort, tune=self.tune)
        data = read_bytes(source) if source == STANDARD else None
        opened = Path(source) if data is None else io.BytesIO(data)
        picture = read_picture(opened, frame=self.frame, max_pixels=self.max_pixels)
        if self.strip:
            from caezip.container import Metadata

            picture = replace(picture, metadata=Metadata())
        return picture, Path(source).stat().st_size if data is None else len(data)

    def code(self, source: str, read: tuple[Picture, int]) -> tuple[bytes, int]:
        picture, source_bytes = read
        with _effort_bar(shown=self.bar) as report:
            return self._encoded(picture, self._effort, report), source_bytes

    def finish(self, source: str, coded: tuple[bytes, int]) -> Product:
        data, source_bytes = coded
        header = info(data)
        summary = (
            f"{header.width}x{header.height}, quality {header.quality:g}, "
            f"{header.file_size_bytes} bytes, {header.bpp:.3f} bpp"
        )
        return Product(data, summary, header.width * header.height, source_bytes)

    @property
    def _effort(self) -> int:
        from caezip.tile_coder import DEFAULT_EFFORT

        return self.effort or DEFAULT_EFFORT

    def _encoded(self, picture: Picture, effort: int, report: Report | None) -> bytes:
        from caezip import targets

        codec = codec_of(self.options)
        if self.size is not None:
            found = targets.encode_to_size(codec, picture, self.size, effort=effort, tune=self.tune)
            return found.data
        for target, search in (
            (self.bpp, targets.encode_to_bpp),
            (self.psnr, targets.encode_to_psnr),
        ):
            if target is not None:
                return search(codec, picture, target, effort=effort, tune=self.tune).data
        quality = DEFAULT_QUALITY if self.quality is None else self.quality
        return codec.encode(picture, quality=quality, effort=effort, tune=self.tune, report=report)


@contextmanager
def _effort_bar(*, shown: bool) -> Iterator[Report | None]:
    """A bar with the time left, shown once an encoder reports iterations."""
    if not shown:
        yield None
        return
    from tqdm import tqdm

    bars: list[Any] = []

    def report(done: int, total: int) -> None:
        if not bars:
            bars.append(tqdm(total=total, desc="refining", leave=False))
        bars[0].total = total
        bars[0].update(done - bars[0].n)

    yield report
    for bar in bars:
        bar.close()


@dataclass(frozen=True)
class Decoding:
    """`caezip.file_runs.Work` of ``caezip decode``."""

    options: CodecOptions
    suffixes: dict[str, str]  # of the target, by source
    region: tuple[int, ...] | None
    reduction: int
    salvage: bool

    def read(self, source: str) -> bytes:
        return read_bytes(source)

    def code(self, source: str, read: bytes) -> tuple[Picture, int, tuple[str, ...]]:
        """The picture, the size of its file in bytes, and what could not be saved."""
        data, codec = read, codec_of(self.options)
        damaged: tuple[str, ...] = ()
        if self.salvage:
            picture, damaged = codec.salvage(data)
        else:
            picture = codec.decode_picture(data, region=self.region, reduction=self.reduction)
        return picture, len(data), damaged

    def finish(self, source: str, coded: tuple[Picture, int, tuple[str, ...]]) -> Product:
        from caezip.image_io import encode_image

        picture, source_bytes, damaged = coded
        samples = picture.samples
        kind = "gray" if samples.ndim == 2 else "RGB"
        if picture.alpha is not None:
            kind += " with alpha"
        if samples.itemsize == 2:
            kind = f"16-bit {kind}"
        height, width = samples.shape[:2]
        return Product(
            encode_image(picture, self.suffixes[source]),
            f"{width}x{height}, {kind}",
            width * height,
            source_bytes,
            damaged,
        )
