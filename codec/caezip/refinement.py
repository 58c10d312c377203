"""Refinement of one image's latents against the real decoder.

Stochastic Gumbel annealing: Yang, Bamler and Mandt 2020, "Improving Inference for
Neural Image Compression", section 3.2. Latent and hyper-latent move by gradient descent
through the decoder, with random rounding that cools down. The stream stays an ordinary
one; only the encoder looks longer for the integers to write.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  # the name torch documents
from torch import Tensor

from caezip.adaptive_filter import fitted, kernel_of
from caezip.config import lambda_of_rate, rate_of_quality
from caezip.distortion import distortion
from caezip.entropy import EntropyCoder
from caezip.integers import Integers
from caezip.networks import Floats
from caezip.picture import Samples
from caezip.pixels import image_tensor
from caezip.prediction import Continuation, LatentPredictor, decoded_tile
from caezip.quantisation import CodedLatent, coded_latent, quantise_hyper
from caezip.scale_network import scale_of_index
from caezip.scales import HYPER_STRIDE, SCALE_COUNT
from caezip.tiling import Edges
from caezip.torch_networks import TorchNetworks, array_of
from caezip.transforms import CodecNetwork, pass_one

LEARNING_RATE = 0.05  # quantisation steps per iteration, about
HYPER_LEARNING_RATE = 0.5  # of that: a step of the hyper-latent moves 16 cells
TRAVEL = 1 / 400  # the rate at most, times the iterations: few of them settle only small moves
FIRST_TEMPERATURE, LAST_TEMPERATURE = 0.6, 0.25
# Less noise than Gumbel's finds more in the iterations that there are, and the more there
# are, the more noise they can average; without any, symbols stay where they start.
LEAST_NOISE, NOISE_OF_1000, NOISE_GROWTH = 0.5, 0.75, 0.22
# A cell's random numbers visit the unit interval evenly, in steps of the golden ratio, which
# tells the gradient's mean sooner; drawn anew before two cells' stay in step for too long.
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
DRAWN_EVERY = 5  # iterations
# Where weights tuned for PSNR trade bits for squared error, a bit buys more than their
# lambda says: the loss is balanced over rates. With the slope that files have, refinement
# looks for smaller files of the same quality instead of another quality.
SLOPE_OF_LAMBDA = {"psnr": 1.2, "archive": 1.2, "ssim": 1.0, "fastdecode": 1.2}
START_MARGIN = 0.45  # steps from its symbol at which a value starts, at most
SMALLEST_LIKELIHOOD = 1e-9  # as in training (compressai's bound)
EDGE = 1e-3  # keeps atanh finite at whole numbers

Report = Callable[[int, int], None]  # iterations done, iterations in all
Rounding = Callable[[Tensor, Tensor], Tensor]  # symbols, given their means and scale indexes


@dataclass(frozen=True)
class Analysed:
    """What an encoder knows before it rounds.

    ``latent`` in steps ``[C, h, w]``, ``hyper_latent`` ``[Z, zh, zw]``, their picture
    ``samples`` ``[H, W, 3]``, and what a squared step of each channel is ``worth`` [C].
    """

    latent: Floats
    hyper_latent: Floats
    samples: Samples
    worth: Floats


@dataclass(frozen=True)
class Refined:
    """What a stream says: see `caezip.entropy.EntropyCoder.encode`."""

    hyper_latent: Integers
    latent: CodedLatent
    filter_coefficients: Integers | None


def refine(
    networks: TorchNetworks,
    coder: EntropyCoder,
    analysed: Analysed,
    *,
    edges: Edges,
    quality_hundredths: int,
    tune: str,
    iterations: int,
    has_filter: bool,
    report: Report | None = None,
) -> Refined:
    """A hyper-latent and symbols that cost less than those which rounding gives.

    Starts from the symbols with a dead zone (see `caezip.quantisation`) and returns them
    if nothing better is found. With ``has_filter``, what they decode to is filtered,
    by what `caezip.adaptive_filter` fits to it before, halfway and at the end.
    Deterministic for one machine and thread count.
    """
    grid = (analysed.latent.shape[1], analysed.latent.shape[2])

    def coded(hyper_latent: Integers, latent: Floats) -> tuple[Integers, CodedLatent]:
        predictor = LatentPredictor(
            networks, coder.scales, hyper_latent, quality_hundredths, grid, edges
        )
        return hyper_latent, coded_latent(predictor, latent, analysed.worth)

    height, width = analysed.samples.shape[:2]
    image = image_tensor(analysed.samples)[:, :, :height, :width]
    original = image[0].permute(1, 2, 0).numpy()
    rate = rate_of_quality(quality_hundredths)
    # lambda is bits for 255^2 times the mean over three colours
    worth = float(lambda_of_rate(rate)) * 255**2 / 3
    around = Continuation(edges, grid)
    objective = _Objective(networks, rate, grid, around, image.to(networks.device), tune)
    start = coded(quantise_hyper(analysed.hyper_latent), analysed.latent)
    refiner = _Refiner(objective, analysed, *start, iterations)

    def fit(hyper_latent: Integers, latent: CodedLatent) -> Integers:
        """The best filter for what these decode to, from now on the objective's."""
        steps = decoded_tile(networks, hyper_latent, latent.symbols(), rate, edges)
        coefficients = fitted(networks.rendered(steps, rate), original, worth)
        objective.filter_with(coefficients)
        return coefficients

    if has_filter:
        fit(*start)
    for iteration in range(iterations):
        if has_filter and iteration == iterations // 2:
            fit(*coded(*refiner.found()))
        refiner.step(iteration)
        if report is not None:
            report(iteration + 1, iterations)
    best = min((start, coded(*refiner.found())), key=lambda candidate: objective.cost(*candidate))
    return Refined(*best, fit(*best) if has_filter else None)


