"""The analysis transform's first layer as it reads samples, and kernels as sums of int8 ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caezip.config import PATCH_SIZE
from caezip.pretrained import network_array
from caezip.scales import Floats

PEAK = 255.0  # of the samples that networks read


def interleaved(side: int) -> NDArray[np.intp]:
    """Where samples in the order row, column, channel are among channel, row, column."""
    return np.arange(3 * side**2).reshape(3, side, side).transpose(1, 2, 0).ravel()


def first_layer(weights: Mapping[str, NDArray[Any]]) -> tuple[Floats, Floats]:
    """Kernel ``[C, 768, 1, 1]`` and bias ``[C]``, of samples from 0 to 255 in an image's order.

    image - 0.5, of an image in [0, 1], is folded into it.
    """
    kernel = network_array(weights, "analysis.embed.weight")
    bias = network_array(weights, "analysis.embed.bias") - 0.5 * kernel.sum(axis=(1, 2, 3))
    return np.ascontiguousarray(kernel[:, interleaved(PATCH_SIZE)] / np.float32(PEAK)), bias


def in_two_terms(
    kernel: Floats, largest: int
) -> tuple[list[tuple[NDArray[np.int8], Floats]], Floats]:
    """int8 kernels and their rows' steps, the second for what the first rounds off; and the rest.

    ``kernel`` is ``[O, I, 1, 1]``, and so are they; steps are ``[O, 1, 1, 1]``.
    """
    terms = []
    for _ in range(2):
        steps = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True) / np.float32(largest)
        steps = np.maximum(steps, np.finfo(np.float32).tiny)
        integers = np.rint(kernel / steps)
        terms.append((integers.astype(np.int8), steps))
        kernel = kernel - integers * steps
    return terms, kernel
