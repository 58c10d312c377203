"""The networks on torch: any device, and the only engine that has gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
from caezip.integers import Integers
from caezip.networks import Floats
from caezip.picture import Samples
from caezip.pixels import image_pixels, image_tensor
from caezip.planes import Drawing
from caezip.pretrained import Model
from caezip.processor import bfloat16_is_fast
from caezip.tiling import Box
from caezip.together import MOST_TOGETHER, Together
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
        self._together = None if self.device.type == "cpu" else Together(MOST_TOGETHER)
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
        return self._batch([array])

    def _batch(self, arrays: Sequence[NDArray[Any]]) -> Tensor:
        """``[B, ...]`` float32 on the device."""
        batch = _joined([torch.from_numpy(array)[None] for array in arrays])
        return batch.to(self.device, torch.float32)

    def _rates(self, rates: Sequence[float]) -> Tensor:
        return torch.tensor(rates, device=self.device)

    def _run(self, function: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
        """A function of several calls' arguments, sequence by sequence, of those of this call.

        On a GPU also of those of calls that wait for each other, with the same settings and shapes.
        """

        def run(calls: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
            with self._inference():
                results: Sequence[Any] = function(*zip(*calls, strict=True), **settings)
                return results

        if self._together is None:
            return run([arguments])[0]
        shapes = tuple(getattr(argument, "shape", None) for argument in arguments)
        return self._together((function, shapes, *settings.values()), run, arguments)

    def analyse(self, samples: Samples, rate: float) -> Floats:
        latent: Floats = self._run(self._analysed, image_tensor(samples), rate)
        return latent

    def _analysed(self, images: Sequence[Tensor], rates: Sequence[float]) -> list[Floats]:
        batch = _joined(images).to(self.device)
        return arrays_of(self.network.analysis(batch, self._rates(rates)))

    def hyper_analyse(self, latent: Floats, rate: float) -> Floats:
        hyper_latent: Floats = self._run(self._hyper_analysed, latent, rate)
        return hyper_latent

    def _hyper_analysed(self, latents: Sequence[Floats], rates: Sequence[float]) -> list[Floats]:
        return arrays_of(self.network.hyper_analysis(self._batch(latents), self._rates(rates)))

    def first_means(
        self, hyper_latent: Integers, rate: float, grid: tuple[int, int]
    ) -> tuple[Tensor, Floats]:
        found: tuple[Tensor, Floats] = self._run(self._first_means, hyper_latent, rate, grid=grid)
        return found

    def _first_means(
        self, hyper_latents: Sequence[Integers], rates: Sequence[float], grid: tuple[int, int]
    ) -> list[tuple[Tensor, Floats]]:
        positions, context = self._rates(rates), self.network.context
        features = self.network.hyper_synthesis(self._batch(hyper_latents), positions, grid)
        means = context.first_mean(features).float() * self.network.latent_gain(positions)
        return list(zip(features.split(1), self._predicted(means), strict=True))

    def second_means(self, features: Tensor, first_steps: Floats, rate: float) -> Floats:
        means: Floats = self._run(self._second_means, features, first_steps, rate)
        return means

    def _second_means(
        self, features: Sequence[Tensor], first_steps: Sequence[Floats], rates: Sequence[float]
    ) -> list[Floats]:
        positions, context = self._rates(rates), self.network.context
        inverse_gain = self.network.latent_inverse_gain(positions)
        seen = self._batch(first_steps) * inverse_gain[:, : self.config.predicted_channels]
        means = context.second_mean(_joined(features), seen).float()
        return self._predicted(means * self.network.latent_gain(positions))

    def _predicted(self, means: Tensor) -> list[Floats]:
        """Of the channels that have any."""
        return arrays_of(means[:, : self.config.predicted_channels])

    def decoded(self, hyper_latent: Integers, residual: Integers, rate: float) -> Floats:
        steps: Floats = self._run(self._decoded, hyper_latent, residual, rate)
        return steps

    def _decoded(
        self,
        hyper_latents: Sequence[Integers],
        residuals: Sequence[Integers],
        rates: Sequence[float],
    ) -> list[Floats]:
        symbols, positions = self._batch(residuals), self._rates(rates)
        predicted, height, width = residuals[0].shape
        some, context = np.s_[:, :predicted], self.network.context
        mask = pass_one(self.config.latent_channels, height, width, self.device)[some]
        gain = self.network.latent_gain(positions)[some]
        hyper = self._batch(hyper_latents)
        features = self.network.hyper_synthesis(hyper, positions, (height, width))
        first = mask * (symbols + gain * context.first_mean(features)[some].float())
        seen = first * self.network.latent_inverse_gain(positions)[some]
        second = gain * context.second_mean(features, seen)[some].float()
        return arrays_of(first + (1 - mask) * (symbols + second))

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
        if kernel is None:
            image: Tensor = self._run(self._synthesised, steps, rate, reduction=reduction)
        else:  # of one picture alone
            with self._inference():
                image = self._rendered([steps], [rate], reduction, kernel)[0]
        if cells is not None:
            box = cells.multiplied(PATCH_SIZE).divided(reduction)
            image = image[box.slices]
        with self._inference():
            return image_pixels(image, gray=gray, dtype=dtype)

    def _synthesised(
        self, steps: Sequence[Floats], rates: Sequence[float], reduction: int
    ) -> Sequence[Tensor]:
        return self._rendered(steps, rates, reduction).unbind()

    def drawing(
        self, rate: float, reduction: int, *, gray: bool, dtype: type[Any], has_filters: bool
    ) -> Drawing | None:
        return None

    def rendered(self, steps: Floats, rate: float) -> Floats:
        """The picture of a latent in steps, ``[H, W, 3]`` around [0, 1], not rounded."""
        with self._inference():
            return array_of(self._rendered([steps], [rate], 1).permute(0, 2, 3, 1))

    def _rendered(
        self,
        steps: Sequence[Floats],
        rates: Sequence[float],
        reduction: int,
        kernel: Floats | None = None,
    ) -> Tensor:
        positions = self._rates(rates)
        latent = self._batch(steps) * self.network.latent_inverse_gain(positions)
        cells = latent.contiguous(memory_format=torch.channels_last)
        filter_kernel = None if kernel is None else self.filter_kernel(kernel)
        images: Tensor = self.network.synthesis(cells, positions, reduction, filter_kernel).float()
        return images

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


def _joined(batches: Sequence[Tensor]) -> Tensor:
    """``[1, ...]`` each, to ``[B, ...]``; one alone, as most are, is not copied."""
    return batches[0] if len(batches) == 1 else torch.cat(list(batches))


def array_of(batch: Tensor) -> Floats:
    """A batch of one as a contiguous array."""
    return arrays_of(batch)[0]


def arrays_of(batch: Tensor) -> list[Floats]:
    """Each of a batch as a contiguous array."""
    arrays: Floats = batch.detach().float().contiguous().cpu().numpy()
    return list(arrays)