@dataclass(frozen=True)
class _Prediction:
    """Of both passes together, each ``[1, C, h, w]``; indexes are fractional."""

    symbols: Tensor
    mean: Tensor
    index: Tensor


class _Objective:
    """What symbols of one image cost: lambda times the error, in bits, plus their bits."""

    @torch.no_grad()
    def __init__(
        self,
        networks: TorchNetworks,
        rate: float,
        grid: tuple[int, int],
        around: Continuation,
        image: Tensor,
        tune: str,
    ) -> None:
        self.tensor, self._network = networks.tensor, networks.network
        self._searching, self._searched = networks.searching, networks.searched
        self._rate, self._grid, self._around = networks.rate(rate), grid, around
        self._gain = self._network.latent_gain(self._rate)  # [1, C, 1, 1]
        self._inverse_gain = self._network.latent_inverse_gain(self._rate)
        self._mask = pass_one(self._gain.shape[1], *grid, networks.device)  # [1, C, h, w]
        # of what is seen around the tile, where pass one codes
        self._outside = pass_one(self._gain.shape[1], *around.grid, networks.device)
        around.inside(self._outside)[...] = 0
        self._image, self._tune = image, tune
        self._networks = networks
        self._filter: Tensor | None = None
        pixels = image.shape[2] * image.shape[3]
        self._lagrangian = SLOPE_OF_LAMBDA[tune] * float(lambda_of_rate(rate)) * pixels

    def filter_with(self, coefficients: Integers) -> None:
        """Judge pixels behind this filter of `caezip.adaptive_filter` from now on."""
        has_one = coefficients.any()
        self._filter = self._networks.filter_kernel(kernel_of(coefficients)) if has_one else None

    def predicted(self, hyper_latent: Tensor, rounding: Rounding) -> _Prediction:
        """What a decoder predicts, of symbols that ``rounding`` chooses pass by pass."""
        network, mask, rate, around = self._network_now(), self._mask, self._rate, self._around
        with self._precision():
            seen_hyper = F.pad(hyper_latent, around.sides, mode="replicate")
            features = network.hyper_synthesis(seen_hyper, rate, around.grid)
            seen_mean = network.context.first_mean(features)
        seen_mean = self._gain * seen_mean.float()
        first_mean = around.inside(seen_mean)
        first_index = network.scales(hyper_latent, rate, self._grid)
        first = mask * rounding(first_mean, first_index)
        seen = mask * self._inverse_gain * (first + first_mean)
        if around.does_anything:
            cells = tuple(HYPER_STRIDE * side for side in around.sides)
            seen = F.pad(seen, cells) + self._outside * self._inverse_gain * seen_mean
        with self._precision():
            second_mean = network.context.second_mean(features, seen)
        second_mean = around.inside(self._gain * second_mean.float())
        second_index = network.scales.second(first_index, first.detach().round(), mask, rate)
        second = (1 - mask) * rounding(second_mean, second_index)
        mean = mask * first_mean + (1 - mask) * second_mean
        index = mask * first_index + (1 - mask) * second_index
        return _Prediction(first + second, mean, index.clamp(0, SCALE_COUNT - 1))

    def loss(self, hyper_latent: Tensor, rounding: Rounding) -> Tensor:
        """Of a hyper-latent ``[1, Z, zh, zw]`` and the symbols that ``rounding`` chooses."""
        chosen = self.predicted(hyper_latent, rounding)
        bits = _is_coded(chosen.index) * _bits(chosen.symbols, scale_of_index(chosen.index))
        hyper_bits = self._bits_of_hyper(hyper_latent)
        return self._error(chosen.symbols, chosen.mean) + bits.sum() + hyper_bits

    @torch.no_grad()
    def cost(self, hyper_latent: Integers, coded: CodedLatent) -> float:
        hyper, symbols = self.tensor(hyper_latent), self.tensor(coded.symbols())
        chosen = self.predicted(hyper, lambda mean, index: symbols)
        index = self.tensor(coded.indexes())
        bits = (_is_coded(index) * _bits(symbols, scale_of_index(index))).sum()
        return float(self._error(symbols, chosen.mean) + bits + self._bits_of_hyper(hyper))

    def _error(self, symbols: Tensor, mean: Tensor) -> Tensor:
        """What the picture that ``symbols`` [1, C, h, w] decode to costs."""
        height, width = self._image.shape[2:]
        latent = (symbols + mean) * self._inverse_gain
        with self._precision():
            decoded = self._network_now().synthesis(latent, self._rate, filter_kernel=self._filter)
        # as decoders do: what lies beyond white and black is no error, and need not be coded
        decoded = decoded.float()[:, :, :height, :width].clamp(0, 1)
        return self._lagrangian * distortion(self._tune, decoded, self._image).sum()

    def _precision(self) -> AbstractContextManager[None]:
        """Gradients may be rough, what a candidate costs may not."""
        return self._searching() if torch.is_grad_enabled() else nullcontext()

    def _network_now(self) -> CodecNetwork:
        return self._searched if torch.is_grad_enabled() else self._network

    def _bits_of_hyper(self, hyper_latent: Tensor) -> Tensor:
        """Code lengths ``[]`` of ``[1, Z, zh, zw]``, also between integers."""
        bits: Tensor = self._network.hyper_prior.bits(hyper_latent, self._rate).sum()
        return bits


