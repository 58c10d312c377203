"""The networks of `caezip.transforms` as OpenVINO models, from a weights file's arrays.

Every function builds one model. Nearly all layers see their inputs in 256 levels, so
that they can run in int8; the linear path from patch to latent to patch does not, because
every error of it is seen in the picture.

Shapes: ``h, w`` the latent grid, any size; ``zh, zw`` that of the hyper-latent.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from caezip._openvino import load_openvino
from caezip.config import LEVELS, PATCH_SAMPLES, PATCH_SIZE, RENDER_STRIDE, ModelConfig
from caezip.openvino_layers import (
    GraphBuilder,
    activation,
    cropped,
    input_node,
    margins_node,
    unpadded,
)
from caezip.patches import patch_rows
from caezip.sample_layers import PEAK, interleaved

load_openvino()  # imports it without what is not needed, so it has to come first

import openvino as ov  # noqa: E402
from openvino import opset13 as op  # noqa: E402


def analysis(builder: GraphBuilder, config: ModelConfig, samples: type[Any]) -> ov.Model:
    """Inputs: patches ``[1, h, w, 768]`` from 0 to 255, the gain; output: ``[1, C, h, w]``.

    A patch's samples are in the order of an image's: row, column, channel.
    """
    patches = input_node("patches", [1, -1, -1, PATCH_SAMPLES], samples)
    gain = input_node("gain", [1, config.analysis_channels, 1, 1])
    layer = builder.first_layer(patches, whole=samples is np.uint8)
    x = op.multiply(layer, gain)
    x = builder.blocks(x, "analysis", config.analysis_blocks)
    return ov.Model([builder.convolution(x, "analysis.project")], [patches, gain], "analysis")


def hyper_analysis(builder: GraphBuilder, config: ModelConfig) -> ov.Model:
    """Inputs: the latent ``[1, C, 4 zh, 4 zw]``, the gain; output: ``[1, Z, zh, zw]``."""
    latent = input_node("latent", [1, config.latent_channels, -1, -1])
    gain = input_node("gain", [1, config.hyper_latent_channels, 1, 1])
    name = "hyper_analysis.layers"
    x = builder.block(builder.convolution(latent, f"{name}.0"), f"{name}.1")
    x = builder.block(builder.halving(x, f"{name}.2"), f"{name}.3")
    x = op.multiply(builder.halving(x, f"{name}.4"), gain)
    return ov.Model([x], [latent, gain], "hyper_analysis")


def first_means(builder: GraphBuilder, config: ModelConfig) -> ov.Model:
    """Inputs: the hyper-latent ``[1, Z, zh, zw]``, its inverse gain, the latent's gain.

    Outputs: features ``[1, hyper_channels, 4 zh, 4 zw]``, means in steps ``[1, M, 4 zh, 4 zw]``.
    The caller cuts them to the latent's grid: shapes that depend on values of inputs are
    not something to lean on in this engine.
    """
    hyper = input_node("hyper", [1, config.hyper_latent_channels, -1, -1])
    inverse_gain = input_node("inverse_gain", [1, config.hyper_latent_channels, 1, 1])
    gain = input_node("gain", [1, config.predicted_channels, 1, 1])
    name = "hyper_synthesis.layers"
    x = builder.convolution(op.multiply(hyper, inverse_gain), f"{name}.0")
    lean = config.lean_decoder
    x = builder.residual_block(op.depth_to_space(x, "depth_first", 2), f"{name}.2", lean=lean)
    x = op.depth_to_space(builder.convolution(x, f"{name}.3"), "depth_first", 2)
    features = builder.residual_block(x, f"{name}.5", lean=lean)
    means = op.multiply(builder.convolution(features, "context.first"), gain)
    return ov.Model([features, means], [hyper, inverse_gain, gain], "first_means")


def second_means(builder: GraphBuilder, config: ModelConfig) -> ov.Model:
    """Inputs: features, pass one's latent in steps, the latent's inverse gain and gain.

    All but the features of the M channels that have means. Output: means in steps
    ``[1, M, h, w]``, `caezip.transforms.ContextModel.second_mean`.
    """
    features = input_node("features", [1, config.hyper_channels, -1, -1])
    first = input_node("first", [1, config.predicted_channels, -1, -1])
    inverse_gain = input_node("inverse_gain", [1, config.predicted_channels, 1, 1])
    gain = input_node("gain", [1, config.predicted_channels, 1, 1])
    name = "context.second"
    seen = op.concat([features, op.multiply(first, inverse_gain)], 1)
    x = builder.convolution(seen, f"{name}.0")
    x = builder.residual_block(x, f"{name}.1", lean=config.lean_decoder)
    means = op.multiply(builder.convolution(x, f"{name}.2"), gain)
    return ov.Model([means], [features, first, inverse_gain, gain], "second_means")


def filtered_synthesis(builder: GraphBuilder, config: ModelConfig, samples: type[Any]) -> ov.Model:
    """`synthesis` and what `caezip.adaptive_filter` adds, before rounding.

    One more input: what `caezip.adaptive_filter.cell_kernel_of` makes, ``[48, 48, 3, 3]``.
    """
    pixels = 3 * RENDER_STRIDE**2
    return synthesis(builder, config, 1, samples, input_node("kernel", [pixels, pixels, 3, 3]))


def synthesis(
    builder: GraphBuilder,
    config: ModelConfig,
    reduction: int,
    samples: type[Any],
    kernel: ov.Node | None = None,
) -> ov.Model:
    """Inputs: the latent in steps, its inverse gain, the blocks' gain, margins, and the ``kernel``.

    The last if there is one. Margins are cells that only the blocks see, not in the picture.
    Output: cells of 4x4 pixels ``[1, 4 h, 4 w, 48]`` in the order of an image's samples:
    uint8, or float32 around [0, 1]; of a lean decoder whole patches ``[1, h, w, 768]``. With
    a ``reduction`` pixels are means of squares, and from 4 on cells are one pixel of 3 samples.
    """
    if config.lean_decoder and reduction == 1 and kernel is None:
        steps, inverse_gain, gain, margins = inputs = _synthesis_inputs(config)
        latent = _stream_and_rest(builder, op.multiply(steps, inverse_gain), gain, config)
        y = _whole_patches(builder, cropped(latent, margins), config.latent_channels)
        return ov.Model([_as_samples(y, samples)], inputs, "synthesis")
    y, inputs = _planes(builder, config, reduction, samples, kernel)
    y = op.transpose(y, op.constant(np.array([0, 2, 3, 1])))
    return ov.Model([y], inputs, "synthesis")


def planes(builder: GraphBuilder, config: ModelConfig) -> ov.Model:
    """Inputs: those of `synthesis`. Output: the same samples as uint8 ``[1, 48, 4 h, 4 w]``.

    Of a model with a renderer. `caezip.planes` brings them into a picture's order.
    """
    y, inputs = _planes(builder, config, 1, np.uint8)
    return ov.Model([y], inputs, "planes")


def streamed(builder: GraphBuilder, config: ModelConfig) -> ov.Model:
    """Inputs: a lean decoder's stream in steps ``[1, S, h, w]``, its gains together.

    That is its inverse gain times the blocks' gain. Output: what the blocks make of the stream, of
    the same shape, not divided by their gain. `caezip.patches` does the rest.
    """
    shape = [1, config.synthesis_channels]
    steps, gains = input_node("steps", [*shape, -1, -1]), input_node("gains", [*shape, 1, 1])
    x = builder.blocks(op.multiply(steps, gains), "synthesis", config.synthesis_blocks, lean=True)
    return ov.Model([x], [steps, gains], "streamed")


# -- parts -------------------------------------------------------------------


def _synthesis_inputs(config: ModelConfig) -> list[ov.Node]:
    """Those of `synthesis`, but for the kernel."""
    return [
        input_node("steps", [1, config.latent_channels, -1, -1]),
        input_node("inverse_gain", [1, config.latent_channels, 1, 1]),
        input_node("gain", [1, config.synthesis_channels, 1, 1]),
        margins_node(),
    ]


def _planes(
    builder: GraphBuilder,
    config: ModelConfig,
    reduction: int,
    samples: type[Any],
    kernel: ov.Node | None = None,
) -> tuple[ov.Node, list[ov.Node]]:
    """What `synthesis` computes, channels first, and its inputs; not a lean decoder's patches."""
    steps, inverse_gain, gain, margins = inputs = _synthesis_inputs(config)
    latent = op.multiply(steps, inverse_gain)
    cells = PATCH_SIZE // RENDER_STRIDE
    # the renderer's channels in the order of an image's samples, from its first layer on
    inside = np.arange(cells**2)
    rows = (cells**2 * interleaved(RENDER_STRIDE)[:, None] + inside).ravel()

    # from a quarter down, what the linear layers make of the latent comes close for less
    linear = reduction >= RENDER_STRIDE
    features = None
    if config.lean_decoder and not linear:
        latent = _stream_and_rest(builder, latent, gain, config)
    elif not linear:
        features = cropped(_features(builder, latent, gain, config), margins)
    latent = cropped(latent, margins)
    patches = builder.convolution(latent, "synthesis.content", rows=rows)
    if features is None:
        x = op.depth_to_space(patches, "depth_first", cells)
    else:
        # in bfloat16 the engine fails at this sum with its operands the other way round
        patches = op.add(builder.convolution(features, "synthesis.detail", rows=rows), patches)
        x = op.depth_to_space(patches, "depth_first", cells)  # [1, 48, 4 h, 4 w]
        for number in range(config.renderer_blocks):
            x = _render_block(builder, x, features, number)
    y = _rendered(builder, x, reduction, config)
    if kernel is not None:
        inputs.append(kernel)
        one = op.constant(np.array([0, 0, 1, 1]))
        around = op.pad(y, one, one, "edge")  # the outermost cells again
        y = op.add(y, unpadded(around, kernel))
    return _as_samples(y, samples), inputs


