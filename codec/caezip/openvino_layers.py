"""The layers that the graphs of `caezip.openvino_graphs` are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caezip._openvino import load_openvino
from caezip.config import LEVELS
from caezip.pretrained import ROW_STEP, network_array
from caezip.processor import LARGEST_INT8
from caezip.sample_layers import first_layer, in_two_terms

load_openvino()  # imports it without what is not needed, so it has to come first

import openvino as ov  # noqa: E402
from openvino import opset13 as op  # noqa: E402

# All decoders have to agree on means, to which the residuals were taken, and errors of the
# renderer are seen most: these layers run in float32 where their weights are too large for int8.
NEVER_ROUNDED = ("hyper_synthesis.", "context.", "synthesis.expand.", "synthesis.reduce.")
SLOPE = np.float32(0.125)  # of `caezip.blocks.activation`


class GraphBuilder:
    """Layers by the names that they have in a weights file.

    ``weights`` are the stored arrays; ``ranges`` the lowest and highest input of each
    layer that sees it in 256 levels. These layers run in integers, with weights up to
    ``largest_weight``; if that is 0, in float32 with the same results up to its rounding.
    Larger weights are rounded to fewer bits, but those of `NEVER_ROUNDED`.
    """

    def __init__(
        self,
        weights: Mapping[str, NDArray[Any]],
        ranges: Mapping[str, NDArray[np.float32]],
        largest_weight: int,
    ) -> None:
        self._weights, self._ranges, self._largest = weights, ranges, largest_weight

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
        return self._biased(unpadded(x, weights), name, rows)

    def halving(self, x: ov.Node, name: str) -> ov.Node:
        """2x2 with stride 2, of even sides.

        In int8 the engine reads what was never written where one column comes out, so
        there is always a second one, which is cut off.
        """
        none, column = (op.constant(np.array([0, 0, 0, columns])) for columns in (0, 2))
        x = op.pad(x, none, column, "constant", op.constant(np.float32(0)))
        x, weights = self._operands(x, name, None, None)
        x = self._biased(unpadded(x, weights, 2), name, None)
        start, stop, step, axis = (op.constant(np.array([n])) for n in (0, -1, 1, 3))
        return op.slice(x, start, stop, step, axis)

    def first_layer(self, patches: ov.Node, *, whole: bool) -> ov.Node:
        """The analysis transform's, of ``patches`` [1, h, w, 768], which have numbers to 255.

        They may all be ``whole``: then it is a sum of two int8 kernels where int8 is exact.
        """
        kernel, bias = first_layer(self._weights)
        x = op.convert(patches, np.float32)
        channels_first = op.constant(np.array([0, 3, 1, 2]))
        if not (self._largest == LARGEST_INT8 and whole):
            # as a product of matrices: a convolution needs the patches in float32 twice
            x = op.matmul(x, op.constant(kernel[:, :, 0, 0]), False, True)
            return op.transpose(op.add(x, op.constant(bias.reshape(1, 1, 1, -1))), channels_first)
        x, bias = op.transpose(x, channels_first), bias.reshape(1, -1, 1, 1)
        x = op.fake_quantize(x, *(op.constant(np.float32(end)) for end in (0, 255, 0, 255)), LEVELS)
        terms = []
        for integers, steps in in_two_terms(kernel, LARGEST_INT8)[0]:
            weights = op.convert(op.constant(integers), np.float32)
            terms.append(unpadded(x, op.multiply(weights, op.constant(steps))))
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
        integers = self._weights[kernel]
        too_large = np.abs(integers.astype(np.int16)).max() > self._largest
        if not self._largest or (too_large and name.startswith(NEVER_ROUNDED)):
            return _rounded_to_levels(x, *map(float, bounds)), ordered(self.array(kernel))
        steps = self._weights[ROW_STEP + kernel].astype(np.float32).reshape(-1, 1, 1, 1)
        if too_large:
            integers, steps = _of_fewer_bits(integers, steps, self._largest)
        # the form that the engine turns into integers: levels between bounds, and
        # int8 weights times their rows' steps
        low, high = (op.constant(value.reshape(1, 1, 1, 1)) for value in bounds)
        steps = steps if rows is None else steps[rows]
        weights = op.multiply(op.convert(ordered(integers), np.float32), op.constant(steps))
        return op.fake_quantize(x, low, high, low, high, LEVELS), weights

    def _biased(self, x: ov.Node, name: str, rows: NDArray[np.intp] | None) -> ov.Node:
        bias = self.array(name + ".bias")
        bias = bias if rows is None else bias[rows]
        return op.add(x, op.constant(bias.reshape(1, -1, 1, 1)))

    def block(self, x: ov.Node, name: str) -> ov.Node:
        """`caezip.blocks.DepthwiseBlock`."""
        mixed = self.depthwise(
            activation(self.convolution(x, f"{name}.mix_in")), f"{name}.depthwise"
        )
        x = op.add(x, self.convolution(mixed, f"{name}.mix_out"))
        expanded = activation(self.convolution(x, f"{name}.expand"))
        return op.add(x, self.convolution(expanded, f"{name}.reduce"))

    def lean_block(self, x: ov.Node, name: str) -> ov.Node:
        """`caezip.blocks.LeanBlock`."""
        mixed = self.depthwise(x, f"{name}.depthwise")
        expanded = activation(self.convolution(mixed, f"{name}.expand"))
        return op.add(x, self.convolution(expanded, f"{name}.reduce"))

    def residual_block(self, x: ov.Node, name: str, *, lean: bool) -> ov.Node:
        """`caezip.blocks.residual_block`."""
        return self.lean_block(x, name) if lean else self.block(x, name)

    def blocks(self, x: ov.Node, name: str, count: int, *, lean: bool = False) -> ov.Node:
        for number in range(count):
            x = self.residual_block(x, f"{name}.blocks.{number}", lean=lean)
        return x


def input_node(name: str, shape: list[int], kind: type[Any] = np.float32) -> ov.Node:
    node = op.parameter(ov.PartialShape(shape), kind)
    node.output(0).set_names({name})
    return node


def margins_node() -> ov.Node:
    """How much `cropped` takes off: its shape is top, left, bottom and right, each plus one.

    Shapes that depend on another's shape, unlike those that depend on values, the engine
    works out before it runs anything.
    """
    return input_node("margins", [-1, -1, -1, -1], np.uint8)


def cropped(x: ov.Node, margins: ov.Node) -> ov.Node:
    """``x`` [1, C, h, w] without so many rows and columns at its edges."""

    def two(shape: ov.Node, places: list[int]) -> ov.Node:
        return op.gather(shape, op.constant(np.array(places)), op.constant(np.array(0)))

    sides, one = op.shape_of(margins), op.constant(np.array([1, 1]))
    start = op.subtract(two(sides, [0, 1]), one)
    missing = op.subtract(two(sides, [2, 3]), one)
    stop = op.subtract(two(op.shape_of(x), [2, 3]), missing)
    return op.slice(x, start, stop, one, op.constant(np.array([2, 3])))


def unpadded(x: ov.Node, kernel: ov.Node, stride: int = 1) -> ov.Node:
    """A convolution without zeros around."""
    return op.convolution(x, kernel, [stride, stride], [0, 0], [0, 0], [1, 1])


def activation(x: ov.Node) -> ov.Node:
    return op.prelu(x, op.constant(SLOPE.reshape(1)))


def _rounded_to_levels(x: ov.Node, low: float, high: float) -> ov.Node:
    """``x`` rounded to 256 levels, in operations that no engine turns into integers."""
    step = (high - low) / (LEVELS - 1)
    zero = round(-low / step)
    levels = op.round(op.multiply(x, op.constant(np.float32(1 / step))), "half_to_even")
    levels = op.clamp(levels, float(-zero), float(LEVELS - 1 - zero))
    return op.multiply(levels, op.constant(np.float32(step)))


def _of_fewer_bits(
    integers: NDArray[np.int8], steps: NDArray[np.float32], largest: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights up to ``largest`` by magnitude, and their rows' steps, for larger ones."""
    rows = np.abs(integers.astype(np.float32)).max(axis=(1, 2, 3), keepdims=True)
    coarser = np.maximum(rows / np.float32(largest), np.float32(1))
    return np.rint(integers / coarser).astype(np.int8), steps * coarser
