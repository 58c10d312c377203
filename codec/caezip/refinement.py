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

import torch
from torch import Tensor

from caezip.config import lambda_of_rate
from caezip.distortion import distortion
from caezip.networks import Floats
from caezip.picture import Samples
from caezip.pixels import image_tensor
from caezip.prediction import LatentPredictor
from caezip.quantisation import CodedLatent, code_latent
from caezip.scales import Indexes, Integers
from caezip.torch_networks import TorchNetworks, array_of
from caezip.transforms import CodecNetwork, pass_one, scale_of_index

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
    networks: TorchNetworks,
    predictor: LatentPredictor,
    hyper_latent: Integers,
    scaled: Floats,
    samples: Samples,
    *,
    rate: float,
    worth: Floats,
    tune: str,
    iterations: int,
    report: Report | None = None,
) -> CodedLatent:
    """Symbols that cost less than those of ``scaled``.

    ``scaled`` is the latent in steps ``[C, h, w]``, ``samples`` ``[H, W, 3]`` its picture.
    Starts from the symbols with a dead zone (see `caezip.quantisation`) and returns them
    if nothing better is found. Deterministic for one machine and thread count.
    """
    height, width = samples.shape[:2]
    image = image_tensor(samples).to(networks.device)[:, :, :height, :width]
    grid = (scaled.shape[1], scaled.shape[2])
    decoder, smooth = (
        _Objective(_Means(network, networks, hyper_latent, rate, grid), image, tune)
        for network in (networks.network, networks.smooth_network)
    )
    start = code_latent(predictor, scaled, worth)
    refiner = _Refiner(smooth, predictor, iterations, report)
    latent = refiner.anneal(networks.tensor(scaled), start.symbols())
    refined = code_latent(predictor, latent, worth)
    return min((start, refined), key=decoder.cost)


class _Means:
    """What `LatentPredictor` says of means, as functions that have gradients."""

    @torch.no_grad()
    def __init__(
        self,
        network: CodecNetwork,
        networks: TorchNetworks,
        hyper_latent: Integers,
        rate: float,
        grid: tuple[int, int],
    ) -> None:
        self.network, self.tensor = network, networks.tensor
        self.rate = networks.rate(rate)
        self.gain = network.latent_gain(self.rate)  # [1, C, 1, 1]
        self.inverse_gain = network.latent_inverse_gain(self.rate)
        hyper = networks.tensor(hyper_latent)
        self._features = network.hyper_synthesis(hyper, self.rate, grid)
        self.mask = pass_one(self.gain.shape[1], *grid, networks.device)  # [1, C, h, w]
        self.first_mean = self.gain * network.context.first_mean(self._features).float()

    def second_mean(self, first_steps: Tensor) -> Tensor:
        """Means of pass two, given pass one's decoded latent; its other half is ignored."""
        seen = self.mask * self.inverse_gain * first_steps
        mean: Tensor = self.gain * self.network.context.second_mean(self._features, seen).float()
        return mean

    def mean(self, residual: Tensor) -> Tensor:
        """Means of both passes, given all residuals ``[1, C, h, w]``."""
        second = self.second_mean(residual + self.first_mean)
        mean: Tensor = self.mask * self.first_mean + (1 - self.mask) * second
        return mean


class _Objective:
    """What symbols of one image cost: lambda times the error, in bits, plus their bits."""

    def __init__(self, means: _Means, image: Tensor, tune: str) -> None:
        self.means, self._image, self._tune = means, image, tune
        self._height, self._width = image.shape[2:]
        slope = SLOPE_OF_LAMBDA[tune] * float(lambda_of_rate(means.rate))
        self._lagrangian = slope * self._height * self._width

    def error(self, symbols: Tensor, mean: Tensor) -> Tensor:
        """What the picture that ``symbols`` [1, C, h, w] decode to costs."""
        latent = (symbols + mean) * self.means.inverse_gain
        decoded = self.means.network.synthesis(latent, self.means.rate).float()
        decoded = decoded[:, :, : self._height, : self._width]
        return self._lagrangian * distortion(self._tune, decoded, self._image).sum()

    @torch.no_grad()
    def cost(self, candidate: CodedLatent) -> float:
        values = self.means.tensor(candidate.symbols())
        scale, coded = self.scale(candidate.indexes())
        bits = (coded * _bits(values, scale)).sum()
        return float(self.error(values, self.means.mean(values)) + bits)

    def scale(self, indexes: Indexes) -> tuple[Tensor, Tensor]:
        """Standard deviations ``[1, C, h, w]``, and 1.0 where symbols are coded."""
        index = self.means.tensor(indexes)
        return scale_of_index(index), (index > 0).float()


class _Refiner:
    """Gradient descent on an objective."""

    def __init__(
        self,
        objective: _Objective,
        predictor: LatentPredictor,
        iterations: int,
        report: Report | None,
    ) -> None:
        self._objective, self._predictor = objective, predictor
        self._iterations, self._report = iterations, report

    def anneal(self, scaled: Tensor, symbols: Integers) -> Floats:
        """A latent whose rounding costs less, from one near ``scaled`` that gives ``symbols``."""
        means, count = self._objective.means, self._iterations
        centre = means.tensor(symbols)
        with torch.no_grad():
            centre = centre + means.mean(centre)
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
                rounded = code_latent(self._predictor, array_of(latent), None)
                scale, coded = self._objective.scale(rounded.indexes())
            soft = partial(_soft_round, temperature=temperature, generator=generator)
            first = coded * soft(latent - means.first_mean)
            second_mean = means.second_mean(first + means.first_mean)
            mean = means.mask * means.first_mean + (1 - means.mask) * second_mean
            second = coded * soft(latent - second_mean)
            blend = means.mask * first + (1 - means.mask) * second
            loss = self._objective.error(blend, mean) + (coded * _bits(blend, scale)).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own annotation is missing
            optimizer.step()
            self._tell(iteration + 1)
        return array_of(latent)

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
