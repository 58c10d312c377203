"""From pixels to a .cae file and back: the networks, the entropy coder, the container."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caezip import container
from caezip.entropy import MAX_HYPER_SYMBOL, MAX_LATENT_SYMBOL, Indexes, Integers
from caezip.errors import ParameterError
from caezip.image_io import Pixels, as_pixels, as_rgb
from caezip.pretrained import Model, load_model
from caezip.transforms import (
    PATCH_SIZE,
    CodecNetwork,
    checkerboard,
    image_pixels,
    image_tensor,
    rate_of_quality,
)

if TYPE_CHECKING:
    from PIL.Image import Image

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

    def encode(self, image: Image | Pixels, *, quality: float = 75) -> bytes:
        """A .cae file of ``image``: a PIL image, or uint8 ``[H, W]`` or ``[H, W, 3]``.

        ``quality`` is 1…100; the step that the format stores is 0.01.
        Raises ImageError, ParameterError, WeightsError.
        """
        hundredths = container.quality_in_hundredths(quality)
        pixels = as_pixels(image)
        model, network = self._load(None)
        with self._inference():
            latents, indexes = self._analyse(model, network, as_rgb(pixels), hundredths)
        stream = model.coder.encode(latents.hyper_latent, latents.residual, indexes)
        return container.write(
            model_id=model.entry.model_id,
            width=pixels.shape[1],
            height=pixels.shape[0],
            quality_hundredths=hundredths,
            pixel_format="gray8" if pixels.ndim == 2 else "rgb8",
            tiles=(stream,),
        )

    def decode(self, data: bytes) -> Pixels:
        """The picture in a .cae file: uint8 ``[H, W]`` (gray) or ``[H, W, 3]`` (RGB).

        Raises BitstreamError (see `caezip.errors` for its kinds) or UnknownModelError.
        """
        parsed = self._parse(data)
        header = parsed.header
        model, network = self._load(header.model_id)
        latents = self._read_latents(parsed, model)
        with self._inference():
            image = self._synthesise(network, latents, header)  # [1, 3, H, W] in [0, 1]
            image = image[0, :, : header.height, : header.width]
            return image_pixels(image, gray=header.pixel_format == "gray8")

    def decode_latents(self, data: bytes) -> Latents:
        """The integers in a .cae file, without running a network.

        They are identical on every machine, thread count and precision.
        Raises the same errors as `decode`.
        """
        parsed = self._parse(data)
        return self._read_latents(parsed, load_model(parsed.header.model_id, self._weights_folder))

    # -- parts ---------------------------------------------------------------

    def _load(self, model_id: int | None) -> tuple[Model, CodecNetwork]:
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

    def _analyse(
        self, model: Model, network: CodecNetwork, pixels: Pixels, hundredths: int
    ) -> tuple[Latents, Indexes]:
        """Latents of RGB ``pixels`` and the table index of each."""
        rate = rate_of_quality(hundredths).to(self._device)
        y = network.analysis(image_tensor(pixels).to(self._device), rate).float()  # [1, C, h, w]
        z = network.hyper_analysis(y, rate)  # [1, Z, zh, zw]
        hyper = z.round().clamp(-MAX_HYPER_SYMBOL, MAX_HYPER_SYMBOL)
        hyper_latent = hyper[0].to(torch.int32).cpu().numpy()
        grid = (y.shape[2], y.shape[3])
        indexes = model.coder.scales.indexes(hyper_latent, hundredths, grid)
        coded = torch.from_numpy(indexes > 0).to(self._device)[None]
        scaled: Tensor = y * network.latent_gain(rate)
        means = _Means(network, hyper, rate, grid)

        def quantise(mean: Tensor) -> Tensor:
            residual: Tensor = (scaled - mean).round()
            return residual.clamp(-MAX_LATENT_SYMBOL, MAX_LATENT_SYMBOL) * coded

        first = quantise(means.first)
        second = quantise(means.second(first + means.first))
        residual = means.mask * first + (1 - means.mask) * second
        return Latents(hyper_latent, residual[0].to(torch.int32).cpu().numpy()), indexes

    def _synthesise(
        self, network: CodecNetwork, latents: Latents, header: container.Header
    ) -> Tensor:
        rate = rate_of_quality(header.quality_hundredths).to(self._device)
        hyper = torch.from_numpy(latents.hyper_latent)[None].float().to(self._device)
        residual = torch.from_numpy(latents.residual)[None].float().to(self._device)
        grid = (residual.shape[2], residual.shape[3])
        means = _Means(network, hyper, rate, grid)
        second = means.second(residual + means.first)
        mean = means.mask * means.first + (1 - means.mask) * second
        decoded = (residual + mean) * network.latent_inverse_gain(rate)
        image: Tensor = network.synthesis(
            decoded.contiguous(memory_format=torch.channels_last), rate
        ).float()
        return image


class _Means:
    """Predicted means of both checkerboard passes, in quantisation steps."""

    def __init__(
        self, network: CodecNetwork, hyper: Tensor, rate: Tensor, grid: tuple[int, int]
    ) -> None:
        self._network = network
        self._gain = network.latent_gain(rate)
        self._inverse_gain = network.latent_inverse_gain(rate)
        self._features = network.hyper_synthesis(hyper, rate, grid)
        self.mask = checkerboard(self._gain.shape[1], *grid, hyper.device)
        self.first = self._gain * network.context.first_mean(self._features).float()

    def second(self, first_latent: Tensor) -> Tensor:
        """Means of pass two, given pass one's decoded latent (its other half is ignored)."""
        seen = self.mask * self._inverse_gain * first_latent
        mean: Tensor = self._gain * self._network.context.second_mean(self._features, seen).float()
        return mean
