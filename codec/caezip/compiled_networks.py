"""Networks with the functions of ``decoder.c`` and ``encoder.c``, in levels and int8.

They are small: what an engine does around each layer takes several times as long as its products,
and for every new shape of a picture it makes itself ready again. Here a row of cells goes through
all layers while it is in a core's cache. Where nothing else is needed no engine is loaded, which
saves the time and the memory that one takes to begin.

Calls may run side by side: each works in one thread, in memory of its own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from caezip.arrays import check_array
from caezip.compiled import load_loops
from caezip.compiled_layers import (
    PAIRS,
    Dense,
    Layers,
    Planes,
    Pointer,
    Room,
    Stack,
    UnfitLayerError,
    planes_of,
    run,
    stack_of,
)
from caezip.config import PATCH_SIZE
from caezip.integers import Integers
from caezip.pretrained import Model
from caezip.processor import LARGEST_INT8, LARGEST_WEIGHT
from caezip.sample_layers import first_layer
from caezip.scales import HYPER_STRIDE, Floats

Network = TypeVar("Network", "CompiledAnalysis", "CompiledMeans", "CompiledStream")


class _Streamed(ctypes.Structure):
    _fields_ = (("stack", Stack), ("steps", Planes), ("stream", Planes))


class _FirstMeans(ctypes.Structure):
    _fields_ = (
        ("spread", Dense),
        ("coarse", Stack),
        ("spread_again", Dense),
        ("fine", Stack),
        ("last", Dense),
        *((name, Pointer) for name in ("hyper", "hyper_gains", "features")),
        ("means", Planes),
    )


class _SecondMeans(ctypes.Structure):
    _fields_ = (
        ("stack", Stack),
        *((name, Dense) for name in ("first", "last")),
        ("features", Pointer),
        ("features_row", ctypes.c_int64),
        ("features_count", ctypes.c_int32),
        *((name, Planes) for name in ("seen", "means")),
    )


class _Analysis(ctypes.Structure):
    _fields_ = (
        ("stack", Stack),
        *((name, Dense) for name in ("embed", "embed_more")),
        *((name, Pointer) for name in ("gains", "projection", "biases", "samples")),
        ("samples_row", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("samples_height", "samples_width")),
        *((name, ctypes.c_int32) for name in ("first", "behind")),
        ("latent", Planes),
    )


class _HyperAnalysis(ctypes.Structure):
    _fields_ = (
        ("first", Dense),
        ("fine", Stack),
        ("halve", Dense),
        ("coarse", Stack),
        ("halve_again", Dense),
        *((name, Planes) for name in ("latent", "hyper")),
    )


def compiled(network: Callable[[ctypes.CDLL, Model, int], Network], model: Model) -> Network | None:
    """One of these classes for ``model``; None where it or the processor has not what it takes.

    Models need weights up to 64, the range of every layer, and channels in sixteens.
    """
    loops = load_loops()
    kind = 0 if loops is None else int(loops.caezip_dense_kind())
    if loops is None or not kind:
        return None
    try:
        return network(loops, model, kind)
    except UnfitLayerError:
        return None


class CompiledMeans:
    """`caezip.openvino_graphs.first_means` and `second_means`."""

    def __init__(self, library: ctypes.CDLL, model: Model, kind: int) -> None:
        self._library, self.kind = library, kind
        self._sizes, layers = model.sizes, Layers(model, kind)
        name, corners = "hyper_synthesis.layers", _corners(model.sizes.hyper_channels)
        self._spread, self._spread_again = (layers.dense(f"{name}.{n}", corners) for n in (0, 3))
        self._coarse, self._fine = (layers.blocks([f"{name}.{n}"]) for n in (2, 5))
        self._first = layers.dense("context.first")
        self._seen, self._second = (layers.dense(f"context.second.{n}") for n in (0, 2))
        self._context = layers.blocks(["context.second.1"])
        self._layers = layers  # keeps what the structures point to

    def write_first(
        self,
        features: Floats,
        means: Floats,
        hyper_latent: Integers,
        gains: tuple[Floats, Floats],
        room: Room,
    ) -> None:
        """Write features ``[4 zh, 4 zw, C]`` and means in steps ``[M, h, w]``.

        Of the hyper-latent int32 ``[Z, zh, zw]``, with ``zh = ceil(h / 4)``; ``gains``: its inverse
        ones ``[Z]``, and the latent's ``[M]``. Raises ValueError for arrays that do not fit.
        """
        sizes, (count, height, width) = self._sizes, hyper_latent.shape
        hyper = np.ascontiguousarray(hyper_latent, np.int32)
        inverse, gain = map(_contiguous, gains)
        fine = HYPER_STRIDE * height, HYPER_STRIDE * width
        channels, grid = sizes.hyper_channels, _within("means", means, fine)
        check_array("hyper_latent", hyper, np.int32, (sizes.hyper_latent_channels, height, width))
        check_array("inverse gain", inverse, np.float32, (count,))
        check_array("features", features, np.float32, (*fine, channels))
        job = _FirstMeans(
            self._spread,
            stack_of(self._coarse, channels, 2 * height, 2 * width),
            self._spread_again,
            stack_of(self._fine, channels, *fine),
            self._first,
            *(array.ctypes.data for array in (hyper, inverse, features)),
            planes_of("means", means, gain, sizes.predicted_channels, grid),
        )
        run(self._library, "first_means", job, room, kind=self.kind)

    def write_second(
        self,
        means: Floats,
        features: Floats,
        first_steps: Floats,
        gains: tuple[Floats, Floats],
        room: Room,
    ) -> None:
        """Write means in steps ``[M, h, w]``.

        Of features ``[h, w, C]``, whose rows may be parts of longer ones, and pass one's latent in
        steps ``[M, h, w]``; ``gains``: the latent's inverse ones, and its gains, ``[M]``. Raises
        ValueError for arrays that do not fit.
        """
        sizes, (height, width) = self._sizes, first_steps.shape[1:]
        inverse, gain = map(_contiguous, gains)
        channels, predicted = sizes.hyper_channels, sizes.predicted_channels
        check_array("features", features, np.float32, (height, width, channels), whole=2)
        job = _SecondMeans(
            stack_of(self._context, sizes.context_channels, height, width),
            *(self._seen, self._second),
            *(features.ctypes.data, features.strides[0] // features.itemsize, channels),
            planes_of("first_steps", first_steps, inverse, predicted, (height, width)),
            planes_of("means", means, gain, predicted, (height, width)),
        )
        run(self._library, "second_means", job, room, kind=self.kind)


class CompiledStream:
    """`caezip.openvino_graphs.streamed`, of a lean decoder."""

    def __init__(self, library: ctypes.CDLL, model: Model, kind: int) -> None:
        sizes = model.sizes
        if not sizes.lean_decoder:
            raise UnfitLayerError("synthesis: found a renderer behind it")
        self._library, self.kind = library, kind
        self._channels, self._layers = sizes.synthesis_channels, Layers(model, kind)
        names = (f"synthesis.blocks.{number}" for number in range(sizes.synthesis_blocks))
        self._blocks = self._layers.blocks(names)
        self._layers.check_sides("synthesis", (self._channels,))

    def write(self, stream: Floats, steps: Floats, gains: Floats, room: Room) -> None:
        """Write what the blocks make of a stream in steps, both ``[S, h, w]``.

        ``gains``: what it is multiplied with, ``[S]``. Raises ValueError for arrays that do not
        fit.
        """
        grid = steps.shape[1:]
        gain, same = _contiguous(gains), np.ones(self._channels, np.float32)
        job = _Streamed(
            stack_of(self._blocks, self._channels, *grid),
            planes_of("steps", steps, gain, self._channels, grid),
            planes_of("stream", stream, same, self._channels, grid),
        )
        run(self._library, "streamed", job, room, kind=self.kind)


class CompiledAnalysis:
    """`caezip.openvino_graphs.analysis`, of pictures of 8 bits, and `hyper_analysis`."""

    def __init__(self, library: ctypes.CDLL, model: Model, kind: int) -> None:
        self._library, self.kind = library, kind
        self._sizes = sizes = model.sizes
        self._layers = layers = Layers(model, kind)
        # sums of two products have to fit into 16 bits where those of four are not added at once
        largest = LARGEST_INT8 if kind > PAIRS else LARGEST_WEIGHT
        self._embed = layers.of_samples(*first_layer(model.network_weights), largest)
        names = (f"analysis.blocks.{number}" for number in range(sizes.analysis_blocks))
        self._blocks = layers.blocks(names)
        self._projection = layers.projection("analysis.project")
        name = "hyper_analysis.layers"
        self._first, self._halve, self._again = (layers.dense(f"{name}.{n}") for n in (0, 2, 4))
        self._fine, self._coarse = (layers.blocks([f"{name}.{n}"]) for n in (1, 3))

    def write_latent(
        self, latent: Floats, samples: NDArray[np.uint8], gains: Floats, rows: range, room: Room
    ) -> None:
        """Write ``rows`` of cells of a latent ``[C, h, w]``, of samples uint8 ``[H, W, 3]``.

        Sides are of whole patches, or up to them the last row and column are seen again. Rows of
        samples may be parts of longer ones. ``gains``: ``[analysis_channels]``. Raises ValueError
        for arrays that do not fit.
        """
        sizes, (height, width) = self._sizes, latent.shape[1:]
        gain, same = _contiguous(gains), np.ones(sizes.latent_channels, np.float32)
        check_array("samples", samples, np.uint8, (*samples.shape[:2], 3), whole=2)
        if [-(-side // PATCH_SIZE) for side in samples.shape[:2]] != [height, width]:
            raise ValueError(f"samples: found {samples.shape} of a latent {latent.shape}")
        check_array("gains", gain, np.float32, (sizes.analysis_channels,))
        first = max(0, rows.start - sizes.analysis_halo)  # of the rows that are seen for it
        seen = min(height, rows.stop + sizes.analysis_halo) - first
        part, seen_samples = latent[:, rows.start : rows.stop], samples[PATCH_SIZE * first :]
        job = _Analysis(
            stack_of(self._blocks, sizes.analysis_channels, seen, width),
            *self._embed,
            *(gain.ctypes.data, *self._projection, seen_samples.ctypes.data),
            *(samples.strides[0], *seen_samples.shape[:2]),
            *(rows.start - first, rows.stop - first),
            planes_of("latent", part, same, sizes.latent_channels, (len(rows), width)),
        )
        run(self._library, "analysed", job, room, kind=self.kind)

    def write_hyper_latent(self, hyper: Floats, latent: Floats, gains: Floats, room: Room) -> None:
        """Write the hyper-latent ``[Z, ceil(h / 4), ceil(w / 4)]`` of a latent ``[C, h, w]``.

        ``gains``: ``[Z]``. Raises ValueError for arrays that do not fit.
        """
        sizes, (height, width) = self._sizes, hyper.shape[1:]
        gain, same = _contiguous(gains), np.ones(sizes.latent_channels, np.float32)
        fine = HYPER_STRIDE * height, HYPER_STRIDE * width
        channels, count = sizes.hyper_analysis_width, sizes.hyper_latent_channels
        grid = _within("latent", latent, fine)
        job = _HyperAnalysis(
            self._first,
            stack_of(self._fine, channels, *fine),
            self._halve,
            stack_of(self._coarse, channels, 2 * height, 2 * width),
            self._again,
            planes_of("latent", latent, same, sizes.latent_channels, grid),
            planes_of("hyper", hyper, gain, count, (height, width)),
        )
        run(self._library, "hyper_analysed", job, room, kind=self.kind)


def _corners(channels: int) -> NDArray[np.intp]:
    """Outputs of a layer before a shuffle of pixels by 2, those of one pixel behind each other."""
    return np.arange(4 * channels).reshape(channels, 4).T.ravel()


def _within(name: str, array: Floats, cells: tuple[int, int]) -> tuple[int, int]:
    """The grid of an array ``[C, h, w]`` of a network that sees ``cells``. Raises ValueError."""
    height, width = array.shape[1:]
    if any(not 0 <= more < HYPER_STRIDE for more in (cells[0] - height, cells[1] - width)):
        raise ValueError(f"{name}: found {array.shape} of {cells} cells")
    return height, width


def _contiguous(gains: Floats) -> Floats:
    return np.ascontiguousarray(gains.ravel(), np.float32)
