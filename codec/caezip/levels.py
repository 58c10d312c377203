"""Networks whose layers see their inputs in 256 levels, as int8 engines compute them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caezip.config import LEVELS


def see_inputs_in_levels(network: nn.Module, ranges: Mapping[str, NDArray[np.float32]]) -> None:
    """From now on, layers see their inputs in 256 levels, as they do where they run in int8.

    ``ranges``: the lowest and highest level of each layer's input. Gradients pass where
    an input is between them.
    """

    def rounded(low: float, high: float, _: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        step = (high - low) / (LEVELS - 1)
        levels: Tensor = torch.fake_quantize_per_tensor_affine(
            inputs[0].float(), step, round(-low / step), 0, LEVELS - 1
        )
        return levels.to(inputs[0].dtype)

    for name, (low, high) in ranges.items():
        layer = network.get_submodule(name)
        layer.register_forward_pre_hook(partial(rounded, float(low), float(high)))
