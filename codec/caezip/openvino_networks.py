"""The networks on OpenVINO: the fastest way on a CPU, and without importing torch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import CDLL
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caezip.adaptive_filter import cell_kernel_of, filtered
from caezip.compiled import load_loops
from caezip.compiled_networks import CompiledAnalysis, CompiledMeans, CompiledStream, compiled
from caezip.config import PATCH_SIZE, RENDER_STRIDE
from caezip.integers import Integers
from caezip.kept import Kept
from caezip.networks import Floats, RateGains
from caezip.openvino_programs import Programs
from caezip.patches import LastLayer, LeanDrawing, can_draw, last_layer
from caezip.picture import Samples
from caezip.planes import CELL_SAMPLES, Drawing, PlaneDrawing
from caezip.pretrained import Model, network_array
from caezip.processor import is_x86
from caezip.sample_layers import PEAK
from caezip.scales import HYPER_STRIDE
from caezip.scratch import Scratch
from caezip.steps import write_steps
from caezip.tiling import Box

LEAST_ROWS = 16  # of cells, in a band that a thread analyses: it sees four more on both sides
KEPT_LAST_LAYERS = 4  # of lean decoders, one for each rate: some 400 kB each
# Whether the engine takes a convolution's kernel as an input. Elsewhere it may read it once
# and for all.
TAKES_KERNELS = is_x86()


class OpenVinoNetworks:
    """`caezip.networks.Networks`: "int8", "float32", "bfloat16", or the best of them, "auto".

    int8 and float32 agree up to the rounding of float32, and of weights to fewer bits where
    the processor has exact products for no more. "auto" is int8 where it has any. With it,
    pictures of 8 bits are synthesised in bfloat16 where that is fast, all but the layers in
    int8. "bfloat16" is float32 where the processor has no bfloat16. What it compiles it keeps
    in ``cache_folder``, if there is one, for other processes. Of int8, `caezip.compiled_networks`
    runs what it can: the engine begins with the first network that it has to run.
    """

    def __init__(
        self, model: Model, precision: str, threads: int, cache_folder: Path | None = None
    ) -> None:
        self.config, self._model = model.sizes, model
        self._programs = Programs(model, precision, threads, cache_folder)
        self._gains = RateGains(model.network_weights)
        self._scratch = Scratch()
        self._threads, self._analysing, self._counting = threads, 0, Lock()
        self._last_layers: Kept[float, LastLayer] = Kept(KEPT_LAST_LAYERS)

    def prepare_encoding(self, dtype: type[Any]) -> None:
        if self._compiled_analysis is None or dtype is not np.uint8:
            self._programs.prepare("analysis", _input_type(dtype))
        if self._compiled_analysis is None:
            self._programs.prepare("hyper_analysis")
        self._prepare_means()

    def prepare_decoding(
        self, reduction: int, *, gray: bool, dtype: type[Any], has_filters: bool
    ) -> None:
        self._prepare_means()
        if self._loops_that_draw(reduction, gray, dtype, has_filters) is None:
            self._programs.prepare(*_synthesis(reduction, gray, dtype, has_filters))
        elif self._compiled_stream is None:
            self._programs.prepare("streamed" if self.config.lean_decoder else "planes")

    @cached_property
    def _compiled_means(self) -> CompiledMeans | None:
        return compiled(CompiledMeans, self._model) if self._programs.runs_in_int8 else None

    @cached_property
    def _compiled_stream(self) -> CompiledStream | None:
        return compiled(CompiledStream, self._model) if self._programs.runs_in_int8 else None

    @cached_property
    def _compiled_analysis(self) -> CompiledAnalysis | None:
        return compiled(CompiledAnalysis, self._model) if self._programs.runs_in_int8 else None

    def _prepare_means(self) -> None:
        if self._compiled_means is None:
            for network in ("first_means", "second_means"):
                self._programs.prepare(network)

    def analyse(self, samples: Samples, rate: float) -> Floats:
        if self._compiled_analysis is not None and samples.dtype == np.uint8:
            return self._analysed(self._compiled_analysis, _gapless(samples), rate)
        patches = _patches(samples)
        if patches.dtype != np.uint8:
            patches = patches.astype(np.float32) * np.float32(PEAK / np.iinfo(patches.dtype).max)
        latent = _empty(self.config.latent_channels, *patches.shape[:2])
        program = self._programs("analysis", _input_type(samples.dtype.type))
        program.compute_into([latent], patches[None], self._gain("analysis.gain", rate))
        return _only(latent)

    def _analysed(self, network: CompiledAnalysis, samples: Samples, rate: float) -> Floats:
        """In as many bands of rows as threads are idle, while no other call runs."""
        height, width = (-(-side // PATCH_SIZE) for side in samples.shape[:2])
        latent = np.empty((self.config.latent_channels, height, width), np.float32)
        gain = self._gain("analysis.gain", rate)
        with self._counting:
            self._analysing += 1
            count = max(1, min(self._threads // self._analysing, height // LEAST_ROWS))
        cuts = [height * n // count for n in range(count + 1)]

        def write(rows: range) -> None:
            network.write_latent(latent, samples, gain, rows, self._room)

        try:
            bands = [range(*ends) for ends in pairwise(cuts)]
            others = [self._helpers.submit(write, band) for band in bands[1:]]
            write(bands[0])
            for other in others:
                other.result()
        finally:
            with self._counting:
                self._analysing -= 1
        return latent

    @cached_property
    def _helpers(self) -> ThreadPoolExecutor:
        """Of a call that runs alone."""
        return ThreadPoolExecutor(self._threads, thread_name_prefix="caezip-analysis")

    def hyper_analyse(self, latent: Floats, rate: float) -> Floats:
        gain = self._gain("hyper_analysis.gain", rate)
        if self._compiled_analysis is not None:
            count, sides = self.config.hyper_latent_channels, latent.shape[1:]
            hyper = np.empty((count, *(-(-side // HYPER_STRIDE) for side in sides)), np.float32)
            self._compiled_analysis.write_hyper_latent(hyper, latent, gain, self._room)
            return hyper
        padded = _whole(latent, HYPER_STRIDE, 1)
        return _only(self._programs("hyper_analysis")(padded[None], gain)[0])

    def first_means(
        self, hyper_latent: Integers, rate: float, grid: tuple[int, int]
    ) -> tuple[Floats, Floats]:
        return self._first_means(hyper_latent, rate, grid, lambda _, *shape: _empty(*shape))

    def _first_means(
        self,
        hyper_latent: Integers,
        rate: float,
        grid: tuple[int, int],
        empty: Callable[..., Floats],
    ) -> tuple[Floats, Floats]:
        """`first_means`, in what ``empty`` makes of a name and a shape."""
        whole = [HYPER_STRIDE * side for side in hyper_latent.shape[1:]]
        if self._compiled_means is not None:
            means = empty("means", self.config.predicted_channels, *grid)
            features = empty("features", *whole, self.config.hyper_channels)
            inverse = self._gain("hyper_synthesis.inverse_gain", rate)
            gains = inverse, self._predicted_gain("latent_gain", rate)
            self._compiled_means.write_first(features[0], means[0], hyper_latent, gains, self._room)
            return features[0].transpose(2, 0, 1)[:, : grid[0], : grid[1]], means[0]
        means = empty("means", self.config.predicted_channels, *whole)
        features = empty("features", self.config.hyper_channels, *whole)
        self._programs("first_means").compute_into(
            [features, means],
            hyper_latent[None].astype(np.float32),
            self._gain("hyper_synthesis.inverse_gain", rate),
            self._predicted_gain("latent_gain", rate),
        )
        return features[0, :, : grid[0], : grid[1]], means[0, :, : grid[0], : grid[1]]

    def second_means(self, features: Floats, first_steps: Floats, rate: float) -> Floats:
        means = _empty(*first_steps.shape)
        self._write_second_means(means, features, first_steps, rate)
        return _only(means)

    def _write_second_means(
        self, means: Floats, features: Floats, first_steps: Floats, rate: float
    ) -> None:
        gains = (
            self._predicted_gain("latent_inverse_gain", rate),
            self._predicted_gain("latent_gain", rate),
        )
        if self._compiled_means is not None:
            cells = features.transpose(1, 2, 0)  # as `first_means` leaves them
            cells = cells if cells[:1].flags.c_contiguous else np.ascontiguousarray(cells)
            self._compiled_means.write_second(means[0], cells, first_steps, gains, self._room)
            return
        program = self._programs("second_means")
        program.compute_into([means], features[None], first_steps[None], *gains)

    def _room(self, size: int) -> NDArray[np.uint8]:
        return self._scratch.array("room", np.uint8, size)

    def decoded(self, hyper_latent: Integers, residual: Integers, rate: float) -> Floats:
        shape, (height, width) = residual.shape, residual.shape[1:]
        features, means = self._first_means(hyper_latent, rate, (height, width), self._used_again)
        steps, channels = (
            self._scratch.array("steps", np.float32, *shape),
            self.config.latent_channels,
        )
        write_steps(steps, residual, means, channels, 0)
        means = self._used_again("means", *shape)
        self._write_second_means(means, features, steps, rate)
        write_steps(steps, residual, _only(means), channels, 1)
        return steps

    def _used_again(self, name: str, *shape: int) -> Floats:
        """What a program writes to: until the next call for ``name`` from the same thread."""
        return self._scratch.array(name, np.float32, 1, *shape)

    def synthesise(
        self,
        steps: Floats,
        rate: float,
        reduction: int,
        *,
        gray: bool,
        dtype: type[Any],
        kernel: Floats | None = None,
        cells: Box | None = None,
    ) -> Samples:
        inputs: list[NDArray[Any]] = [
            steps[None],
            self._gain("latent_inverse_gain", rate),
            self._gain("synthesis.gain", rate),
            _margins(steps, cells),
        ]
        if kernel is not None and TAKES_KERNELS:
            inputs.append(cell_kernel_of(kernel))
        program = self._programs(*_synthesis(reduction, gray, dtype, kernel is not None))
        (picture,) = program(*inputs, copied=_picture)
        if picture.dtype == np.uint8:
            return picture
        if kernel is not None and not TAKES_KERNELS:
            picture = filtered(picture, kernel)
        if gray:
            picture = picture.mean(axis=2)
        peak = np.iinfo(dtype).max
        samples: Samples = np.rint(picture * np.float32(peak)).clip(0, peak).astype(dtype)
        return samples

    def drawing(
        self, rate: float, reduction: int, *, gray: bool, dtype: type[Any], has_filters: bool
    ) -> Drawing | None:
        loops = self._loops_that_draw(reduction, gray, dtype, has_filters)
        if loops is None:
            return None
        if not self.config.lean_decoder:
            return PlaneDrawing(loops, self.config.latent_channels, partial(self._planes, rate))
        width = self.config.synthesis_channels
        layer = self._last_layers.of(rate, self._last_layer)
        return LeanDrawing(loops, width, layer, partial(self._stream, rate))

    def _loops_that_draw(
        self, reduction: int, gray: bool, dtype: type[Any], has_filters: bool
    ) -> CDLL | None:
        plain = reduction == 1 and dtype is np.uint8 and not (gray or has_filters)
        can = not self.config.lean_decoder or can_draw(self.config)
        return load_loops() if plain and can else None

    @cached_property
    def _content(self) -> dict[str, Floats]:
        """A lean decoder's last layer as it is stored, in float32."""
        weights = self._model.network_weights
        parts = ("planes", "colours", "colour_of", "bias")
        return {part: network_array(weights, f"synthesis.content.{part}") for part in parts}

    def _last_layer(self, rate: float) -> LastLayer:
        """That layer, of its stream before the blocks' gain, and of the others' symbols."""
        stream, inverse = self._gains("synthesis.gain", rate), self.latent_inverse_gain(rate)
        gains = np.concatenate([1 / stream, inverse[len(stream) :]])
        return last_layer(**self._content, gains=gains[:, 0, 0], streamed=len(stream))

    def _stream(self, rate: float, steps: Floats) -> Floats:
        stream = self._scratch.array("stream", np.float32, 1, *steps.shape)
        gains = self._gain("latent_inverse_gain", rate)[:, : len(steps)]
        gains = gains * self._gain("synthesis.gain", rate)
        if self._compiled_stream is not None:
            self._compiled_stream.write(stream[0], steps, gains, self._room)
        else:
            self._programs("streamed").compute_into([stream], steps[None], gains)
        return _only(stream)

    def _planes(self, rate: float, steps: Floats, cells: Box) -> NDArray[np.uint8]:
        height, width = (PATCH_SIZE // RENDER_STRIDE * side for side in (cells.height, cells.width))
        planes = self._scratch.array("planes", np.uint8, 1, CELL_SAMPLES, height, width)
        self._programs("planes").compute_into(
            [planes],
            steps[None],
            self._gain("latent_inverse_gain", rate),
            self._gain("synthesis.gain", rate),
            _margins(steps, cells),
        )
        one: NDArray[np.uint8] = planes[0]
        return one

    def latent_gain(self, rate: float) -> Floats:
        return self._gains("latent_gain", rate)

    def latent_inverse_gain(self, rate: float) -> Floats:
        return self._gains("latent_inverse_gain", rate)

    def _predicted_gain(self, name: str, rate: float) -> Floats:
        """Of the channels that have means."""
        return self._gain(name, rate)[:, : self.config.predicted_channels]

    def _gain(self, name: str, rate: float) -> Floats:
        return self._gains(name, rate)[None]


def _margins(steps: Floats, cells: Box | None) -> NDArray[np.uint8]:
    """What `caezip.openvino_layers.margins_node` stands for, of the ``cells`` that are drawn."""
    height, width = steps.shape[1:]
    box = cells or Box(0, 0, width, height)
    sides = (box.top, box.left, height - box.bottom, width - box.right)
    return np.empty([side + 1 for side in sides], np.uint8)


def _empty(*shape: int) -> Floats:
    """What a program writes to, one of a batch: ``[1, *shape]``."""
    return np.empty((1, *shape), np.float32)


def _only(batch: Floats) -> Floats:
    one: Floats = batch[0]
    return one


def _input_type(dtype: type[Any]) -> type[Any]:
    """In which the analysis transform reads samples."""
    return np.uint8 if dtype is np.uint8 else np.float32


def _synthesis(reduction: int, gray: bool, dtype: type[Any], has_kernel: bool) -> tuple[Any, ...]:
    """Which program: it writes floats where something is left to do before they are rounded."""
    rounded = dtype is np.uint8 and not gray
    if has_kernel and TAKES_KERNELS:
        return ("filtered_synthesis", np.uint8 if rounded else np.float32)
    return ("synthesis", reduction, np.uint8 if rounded and not has_kernel else np.float32)


def _whole_patches(samples: NDArray[Any]) -> NDArray[Any]:
    """The last row and column repeated to whole patches, of pixels without gaps."""
    return _gapless(_whole(samples, PATCH_SIZE, 0))


def _whole(array: NDArray[Any], unit: int, axis: int) -> NDArray[Any]:
    """The last row and column, of ``axis`` and the next, repeated to multiples of ``unit``."""
    missing = [(0, 0)] * array.ndim
    missing[axis : axis + 2] = [(0, -side % unit) for side in array.shape[axis : axis + 2]]
    return np.pad(array, missing, mode="edge") if any(map(any, missing)) else array


def _gapless(samples: NDArray[Any]) -> NDArray[Any]:
    """With pixels beside each other."""
    return samples if samples[:1].flags.c_contiguous else np.ascontiguousarray(samples)


def _patches(samples: NDArray[Any]) -> NDArray[Any]:
    """``[H, W, 3]`` to ``[h, w, 768]``, the last row and column repeated to whole patches."""
    samples = _whole_patches(samples)
    h, w = (side // PATCH_SIZE for side in samples.shape[:2])
    cells = samples.reshape(h, PATCH_SIZE, w, 3 * PATCH_SIZE).swapaxes(1, 2)
    return np.ascontiguousarray(cells).reshape(h, w, -1)


def _picture(cells: NDArray[Any]) -> NDArray[Any]:
    """``[1, h, w, 3 * side^2]`` to ``[h * side, w * side, 3]``, in memory of its own."""
    h, w, samples = cells.shape[1:]
    side = round((samples // 3) ** 0.5)
    # a row of a cell is moved as one thing, which is several times faster
    row = np.dtype((np.void, 3 * side * cells.itemsize))
    rows = cells.reshape(h, w, side, 3 * side).view(row)[..., 0].swapaxes(1, 2)
    return rows.copy().view(cells.dtype).reshape(h * side, w * side, 3)
