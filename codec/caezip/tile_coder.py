"""One tile to its payload and back: the networks and the entropy coder, chained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from caezip.entropy import MAX_HYPER_SYMBOL, Integers
from caezip.picture import Samples
from caezip.pixels import image_tensor
from caezip.prediction import LatentPredictor
from caezip.pretrained import Model
from caezip.quantisation import bits_per_squared_step, code_latent
from caezip.refinement import Report, refine_latent
from caezip.tiling import Box
from caezip.transforms import PATCH_SIZE, CodecNetwork, rate_of_quality

# 1 rounds to the nearest integer, 2 weighs bits against error at the same speed; the
# others refine the latent in this many runs of the decoder and its gradient
EFFORT_ITERATIONS = {1: 0, 2: 0, 3: 12, 4: 24, 5: 40, 6: 70, 7: 120, 8: 200, 9: 320}
DEFAULT_EFFORT = 2


@dataclass(frozen=True)
class Latents:
    """The integers of one tile: everything that its stream says.

    ``hyper_latent`` int32 ``[Z, zh, zw]``; ``residual`` int32 ``[C, h, w]``, the
    latent minus its predicted mean, in quantisation steps. A flat tile has no
    stream: its arrays have no cells.
    """

    hyper_latent: Integers
    residual: Integers


class TileCoder:
    """Codes tiles at one quality with one model."""

    def __init__(
        self,
        model: Model,
        network: CodecNetwork,
        quality_hundredths: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.model, self._network = model, network
        self._quality, self._device, self._dtype = quality_hundredths, device, dtype
        self._rate = rate_of_quality(quality_hundredths).to(device)
        # how far the blocks' 3x3 convolutions see, in pixels; the renderer's sees one cell
        self.analysis_halo = PATCH_SIZE * network.config.analysis_blocks
        self.synthesis_halo = network.config.synthesis_blocks + 1  # cells

    @contextmanager
    def _inference(self) -> Iterator[None]:
        with (
            torch.inference_mode(),
            torch.autocast(
                self._device.type, torch.bfloat16, enabled=self._dtype == torch.bfloat16
            ),
        ):
            yield

    def encode(self, window: Samples, tile: Box, effort: int, report: Report | None) -> bytes:
        """The stream of the pixels ``tile`` of ``window`` [H, W, 3].

        The window holds the tile and, as far as there is any, `analysis_halo` of
        the picture around it; ``tile`` is in the window's coordinates.
        """
        with self._inference():
            scaled, hyper_latent = self._analyse(window, tile)
            grid = (scaled.shape[2], scaled.shape[3])
            worth = None
            if effort > 1:
                price = bits_per_squared_step(self._network, self._rate, self.model.entry.tune)
                worth = price[0, :, 0, 0].cpu().numpy()
            iterations = EFFORT_ITERATIONS[effort]
            if worth is None or not iterations:
                symbols, indexes = code_latent(self._predictor(hyper_latent, grid), scaled, worth)
        if worth is not None and iterations:
            # tensors made in inference mode cannot take part in a gradient
            with torch.inference_mode(False), torch.enable_grad():
                pixels = window[tile.top : tile.bottom, tile.left : tile.right]
                image = image_tensor(pixels).to(self._device)
                symbols, indexes = refine_latent(
                    self._network,
                    self._predictor(hyper_latent, grid),
                    scaled.clone(),
                    image[:, :, : tile.height, : tile.width],
                    worth=worth,
                    tune=self.model.entry.tune,
                    iterations=iterations,
                    report=report,
                )
        return self.model.coder.encode(hyper_latent, symbols, indexes)

    def _analyse(self, window: Samples, tile: Box) -> tuple[Tensor, Integers]:
        """The tile's latent in steps, [1, C, h, w], and its rounded hyper-latent [Z, zh, zw]."""
        y = self._network.analysis(image_tensor(window).to(self._device), self._rate).float()
        y = y[:, :, tile.top // PATCH_SIZE :, tile.left // PATCH_SIZE :]
        y = y[:, :, : -(-tile.height // PATCH_SIZE), : -(-tile.width // PATCH_SIZE)]
        z = self._network.hyper_analysis(y, self._rate)  # [1, Z, zh, zw]
        hyper = z.round().clamp(-MAX_HYPER_SYMBOL, MAX_HYPER_SYMBOL)
        hyper_latent: Integers = hyper[0].to(torch.int32).cpu().numpy()
        return y * self._network.latent_gain(self._rate), hyper_latent

    def _predictor(self, hyper_latent: Integers, grid: tuple[int, int]) -> LatentPredictor:
        return LatentPredictor(
            self._network,
            self.model.coder.scales,
            hyper_latent,
            self._quality,
            grid,
            self._device,
        )

    def latent(self, latents: Latents) -> Tensor:
        """What the synthesis transform reads, float32 ``[C, h, w]``."""
        with self._inference():
            residual = torch.from_numpy(latents.residual)[None].float().to(self._device)
            predictor = self._predictor(
                latents.hyper_latent, (residual.shape[2], residual.shape[3])
            )
            decoded: Tensor = (residual + predictor.mean(residual)) * predictor.inverse_gain
            return decoded[0].float()

    def flat_latent(self, colour: Samples) -> Tensor:
        """What a flat tile shows its neighbours in every cell: float32 ``[C, 1, 1]``.

        The latent that an endless picture of ``colour`` [3] has, without quantisation.
        """
        side = PATCH_SIZE * (2 * self._network.config.analysis_blocks + 1)
        with self._inference():
            image = image_tensor(np.broadcast_to(colour, (side, side, 3))).to(self._device)
            y = self._network.analysis(image, self._rate).float()
            middle = self._network.config.analysis_blocks
            gain = self._network.latent_gain(self._rate)
            gain = gain * self._network.latent_inverse_gain(self._rate)
            latent: Tensor = (y * gain)[0, :, middle : middle + 1, middle : middle + 1]
            return latent

    def synthesise(self, latent: Tensor, reduction: int = 1) -> Tensor:
        """The picture of a latent ``[C, h, w]``: float32 around [0, 1], ``[3, 16 h, 16 w]``.

        Sides are divided by ``reduction``, which is 1, 2, 4 or 8.
        """
        with self._inference():
            cells = latent[None].contiguous(memory_format=torch.channels_last)
            image: Tensor = self._network.synthesis(cells, self._rate, reduction)[0].float()
            return image