def _features(
    builder: GraphBuilder, latent: ov.Node, gain: ov.Node, config: ModelConfig
) -> ov.Node:
    """What the synthesis transform knows of each patch: ``[1, synthesis_channels, h, w]``."""
    x = op.multiply(builder.convolution(latent, "synthesis.embed"), gain)
    return builder.blocks(x, "synthesis", config.synthesis_blocks, lean=config.has_lean_synthesis)


def _stream_and_rest(
    builder: GraphBuilder, latent: ov.Node, gain: ov.Node, config: ModelConfig
) -> ov.Node:
    """What a lean decoder's last layer reads: ``[1, C, h, w]``, the first channels changed."""
    width = config.synthesis_channels
    lengths = op.constant(np.array([width, config.latent_channels - width]))
    stream, rest = op.variadic_split(latent, op.constant(1), lengths).outputs()
    return op.concat([_stream(builder, stream, gain, config), rest], 1)


def _stream(builder: GraphBuilder, x: ov.Node, gain: ov.Node, config: ModelConfig) -> ov.Node:
    """The first channels of a lean decoder's latent, changed by its blocks."""
    x = op.multiply(x, gain)
    return op.divide(builder.blocks(x, "synthesis", config.synthesis_blocks, lean=True), gain)


def _render_block(builder: GraphBuilder, x: ov.Node, features: ov.Node, number: int) -> ov.Node:
    """One MLP of the renderer, steered by the features of each patch."""
    order = interleaved(RENDER_STRIDE)
    modulate = f"synthesis.modulations.{number}"
    scale, shift, gate = (
        _spread(builder.convolution(features, modulate, rows=first + order))
        for first in range(0, 3 * len(order), len(order))
    )
    y = op.add(op.multiply(x, op.add(scale, op.constant(np.float32(1)))), shift)
    y = activation(builder.convolution(y, f"synthesis.expand.{number}", columns=order))
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


