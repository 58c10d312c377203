"""What both sides predict of a latent before they code it: means and scale indexes."""

from __future__ import annotations

from caezip.config import rate_of_quality
from caezip.entropy import Indexes, Integers, IntegerScales
from caezip.networks import Floats, Networks


class LatentPredictor:
    """Means (float, in steps) and scale indexes (integer) of one tile's latent, pass by pass.

    ``hyper_latent`` int32 ``[Z, zh, zw]``, ``grid`` the latent's height and width.
    ``first_mean`` and ``first_indexes`` are ``[C, h, w]``, meant where pass one codes.
    """

    def __init__(
        self,
        networks: Networks,
        scales: IntegerScales,
        hyper_latent: Integers,
        quality_hundredths: int,
        grid: tuple[int, int],
    ) -> None:
        self._networks, self._scales, self._quality = networks, scales, quality_hundredths
        self._rate = rate_of_quality(quality_hundredths)
        self._features, self.first_mean = networks.first_means(hyper_latent, self._rate, grid)
        self._sums = scales.sums(hyper_latent, quality_hundredths, grid)
        self.first_indexes = scales.indexes(self._sums)

    def second_mean(self, first_steps: Floats) -> Floats:
        """Means of pass two, given pass one's decoded latent, which is 0 elsewhere."""
        return self._networks.second_means(self._features, first_steps, self._rate)

    def second_indexes(self, first_symbols: Integers) -> Indexes:
        """Scale indexes of pass two, given pass one's symbols ``[C, h, w]``."""
        return self._scales.second_indexes(
            self._sums, first_symbols, self._quality, self.first_indexes
        )
