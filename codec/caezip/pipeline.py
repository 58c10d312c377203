"""From pixels to a .cae file and back: tiles, the container, and what goes with the pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from caezip import container
from caezip.distortion import TUNES
from caezip.errors import ParameterError
from caezip.image_io import Pixels, as_pixels, as_rgb
from caezip.pretrained import Model, find_model, load_model
from caezip.refinement import Report
from caezip.tile_coder import DEFAULT_EFFORT, EFFORT_ITERATIONS, Latents, TileCoder
from caezip.tiling import Box, TileGrid
from caezip.transforms import PATCH_SIZE, CodecNetwork, image_pixels

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
        self.max_pixels = max_pixels
        self._networks: dict[int, tuple[Model, CodecNetwork]] = {}

    # -- public --------------------------------------------------------------

    def encode(
        self,
        image: Image | Pixels,
        *,
        quality: float = 75,
        effort: int = DEFAULT_EFFORT,
        tune: str = "psnr",
        report: Report | None = None,
    ) -> bytes:
        """A .cae file of ``image``: a PIL image, or uint8 ``[H, W]`` or ``[H, W, 3]``.

        ``quality`` is 1…100; the step that the format stores is 0.01. ``effort``
        1…9 makes files smaller at the same quality of picture; from 3 up the
        latent is refined in ``EFFORT_ITERATIONS[effort].total`` runs of the decoder
        and its gradient per tile, after each of which ``report(done, total)`` is
        called. ``tune`` is "psnr" or "ssim": the weights to encode with.
        Raises ImageError, ParameterError, UnknownModelError, WeightsError.
        """
        hundredths = container.quality_in_hundredths(quality)
        if type(effort) is not int or effort not in EFFORT_ITERATIONS:
            raise ParameterError(f"effort: found {effort!r}, allowed are integers from 1 to 9")
        if tune not in TUNES:
            raise ParameterError(f"tune: found {tune!r}, allowed are {TUNES}")
        pixels = as_pixels(image)
        height, width = pixels.shape[:2]
        side = TILE_SIDE if max(height, width) > LARGEST_SINGLE else 0
        grid = TileGrid(width, height, side)
        model_id = find_model(None, self._weights_folder, tune).model_id
        with self._limited_threads():
            tiles = [
                self._encode_tile(pixels, grid, number, model_id, hundredths, effort, report)
                for number in range(grid.count)
            ]
        return container.write(
            model_id=model_id,
            width=width,
            height=height,
            quality_hundredths=hundredths,
            pixel_format="gray8" if pixels.ndim == 2 else "rgb8",
            tile_side=side,
            tiles=tiles,
        )

    def decode(self, data: bytes, *, region: tuple[int, int, int, int] | None = None) -> Pixels:
        """The picture in a .cae file: uint8 ``[H, W]`` (gray) or ``[H, W, 3]`` (RGB).

        ``region``: left, top, width and height in pixels of the part to decode; only
        the tiles that it needs are read, and it equals that part of the whole up to
        rounding. Raises BitstreamError (see `caezip.errors` for its kinds),
        ParameterError or UnknownModelError.
        """
        data = container.as_bytes(data)
        header = container.read_header(data)
        box = _region_box(region, header)
        decoder = _Decoder(self, data, header, box)
        with self._limited_threads():
            return decoder.pixels()

    def decode_latents(self, data: bytes) -> tuple[Latents, ...]:
        """The integers of each tile of a .cae file, without running a network.

        They are identical on every machine, thread count and precision. The
        arrays of a tile of one colour, which has no stream, have no cells.
        Raises the same errors as `decode`.
        """
        parsed = container.read(container.as_bytes(data), max_pixels=self.max_pixels)
        header = parsed.header
        coder = load_model(header.model_id, self._weights_folder).coder
        grid = TileGrid(header.width, header.height, header.tile_side)
        out = []
        for number, payload in enumerate(parsed.tiles):
            if payload is None or _flat_colour(payload, header.pixel_format == "gray8") is not None:
                empty = np.empty((0, 0), np.int32)
                out.append(
                    Latents(
                        np.broadcast_to(empty, (coder.hyper_channels, 0, 0)),
                        np.broadcast_to(empty, (coder.latent_channels, 0, 0)),
                    )
                )
                continue
            cells = grid.box(number).divided(PATCH_SIZE)
            shape = (cells.height, cells.width)
            out.append(Latents(*coder.decode(payload, header.quality_hundredths, shape)))
        return tuple(out)

    # -- parts ---------------------------------------------------------------

    def tile_coder(self, model_id: int, hundredths: int) -> TileCoder:
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

    def _encode_tile(
        self,
        pixels: Pixels,
        grid: TileGrid,
        number: int,
        model_id: int,
        hundredths: int,
        effort: int,
        report: Report | None,
    ) -> bytes:
        tile = grid.box(number)
        inside = pixels[tile.top : tile.bottom, tile.left : tile.right]
        if (inside == inside[0, 0]).all():
            return bytes(np.atleast_1d(inside[0, 0]))  # a flat tile: its colour, exactly
        coder = self.tile_coder(model_id, hundredths)
        window = tile.grown(coder.analysis_halo, Box(0, 0, grid.width, grid.height))
        around = pixels[window.top : window.bottom, window.left : window.right]
        told = None
        if report is not None:  # of the whole image
            iterations = EFFORT_ITERATIONS[effort].total
            told = partial(_report_tile, report, number * iterations, grid.count * iterations)
        return coder.encode(as_rgb(around), tile.within(window), effort, told)


class _Decoder:
    """One call of `Codec.decode`: keeps the latents that several windows need."""

    def __init__(self, codec: Codec, data: bytes, header: container.Header, box: Box) -> None:
        self._header, self._box = header, box
        self._grid = TileGrid(header.width, header.height, header.tile_side)
        self._image = Box(0, 0, header.width, header.height)
        self._codec = codec
        self._latents: dict[int, Tensor] = {}
        self._margin, wanted = 0, [0]
        if self._grid.count > 1:
            self._margin = PATCH_SIZE * self._coder.synthesis_halo
            wanted = self._grid.touching(box.grown(self._margin, self._image))
        self._tiles = container.read(data, max_pixels=codec.max_pixels, wanted=wanted).tiles

    @cached_property
    def _coder(self) -> TileCoder:
        """Loaded when it is needed: flat images do without."""
        return self._codec.tile_coder(self._header.model_id, self._header.quality_hundredths)

    def pixels(self) -> Pixels:
        gray = self._header.pixel_format == "gray8"
        shape = (self._box.height, self._box.width) + (() if gray else (3,))
        out = np.empty(shape, np.uint8)
        # one tile may be as large as its encoder liked: work in windows all the same
        windows = TileGrid(
            self._header.width, self._header.height, self._header.tile_side or TILE_SIDE
        )
        for number in windows.touching(self._box):
            window = windows.box(number).clipped(self._box)
            for old in [n for n in self._latents if not self._needed_from(n, window)]:
                del self._latents[old]
            place = window.within(self._box)
            out[place.top : place.bottom, place.left : place.right] = self._window(window, gray)
        return out

    def _needed_from(self, number: int, window: Box) -> bool:
        """Whether tile ``number`` may still be seen from ``window`` or those after it."""
        bottom = self._grid.box(number).bottom
        return bottom > window.top - self._margin

    def _window(self, window: Box, gray: bool) -> Pixels:
        flat = {n: _flat_colour(self._tiles[n], gray) for n in self._grid.touching(window)}
        if len(flat) == 1:
            (colour,) = flat.values()
            if colour is not None:
                level = colour[0] if gray else colour
                shape = (window.height, window.width) + (() if gray else (3,))
                return np.broadcast_to(level, shape)
        coder = self._coder
        cells = window.divided(PATCH_SIZE)
        around = cells.grown(coder.synthesis_halo, self._image.divided(PATCH_SIZE))
        picture = coder.synthesise(self._assembled(around))
        origin = Box(PATCH_SIZE * around.left, PATCH_SIZE * around.top, window.right, window.bottom)
        inner = window.within(origin)
        picture = picture[:, inner.top : inner.bottom, inner.left : inner.right]
        pixels = image_pixels(picture, gray=gray)
        return pixels

    def _assembled(self, around: Box) -> Tensor:
        """The latent of the cells ``around``, from all tiles that have some of them."""
        out: Tensor | None = None
        pixels = Box(*(PATCH_SIZE * side for side in astuple(around))).clipped(self._image)
        for number in self._grid.touching(pixels):
            latent = self._latent(number)
            if out is None:
                out = latent.new_empty(latent.shape[0], around.height, around.width)
            tile = self._grid.box(number).divided(PATCH_SIZE)
            common = tile.clipped(around)
            to, of = common.within(around), common.within(tile)
            if latent.shape[1:] == (1, 1):
                part = latent
            else:
                part = latent[:, of.top : of.bottom, of.left : of.right]
            out[:, to.top : to.bottom, to.left : to.right] = part
        if out is None:
            raise ParameterError("region: found none of the image's cells")
        return out

    def _latent(self, number: int) -> Tensor:
        """What the synthesis transform reads of tile ``number``; ``[C, 1, 1]`` of a flat one."""
        if number not in self._latents:
            payload = self._tiles[number]
            gray = self._header.pixel_format == "gray8"
            colour = _flat_colour(payload, gray)
            if colour is None:
                box = self._grid.box(number)
                latents = self._coder.symbols(payload or b"", box.width, box.height)
                self._latents[number] = self._coder.latent(latents)
            else:
                self._latents[number] = self._coder.flat_latent(np.broadcast_to(colour, 3))
        return self._latents[number]


def _region_box(region: tuple[int, int, int, int] | None, header: container.Header) -> Box:
    """Raises ParameterError unless the region is four integers inside the image."""
    if region is None:
        return Box(0, 0, header.width, header.height)
    numbers = tuple(region)
    if len(numbers) != 4 or not all(type(n) is int for n in numbers):
        raise ParameterError(
            f"region: found {region!r}, allowed are four integers: left, top, width, height"
        )
    left, top, width, height = numbers
    box = Box(left, top, left + width, top + height)
    inside = left >= 0 and top >= 0 and box.right <= header.width and box.bottom <= header.height
    if not inside or width < 1 or height < 1:
        raise ParameterError(
            f"region: found {left},{top} {width}x{height}, "
            f"allowed are parts of the image, {header.width}x{header.height}"
        )
    return box


def _flat_colour(payload: bytes | None, gray: bool) -> Pixels | None:
    """The colour ``[1]`` or ``[3]`` of a flat tile, else None."""
    if payload is None or len(payload) != (1 if gray else 3):
        return None  # the entropy coder refuses what is too short to be a stream
    return np.frombuffer(payload, np.uint8)


def _report_tile(report: Report, before: int, total: int, done: int, of_tile: int) -> None:
    report(before + done, total)
