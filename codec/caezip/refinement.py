"""Gradient refinement of one image's latent against the real decoder.

Yang, Bamler and Mandt 2020, "Improving Inference for Neural Image Compression",
section 3.2: stochastic Gumbel annealing. The stream stays an ordinary one; only
the encoder looks longer for the integers to write.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from caezip.distortion import distortion
from caezip.entropy import MAX_LATENT_SYMBOL, Integers
from caezip.prediction import LatentPredictor
from caezip.transforms import CodecNetwork, lambda_of_rate, scale_of_index

LEARNING_RATE = 0.03  # quantisation steps per iteration, about
FIRST_TEMPERATURE, LAST_TEMPERATURE = 0.5, 0.05
INDEX_UPDATE_EVERY = 8  # iterations; the scales of pass two move little
SMALLEST_LIKELIHOOD = 1e-9  # as in training (compressai's bound)
EDGE = 1e-3  # keeps atanh finite at whole numbers

Report = Callable[[int, int], None]  # iterations done, iterations in all


def refine_latent(
    network: CodecNetwork,
    predictor: LatentPredictor,
    scaled_latent: Tensor,
    image: Tensor,
    *,
    height: int,
    width: int,
    tune: str,
    iterations: int,
    report: Report | None = None,
) -> Tensor:
    """A latent near ``scaled_latent`` [1, C, h, w] whose rounding costs less.

    ``image`` is ``[1, 3, 16 h, 16 w]``; only its top left ``height`` by ``width``
    pixels count as error. Deterministic for one machine and thread count.
    """
    latent = scaled_latent.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([latent], lr=LEARNING_RATE, betas=(0.9, 0.99))
    generator = torch.Generator(device=latent.device).manual_seed(0)
    target = image[:, :, :height, :width]
    lagrangian = float(lambda_of_rate(predictor.rate))
    pixels = height * width
    scale = coded = torch.empty(0)
    for iteration in range(iterations):
        progress = iteration / iterations
        temperature = FIRST_TEMPERATURE * (LAST_TEMPERATURE / FIRST_TEMPERATURE) ** progress
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * progress))
        if iteration % INDEX_UPDATE_EVERY == 0:
            scale, coded = _scales(predictor, latent.detach())

        soft = partial(_soft_round, temperature=temperature, generator=generator)
        first = coded * soft(latent - predictor.first_mean)
        second_mean = predictor.second_mean(first + predictor.first_mean)
        mean = predictor.mask * predictor.first_mean + (1 - predictor.mask) * second_mean
        symbols = predictor.mask * first + (1 - predictor.mask) * coded * soft(latent - second_mean)
        decoded = network.synthesis((symbols + mean) * predictor.inverse_gain, predictor.rate)
        error = distortion(tune, decoded.float()[:, :, :height, :width], target)
        bits = (coded * _bits(symbols, scale)).sum()
        loss = lagrangian * error.sum() + bits / pixels
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own annotation is missing
        optimizer.step()
        if report is not None:
            report(iteration + 1, iterations)
    return latent.detach()


def _scales(predictor: LatentPredictor, latent: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviations and whether they are coded, with the symbols as they stand."""
    first_coded = torch.from_numpy(predictor.first_indexes > 0).to(latent.device)[None]
    first = (latent - predictor.first_mean).round() * first_coded
    symbols: Integers = (
        first.clamp(-MAX_LATENT_SYMBOL, MAX_LATENT_SYMBOL)[0].to(torch.int32).cpu().numpy()
    )
    second_indexes = predictor.second_indexes(symbols)
    here = predictor.mask[0].cpu().numpy() > 0
    indexes = np.where(here, predictor.first_indexes, second_indexes)
    index = torch.from_numpy(indexes.astype(np.float32)).to(latent.device)[None]
    return scale_of_index(index), (index > 0).float()


def _soft_round(x: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """A random blend of the two integers around ``x``, the nearer one more likely."""
    low = x.detach().floor()
    fraction = (x - low).clamp(EDGE, 1 - EDGE)
    # log odds of the upper integer: atanh of each distance, as in the paper's equation 9
    odds = (torch.atanh(fraction) - torch.atanh(1 - fraction)) / temperature
    uniform = torch.rand(x.shape, generator=generator, device=x.device).clamp(1e-6, 1 - 1e-6)
    logistic = torch.log(uniform) - torch.log1p(-uniform)  # the difference of two Gumbels
    return low + torch.sigmoid((odds + logistic) / temperature)


def _bits(symbols: Tensor, scale: Tensor) -> Tensor:
    """Code lengths under Gaussians integrated over each symbol's interval."""
    magnitude = symbols.abs()
    upper = torch.special.ndtr((0.5 - magnitude) / scale)
    lower = torch.special.ndtr((-0.5 - magnitude) / scale)
    return -torch.log2((upper - lower).clamp(min=SMALLEST_LIKELIHOOD))
