"""Refinement of one image's latent against the real decoder.

Stochastic Gumbel annealing: Yang, Bamler and Mandt 2020, "Improving Inference for
Neural Image Compression", section 3.2. The latent moves by gradient descent through
the decoder, with random rounding that cools down. The stream stays an ordinary one;
only the encoder looks longer for the integers to write.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caezip.distortion import distortion
from caezip.entropy import Indexes, Integers
from caezip.prediction import LatentPredictor
from caezip.quantisation import code_latent
from caezip.transforms import CodecNetwork, lambda_of_rate, scale_of_index

LEARNING_RATE = 0.05  # quantisation steps per iteration, about
TRAVEL = 1 / 1200  # the rate at most, times the iterations: few of them settle only small moves
FIRST_TEMPERATURE, LAST_TEMPERATURE = 0.6, 0.15
# Where weights tuned for PSNR trade bits for squared error, a bit buys more than their
# lambda says: the loss is balanced over rates. With the slope that files have, refinement
# looks for smaller files of the same quality instead of another quality.
SLOPE_OF_LAMBDA = {"psnr": 1.4, "ssim": 1.0}
INDEX_UPDATE_EVERY = 8  # iterations; the scales of pass two move little
START_MARGIN = 0.45  # steps from its symbol at which a value starts, at most
SMALLEST_LIKELIHOOD = 1e-9  # as in training (compressai's bound)
EDGE = 1e-3  # keeps atanh finite at whole numbers

Report = Callable[[int, int], None]  # iterations done, iterations in all


def refine_latent(
    network: CodecNetwork,
    predictor: LatentPredictor,
    scaled: Tensor,
    image: Tensor,
    *,
    worth: NDArray[np.float32],
    tune: str,
    iterations: int,
    report: Report | None = None,
) -> tuple[Integers, Indexes]:
    """Symbols and scale indexes ``[C, h, w]`` that cost less than those of ``scaled``.

    ``scaled`` is the latent ``[1, C, h, w]``, ``image`` ``[1, 3, H, W]`` the picture
    without padding. Starts from the symbols with a dead zone (see
    `caezip.quantisation`) and returns them if nothing better is found.
    Deterministic for one machine and thread count.
    """
    refiner = _Refiner(network, predictor, image, tune, iterations, report)
    start = code_latent(predictor, scaled, worth)
    latent = refiner.anneal(scaled, start[0])
    refined = code_latent(predictor, latent, worth)
    return min((start, refined), key=lambda candidate: refiner.cost(*candidate))


class _Refiner:
    """One image's objective: lambda times the error, in bits, plus the symbols' bits."""

    def __init__(
        self,
        network: CodecNetwork,
        predictor: LatentPredictor,
        image: Tensor,
        tune: str,
        iterations: int,
        report: Report | None,
    ) -> None:
        self._network, self._predictor, self._image, self._tune = network, predictor, image, tune
        self._iterations, self._report = iterations, report
        self._height, self._width = image.shape[2:]
        slope = SLOPE_OF_LAMBDA[tune] * float(lambda_of_rate(predictor.rate))
        self._lagrangian = slope * self._height * self._width

    def error(self, symbols: Tensor, mean: Tensor) -> Tensor:
        """What the picture that ``symbols`` [1, C, h, w] decode to costs."""
        latent = (symbols + mean) * self._predictor.inverse_gain
        decoded = self._network.synthesis(latent, self._predictor.rate).float()
        decoded = decoded[:, :, : self._height, : self._width]
        return self._lagrangian * distortion(self._tune, decoded, self._image).sum()

    @torch.no_grad()
    def cost(self, symbols: Integers, indexes: Indexes) -> float:
        values = self._values(symbols)
        scale, coded = self._scale(indexes)
        bits = (coded * _bits(values, scale)).sum()
        return float(self.error(values, self._predictor.mean(values)) + bits)

    def anneal(self, scaled: Tensor, symbols: Integers) -> Tensor:
        """A latent whose rounding costs less, from one near ``scaled`` that gives ``symbols``."""
        predictor, count = self._predictor, self._iterations
        centre = self._values(symbols)
        with torch.no_grad():
            centre = centre + predictor.mean(centre)
        margin = (scaled - centre).clamp(-START_MARGIN, START_MARGIN)
        latent = (centre + margin).requires_grad_()
        optimizer = torch.optim.Adam([latent], lr=LEARNING_RATE, betas=(0.9, 0.99))
        generator = torch.Generator(device=latent.device).manual_seed(0)
        highest = min(LEARNING_RATE, TRAVEL * count)
        scale = coded = torch.empty(0)
        for iteration in range(count):
            progress = iteration / count
            temperature = FIRST_TEMPERATURE * (LAST_TEMPERATURE / FIRST_TEMPERATURE) ** progress
            for group in optimizer.param_groups:
                group["lr"] = highest * 0.5 * (1 + math.cos(math.pi * progress))
            if iteration % INDEX_UPDATE_EVERY == 0:
                scale, coded = self._scale(code_latent(predictor, latent.detach(), None)[1])
            soft = partial(_soft_round, temperature=temperature, generator=generator)
            first = coded * soft(latent - predictor.first_mean)
            second_mean = predictor.second_mean(first + predictor.first_mean)
            mean = predictor.mask * predictor.first_mean + (1 - predictor.mask) * second_mean
            second = coded * soft(latent - second_mean)
            blend = predictor.mask * first + (1 - predictor.mask) * second
            loss = self.error(blend, mean) + (coded * _bits(blend, scale)).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own annotation is missing
            optimizer.step()
            self._tell(iteration + 1)
        return latent.detach()

    def _values(self, symbols: Integers) -> Tensor:
        return torch.from_numpy(symbols)[None].float().to(self._image.device)

    def _scale(self, indexes: Indexes) -> tuple[Tensor, Tensor]:
        """Standard deviations ``[1, C, h, w]``, and 1.0 where symbols are coded."""
        index = torch.from_numpy(indexes.astype(np.float32)).to(self._image.device)[None]
        return scale_of_index(index), (index > 0).float()

    def _tell(self, done: int) -> None:
        if self._report is not None:
            self._report(done, self._iterations)


def _soft_round(x: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """A random blend of the two integers around ``x``, the nearer one more likely."""
    low = x.detach().floor()
    fraction = (x - low).clamp(EDGE, 1 - EDGE)
    # log odds of the upper integer: atanh of each distance, as in the paper's equation 9
    odds = (torch.atanh(fraction) - torch.atanh(1 - fraction)) / temperature
    uniform = torch.rand(x.shape, generator=generator, device=x.device).clamp(1e-6, 1 - 1e-6)
    logistic = torch.log(uniform) - torch.log(1 - uniform)  # the difference of two Gumbels
    return low + torch.sigmoid((odds + logistic) / temperature)


def _bits(symbols: Tensor, scale: Tensor) -> Tensor:
    """Code lengths under Gaussians integrated over each symbol's interval."""
    magnitude = symbols.abs()
    upper = torch.special.ndtr((0.5 - magnitude) / scale)
    lower = torch.special.ndtr((-0.5 - magnitude) / scale)
    return -torch.log2((upper - lower).clamp(min=SMALLEST_LIKELIHOOD))
