"""From images to .cae files and back: tiles, the container, and what goes with the samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from caezip import container
from caezip.container import Metadata
from caezip.decoding import Decoder, flat_colour, flat_payload, region_box
from caezip.distortion import TUNES
from caezip.errors import ParameterError
from caezip.image_io import alpha_of_png, as_rgb, png_of_alpha
from caezip.picture import Picture, Samples, as_picture
from caezip.pretrained import Model, find_model, load_model
from caezip.refinement import Report
from caezip.tile_coder import DEFAULT_EFFORT, EFFORT_ITERATIONS, Latents, TileCoder
from caezip.tiling import Box, TileGrid
from caezip.transforms import PATCH_SIZE, CodecNetwork

if TYPE_CHECKING:
    from PIL.Image import Image

PRECISIONS = ("float32", "bfloat16")
TILE_SIDE = 1024  # pixels: activations of a tile stay near the processor
LARGEST_SINGLE = 1280  # pixels a side up to which an image is one tile


class Codec:
    """An encoder and decoder that keeps its networks loaded.

    ``device`` is a torch device. ``threads`` limits torch's CPU threads during
    calls (None: leave them as they are). ``precision`` is "float32" or
    "bfloat16": it moves decoded pixels by a rounding error and never the
    latents. ``weights_folder`` holds a manifest of other weights than the
    installed ones. ``max_pixels`` limits what is decoded (None: no limit).

    Not safe for concurrent calls from several threads: give each its own.
    """

    def __init__(
        self,
        *,
        device: str = "cpu",
        threads: int | None = None,
        precision: str = "float32",
        weights_folder: str | Path | None = None,
        max_pixels: int | None = container.DEFAULT_MAX_PIXELS,
    ) -> None:
        if precision not in PRECISIONS:
            raise ParameterError(f"precision: found {precision!r}, allowed are {PRECISIONS}")
        if threads is not None and (type(threads) is not int or threads < 1):
            raise ParameterError(f"threads: found {threads!r}, allowed are integers from 1")
        try:
            self._device = torch.device(device)
            torch.empty(0, device=self._device)
        except (RuntimeError, AssertionError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise ParameterError(f"device: found {device!r}, not usable here: {reason}") from None
        self._threads = threads
        self._dtype = torch.float32 if precision == "float32" else torch.bfloat16
        self._weights_folder = Path(weights_folder) if weights_folder is not None else None
        self._max_pixels = max_pixels
        self._networks: dict[int, tuple[Model, CodecNetwork]] = {}

    # -- public --------------------------------------------------------------

    def encode(
        self,
        image: Image | Samples | Picture,
        *,
        quality: float = 75,
        effort: int = DEFAULT_EFFORT,
        tune: str = "psnr",
        strip: bool = False,
        report: Report | None = None,
    ) -> bytes:
        """A .cae file of ``image``: a PIL image, a `Picture`, or an array, uint8 or uint16.

        Arrays are ``[H, W]`` (gray), ``[H, W, 2]`` (gray, alpha), ``[H, W, 3]`` (RGB)
        or ``[H, W, 4]`` (RGBA). Alpha is kept exactly. So are the ICC profile, EXIF and
        XMP of PIL images and pictures unless ``strip``; EXIF orientation is applied.

        ``quality`` is 1…100; the step that the format stores is 0.01. ``effort``
        1…9 makes files smaller at the same quality of picture; from 3 up the
        latent is refined in ``EFFORT_ITERATIONS[effort]`` runs of the decoder
        and its gradient per tile, after each of which ``report(done, total)`` is
        called. ``tune`` is "psnr" or "ssim": the weights to encode with.
        Raises ImageError, ParameterError, UnknownModelError, WeightsError.
        """
        hundredths = container.quality_in_hundredths(quality)
        if type(effort) is not int or effort not in EFFORT_ITERATIONS:
            raise ParameterError(f"effort: found {effort!r}, allowed are integers from 1 to 9")
        if tune not in TUNES:
            raise ParameterError(f"tune: found {tune!r}, allowed are {TUNES}")
        picture = as_picture(image)
        samples = picture.samples
        height, width = samples.shape[:2]
        side = TILE_SIDE if max(height, width) > LARGEST_SINGLE else 0
        job = _Job(
            samples,
            TileGrid(width, height, side),
            find_model(None, self._weights_folder, tune).model_id,
            hundredths,
            effort,
            report,
        )
        with self._limited_threads():
            tiles = [self._encode_tile(job, number) for number in range(job.grid.count)]
        return container.write(
            model_id=job.model_id,
            width=width,
            height=height,
            quality_hundredths=hundredths,
            pixel_format=("gray" if samples.ndim == 2 else "rgb") + str(8 * samples.itemsize),
            tile_side=side,
            tiles=tiles,
            alpha=None if picture.alpha is None else png_of_alpha(picture.alpha),
            metadata=Metadata() if strip else picture.metadata,
        )

    def decode(self, data: bytes, *, region: Sequence[int] | None = None) -> Samples:
        """The image in a .cae file: an array as `encode` takes them.

        Takes and raises what `decode_picture` does.
        """
        return self.decode_picture(data, region=region).array

    def decode_picture(self, data: bytes, *, region: Sequence[int] | None = None) -> Picture:
        """The image in a .cae file, with its metadata.

        ``region``: left, top, width and height in pixels of the part to decode; only
        the tiles that it needs are read, and it equals that part of the whole up to
        rounding. Raises BitstreamError (see `caezip.errors` for its kinds),
        ParameterError or UnknownModelError.
        """
        data = container.as_bytes(data)
        header = container.read_header(data)
        container.check_pixels(header, self._max_pixels)
        box = region_box(region, header.width, header.height)
        load = partial(self._tile_coder, header.model_id, header.quality_hundredths)
        decoder = Decoder(load, header, box)
        with self._limited_threads():
            parsed = container.read(data, max_pixels=self._max_pixels, wanted=decoder.wanted)
            samples = decoder.samples(parsed.tiles)
        alpha = None
        if parsed.alpha is not None:
            alpha = alpha_of_png(parsed.alpha, header.width, header.height, samples.dtype)
            alpha = alpha[box.top : box.bottom, box.left : box.right]
        return Picture(samples, alpha, parsed.metadata)

    def decode_latents(self, data: bytes) -> tuple[Latents, ...]:
        """The integers of each tile of a .cae file, without running a network.

        They are identical on every machine, thread count and precision. The
        arrays of a tile of one colour, which has no stream, have no cells.
        Raises the same errors as `decode`.
        """
        parsed = container.read(container.as_bytes(data), max_pixels=self._max_pixels)
        header = parsed.header
        coder = load_model(header.model_id, self._weights_folder).coder
        grid = TileGrid(header.width, header.height, header.tile_side)
        out = []
        for number, payload in enumerate(parsed.tiles):
            if flat_colour(payload, header) is None:
                cells = grid.box(number).divided(PATCH_SIZE)
                shape = (cells.height, cells.width)
                integers = coder.decode(payload or b"", header.quality_hundredths, shape)
            else:
                integers = (
                    np.empty((coder.hyper_channels, 0, 0), np.int32),
                    np.empty((coder.latent_channels, 0, 0), np.int32),
                )
            out.append(Latents(*integers))
        return tuple(out)

    # -- parts ---------------------------------------------------------------

    def _tile_coder(self, model_id: int, hundredths: int) -> TileCoder:
        model = load_model(model_id, self._weights_folder)
        if model_id not in self._networks:
            network = model.build_network().to(self._device)
            self._networks[model_id] = (model, network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]  # missing in torch's stub
        return TileCoder(*self._networks[model_id], hundredths, self._device, self._dtype)

    @contextmanager
    def _limited_threads(self) -> Iterator[None]:
        before = torch.get_num_threads()
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _encode_tile(self, job: _Job, number: int) -> bytes:
        tile = job.grid.box(number)
        inside = job.samples[tile.top : tile.bottom, tile.left : tile.right]
        if (inside == inside[0, 0]).all():
            return flat_payload(inside[0, 0])  # its colour, exactly
        coder = self._tile_coder(job.model_id, job.hundredths)
        window = tile.grown(coder.analysis_halo, Box(0, 0, job.grid.width, job.grid.height))
        around = job.samples[window.top : window.bottom, window.left : window.right]
        return coder.encode(as_rgb(around), tile.within(window), job.effort, job.report_of(number))


@dataclass(frozen=True)
class _Job:
    """One call of `Codec.encode`."""

    samples: Samples
    grid: TileGrid
    model_id: int
    hundredths: int
    effort: int
    report: Report | None

    def report_of(self, number: int) -> Report | None:
        """A tile's progress as a part of the whole image's."""
        report, iterations = self.report, EFFORT_ITERATIONS[self.effort]
        if report is None:
            return None
        before, total = number * iterations, self.grid.count * iterations
        return lambda done, _: report(before + done, total)
