"""From images to .cae files and back: tiles, the container, and what goes with the samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING

import numpy as np

from caezip import container
from caezip.config import DEFAULT_TUNE
from caezip.container import Header, Metadata
from caezip.decoding import REDUCTIONS, Decoder, alpha_of, region_box
from caezip.encoding import Encoder, Settings
from caezip.engines import ENGINES, PRECISIONS, engine_for, load_networks
from caezip.errors import BitstreamError, CorruptError, ParameterError
from caezip.image_io import png_of_alpha
from caezip.networks import Networks
from caezip.payloads import FLAT_BYTES_AT_MOST, flat_colour, tile_latents
from caezip.picture import Picture, Samples, as_picture
from caezip.pretrained import load_model
from caezip.processor import default_threads
from caezip.tile_coder import (
    DEFAULT_EFFORT,
    EFFORT_ITERATIONS,
    Latents,
    TileCoder,
    has_filters,
    weights_for,
)
from caezip.tiling import Box, TileGrid, best_side
from caezip.together import MOST_TOGETHER
from caezip.workers import (
    Limit,
    Loading,
    Map,
    Threads,
    Workers,
    in_this_thread,
    side_by_side,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from PIL.Image import Image

    from caezip.refinement import Report

TILE_SIDE = 1024  # pixels, about: activations of a tile stay near the processor
LARGEST_SINGLE = 1280  # pixels a side up to which an image is one tile
TILE_HALO = 64  # pixels, of the released weights; others work with it, if a little slower


class Codec:
    """An encoder and decoder that keeps its networks loaded.

    ``engine`` runs the networks: "openvino" on CPUs, "torch" anywhere; "auto" is the
    faster one that can. ``device`` is a torch device, or "auto" for a GPU if there is
    one. ``threads`` limits the CPU threads of a call (None: all cores; for torch, its
    own setting). ``precision`` is "float32", "bfloat16", "int8" or "auto", the fastest
    for the engine: int8 where it is exact, with bfloat16 where that is fast. It moves
    decoded pixels a little and never the latents.
    ``weights_folder`` holds a manifest of other weights than the installed ones.
    ``max_pixels`` limits what is decoded (None: no limit). ``cache_folder`` is where
    compiled networks are kept for other processes, which then start sooner (None: nowhere).

    Not safe for concurrent calls from several threads: give each its own.
    """

    def __init__(
        self,
        *,
        engine: str = "auto",
        device: str = "cpu",
        threads: int | None = None,
        precision: str = "auto",
        weights_folder: str | Path | None = None,
        max_pixels: int | None = container.DEFAULT_MAX_PIXELS,
        cache_folder: str | Path | None = None,
    ) -> None:
        for name, value, allowed in (
            ("engine", engine, ENGINES),
            ("precision", precision, PRECISIONS),
        ):
            if value not in allowed:
                raise ParameterError(f"{name}: found {value!r}, allowed are {allowed}")
        if threads is not None and (type(threads) is not int or threads < 1):
            raise ParameterError(f"threads: found {threads!r}, allowed are integers from 1")
        if device != "cpu":
            from caezip.torch_networks import torch_device

            device = str(torch_device(device))
        self._engine = engine_for(engine, device)
        self._device, self._threads = device, threads
        self._precision = precision
        self._weights_folder = Path(weights_folder) if weights_folder is not None else None
        self._max_pixels = max_pixels
        self._cache_folder = Path(cache_folder) if cache_folder is not None else None
        self._networks: dict[tuple[int, str], Loading[Networks]] = {}
        self._loading = Lock()  # several tiles may be the first to need a network

    # -- public --------------------------------------------------------------

    def encode(
        self,
        image: Image | Samples | Picture,
        *,
        quality: float = 75,
        effort: int = DEFAULT_EFFORT,
        tune: str = DEFAULT_TUNE,
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
        called. ``tune``, one of `caezip.config.TUNES`: the weights to encode with;
        see `caezip.tile_coder.weights_for`.
        Raises ImageError, ParameterError, UnknownModelError, WeightsError.
        """
        settings = Settings(quality, effort, tune, strip)
        return self._encoded(as_picture(image), settings, report, self._side_by_side)

    def encode_batch(
        self,
        images: Iterable[Image | Samples | Picture],
        *,
        quality: float = 75,
        effort: int = DEFAULT_EFFORT,
        tune: str = DEFAULT_TUNE,
        strip: bool = False,
    ) -> list[bytes]:
        """What `encode` makes of each of several images, which are worked on side by side.

        Many small ones take less time so. On a GPU, images of the same size go through the
        networks together; so do tiles of large ones. Raises what `encode` does, for the first
        image that fails.
        """
        settings, pictures = Settings(quality, effort, tune, strip), list(images)

        def encoded(number: int) -> bytes:
            return self._encoded(as_picture(pictures[number]), settings, None, in_this_thread)

        with self._batches(len(pictures)) as each:
            return each(encoded, range(len(pictures)))

    def prepare_encoding(self, *, effort: int = DEFAULT_EFFORT, tune: str = DEFAULT_TUNE) -> None:
        """Start to load, without waiting, what the first `encode` will need.

        That takes a good part of a second, in which the caller can read a picture.
        What fails is raised by `encode`.
        """
        if not self._networks:
            Thread(target=self._prepare_encoding, args=(effort, tune)).start()

    def decode(
        self, data: bytes, *, region: Sequence[int] | None = None, reduction: int = 1
    ) -> Samples:
        """The image in a .cae file: an array as `encode` takes them.

        Takes and raises what `decode_picture` does.
        """
        return self.decode_picture(data, region=region, reduction=reduction).array

    def decode_picture(
        self, data: bytes, *, region: Sequence[int] | None = None, reduction: int = 1
    ) -> Picture:
        """The image in a .cae file, with its metadata.

        ``region``: left, top, width and height in pixels of the part to decode; only
        the tiles that it needs are read, and it equals that part of the whole up to
        rounding. ``reduction`` 2, 4 or 8 makes a preview whose samples are means of
        squares of so many pixels, for 4 and 8 approximately, some 40 dB from them; the
        last of a row or column may reach past the image.

        Raises BitstreamError (see `caezip.errors` for its kinds), ParameterError or
        UnknownModelError.
        """
        parts = side_by_side(self._thread_count) if self._engine == "openvino" else 1
        return self._decoded(data, region, reduction, parts, self._side_by_side)

    def decode_batch(self, files: Iterable[bytes], *, reduction: int = 1) -> list[Samples]:
        """What `decode` makes of each of several files: see `encode_batch`."""
        files = list(files)

        def decoded(number: int) -> Samples:
            return self._decoded(files[number], None, reduction, 1, in_this_thread).array

        with self._batches(len(files)) as each:
            return each(decoded, range(len(files)))

    def salvage(self, data: bytes) -> tuple[Picture, tuple[str, ...]]:
        """What can be saved of a damaged .cae file, and a line for each thing that cannot.

        Damaged tiles become boards of gray squares; damaged alpha and metadata are left
        out. Raises what `decode` does if the header, the index or every tile is damaged.
        """
        data = container.as_bytes(data)
        parsed = container.read(data, max_pixels=self._max_pixels, salvage=True)
        header = parsed.header
        grid = TileGrid(header.width, header.height, header.tile_side)
        tiles, damaged = list(parsed.tiles), list(parsed.damaged)
        for number, payload in enumerate(tiles):
            if payload is not None and flat_colour(payload, header) is None:
                try:
                    self._integers(header, grid, number, payload)
                except BitstreamError as error:
                    tiles[number] = None
                    damaged.append(str(error))
        if not any(tiles):
            raise CorruptError(f"tiles: none of {grid.count} is whole; {damaged[-1]}")
        box = Box(0, 0, header.width, header.height)
        with self._side_by_side(grid.count) as each:
            samples = self._decoder(header, box, 1).samples(tiles, each)
        try:
            alpha = alpha_of(parsed, box, 1)
        except CorruptError as error:
            alpha = None
            damaged.append(str(error))
        return Picture(samples, alpha, parsed.metadata), tuple(damaged)

    def verify(self, data: bytes) -> Header:
        """Check every byte of a .cae file without decoding its pixels; its header.

        A file that passes decodes without an error. Raises what `decode` does.
        """
        parsed = container.read(container.as_bytes(data), max_pixels=self._max_pixels)
        header = parsed.header
        grid = TileGrid(header.width, header.height, header.tile_side)
        for number, payload in enumerate(parsed.tiles):
            if flat_colour(payload, header) is None:  # a colour needs no weights
                self._integers(header, grid, number, payload or b"")
        alpha_of(parsed, Box(0, 0, header.width, header.height), 1)
        return header

    def decode_latents(self, data: bytes) -> tuple[Latents, ...]:
        """The integers of each tile of a .cae file, without running a network.

        They are identical on every machine, thread count and precision. The
        arrays of a tile of one colour, which has no stream, have no cells.
        Raises the same errors as `decode`.
        """
        parsed = container.read(container.as_bytes(data), max_pixels=self._max_pixels)
        header = parsed.header
        grid = TileGrid(header.width, header.height, header.tile_side)
        return tuple(
            self._integers(header, grid, number, payload or b"")
            for number, payload in enumerate(parsed.tiles)
        )

    # -- parts ---------------------------------------------------------------

    def _encoded(
        self,
        picture: Picture,
        settings: Settings,
        report: Report | None,
        threads: Threads,
    ) -> bytes:
        samples, effort = picture.samples, settings.effort
        engine = self._engine_of(effort)
        height, width = samples.shape[:2]
        side = 0
        if max(height, width) > LARGEST_SINGLE:
            side = best_side(width, height, TILE_SIDE, container.TILE_UNIT, TILE_HALO)
        grid = TileGrid(width, height, side)
        weights = weights_for(effort, settings.tune, self._weights_folder)
        encoder = Encoder(
            partial(self._tile_coder, weights.model_id, settings.hundredths, engine),
            samples,
            grid,
            effort,
            report,
            together=engine == "openvino",
        )
        with threads(grid.count) as each:
            tiles = encoder.payloads(each)
        return container.write(
            model_id=weights.model_id,
            width=width,
            height=height,
            quality_hundredths=settings.hundredths,
            pixel_format=("gray" if samples.ndim == 2 else "rgb") + str(8 * samples.itemsize),
            tile_side=side,
            tiles=tiles,
            has_filters=has_filters(effort, weights.tune)
            and max(map(len, tiles)) > FLAT_BYTES_AT_MOST,
            tiles_continue=grid.count > 1,
            alpha=None if picture.alpha is None else png_of_alpha(picture.alpha),
            metadata=Metadata() if settings.strip else picture.metadata,
        )

    def _decoded(
        self,
        data: bytes,
        region: Sequence[int] | None,
        reduction: int,
        parts: int,
        threads: Threads,
    ) -> Picture:
        data = container.as_bytes(data)
        header = container.read_header(data)
        container.check_pixels(header, self._max_pixels)
        box = region_box(region, header.width, header.height)
        if reduction not in REDUCTIONS or type(reduction) is not int:
            raise ParameterError(f"reduction: found {reduction!r}, allowed are {REDUCTIONS}")
        decoder = self._decoder(header, box, reduction, parts)
        parsed = container.read(data, max_pixels=self._max_pixels, wanted=decoder.wanted)
        with threads(decoder.jobs) as each:
            samples = decoder.samples(parsed.tiles, each)
        return Picture(samples, alpha_of(parsed, box, reduction), parsed.metadata)

    def _prepare_encoding(self, effort: int, tune: str) -> None:
        # what is wrong `encode` will raise; and the program may be about to end
        with suppress(Exception):
            model_id = weights_for(effort, tune, self._weights_folder).model_id
            coder = self._tile_coder(model_id, container.QUALITY_UNIT, self._engine_of(effort))
            coder.prepare_encoding(np.uint8)

    def _engine_of(self, effort: int) -> str:
        # refinement needs gradients, which only torch has
        return "torch" if EFFORT_ITERATIONS.get(effort) else self._engine

    def _decoder(self, header: Header, box: Box, reduction: int, parts: int = 1) -> Decoder:
        load = partial(self._tile_coder, header.model_id, header.quality_hundredths)
        return Decoder(load, header, box, reduction, parts)

    def _integers(self, header: Header, grid: TileGrid, number: int, payload: bytes) -> Latents:
        model = load_model(header.model_id, self._weights_folder)
        return tile_latents(model, header, grid, number, payload)

    def _side_by_side(self, jobs: int) -> AbstractContextManager[Map]:
        return self._workers(self._thread_count, jobs)

    @property
    def _thread_count(self) -> int:
        if self._engine == "openvino":
            return self._threads or default_threads()
        from caezip.torch_networks import thread_count

        return self._threads or thread_count()

    @cached_property
    def _workers(self) -> Workers:
        return Workers(self._limit)

    def _batches(self, images: int) -> AbstractContextManager[Map]:
        """For so many images side by side, each in a thread."""
        if self._device == "cpu":
            return self._side_by_side(images)
        return self._gpu_workers(MOST_TOGETHER, images)

    @cached_property
    def _gpu_workers(self) -> Workers:
        return Workers(self._limit, MOST_TOGETHER)

    @property
    def _limit(self) -> Limit | None:
        if self._engine == "openvino":
            return None
        from caezip.torch_networks import limited

        return limited

    def _tile_coder(self, model_id: int, hundredths: int, engine: str | None = None) -> TileCoder:
        engine = engine or self._engine
        with self._loading:
            model = load_model(model_id, self._weights_folder)
            if (model_id, engine) not in self._networks:
                precision = self._precision
                if precision == "int8" and engine == "torch" != self._engine:
                    precision = "auto"  # another engine steps in for refinement
                where = (self._device, self._threads, self._cache_folder)
                self._networks[model_id, engine] = Loading(
                    partial(load_networks, model, engine, precision, *where)
                )
        return TileCoder(model, self._networks[model_id, engine], hundredths)
