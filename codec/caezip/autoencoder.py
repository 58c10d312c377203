"""The codec as the convolutional autoencoder of the textbooks: encode, decode, train_on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from caezip.config import ModelConfig, rate_of_quality
from caezip.container import QUALITY_UNIT, quality_in_hundredths
from caezip.errors import ParameterError
from caezip.image_io import Pixels, as_pixels, as_rgb
from caezip.initialisation import initialise_as_block_transform
from caezip.pixels import image_pixels, image_tensor
from caezip.pretrained import load_model
from caezip.transforms import CodecNetwork

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Latent:
    """An image's latent in quantisation steps, not rounded, with what is needed to turn it back.

    ``values`` float32 ``[latent_channels, ceil(height/16), ceil(width/16)]``.
    """

    values: NDArray[np.float32]
    height: int
    width: int
    is_gray: bool
    quality: float


class ConvolutionalAutoencoder:
    """Image to latent and back, without quantisation or entropy coding.

    A new one starts as a block transform; `train_on` makes it better, and
    `from_pretrained` starts from released weights. `caezip.encode` is what
    writes files: it runs the same networks and codes the rounded latent.
    """

    def __init__(self, config: ModelConfig | None = None, *, seed: int = 0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = CodecNetwork(config).eval()
            initialise_as_block_transform(self.network)
        self._seed = seed

    @classmethod
    def from_pretrained(
        cls, model_id: int | None = None, weights_folder: str | Path | None = None
    ) -> ConvolutionalAutoencoder:
        """With released weights, by default the newest. Raises WeightsError."""
        folder = Path(weights_folder) if weights_folder is not None else None
        autoencoder = cls.__new__(cls)
        autoencoder.network = load_model(model_id, folder).build_network()
        autoencoder._seed = 0
        return autoencoder

    @torch.inference_mode()
    def encode(self, image: Image | Pixels, *, quality: float = 75) -> Latent:
        """Latent of a PIL image, or of uint8 ``[H, W]`` or ``[H, W, 3]``, of any size.

        Raises ImageError, ParameterError.
        """
        hundredths = quality_in_hundredths(quality)
        pixels = as_pixels(image)
        height, width = pixels.shape[:2]
        rate = torch.tensor([rate_of_quality(hundredths)])
        latent = self.network.analysis(image_tensor(as_rgb(pixels)), rate)
        values = latent * self.network.latent_gain(rate)
        quality = hundredths / QUALITY_UNIT
        return Latent(values[0].numpy(), height, width, pixels.ndim == 2, quality)

    @torch.inference_mode()
    def decode(self, latent: Latent) -> Pixels:
        """The image of a latent: uint8 ``[H, W]`` if it was gray, else ``[H, W, 3]``."""
        rate = torch.tensor([rate_of_quality(quality_in_hundredths(latent.quality))])
        values = torch.from_numpy(latent.values)[None] * self.network.latent_inverse_gain(rate)
        image = self.network.synthesis(values, rate)[0]
        return image_pixels(image[:, : latent.height, : latent.width], gray=latent.is_gray)

    def train_on(
        self,
        images: Sequence[Image | Pixels],
        epochs: int = 1,
        batch_size: int = 8,
        *,
        crop_size: int = 64,
    ) -> list[float]:
        """Train on images in memory, for rate and distortion at every quality.

        An epoch draws one random ``crop_size`` square per image. Returns the
        mean loss of each epoch. For folders and long runs use ``caezip train``.
        Raises ImageError, ParameterError, MissingDependencyError.
        """
        from caezip.training.trainer import Trainer, TrainingOptions

        if len(images) == 0:
            raise ParameterError("images: found none, at least one is needed")
        for name, value in (("epochs", epochs), ("batch_size", batch_size)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ParameterError(f"{name}: found {value!r}, allowed are integers from 1")
        photos = [as_rgb(as_pixels(image)) for image in images]
        steps_per_epoch = -(-len(photos) // batch_size)
        options = TrainingOptions(
            steps=epochs * steps_per_epoch,
            batch_size=batch_size,
            crop_size=crop_size,
            early_crop_size=crop_size,
            hard_start=1.0,  # never: nothing is coded,
            levels_start=1.0,  # and this network runs in float
            seed=self._seed,
        )
        trainer = Trainer(photos, options, config=self.network.config)
        trainer.start_from(
            {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        )
        losses: list[float] = []
        trainer.run(lambda progress: losses.append(progress.last_loss))
        self.network.load_state_dict(trainer.model.network.state_dict())
        self._seed += 1  # a second call draws other crops
        return [
            float(np.mean(losses[i : i + steps_per_epoch]))
            for i in range(0, len(losses), steps_per_epoch)
        ]