class _Refiner:
    """Gradient descent on an objective."""

    def __init__(
        self,
        objective: _Objective,
        analysed: Analysed,
        hyper_latent: Integers,
        start: CodedLatent,
        iterations: int,
    ) -> None:
        self._objective, self._iterations = objective, iterations
        tensor = objective.tensor
        hyper, symbols = tensor(hyper_latent), tensor(start.symbols())
        with torch.no_grad():
            centre = symbols + objective.predicted(hyper, lambda mean, index: symbols).mean
        self._latent = _near(centre, tensor(analysed.latent))
        self._hyper = _near(hyper, tensor(analysed.hyper_latent))
        groups = [{"params": [self._latent]}, {"params": [self._hyper]}]
        self._optimizer = torch.optim.Adam(groups, lr=LEARNING_RATE, betas=(0.9, 0.99))
        generator = torch.Generator(device=hyper.device).manual_seed(0)
        strength = max(LEAST_NOISE, NOISE_OF_1000 * (iterations / 1000) ** NOISE_GROWTH)
        self._noise = _Noise(self._latent, generator, strength)
        self._hyper_noise = _Noise(self._hyper, generator, strength)

    def step(self, iteration: int) -> None:
        progress = iteration / self._iterations
        temperature = FIRST_TEMPERATURE * (LAST_TEMPERATURE / FIRST_TEMPERATURE) ** progress
        highest = min(LEARNING_RATE, TRAVEL * self._iterations)
        learning_rate = highest * 0.5 * (1 + math.cos(math.pi * progress))
        for group, factor in zip(
            self._optimizer.param_groups, (1.0, HYPER_LEARNING_RATE), strict=True
        ):
            group["lr"] = factor * learning_rate
        noise = self._noise.drawn(iteration)  # each pass uses its half
        hyper = _soft_round(self._hyper, temperature, self._hyper_noise.drawn(iteration))

        def rounding(mean: Tensor, index: Tensor) -> Tensor:
            return _is_coded(index) * _soft_round(self._latent - mean, temperature, noise)

        loss = self._objective.loss(hyper, rounding)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimizer.step()

    def found(self) -> tuple[Integers, Floats]:
        """The hyper-latent, and the latent in steps, not rounded yet."""
        return quantise_hyper(array_of(self._hyper)), array_of(self._latent)


