"""The rate-distortion objective of one variable-rate model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from caezip.config import ModelConfig, lambda_of_rate
from caezip.distortion import distortion
from caezip.hyper_prior_network import logistic_bits
from caezip.quantisation import bits_per_squared_step, savings_bits
from caezip.scale_network import scale_of_index
from caezip.scales import SCALE_COUNT
from caezip.training._compressai import GaussianConditional
from caezip.transforms import CodecNetwork, pass_one

LAMBDA_PIVOT = 0.01  # the lambda whose loss is left unscaled
LAMBDA_BALANCE = 0.4  # keeps high rates from dominating the gradient


@dataclass
class RateDistortion:
    """What one batch costs. Tensors are float32, per image, ``[B]``, but for the last."""

    loss: Tensor  # balanced over rates, the thing to minimise
    bpp: Tensor  # estimated bits per pixel, hyper-latent included
    mse: Tensor  # of images in [0, 1]
    decoded: Tensor  # [B, 3, H, W], without its gradient


def round_straight_through(x: Tensor) -> Tensor:
    """Round with the gradient of the identity."""
    return x + (torch.round(x) - x).detach()


class TrainingModel(nn.Module):
    """The network with the entropy models that only training needs.

    The rate sees uniform noise, the reconstruction straight-through rounding:
    the mixed quantisation of Minnen and Singh 2020, "Channel-wise Autoregressive
    Entropy Models for Learned Image Compression". The decoder therefore always
    learns from hard-rounded latents.

    With ``hard``, for the later part of a run, symbols are those that the encoder
    writes, dead zone included, and the scales learn what these cost; the noise is
    left to tell the latent and its means which way is cheaper. Noise makes small
    values look like ones: scales that it taught are too large where nearly
    everything rounds to 0.
    """

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.network = CodecNetwork(config)
        table = scale_of_index(torch.arange(SCALE_COUNT, dtype=torch.float64))
        self.latent_prior = GaussianConditional(table.tolist())
        self.savings: Tensor
        self.register_buffer("savings", torch.from_numpy(savings_bits()), persistent=False)
        self.hard = False
        # `caezip.training.calibration.error_energy`, once it was measured
        self.error_energy: Tensor | None = None

    def _as_coded(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """``(index, coded)``: out of training as in files, whole and with none coded at 0."""
        if self.training:
            return index, torch.ones_like(index)
        index = index.round().clamp(0, SCALE_COUNT - 1)
        return index, (index > 0).float()

    def _rounded(self, residual: Tensor, index: Tensor, worth: Tensor) -> Tensor:
        """Symbols with the gradient of the identity; rounded plainly or as encoders do.

        See `caezip.quantisation.quantise_with_dead_zone`.
        """
        if not (self.hard or not self.training):
            return round_straight_through(residual)
        symbols = residual.detach().round()
        magnitude = symbols.abs()
        row = index.detach().round().clamp(0, SCALE_COUNT - 1).long()
        column = magnitude.clamp(max=self.savings.shape[1] - 1).long()
        excess = residual.detach().abs() - magnitude
        smaller = self.savings[row, column] > worth * (2 * excess + 1)
        symbols = symbols - symbols.sign() * smaller
        return residual + (symbols - residual).detach()

    def _latent_bits(self, residual: Tensor, symbols: Tensor, scale: Tensor) -> Tensor:
        """Code lengths ``[B, C, h, w]``; their values are the symbols' when ``hard``."""
        if not self.training:
            _, likelihood = self.latent_prior(symbols, scale, training=False)
            return -torch.log2(likelihood)
        noisy_scale = scale.detach() if self.hard else scale
        _, likelihood = self.latent_prior(residual, noisy_scale, training=True)
        noisy = -torch.log2(likelihood)
        if not self.hard:
            return noisy
        _, likelihood = self.latent_prior(symbols.detach(), scale, training=False)
        return noisy - noisy.detach() - torch.log2(likelihood)

    def _hyper_bits(self, z: Tensor, symbols: Tensor, rate: Tensor) -> Tensor:
        """Code lengths of the hyper-latent ``[B, Z, zh, zw]``: as `_latent_bits`."""
        mean, log_scale = self.network.hyper_prior(symbols, rate)
        if not self.training:
            return logistic_bits(symbols, mean, log_scale)
        noisy = z + torch.rand_like(z) - 0.5
        if not self.hard:
            return logistic_bits(noisy, mean, log_scale)
        gradient = logistic_bits(noisy, mean.detach(), log_scale.detach())
        return gradient - gradient.detach() + logistic_bits(symbols.detach(), mean, log_scale)

    def forward(
        self,
        image: Tensor,
        rate: Tensor,
        autocast_dtype: torch.dtype | None = None,
        tune: str = "psnr",
    ) -> RateDistortion:
        """Costs of ``image`` [B, 3, H, W] in [0, 1] at ``rate`` [B] in [0, 1].

        ``tune``: the measure of error in the loss, see `caezip.distortion`.

        With ``self.training`` off, everything is rounded as at the default effort
        and the bits are those of the real entropy coder up to the precision of its
        tables.
        """
        net = self.network
        amp = torch.autocast(
            image.device.type, autocast_dtype or torch.bfloat16, enabled=autocast_dtype is not None
        )
        gain, inverse_gain = net.latent_gain(rate), net.latent_inverse_gain(rate)
        with amp:
            y = net.analysis(image, rate).float()  # [B, latent_channels, h, w]
            z = net.hyper_analysis(y, rate)  # [B, hyper_latent_channels, zh, zw]
        z_symbols = round_straight_through(z)
        hyper_bits = self._hyper_bits(z, z_symbols, rate)
        grid = (y.shape[2], y.shape[3])
        base_index = net.scales(z_symbols, rate, grid)
        first_index, first_coded = self._as_coded(base_index)
        first = pass_one(y.shape[1], *grid, y.device)
        with amp:
            features = net.hyper_synthesis(z_symbols, rate, grid)
            first_mean = gain * net.context.first_mean(features).float()
        scaled = y * gain
        columns = self.error_energy
        if columns is None:  # through the linear path alone
            columns = net.synthesis.content.weight.detach().square().sum(dim=(0, 2, 3))
        columns = columns[:, None, None].to(y.device)
        lagrangian = lambda_of_rate(rate)
        worth = bits_per_squared_step(
            columns, inverse_gain.detach(), lagrangian[:, None, None, None], tune
        )
        first_residual = first_coded * self._rounded(scaled - first_mean, first_index, worth)
        first_latent = first * inverse_gain * (first_residual + first_mean)
        with amp:
            second_mean = gain * net.context.second_mean(features, first_latent).float()
        second_index, second_coded = self._as_coded(
            net.scales.second(base_index, first_residual, first, rate)
        )
        index = torch.where(first > 0, first_index, second_index)
        scale = scale_of_index(index)
        coded = torch.where(first > 0, first_coded, second_coded)
        mean = first_mean * first + second_mean * (1 - first)
        residual = scaled - mean
        symbols = coded * self._rounded(residual, index, worth)
        latent_bits = coded * self._latent_bits(residual, symbols, scale)
        decoded = inverse_gain * (symbols + mean)
        with amp:
            reconstruction = net.synthesis(decoded, rate).float()
        reconstruction = reconstruction.clamp(0, 1)  # beyond white is white
        if not self.training:
            reconstruction = (reconstruction * 255).round() / 255
        bits = latent_bits.sum((1, 2, 3)) + hyper_bits.sum((1, 2, 3))
        bpp = bits / (image.shape[2] * image.shape[3])
        mse = (reconstruction - image).square().mean((1, 2, 3))
        balance = (LAMBDA_PIVOT / lagrangian) ** LAMBDA_BALANCE
        error = distortion(tune, reconstruction, image)
        loss = ((lagrangian * error + bpp) * balance).mean()
        return RateDistortion(loss, bpp, mse, reconstruction.detach())
