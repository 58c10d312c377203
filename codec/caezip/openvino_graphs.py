"""The networks of `caezip.transforms` as OpenVINO models, from a weights file's arrays.

Every function builds one model. Nearly all layers see their inputs in 256 levels, so
that they can run in int8; the linear path from patch to latent to patch does not, because
every error of it is seen in the picture.

Shapes: ``h, w`` the latent grid, any size; ``zh, zw`` that of the hyper-latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caezip._openvino import load_openvino
from caezip.config import LEVELS, PATCH_SAMPLES, PATCH_SIZE, RENDER_STRIDE, ModelConfig
from caezip.pretrained import ROW_STEP, network_array

load_openvino()  # imports it without what is not needed, so it has to come first

import openvino as ov  # noqa: E402
from openvino import opset13 as op  # noqa: E402

SLOPE = np.float32(0.125)  # of `caezip.transforms.activation`
PEAK = 255.0


class GraphBuilder:
    """Layers by the names that they have in a weights file.

    ``weights`` are the stored arrays; ``ranges`` the lowest and highest input of each
    layer that sees it in 256 levels. With ``int8`` these layers run in integers; without,
    in float32 with the same results up to its rounding.
    """

    def __init__(
        self,
        weights: Mapping[str, NDArray[Any]],
        ranges: Mapping[str, NDArray[np.float32]],
        *,
        int8: bool,
    ) -> None:
        self._weights, self._ranges, self._int8 = weights, ranges, int8

    def array(self, name: str) -> NDArray[np.float32]:
        """A parameter in float32."""
        return network_array(self._weights, name)

    def convolution(
        self,
        x: ov.Node,
        name: str,
        *,
        rows: NDArray[np.intp] | None = None,
        columns: NDArray[np.intp] | None = None,
    ) -> ov.Node:
        """1x1; in int8 if its input's range is known.

        ``rows`` and ``columns``: the outputs and inputs in another order.
        """
        x, weights = self._operands(x, name, rows, columns)
        return self._biased(_unpadded(x, weights), name, rows)

    def halving(self, x: ov.Node, name: str) -> ov.Node:
        """2x2 with stride 2, of even sides.

        In int8 the engine reads what was never written where one column comes out, so
        there is always a second one, which is cut off.
        """
        none, column = (op.constant(np.array([0, 0, 0, columns])) for columns in (0, 2))
        x = op.pad(x, none, column, "constant", op.constant(np.float32(0)))
        x, weights = self._operands(x, name, None, None)
        x = self._biased(_unpadded(x, weights, 2), name, None)
        start, stop, step, axis = (op.constant(np.array([n])) for n in (0, -1, 1, 3))
        return op.slice(x, start, stop, step, axis)

    def of_samples(
        self, x: ov.Node, kernel: NDArray[np.float32], bias: NDArray[np.float32], *, whole: bool
    ) -> ov.Node:
        """A 1x1 convolution of numbers from 0 to 255, which may all be ``whole``."""
        if not (self._int8 and whole):
            return op.add(_unpadded(x, op.constant(kernel)), op.constant(bias))
        x = op.fake_quantize(x, *(op.constant(np.float32(end)) for end in (0, 255, 0, 255)), LEVELS)
        # a sum of two int8 kernels, the second for what the first rounds off
        terms = []
        for _ in range(2):
            steps = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True) / np.float32(127)
            steps = np.maximum(steps, np.finfo(np.float32).tiny)
            integers = np.rint(kernel / steps)
            weights = op.convert(op.constant(integers.astype(np.int8)), np.float32)
            terms.append(_unpadded(x, op.multiply(weights, op.constant(steps))))
            kernel = kernel - integers * steps
        # a bias behind the sum is not added right by the engine where there is one cell
        return op.add(op.add(terms[0], op.constant(bias)), terms[1])

    def depthwise(self, x: ov.Node, name: str) -> ov.Node:
        """3x3, each channel by itself, with zeros around."""
        x, weights = self._operands(x, name, None, None)
        groups = np.array([len(self._weights[name + ".weight"]), 1, 1, 3, 3])
        weights = op.reshape(weights, op.constant(groups), False)
        y = op.group_convolution(x, weights, [1, 1], [1, 1], [1, 1], [1, 1])
        return self._biased(y, name, None)

    def _operands(
        self,
        x: ov.Node,
        name: str,
        rows: NDArray[np.intp] | None,
        columns: NDArray[np.intp] | None,
    ) -> tuple[ov.Node, ov.Node]:
        """A layer's input, in levels if it sees it so, and its kernel."""
        kernel, bounds = name + ".weight", self._ranges.get(name)

        def ordered(array: NDArray[Any]) -> ov.Node:
            array = array if rows is None else array[rows]
            return op.constant(
                np.ascontiguousarray(array if columns is None else array[:, columns])
            )

        if bounds is None:
            return x, ordered(self.array(kernel))
        if not self._int8:
            return _rounded_to_levels(x, *map(float, bounds)), ordered(self.array(kernel))
        # the form that the engine turns into integers: levels between bounds, and
        # int8 weights times their rows' steps
        low, high = (op.constant(value.reshape(1, 1, 1, 1)) for value in bounds)
        steps = self._weights[ROW_STEP + kernel].astype(np.float32).reshape(-1, 1, 1, 1)
        steps = steps if rows is None else steps[rows]
        integers = op.convert(ordered(self._weights[kernel]), np.float32)
        weights = op.multiply(integers, op.constant(steps))
        return op.fake_quantize(x, low, high, low, high, LEVELS), weights

    def _biased(self, x: ov.Node, name: str, rows: NDArray[np.intp] | None) -> ov.Node:
        bias = self.array(name + ".bias")
        bias = bias if rows is None else bias[rows]
        return op.add(x, op.constant(bias.reshape(1, -1, 1, 1)))

    def block(self, x: ov.Node, name: str) -> ov.Node:
        """`caezip.transforms.DepthwiseBlock`."""
        mixed = self.depthwise(
            _activation(self.convolution(x, f"{name}.mix_in")), f"{name}.depthwise"
        )
        x = op.add(x, self.convolution(mixed, f"{name}.mix_out"))
        expanded = _activation(self.convolution(x, f"{name}.expand"))
        return op.add(x, self.convolution(expanded, f"{name}.reduce"))

    def blocks(self, x: ov.Node, name: str, count: int) -> ov.Node:
        for number in range(count):
            x = self.block(x, f"{name}.blocks.{number}")
        return x