class _Noise:
    """Random numbers for each element: a logistic distribution, ``strength`` times as wide.

    The difference of two numbers that have Gumbel's distribution has a logistic one.
    """

    def __init__(self, like: Tensor, generator: torch.Generator, strength: float) -> None:
        self._uniform = torch.empty_like(like, requires_grad=False)
        self._generator, self._strength = generator, strength

    def drawn(self, iteration: int) -> Tensor:
        if iteration % DRAWN_EVERY == 0:
            self._uniform.uniform_(generator=self._generator)
        else:
            self._uniform.add_(GOLDEN_RATIO).frac_()
        return self._strength * torch.logit(self._uniform, eps=1e-6)


def _near(integers: Tensor, values: Tensor) -> Tensor:
    """Where the search begins: the values, but not so far that they would round otherwise."""
    margin = (values - integers).clamp(-START_MARGIN, START_MARGIN)
    return (integers + margin).requires_grad_()


def _soft_round(x: Tensor, temperature: float, noise: Tensor) -> Tensor:
    """A random blend of the two integers around ``x``, the nearer one more likely."""
    low = x.detach().floor()
    fraction = (x - low).clamp(EDGE, 1 - EDGE)
    # log odds of the upper integer: atanh of each distance, as in the paper's equation 9
    odds = (torch.atanh(fraction) - torch.atanh(1 - fraction)) / temperature
    return low + torch.sigmoid((odds + noise) / temperature)


def _is_coded(index: Tensor) -> Tensor:
    """1.0 where symbols are written: not where their scale index is 0."""
    return (index.detach() >= 0.5).float()


def _bits(symbols: Tensor, scale: Tensor) -> Tensor:
    """Code lengths under Gaussians integrated over each symbol's interval."""
    magnitude = symbols.abs()
    upper = torch.special.ndtr((0.5 - magnitude) / scale)
    lower = torch.special.ndtr((-0.5 - magnitude) / scale)
    return -torch.log2((upper - lower).clamp(min=SMALLEST_LIKELIHOOD))
