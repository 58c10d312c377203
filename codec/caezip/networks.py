"""What the codec asks of its networks, whichever engine runs them.

Nothing that an engine computes decides what the entropy coder reads: integers are
decoded alike by all of them.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from caezip.config import ModelConfig
from caezip.integers import Integers
from caezip.kept import Kept
from caezip.picture import Samples
from caezip.planes import Drawing
from caezip.pretrained import network_arrays
from caezip.tiling import Box

Floats = NDArray[np.float32]
KEPT_GAINS = 64  # vectors of some hundred numbers


class Networks(Protocol):
    """One model's networks. Shapes are those of `caezip.transforms`, without the batch.

    ``rate`` is a position in [0, 1], see `caezip.config.rate_of_quality`; "steps" are
    units of the latent after its gain. May be called from several threads at once.
    """

    config: ModelConfig

    def prepare_encoding(self, dtype: type[Any]) -> None:
        """Start, without waiting, what encoding samples of this type will need."""

    def prepare_decoding(
        self, reduction: int, *, gray: bool, dtype: type[Any], has_filters: bool
    ) -> None:
        """Start, without waiting, what `decoded` and such a `synthesise` will need."""

    def analyse(self, samples: Samples, rate: float) -> Floats:
        """The latent, before its gain, of RGB samples ``[H, W, 3]``: ``[C, h, w]``."""

    def hyper_analyse(self, latent: Floats, rate: float) -> Floats:
        """The hyper-latent ``[Z, zh, zw]`` of a latent before its gain, not rounded."""

    def first_means(
        self, hyper_latent: Integers, rate: float, grid: tuple[int, int]
    ) -> tuple[Any, Floats]:
        """Features for `second_means`, and the first pass's means in steps: ``[M, h, w]``.

        M are the first channels, `ModelConfig.predicted_channels`: those of others are 0.
        """

    def second_means(self, features: Any, first_steps: Floats, rate: float) -> Floats:
        """The second pass's means in steps, given the first's latent, 0 elsewhere.

        Both are ``[M, h, w]``.
        """

    def decoded(self, hyper_latent: Integers, residual: Integers, rate: float) -> Floats:
        """The latent in steps that a tile's integers stand for, of the channels that have means.

        ``residual`` and what it returns are ``[M, h, w]``; other channels are what was coded. Until
        the next call from the same thread.
        """

    def synthesise(
        self,
        steps: Floats,
        rate: float,
        reduction: int,
        *,
        gray: bool,
        dtype: type[Any],
        kernel: Floats | None = None,
        cells: Box | None = None,
    ) -> Samples:
        """The picture of a latent in steps: ``[H, W, 3]``, or ``[H, W]`` if ``gray``.

        It is that of some of the ``cells``, if they are given. Sides are divided by
        ``reduction``, which is 1, 2, 4 or 8. ``kernel`` filters the picture before it is
        rounded, see `caezip.adaptive_filter`; without ``reduction``.
        """

    def drawing(
        self, rate: float, reduction: int, *, gray: bool, dtype: type[Any], has_filters: bool
    ) -> Drawing | None:
        """What makes such pictures sooner than `synthesise`, if there is anything."""

    def latent_gain(self, rate: float) -> Floats:
        """Steps per unit of the latent: ``[C, 1, 1]``."""

    def latent_inverse_gain(self, rate: float) -> Floats:
        """Units of the decoded latent per step: ``[C, 1, 1]``."""


def interpolated(table: Floats, rate: float) -> Floats:
    """The vector ``[C]`` at ``rate`` of a table ``[anchors, C]``, linearly between anchors."""
    position = rate * (len(table) - 1)
    low = min(int(position), len(table) - 2)
    fraction = np.float32(position - low)
    vector: Floats = table[low] * (1 - fraction) + table[low + 1] * fraction
    return vector


class RateGains:
    """The gains of a model (`caezip.transforms.RateGain`) as arrays."""

    def __init__(self, weights: dict[str, NDArray[Any]]) -> None:
        tables = {name: array for name, array in weights.items() if name.endswith("gain.table")}
        self._tables = network_arrays(tables)
        self._gains: Kept[tuple[str, float], Floats] = Kept(KEPT_GAINS)

    def __call__(self, name: str, rate: float) -> Floats:
        """``[C, 1, 1]`` of the gain called ``name``, to be read only."""
        return self._gains.of((name, rate), self._gain)

    def _gain(self, key: tuple[str, float]) -> Floats:
        name, rate = key
        gain: Floats = np.exp(interpolated(self._tables[f"{name}.table"], rate))[:, None, None]
        gain.flags.writeable = False
        return gain