def _whole_patches(builder: GraphBuilder, latent: ov.Node, channels: int) -> ov.Node:
    """Patches ``[1, h, w, 768]`` in the order of an image's samples, around 0: of so many channels.

    As a product of matrices the last layer takes less than half the time of a convolution.
    """
    order = patch_rows()
    weights = builder.array("synthesis.content.weight")[order, :channels, 0, 0]
    matrix = np.ascontiguousarray(weights.T)
    bias = builder.array("synthesis.content.bias")[order]
    cells = op.transpose(latent, op.constant(np.array([0, 2, 3, 1])))
    y = op.matmul(cells, op.constant(matrix), False, False)
    return op.add(y, op.constant(bias.reshape(1, 1, 1, -1)))


def _as_samples(x: ov.Node, samples: type[Any]) -> ov.Node:
    """What is around 0 as uint8, or around 0.5 as float32."""
    if samples is not np.uint8:
        return op.add(x, op.constant(np.float32(0.5)))
    bounds = [op.constant(np.float32(value)) for value in (-0.5, 0.5, 0.0, PEAK)]
    return op.convert(op.fake_quantize(x, *bounds, LEVELS), np.uint8)


def _rendered(builder: GraphBuilder, x: ov.Node, reduction: int, config: ModelConfig) -> ov.Node:
    """The renderer's last layer: 3x3, from and to cells of 4x4 pixels.

    With a reduction, a smaller layer: the means of squares of what it makes. Without a
    renderer, as if it had one that changes nothing.
    """
    order = interleaved(RENDER_STRIDE)
    kept, pooled = max(1, RENDER_STRIDE // reduction), max(1, reduction // RENDER_STRIDE)
    squares = (3, kept, RENDER_STRIDE // kept, kept, RENDER_STRIDE // kept)
    if config.renderer_blocks:
        whole = [builder.array(f"synthesis.render.{part}") for part in ("weight", "bias")]
    else:
        same = np.eye(len(order), dtype=np.float32)[:, :, None, None]
        whole = [np.pad(same, [(0, 0), (0, 0), (1, 1), (1, 1)]), np.zeros(len(order), np.float32)]
    kernel, bias = (
        array.reshape(*squares, *array.shape[1:]).mean(axis=(2, 4)).reshape(-1, *array.shape[1:])
        for array in whole
    )
    kernel = np.ascontiguousarray(kernel[interleaved(kept)][:, order])
    y = op.convolution(x, op.constant(kernel), [1, 1], [1, 1], [1, 1], [1, 1])
    y = op.add(y, op.constant(bias[interleaved(kept)].reshape(1, -1, 1, 1)))
    if pooled == 1:
        return y
    window = [pooled, pooled]
    return op.avg_pool(y, window, [0, 0], [0, 0], window, True)
