"""What both sides predict of a latent before they code it: means and scale indexes."""

from __future__ import annotations

from caezip.config import rate_of_quality
from caezip.networks import Floats, Networks
from caezip.scales import Coded, Integers, IntegerScales, TileScales


class LatentPredictor:
    """Means (float, in steps) and scale indexes (integer) of one tile's latent, pass by pass.

    ``hyper_latent`` int32 ``[Z, zh, zw]``, ``grid`` the latent's height and width.
    ``first_mean`` is ``[C, h, w]``, meant where pass one codes, which ``first`` says.
    """

    def __init__(
        self,
        networks: Networks,
        scales: IntegerScales,
        hyper_latent: Integers,
        quality_hundredths: int,
        grid: tuple[int, int],
    ) -> None:
        self._networks = networks
        self._rate = rate_of_quality(quality_hundredths)
        self._features, self.first_mean = networks.first_means(hyper_latent, self._rate, grid)
        self._scales = TileScales(scales, hyper_latent, quality_hundredths, grid)
        self.first = self._scales.first

    def second_mean(self, first_steps: Floats) -> Floats:
        """Means of pass two, given pass one's decoded latent, which is 0 elsewhere."""
        return self._networks.second_means(self._features, first_steps, self._rate)

    def second(self, first_symbols: Integers) -> Coded:
        """What pass two codes, given the symbols ``[n]`` of ``first``."""
        return self._scales.second(first_symbols)