def analysis(builder: GraphBuilder, config: ModelConfig, samples: type[Any]) -> ov.Model:
    """Inputs: patches ``[1, h, w, 768]`` from 0 to 255, the gain; output: ``[1, C, h, w]``.

    A patch's samples are in the order of an image's: row, column, channel.
    """
    patches = _input("patches", [1, -1, -1, PATCH_SAMPLES], samples)
    gain = _input("gain", [1, config.analysis_channels, 1, 1])
    x = op.transpose(patches, op.constant(np.array([0, 3, 1, 2])))
    x = op.convert(x, np.float32)
    # image - 0.5, of an image in [0, 1], folded into the first layer
    kernel = builder.array("analysis.embed.weight")
    bias = builder.array("analysis.embed.bias") - 0.5 * kernel.sum(axis=(1, 2, 3))
    kernel = np.ascontiguousarray(kernel[:, _interleaved(PATCH_SIZE)] / np.float32(PEAK))
    bias = bias.reshape(1, -1, 1, 1)
    x = op.multiply(builder.of_samples(x, kernel, bias, whole=samples is np.uint8), gain)
    x = builder.blocks(x, "analysis", config.analysis_blocks)
    return ov.Model([builder.convolution(x, "analysis.project")], [patches, gain], "analysis")


def hyper_analysis(builder: GraphBuilder, config: ModelConfig) -> ov.Model:
    """Inputs: the latent ``[1, C, 4 zh, 4 zw]``, the gain; output: ``[1, Z, zh, zw]``."""
    latent = _input("latent", [1, config.latent_channels, -1, -1])
    gain = _input("gain", [1, config.hyper_latent_channels, 1, 1])
    name = "hyper_analysis.layers"
    x = builder.block(builder.convolution(latent, f"{name}.0"), f"{name}.1")
    x = builder.block(builder.halving(x, f"{name}.2"), f"{name}.3")
    x = op.multiply(builder.halving(x, f"{name}.4"), gain)
    return ov.Model([x], [latent, gain], "hyper_analysis")


def first_means(builder: GraphBuilder, config: ModelConfig) -> ov.Model:
    """Inputs: the hyper-latent ``[1, Z, zh, zw]``, its inverse gain, the latent's gain.

    Outputs: features ``[1, hyper_channels, 4 zh, 4 zw]``, means in steps ``[1, C, 4 zh, 4 zw]``.
    The caller cuts them to the latent's grid: shapes that depend on values of inputs are
    not something to lean on in this engine.
    """
    hyper = _input("hyper", [1, config.hyper_latent_channels, -1, -1])
    inverse_gain = _input("inverse_gain", [1, config.hyper_latent_channels, 1, 1])
    gain = _input("gain", [1, config.latent_channels, 1, 1])
    name = "hyper_synthesis.layers"
    x = builder.convolution(op.multiply(hyper, inverse_gain), f"{name}.0")
    x = builder.block(op.depth_to_space(x, "depth_first", 2), f"{name}.2")
    x = builder.convolution(x, f"{name}.3")
    features = builder.block(op.depth_to_space(x, "depth_first", 2), f"{name}.5")
    means = op.multiply(builder.convolution(features, "context.first"), gain)
    return ov.Model([features, means], [hyper, inverse_gain, gain], "first_means")


