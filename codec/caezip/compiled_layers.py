"""Layers as the functions of ``decoder.c`` and ``encoder.c`` read them (``stacks.h``)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from caezip.arrays import KeptArrays, check_array
from caezip.config import LEVELS
from caezip.pretrained import ROW_STEP, Model, network_array
from caezip.processor import LARGEST_WEIGHT
from caezip.sample_layers import in_two_terms
from caezip.scales import Floats

BLOCK, FOUR = 16, 4  # outputs and inputs whose weights lie together
EIGHT = BLOCK // 2
PAIRS = 1  # of products in 16 bits: the kind of processors that add no four of them
MOST_OUTPUTS, MOST_BLOCKS = 1024, 8  # that there is room for
LARGEST_SUM = 128  # of weights whose products with levels, up to 255, add up to less than 2^15
TAPS = 9
MIDDLE = np.float32(127.5)  # of samples
Pointer = ctypes.c_void_p
Room = Callable[[int], NDArray[np.uint8]]  # memory of so many bytes, of any content


class Dense(ctypes.Structure):
    _fields_ = (
        *((name, Pointer) for name in ("weights", "scales", "biases", "runs")),
        *((name, ctypes.c_float) for name in ("levels_per_unit",)),
        *((name, ctypes.c_int32) for name in ("zero", "inputs", "outputs")),
    )


class Block(ctypes.Structure):
    _fields_ = (
        *((name, Pointer) for name in ("kernel", "scales", "biases")),
        *((name, ctypes.c_float) for name in ("levels_per_unit", "lowest", "highest")),
        *((name, ctypes.c_int32) for name in ("mixed", "has_mixing")),
        *((name, Dense) for name in ("mix_in", "mix_out", "expand", "reduce")),
    )


class Stack(ctypes.Structure):
    _fields_ = (
        ("blocks", Pointer),
        *((name, ctypes.c_int32) for name in ("count", "channels", "height", "width")),
    )


class Planes(ctypes.Structure):
    _fields_ = (
        ("values", Pointer),
        *((name, ctypes.c_int64) for name in ("plane", "row")),
        ("gains", Pointer),
        *((name, ctypes.c_int32) for name in ("channels", "height", "width")),
    )


class Layers:
    """A model's layers, and the arrays that the structures point to.

    Raises UnfitLayerError for what the functions cannot do.
    """

    def __init__(self, model: Model, kind: int) -> None:
        self._model, self._kind = model, kind
        self._kept = KeptArrays()

    def dense(self, name: str, rows: NDArray[np.intp] | None = None) -> Dense:
        """A convolution, 1x1 or with a stride of its sides; ``rows``: its outputs in another order.

        Inputs are those of a row of the kernel, then those of the next, channels innermost.
        """
        per_unit, zero, scales, bias = self._scaled(name)
        kernel = self._kernel(name).transpose(0, 2, 3, 1)
        integers = kernel.reshape(len(kernel), -1)
        bias = bias - scales * np.float32(zero) * integers.sum(axis=1, dtype=np.float32)
        if rows is not None:
            integers, scales, bias = integers[rows], scales[rows], bias[rows]
        return self._packed(integers, scales, bias, per_unit, zero)

    def of_samples(self, kernel: Floats, bias: Floats, largest: int) -> list[Dense]:
        """Two layers that add up to one of ``kernel`` [O, I, 1, 1], whose inputs are samples.

        With weights up to ``largest``. What both round off is made up for at a middle gray.
        """
        terms, rest = in_two_terms(kernel, largest)
        biases = bias + MIDDLE * rest.sum(axis=(1, 2, 3)), np.zeros_like(bias)
        return [
            self._packed(integers[:, :, 0, 0], steps.ravel(), b, 1, 0)
            for (integers, steps), b in zip(terms, biases, strict=True)
        ]

    def projection(self, name: str) -> tuple[int, int]:
        """A 1x1 convolution in float32: addresses of weights ``[O / 16, I, 16]``, and of biases."""
        weights = network_array(self._model.network_weights, f"{name}.weight")[:, :, 0, 0]
        outputs, inputs = weights.shape
        self.check_sides(name, (outputs, inputs))
        blocks = weights.reshape(outputs // BLOCK, BLOCK, inputs).swapaxes(1, 2)
        bias = self._model.network_weights[f"{name}.bias"]
        return self._kept.address_of(blocks), self._kept.address_of(bias)

    def blocks(self, names: Iterable[str]) -> ctypes.Array[Block]:
        """Residual blocks, one behind the other."""
        made = [self._block(name) for name in names]
        if len(made) > MOST_BLOCKS:
            raise UnfitLayerError(f"blocks: found {len(made)}, there is room for {MOST_BLOCKS}")
        return (Block * len(made))(*made)

    def _block(self, name: str) -> Block:
        depthwise = f"{name}.depthwise"
        kernel = self._kernel(depthwise).reshape(-1, TAPS).T.astype(np.float32)
        per_unit, zero, scales, bias = self._scaled(depthwise)
        mixed = kernel.shape[1]
        self.check_sides(depthwise, (mixed,))
        has_mixing = f"{name}.mix_in.weight" in self._model.network_weights
        mixing = [self.dense(f"{name}.{part}") for part in ("mix_in", "mix_out") if has_mixing]
        mlp = [self.dense(f"{name}.{part}") for part in ("expand", "reduce")]
        kept = [self._kept.address_of(array) for array in (kernel, scales, bias)]
        bounds = (per_unit, -zero, LEVELS - 1 - zero)
        return Block(*kept, *bounds, mixed, has_mixing, *(mixing or (Dense(), Dense())), *mlp)

    def _kernel(self, name: str) -> NDArray[np.int8]:
        kernel = self._model.network_weights[f"{name}.weight"]
        if kernel.dtype != np.int8 or np.abs(kernel.astype(np.int16)).max() > LARGEST_WEIGHT:
            raise UnfitLayerError(f"{name}: found weights above {LARGEST_WEIGHT}")
        return kernel

    def _scaled(self, name: str) -> tuple[float, int, Floats, Floats]:
        """Levels of its input per unit and below 0, what products of outputs are, and biases."""
        bounds, weights = self._model.activation_ranges.get(name), self._model.network_weights
        if bounds is None:
            raise UnfitLayerError(f"{name}: found no range of its inputs")
        low, high = map(float, bounds)
        step = (high - low) / (LEVELS - 1)
        scales = weights[f"{ROW_STEP}{name}.weight"] * np.float32(step)
        return 1 / step, round(-low / step), scales, weights[f"{name}.bias"]

    def _packed(
        self, integers: NDArray[np.int8], scales: Floats, bias: Floats, per_unit: float, zero: int
    ) -> Dense:
        outputs, inputs = integers.shape
        self.check_sides("layer", (outputs, inputs))
        blocks = integers.reshape(outputs // BLOCK, BLOCK, inputs // FOUR, FOUR)
        kept = [self._kept.address_of(array) for array in (blocks.swapaxes(1, 2), scales, bias)]
        # which takes a while, and no other kind reads it
        kept.append(self._kept.address_of(runs_of(integers)) if self._kind == PAIRS else 0)
        return Dense(*kept, per_unit, zero, inputs, outputs)

    def check_sides(self, name: str, sides: tuple[int, ...]) -> None:
        """Outputs, and inputs if there are others. Raises UnfitLayerError."""
        if any(side % BLOCK for side in sides) or sides[0] > MOST_OUTPUTS:
            raise UnfitLayerError(f"{name}: found {sides}, allowed are sixteens to {MOST_OUTPUTS}")


def runs_of(integers: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Of how many steps of four inputs, 4, 2 or 1, sums of pairs fit into 16 bits.

    ``integers`` ``[O, I]``, both multiples of 16; ``[O / 8, I / 16]``, for eight outputs together.
    Instructions add up products of levels and weights by pairs, and saturate.
    """
    outputs, inputs = integers.shape
    pairs = integers.astype(np.int16).reshape(outputs, inputs // BLOCK, FOUR, FOUR // 2, 2)
    largest = []
    # by sign: levels are from 0 up, so that a sum is largest where those of the other sign are 0
    for part in (np.maximum(pairs, 0), np.maximum(-pairs, 0)):
        one = part[..., 0] + part[..., 1]
        two = one[:, :, 0::2] + one[:, :, 1::2]
        four = two[:, :, 0] + two[:, :, 1]
        largest.append((two.max(axis=(2, 3)), four.max(axis=2)))
    two, four = (
        np.maximum(*both).reshape(outputs // EIGHT, EIGHT, -1).max(axis=1)
        for both in zip(*largest, strict=True)
    )
    runs: NDArray[np.uint8] = np.where(two <= LARGEST_SUM, 2, 1).astype(np.uint8)
    runs[four <= LARGEST_SUM] = 4
    return runs


class UnfitLayerError(Exception):
    """A layer that the functions cannot compute: an engine has to."""


def stack_of(blocks: ctypes.Array[Block], channels: int, height: int, width: int) -> Stack:
    return Stack(ctypes.addressof(blocks), len(blocks), channels, height, width)


def planes_of(
    name: str, array: Floats, gains: Floats, channels: int, grid: tuple[int, ...]
) -> Planes:
    """An array ``[C, h, w]``, which may be part of a larger one. Raises ValueError."""
    check_array(name, array, np.float32, (channels, *grid), whole=1)
    check_array("gains", gains, np.float32, (channels,))
    plane, row, _ = (stride // array.itemsize for stride in array.strides)
    return Planes(array.ctypes.data, plane, row, gains.ctypes.data, channels, *grid)


def run(library: ctypes.CDLL, name: str, job: ctypes.Structure, room: Room, *, kind: int) -> None:
    """Call a function with the memory that it needs. Raises ValueError for another size of it."""
    function = getattr(library, f"caezip_{name}")
    needed = function(ctypes.byref(job), kind, None)
    memory = room(needed)
    check_array("room", memory, np.uint8, (needed,))
    function(ctypes.byref(job), kind, memory.ctypes.data)
