"""One tile to its payload and back: the networks and the entropy coder, chained."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caezip.config import DEFAULT_TUNE, PATCH_SIZE, lambda_of_rate, rate_of_quality
from caezip.errors import ParameterError, UnknownModelError
from caezip.integers import Integers
from caezip.networks import Floats, Networks
from caezip.picture import Samples
from caezip.planes import Drawing
from caezip.prediction import Continuation, LatentPredictor, decode_tile_into
from caezip.pretrained import ManifestEntry, Model, find_model
from caezip.quantisation import bits_per_squared_step, coded_latent, quantise_hyper
from caezip.tiling import Box, Edges
from caezip.workers import Loading

if TYPE_CHECKING:
    from caezip.refinement import Report

# 1 rounds to the nearest integer, 2 weighs bits against error at the same speed; the
# others refine the latent in this many runs of the decoder and its gradient
EFFORT_ITERATIONS = {1: 0, 2: 0, 3: 12, 4: 24, 5: 40, 6: 80, 7: 160, 8: 480, 9: 2000}
DEFAULT_EFFORT = 2


@dataclass(frozen=True)
class Latents:
    """The integers of one tile: everything that its stream says.

    ``hyper_latent`` int32 ``[Z, zh, zw]``; ``residual`` int32 ``[C, h, w]``, the
    latent minus its predicted mean, in quantisation steps; ``filter_coefficients``
    int32 ``[108]``, see `caezip.adaptive_filter`, all 0 for no filter. A flat tile
    has no stream: its arrays have no cells.
    """

    hyper_latent: Integers
    residual: Integers
    filter_coefficients: Integers


def weights_for(effort: int, tune: str, folder: Path | None = None) -> ManifestEntry:
    """The weights to encode with, of those installed or in ``folder``.

    There is nothing to refine for a lean decoder, which is nearly linear: rounding has done its
    best by then. So with efforts that refine the default tuning takes the weights for "archive",
    if there are any. Raises UnknownModelError.
    """
    if tune == DEFAULT_TUNE and EFFORT_ITERATIONS[effort]:
        with suppress(UnknownModelError):
            return find_model(None, folder, "archive")
    return find_model(None, folder, tune)


def has_filters(effort: int, tune: str) -> bool:
    """Whether streams of this effort end with filters, which take a run of the decoder to fit.

    They are fitted to squared error, and cost more time than a lean decoder has to spare.
    """
    return EFFORT_ITERATIONS[effort] > 0 and tune == "archive"


class TileCoder:
    """Codes tiles at one quality with one model.

    ``networks`` may be loading meanwhile: they are waited for when they are needed.
    """

    def __init__(self, model: Model, networks: Loading[Networks], quality_hundredths: int) -> None:
        self.model, self._loading = model, networks
        self._quality, self._rate = quality_hundredths, rate_of_quality(quality_hundredths)
        self.analysis_halo = PATCH_SIZE * model.sizes.analysis_halo  # pixels
        self.synthesis_halo = model.sizes.synthesis_halo  # cells

    @property
    def _networks(self) -> Networks:
        return self._loading()

    def analyse(self, pixels: Samples) -> Floats:
        """The latent before its gain, ``[C, h, w]``, of pixels ``[H, W, 3]``."""
        return self._networks.analyse(pixels, self._rate)

    def encode(
        self, latent: Floats, pixels: Samples, edges: Edges, effort: int, report: Report | None
    ) -> bytes:
        """The stream of a tile; tiles continue in its file.

        ``latent`` is the tile's part of what `analyse` makes of it and, as far as there is any,
        `analysis_halo` of the picture around it; ``pixels`` ``[H, W, 3]`` are the tile's alone.
        ``edges`` are those that are not the picture's.
        """
        latent, hyper_latent = self._in_steps(latent, edges)
        if iterations := EFFORT_ITERATIONS[effort]:
            from caezip.refinement import Analysed, refine
            from caezip.torch_networks import TorchNetworks

            if not isinstance(self._networks, TorchNetworks):
                raise ParameterError(f"effort: found {effort}, the engine has no gradients for it")
            refined = refine(
                self._networks,
                self.model.coder,
                Analysed(latent, hyper_latent, pixels, self._worth()),
                edges=edges,
                quality_hundredths=self._quality,
                tune=self.model.entry.tune,
                iterations=iterations,
                has_filter=has_filters(effort, self.model.entry.tune),
                report=report,
            )
            passes, coefficients = refined.latent.passes, refined.filter_coefficients
            return self.model.coder.encode(
                refined.hyper_latent, self._quality, passes, coefficients
            )
        hyper = quantise_hyper(hyper_latent)
        grid = (latent.shape[1], latent.shape[2])
        predictor = LatentPredictor(
            self._networks, self.model.coder.scales, hyper, self._quality, grid, edges
        )
        coded = coded_latent(predictor, latent, self._worth() if effort > 1 else None)
        return self.model.coder.encode(hyper, self._quality, coded.passes)

    def _in_steps(self, latent: Floats, edges: Edges) -> tuple[Floats, Floats]:
        """A tile's latent in steps, [C, h, w], and its hyper-latent, not rounded yet."""
        around = Continuation(edges, (latent.shape[1], latent.shape[2]))
        hyper_latent = self._networks.hyper_analyse(around.analysed(latent), self._rate)
        gain = self._networks.latent_gain(self._rate)
        return latent * gain, around.hyper_inside(hyper_latent)

    def _worth(self) -> Floats:
        """`bits_per_squared_step` of each channel, [C]."""
        worth: Floats = bits_per_squared_step(
            self.model.error_energy,
            self._networks.latent_inverse_gain(self._rate)[:, 0, 0],
            lambda_of_rate(self._rate),
            self.model.entry.tune,
        )
        return worth

    def prepare_encoding(self, dtype: type[Any]) -> None:
        """See `Networks.prepare_encoding`."""
        self._loading.once(("encoding", dtype), lambda networks: networks.prepare_encoding(dtype))

    def prepare_decoding(
        self, reduction: int, *, gray: bool, dtype: type[Any], has_filters: bool
    ) -> None:
        """See `Networks.prepare_decoding`."""
        self._loading.once(
            ("decoding", reduction, gray, dtype, has_filters),
            lambda networks: networks.prepare_decoding(
                reduction, gray=gray, dtype=dtype, has_filters=has_filters
            ),
        )

    def decode_into(self, out: Floats, latents: Latents, edges: Edges, part: Box) -> None:
        """`decode_tile_into`, of a tile that continues at ``edges``."""
        decode_tile_into(
            out, self._networks, latents.hyper_latent, latents.residual, self._rate, edges, part
        )

    def drawing(
        self, reduction: int, *, gray: bool, dtype: type[Any], has_filters: bool
    ) -> Drawing | None:
        """See `Networks.drawing`."""
        return self._networks.drawing(
            self._rate, reduction, gray=gray, dtype=dtype, has_filters=has_filters
        )

    def flat_latent(self, colour: Samples) -> Floats:
        """What a flat tile shows its neighbours in every cell: in steps, ``[C, 1, 1]``.

        The latent that an endless picture of ``colour`` [3] has, without quantisation.
        """
        middle = self.analysis_halo // PATCH_SIZE
        side = PATCH_SIZE * (2 * middle + 1)
        latent = self._networks.analyse(np.broadcast_to(colour, (side, side, 3)), self._rate)
        cell: Floats = latent[:, middle : middle + 1, middle : middle + 1]
        return cell * self._networks.latent_gain(self._rate)

    def synthesise(
        self,
        latent: Floats,
        reduction: int,
        *,
        gray: bool,
        dtype: type[Any],
        kernel: Floats | None,
        cells: Box,
    ) -> Samples:
        """The picture of a latent in steps ``[C, h, w]``, see `Networks.synthesise`."""
        return self._networks.synthesise(
            latent, self._rate, reduction, gray=gray, dtype=dtype, kernel=kernel, cells=cells
        )