def second_means(builder: GraphBuilder, config: ModelConfig) -> ov.Model:
    """Inputs: features, pass one's latent in steps, the latent's inverse gain and gain.

    Output: means in steps ``[1, C, h, w]``.
    """
    features = _input("features", [1, config.hyper_channels, -1, -1])
    first = _input("first", [1, config.latent_channels, -1, -1])
    inverse_gain = _input("inverse_gain", [1, config.latent_channels, 1, 1])
    gain = _input("gain", [1, config.latent_channels, 1, 1])
    means = _second_means(builder, features, op.multiply(first, inverse_gain), gain)
    return ov.Model([means], [features, first, inverse_gain, gain], "second_means")


def decoded(builder: GraphBuilder, config: ModelConfig) -> ov.Model:
    """Inputs: features, pass one's means, residual ``[1, C, h, w]``, mask, the latent's gains.

    The mask is 1 where pass one codes. Output: the latent in steps ``[1, C, h, w]``.
    """
    shape = [1, config.latent_channels, -1, -1]
    features = _input("features", [1, config.hyper_channels, -1, -1])
    means = _input("means", shape)
    residual, mask = _input("residual", shape, np.int32), _input("mask", shape, np.uint8)
    inverse_gain = _input("inverse_gain", [1, config.latent_channels, 1, 1])
    gain = _input("gain", [1, config.latent_channels, 1, 1])
    symbols = op.convert(residual, np.float32)
    here = op.convert(mask, np.float32)
    first = op.multiply(op.add(symbols, means), here)
    second = _second_means(builder, features, op.multiply(first, inverse_gain), gain)
    there = op.subtract(op.constant(np.float32(1)), here)
    steps = op.add(first, op.multiply(op.add(symbols, second), there))
    inputs = [features, means, residual, mask, inverse_gain, gain]
    return ov.Model([steps], inputs, "decoded")


def filtered_synthesis(builder: GraphBuilder, config: ModelConfig, samples: type[Any]) -> ov.Model:
    """`synthesis` and what `caezip.adaptive_filter` adds, before rounding.

    One more input: what `caezip.adaptive_filter.cell_kernel_of` makes, ``[48, 48, 3, 3]``.
    """
    pixels = 3 * RENDER_STRIDE**2
    return synthesis(builder, config, 1, samples, _input("kernel", [pixels, pixels, 3, 3]))


def synthesis(
    builder: GraphBuilder,
    config: ModelConfig,
    reduction: int,
    samples: type[Any],
    kernel: ov.Node | None = None,
) -> ov.Model:
    """Inputs: the latent in steps, its inverse gain, the blocks' gain; the ``kernel``, if any.

    Output: cells of 4x4 pixels ``[1, 4 h, 4 w, 48]`` in the order of an image's samples:
    uint8, or float32 around [0, 1]. With a ``reduction`` pixels are means of squares, and
    from 4 on cells are one pixel of 3 samples.
    """
    steps = _input("steps", [1, config.latent_channels, -1, -1])
    inverse_gain = _input("inverse_gain", [1, config.latent_channels, 1, 1])
    gain = _input("gain", [1, config.synthesis_channels, 1, 1])
    latent = op.multiply(steps, inverse_gain)
    cells = PATCH_SIZE // RENDER_STRIDE
    # the renderer's channels in the order of an image's samples, from its first layer on
    inside = np.arange(cells**2)
    rows = (cells**2 * _interleaved(RENDER_STRIDE)[:, None] + inside).ravel()
    content = builder.convolution(latent, "synthesis.content", rows=rows)
    if reduction >= RENDER_STRIDE:
        x = op.depth_to_space(content, "depth_first", cells)
    else:
        features = op.multiply(builder.convolution(latent, "synthesis.embed"), gain)
        features = builder.blocks(features, "synthesis", config.synthesis_blocks)
        patches = op.add(content, builder.convolution(features, "synthesis.detail", rows=rows))
        x = op.depth_to_space(patches, "depth_first", cells)  # [1, 48, 4 h, 4 w]
        for number in range(config.renderer_blocks):
            x = _render_block(builder, x, features, number)
    y = _rendered(builder, x, reduction)
    inputs = [steps, inverse_gain, gain]
    if kernel is not None:
        inputs.append(kernel)
        one = op.constant(np.array([0, 0, 1, 1]))
        around = op.pad(y, one, one, "edge")  # the outermost cells again
        y = op.add(y, _unpadded(around, kernel))
    if samples is np.uint8:
        bounds = [op.constant(np.float32(value)) for value in (-0.5, 0.5, 0.0, PEAK)]
        y = op.convert(op.fake_quantize(y, *bounds, LEVELS), np.uint8)
    else:
        y = op.add(y, op.constant(np.float32(0.5)))
    y = op.transpose(y, op.constant(np.array([0, 2, 3, 1])))
    return ov.Model([y], inputs, "synthesis")


