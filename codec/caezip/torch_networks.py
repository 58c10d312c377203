"""The networks on torch: any device, and the only engine that has gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caezip.adaptive_filter import cell_kernel_of
from caezip.config import PATCH_SIZE
from caezip.errors import ParameterError
from caezip.gpu_layers import run_without_plans
from caezip.networks import Floats
from caezip.picture import Samples
from caezip.pixels import image_pixels, image_tensor
from caezip.planes import Drawing
from caezip.pretrained import Model
from caezip.processor import bfloat16_is_fast
from caezip.scales import Integers
from caezip.tiling import Box
from caezip.transforms import CodecNetwork, pass_one


def torch_device(name: str) -> torch.device:
    """The device called ``name``; of "auto", a GPU if there is one. Raises ParameterError."""
    if name == "auto":
        mps = getattr(torch.backends, "mps", None)
        name = "mps" if mps is not None and mps.is_available() else "cpu"
        name = "cuda" if torch.cuda.is_available() else name
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ParameterError(f"device: found {name!r}, not usable here: {reason}") from None
    return device


def thread_count() -> int:
    return torch.get_num_threads()


def fast_in_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are faster on ``device`` than float32 ones."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device.type == "cpu" and bfloat16_is_fast()


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Torch's thread count, which is one per calling thread, inside and as before after."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class TorchNetworks:
    """`caezip.networks.Networks` in eager torch, "float32" or "bfloat16"; "auto" is float32."""

    def __init__(self, model: Model, precision: str, device: str) -> None:
        if precision == "int8":
            raise ParameterError("precision: found 'int8', the engine torch has no such")
        self.device = torch_device(device)
        self.config = model.sizes
        network = model.build_network().to(self.device)
        self.network: CodecNetwork = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub
        if self.device.type == "cuda":
            run_without_plans(self.network)
        self._bfloat16 = precision == "bfloat16"
        self._searches_in_bfloat16 = self._bfloat16 or (
            precision == "auto" and fast_in_bfloat16(self.device)
        )

    @contextmanager
    def _inference(self) -> Iterator[None]:
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16),
        ):
            yield

    def searching(self) -> AbstractContextManager[None]:
        """Where gradients lead a search: with "auto" in bfloat16 if that is faster.

        What is found is judged in the precision of everything else.
        """
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._searches_in_bfloat16)

    @cached_property
    def searched(self) -> CodecNetwork:
        """The networks for `searching`: with kernels in its precision already.

        Autocast would convert them anew in every run: it keeps only those that are trained.
        """
        if not self._searches_in_bfloat16:
            return self.network
        network = deepcopy(self.network)
        for part in (network.hyper_synthesis, network.context, network.synthesis):
            for layer in part.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.to(torch.bfloat16)
        return network

    def prepare_encoding(self, dtype: type[Any]) -> None:
        pass  # eager torch is always ready

    def prepare_decoding(
        self, reduction: int, *, gray: bool, dtype: type[Any], has_filters: bool
    ) -> None:
        pass

    def rate(self, rate: float) -> Tensor:
        return torch.tensor([rate], device=self.device)

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """``[1, ...]`` float32 on the device."""
        return torch.from_numpy(array)[None].to(self.device, torch.float32)

    def analyse(self, samples: Samples, rate: float) -> Floats:
        with self._inference():
            image = image_tensor(samples).to(self.device)
            return array_of(self.network.analysis(image, self.rate(rate)))

    def hyper_analyse(self, latent: Floats, rate: float) -> Floats:
        with self._inference():
            return array_of(self.network.hyper_analysis(self.tensor(latent), self.rate(rate)))

    def first_means(
        self, hyper_latent: Integers, rate: float, grid: tuple[int, int]
    ) -> tuple[Tensor, Floats]:
        with self._inference():
            position = self.rate(rate)
            features = self.network.hyper_synthesis(self.tensor(hyper_latent), position, grid)
            means = self.network.context.first_mean(features).float()
            return features, self._predicted(means * self.network.latent_gain(position))

    def second_means(self, features: Tensor, first_steps: Floats, rate: float) -> Floats:
        with self._inference():
            position = self.rate(rate)
            inverse_gain = self.network.latent_inverse_gain(position)
            seen = self.tensor(first_steps) * inverse_gain[:, : self.config.predicted_channels]
            means = self.network.context.second_mean(features, seen).float()
            return self._predicted(means * self.network.latent_gain(position))

    def _predicted(self, means: Tensor) -> Floats:
        """Of the channels that have any."""
        return array_of(means[:, : self.config.predicted_channels])

    def decoded(self, hyper_latent: Integers, residual: Integers, rate: float) -> Floats:
        with self._inference():
            symbols = self.tensor(residual)
            predicted, height, width = residual.shape
            some, context = np.s_[:, :predicted], self.network.context
            mask = pass_one(self.config.latent_channels, height, width, self.device)[some]
            position = self.rate(rate)
            gain = self.network.latent_gain(position)[some]
            features = self.network.hyper_synthesis(
                self.tensor(hyper_latent), position, (height, width)
            )
            first = mask * (symbols + gain * context.first_mean(features)[some].float())
            seen = first * self.network.latent_inverse_gain(position)[some]
            second = gain * context.second_mean(features, seen)[some].float()
            return array_of(first + (1 - mask) * (symbols + second))

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
        with self._inference():
            image = self._rendered(steps, rate, reduction, kernel)[0]
            if cells is not None:
                box = cells.multiplied(PATCH_SIZE).divided(reduction)
                image = image[:, box.top : box.bottom, box.left : box.right]
            return image_pixels(image, gray=gray, dtype=dtype)

    def drawing(
        self, rate: float, reduction: int, *, gray: bool, dtype: type[Any], has_filters: bool
    ) -> Drawing | None:
        return None

    def rendered(self, steps: Floats, rate: float) -> Floats:
        """The picture of a latent in steps, ``[H, W, 3]`` around [0, 1], not rounded."""
        with self._inference():
            return array_of(self._rendered(steps, rate, 1).permute(0, 2, 3, 1))

    def _rendered(
        self, steps: Floats, rate: float, reduction: int, kernel: Floats | None = None
    ) -> Tensor:
        position = self.rate(rate)
        latent = self.tensor(steps) * self.network.latent_inverse_gain(position)
        cells = latent.contiguous(memory_format=torch.channels_last)
        filter_kernel = None if kernel is None else self.filter_kernel(kernel)
        image: Tensor = self.network.synthesis(cells, position, reduction, filter_kernel).float()
        return image

    def filter_kernel(self, kernel: Floats) -> Tensor:
        """`caezip.adaptive_filter.kernel_of`'s as the synthesis transform takes it."""
        cells = np.ascontiguousarray(cell_kernel_of(kernel, colour_first=True))
        return torch.from_numpy(cells).to(self.device, memory_format=torch.channels_last)

    def latent_gain(self, rate: float) -> Floats:
        with self._inference():
            return array_of(self.network.latent_gain(self.rate(rate)))

    def latent_inverse_gain(self, rate: float) -> Floats:
        with self._inference():
            return array_of(self.network.latent_inverse_gain(self.rate(rate)))


def array_of(batch: Tensor) -> Floats:
    """A batch of one as a contiguous array."""
    array: Floats = batch.detach()[0].float().contiguous().cpu().numpy()
    return array
