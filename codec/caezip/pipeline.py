"""From pixels to a .cae file and back: the networks, the entropy coder, the container."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caezip import container
from caezip.distortion import TUNES
from caezip.entropy import MAX_HYPER_SYMBOL, Integers
from caezip.errors import ParameterError
from caezip.image_io import Pixels, as_pixels, as_rgb
from caezip.prediction import LatentPredictor
from caezip.pretrained import Model, find_model, load_model
from caezip.quantisation import bits_per_squared_step, code_latent
from caezip.refinement import Report, refine_latent
from caezip.transforms import (
    PATCH_SIZE,
    CodecNetwork,
    image_pixels,
    image_tensor,
    rate_of_quality,
)

if TYPE_CHECKING:
    from PIL.Image import Image

# 1 rounds to the nearest integer, 2 weighs bits against error at the same speed; the
# others refine the latent in this many runs of the decoder and its gradient
EFFORT_ITERATIONS = {1: 0, 2: 0, 3: 12, 4: 24, 5: 40, 6: 70, 7: 120, 8: 200, 9: 320}
DEFAULT_EFFORT = 2
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Latents:
    """The integers of one image: everything that its stream says.

    ``hyper_latent`` int32 ``[Z, zh, zw]``; ``residual`` int32 ``[C, h, w]``, the
    latent minus its predicted mean, in quantisation steps.
    """

    hyper_latent: Integers
    residual: Integers


class Codec:
    """An encoder and decoder that keeps its networks loaded.

    ``device`` is a torch device. ``threads`` limits torch's CPU threads during
    calls (None: leave them as they are). ``precision`` is "float32" or
    "bfloat16": it moves decoded pixels by a rounding error and never the
    latents. ``weights_folder`` holds a manifest of other weights than the
    installed ones. ``max_pixels`` limits what is decoded (None: no limit).

    Not safe for concurrent calls from several threads: give each its own.
    """

    def __init__(
        self,
        *,
        device: str = "cpu",
        threads: int | None = None,
        precision: str = "float32",
        weights_folder: str | Path | None = None,
        max_pixels: int | None = container.DEFAULT_MAX_PIXELS,
    ) -> None:
        if precision not in PRECISIONS:
            raise ParameterError(f"precision: found {precision!r}, allowed are {PRECISIONS}")
        if threads is not None and (type(threads) is not int or threads < 1):
            raise ParameterError(f"threads: found {threads!r}, allowed are integers from 1")
        try:
            self._device = torch.device(device)
            torch.empty(0, device=self._device)
        except (RuntimeError, AssertionError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise ParameterError(f"device: found {device!r}, not usable here: {reason}") from None
        self._threads = threads
        self._dtype = torch.float32 if precision == "float32" else torch.bfloat16
        self._weights_folder = Path(weights_folder) if weights_folder is not None else None
        self._max_pixels = max_pixels
        self._networks: dict[int, tuple[Model, CodecNetwork]] = {}

    # -- public --------------------------------------------------------------

    def encode(
        self,
        image: Image | Pixels,
        *,
        quality: float = 75,
        effort: int = DEFAULT_EFFORT,
        tune: str = "psnr",
        report: Report | None = None,
    ) -> bytes:
        """A .cae file of ``image``: a PIL image, or uint8 ``[H, W]`` or ``[H, W, 3]``.

        ``quality`` is 1…100; the step that the format stores is 0.01. ``effort``
        1…9 makes files smaller at the same quality of picture; from 3 up the
        latent is refined in ``EFFORT_ITERATIONS[effort]`` runs of the decoder
        and its gradient, after each of which ``report(done, total)`` is called. ``tune`` is
        "psnr" or "ssim": the weights to encode with.
        Raises ImageError, ParameterError, UnknownModelError, WeightsError.
        """
        hundredths = container.quality_in_hundredths(quality)
        if type(effort) is not int or effort not in EFFORT_ITERATIONS:
            raise ParameterError(f"effort: found {effort!r}, allowed are integers from 1 to 9")
        if tune not in TUNES:
            raise ParameterError(f"tune: found {tune!r}, allowed are {TUNES}")
        pixels = as_pixels(image)
        entry = find_model(None, self._weights_folder, tune)
        if (pixels == pixels[0, 0]).all():
            payload = bytes(np.atleast_1d(pixels[0, 0]))  # a flat tile: its colour, exactly
        else:
            model, network = self._load(entry.model_id)
            with self._inference():
                payload = self._encode_tile(
                    model, network, as_rgb(pixels), hundredths, effort, report
                )
        return container.write(
            model_id=entry.model_id,
            width=pixels.shape[1],
            height=pixels.shape[0],
            quality_hundredths=hundredths,
            pixel_format="gray8" if pixels.ndim == 2 else "rgb8",
            tiles=(payload,),
        )

    def decode(self, data: bytes) -> Pixels:
        """The picture in a .cae file: uint8 ``[H, W]`` (gray) or ``[H, W, 3]`` (RGB).

        Raises BitstreamError (see `caezip.errors` for its kinds) or UnknownModelError.
        """
        parsed = self._parse(data)
        header = parsed.header
        colour = _flat_colour(parsed)
        if colour is not None:
            return np.tile(colour, (header.height, header.width, 1)).reshape(
                (header.height, header.width, 3)[: 2 if len(colour) == 1 else 3]
            )
        model, network = self._load(header.model_id)
        latents = self._read_latents(parsed, model)
        with self._inference():
            image = self._synthesise(model, network, latents, header)  # [1, 3, H, W] in [0, 1]
            image = image[0, :, : header.height, : header.width]
            return image_pixels(image, gray=header.pixel_format == "gray8")

    def decode_latents(self, data: bytes) -> Latents:
        """The integers in a .cae file, without running a network.

        They are identical on every machine, thread count and precision. The
        arrays of an image of one colour, which has no stream, have no cells.
        Raises the same errors as `decode`.
        """
        parsed = self._parse(data)
        return self._read_latents(parsed, load_model(parsed.header.model_id, self._weights_folder))

    # -- parts ---------------------------------------------------------------

    def _load(self, model_id: int) -> tuple[Model, CodecNetwork]:
        model = load_model(model_id, self._weights_folder)
        key = model.entry.model_id
        if key not in self._networks:
            network = model.build_network().to(self._device)
            self._networks[key] = (model, network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]  # missing in torch's stub
        return self._networks[key]

    def _parse(self, data: bytes) -> container.Container:
        return container.read(container.as_bytes(data), max_pixels=self._max_pixels)

    @staticmethod
    def _read_latents(parsed: container.Container, model: Model) -> Latents:
        header = parsed.header
        if _flat_colour(parsed) is not None:
            return Latents(
                np.empty((model.coder.hyper_channels, 0, 0), np.int32),
                np.empty((model.coder.latent_channels, 0, 0), np.int32),
            )
        grid = (-(-header.height // PATCH_SIZE), -(-header.width // PATCH_SIZE))
        return Latents(*model.coder.decode(parsed.tiles[0], header.quality_hundredths, grid))

    @contextmanager
    def _inference(self) -> Iterator[None]:
        before = torch.get_num_threads()
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        try:
            with (
                torch.inference_mode(),
                torch.autocast(
                    self._device.type, torch.bfloat16, enabled=self._dtype == torch.bfloat16
                ),
            ):
                yield
        finally:
            torch.set_num_threads(before)

    def _encode_tile(
        self,
        model: Model,
        network: CodecNetwork,
        pixels: Pixels,
        hundredths: int,
        effort: int,
        report: Report | None,
    ) -> bytes:
        """The stream of RGB ``pixels`` [H, W, 3]."""
        rate = rate_of_quality(hundredths).to(self._device)
        image = image_tensor(pixels).to(self._device)
        y = network.analysis(image, rate).float()  # [1, C, h, w]
        z = network.hyper_analysis(y, rate)  # [1, Z, zh, zw]
        hyper = z.round().clamp(-MAX_HYPER_SYMBOL, MAX_HYPER_SYMBOL)
        hyper_latent: Integers = hyper[0].to(torch.int32).cpu().numpy()
        scaled: Tensor = y * network.latent_gain(rate)
        grid = (y.shape[2], y.shape[3])

        worth = None
        if effort > 1:
            worth = bits_per_squared_step(network, rate, model.entry.tune)[0, :, 0, 0].cpu().numpy()

        def predictor() -> LatentPredictor:
            return LatentPredictor(
                network, model.coder.scales, hyper_latent, hundredths, grid, self._device
            )

        if worth is not None and EFFORT_ITERATIONS[effort]:
            # tensors made in inference mode cannot take part in a gradient
            with torch.inference_mode(False), torch.enable_grad():
                symbols, indexes = refine_latent(
                    network,
                    predictor(),
                    scaled.clone(),
                    image.clone()[:, :, : pixels.shape[0], : pixels.shape[1]],
                    worth=worth,
                    tune=model.entry.tune,
                    iterations=EFFORT_ITERATIONS[effort],
                    report=report,
                )
        else:
            symbols, indexes = code_latent(predictor(), scaled, worth)
        return model.coder.encode(hyper_latent, symbols, indexes)

    def _synthesise(
        self, model: Model, network: CodecNetwork, latents: Latents, header: container.Header
    ) -> Tensor:
        residual = torch.from_numpy(latents.residual)[None].float().to(self._device)
        predictor = LatentPredictor(
            network,
            model.coder.scales,
            latents.hyper_latent,
            header.quality_hundredths,
            (residual.shape[2], residual.shape[3]),
            self._device,
        )
        decoded = (residual + predictor.mean(residual)) * predictor.inverse_gain
        image: Tensor = network.synthesis(
            decoded.contiguous(memory_format=torch.channels_last), predictor.rate
        ).float()
        return image


def _flat_colour(parsed: container.Container) -> NDArray[np.uint8] | None:
    """The colour of a file whose only tile is flat, else None."""
    (payload,) = parsed.tiles
    samples = 1 if parsed.header.pixel_format == "gray8" else 3
    if len(payload) != samples:
        return None  # the entropy coder refuses what is too short to be a stream
    return np.frombuffer(payload, np.uint8)
