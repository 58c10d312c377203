"""What both sides predict of a latent before they code it: means and scale indexes."""

from __future__ import annotations

import torch
from torch import Tensor

from caezip.entropy import Indexes, Integers, IntegerScales
from caezip.transforms import CodecNetwork, pass_one, rate_of_quality


class LatentPredictor:
    """Means (float) and scale indexes (integer) of one image's latent, pass by pass.

    Everything is in quantisation steps. ``hyper_latent`` int32 ``[Z, zh, zw]``,
    ``grid`` the latent's height and width.
    """

    def __init__(
        self,
        network: CodecNetwork,
        scales: IntegerScales,
        hyper_latent: Integers,
        quality_hundredths: int,
        grid: tuple[int, int],
        device: torch.device,
    ) -> None:
        self._network, self._scales, self._quality = network, scales, quality_hundredths
        self.rate = rate_of_quality(quality_hundredths).to(device)
        self.gain = network.latent_gain(self.rate)  # [1, C, 1, 1]
        self.inverse_gain = network.latent_inverse_gain(self.rate)
        hyper = torch.from_numpy(hyper_latent)[None].float().to(device)
        self._features = network.hyper_synthesis(hyper, self.rate, grid)
        self.mask = pass_one(self.gain.shape[1], *grid, device)  # [1, C, h, w]
        self.first_mean = self.gain * network.context.first_mean(self._features).float()
        self._sums = scales.sums(hyper_latent, quality_hundredths, grid)
        self.first_indexes = scales.indexes(self._sums)  # [C, h, w]

    def second_mean(self, first_latent: Tensor) -> Tensor:
        """Means of pass two, given pass one's decoded latent; its other half is ignored."""
        seen = self.mask * self.inverse_gain * first_latent
        mean: Tensor = self.gain * self._network.context.second_mean(self._features, seen).float()
        return mean

    def second_indexes(self, first_symbols: Integers) -> Indexes:
        """Scale indexes of pass two, given pass one's symbols ``[C, h, w]``."""
        return self._scales.second_indexes(self._sums, first_symbols, self._quality)

    def mean(self, residual: Tensor) -> Tensor:
        """Means of both passes, given all residuals ``[1, C, h, w]``."""
        second = self.second_mean(residual + self.first_mean)
        mean: Tensor = self.mask * self.first_mean + (1 - self.mask) * second
        return mean