# -- parts -------------------------------------------------------------------


def _input(name: str, shape: list[int], kind: type[Any] = np.float32) -> ov.Node:
    node = op.parameter(ov.PartialShape(shape), kind)
    node.output(0).set_names({name})
    return node


def _second_means(
    builder: GraphBuilder, features: ov.Node, first_latent: ov.Node, gain: ov.Node
) -> ov.Node:
    """`caezip.transforms.ContextModel.second_mean`, times the gain."""
    name = "context.second"
    x = builder.convolution(op.concat([features, first_latent], 1), f"{name}.0")
    x = builder.convolution(builder.block(x, f"{name}.1"), f"{name}.2")
    return op.multiply(x, gain)


def _render_block(builder: GraphBuilder, x: ov.Node, features: ov.Node, number: int) -> ov.Node:
    """One MLP of the renderer, steered by the features of each patch."""
    order = _interleaved(RENDER_STRIDE)
    modulate = f"synthesis.modulations.{number}"
    scale, shift, gate = (
        _spread(builder.convolution(features, modulate, rows=first + order))
        for first in range(0, 3 * len(order), len(order))
    )
    y = op.add(op.multiply(x, op.add(scale, op.constant(np.float32(1)))), shift)
    y = _activation(builder.convolution(y, f"synthesis.expand.{number}", columns=order))
    y = builder.convolution(y, f"synthesis.reduce.{number}", rows=order)
    return op.add(x, op.multiply(y, gate))


def _spread(x: ov.Node) -> ov.Node:
    """Every cell of ``x`` four times in each direction."""
    four = np.array([PATCH_SIZE // RENDER_STRIDE] * 2, np.float32)
    settings = {
        "mode": "nearest",
        "shape_calculation_mode": "scales",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    axes = op.constant(np.array([2, 3]))
    return op.interpolate(x, op.constant(four), axes=axes, **settings)


def _rendered(builder: GraphBuilder, x: ov.Node, reduction: int) -> ov.Node:
    """The renderer's last layer: 3x3, from and to cells of 4x4 pixels.

    With a reduction, a smaller layer: the means of squares of what it makes.
    """
    order = _interleaved(RENDER_STRIDE)
    kept, pooled = max(1, RENDER_STRIDE // reduction), max(1, reduction // RENDER_STRIDE)
    squares = (3, kept, RENDER_STRIDE // kept, kept, RENDER_STRIDE // kept)
    kernel, bias = (
        array.reshape(*squares, *array.shape[1:]).mean(axis=(2, 4)).reshape(-1, *array.shape[1:])
        for array in map(builder.array, ("synthesis.render.weight", "synthesis.render.bias"))
    )
    kernel = np.ascontiguousarray(kernel[_interleaved(kept)][:, order])
    y = op.convolution(x, op.constant(kernel), [1, 1], [1, 1], [1, 1], [1, 1])
    y = op.add(y, op.constant(bias[_interleaved(kept)].reshape(1, -1, 1, 1)))
    if pooled == 1:
        return y
    window = [pooled, pooled]
    return op.avg_pool(y, window, [0, 0], [0, 0], window, True)


def _interleaved(side: int) -> NDArray[np.intp]:
    """Where samples in the order row, column, channel are among channel, row, column."""
    return np.arange(3 * side**2).reshape(3, side, side).transpose(1, 2, 0).ravel()


def _unpadded(x: ov.Node, kernel: ov.Node, stride: int = 1) -> ov.Node:
    """A convolution without zeros around."""
    return op.convolution(x, kernel, [stride, stride], [0, 0], [0, 0], [1, 1])


def _activation(x: ov.Node) -> ov.Node:
    return op.prelu(x, op.constant(SLOPE.reshape(1)))


def _rounded_to_levels(x: ov.Node, low: float, high: float) -> ov.Node:
    """``x`` rounded to 256 levels, in operations that no engine turns into integers."""
    step = (high - low) / (LEVELS - 1)
    zero = round(-low / step)
    levels = op.round(op.multiply(x, op.constant(np.float32(1 / step))), "half_to_even")
    levels = op.clamp(levels, float(-zero), float(LEVELS - 1 - zero))
    return op.multiply(levels, op.constant(np.float32(step)))
