"""How large each layer's input gets: what an engine needs to run it in int8."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caezip.config import LEVELS, PATCH_SIZE
from caezip.training.objective import TrainingModel

# The path from patch to latent to patch: all of its error would be seen in the picture.
FLOAT_LAYERS = ("analysis.embed", "analysis.project", "synthesis.content", "synthesis.render")
UNROUNDED = (*FLOAT_LAYERS, "scales.", "hyper_prior.")
RATES = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0)
SAMPLES = 20_000  # of each layer's input at each rate
# clipping a few outliers makes all other values finer; the best share is searched for
SHARES_KEPT = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
ENERGY_RATE, ENERGY_CELLS = 0.55, 7  # crops have so many cells a side, and the middle one is off
CHANNELS_TOGETHER = 16  # are tried at once
# Errors of single cells, which the networks partly undo, stand for those of many: by how much more
# these count was judged on held-back photographs.
MANY_CELLS = 3.0


@torch.no_grad()
def activation_ranges(
    model: TrainingModel, images: Sequence[Tensor]
) -> dict[str, NDArray[np.float32]]:
    """The lowest and highest input, ``[2]``, of every layer that may run in int8.

    ``images`` are ``[B, 3, H, W]`` in [0, 1]. The ends are those with the least squared
    error of 256 levels between them, and 0 is one of the levels. Layers that read the
    same tensor have the same.
    """
    seen: dict[str, list[Tensor]] = {}
    generator = torch.Generator().manual_seed(0)

    def note(name: str, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].flatten()
        chosen = torch.randint(len(values), (SAMPLES,), generator=generator)
        seen.setdefault(name, []).append(values[chosen].float())

    handles = [
        module.register_forward_pre_hook(partial(note, name))
        for name, module in model.network.named_modules()
        if isinstance(module, nn.Conv2d) and not name.startswith(UNROUNDED)
    ]
    was_training = model.training
    try:
        model.eval()
        for image in images:
            for rate in RATES:
                model(image, torch.full((len(image),), rate))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    ranges = {name: best_range(torch.cat(values).numpy()) for name, values in seen.items()}
    for name in ranges:
        if name.startswith("synthesis.modulations"):
            ranges[name] = ranges["synthesis.detail"]
    return ranges


def best_range(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The ends of 256 equal levels, one of them 0, with the least squared error."""
    lowest, highest = min(0.0, float(values.min())), max(0.0, float(values.max()))
    candidates = [_with_zero(share * lowest, share * highest) for share in SHARES_KEPT]
    errors = [float(np.square(values - _in_levels(values, c)).mean()) for c in candidates]
    return candidates[int(np.argmin(errors))]


def _with_zero(low: float, high: float) -> NDArray[np.float32]:
    step = max((high - low) / (LEVELS - 1), 1e-6)
    below = min(max(round(-low / step), 0), LEVELS - 1)
    return np.array([-below * step, (LEVELS - 1 - below) * step], np.float32)


def _in_levels(values: NDArray[np.float32], bounds: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = bounds
    step = (high - low) / (LEVELS - 1)
    levels: NDArray[np.float32] = np.rint((values.clip(low, high) - low) / step) * step + low
    return levels


@torch.no_grad()
def error_energy(model: TrainingModel, images: Tensor) -> Tensor | None:
    """What the picture loses by one unit of each latent channel in a cell: squared error, ``[C]``.

    Measured in the middle of ``images`` [B, 3, H, W] in [0, 1], of 112 or more pixels a side;
    for `TrainingModel.error_energy`. None for a lean decoder, which is nearly linear.
    """
    config = model.network.config
    if config.lean_decoder:
        return None
    plain = TrainingModel(config).eval()  # without levels, whose rounding would count as well
    plain.load_state_dict(model.state_dict())
    network, rate, middle = plain.network, torch.tensor([ENERGY_RATE]), ENERGY_CELLS // 2
    step = network.latent_inverse_gain(rate)[0, :, 0, 0]
    off = torch.zeros(len(step), len(step), ENERGY_CELLS, ENERGY_CELLS)
    off[range(len(step)), range(len(step)), middle, middle] = step
    total = torch.zeros(len(step))
    for latent in _decoded_latents(plain, images, rate):
        whole = network.synthesis(latent, rate)
        squares = [
            (network.synthesis(latent + some, rate.expand(len(some))) - whole)
            .square()
            .sum((1, 2, 3))
            for some in torch.split(off, CHANNELS_TOGETHER)
        ]
        total += torch.cat(squares) / step.square()
    return MANY_CELLS * total / len(images)


def _decoded_latents(model: TrainingModel, images: Tensor, rate: Tensor) -> list[Tensor]:
    """What the synthesis transform reads of each image's middle: ``[1, C, cells, cells]``."""
    side = PATCH_SIZE * ENERGY_CELLS
    top, left = ((length - side) // 2 for length in images.shape[2:])
    latents: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        latents.append(inputs[0])

    handle = model.network.synthesis.register_forward_pre_hook(note)
    for image in images[:, :, top : top + side, left : left + side].unbind():
        model(image[None], rate)
    handle.remove()
    return latents
