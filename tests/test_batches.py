"""Several images at once: the same files, and on a GPU fewer runs of the networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from caezip import Codec, CorruptError, ParameterError
from caezip.pretrained import find_model, load_model
from caezip.scales import HYPER_STRIDE
from caezip.together import Together
from caezip.torch_networks import TorchNetworks
from images import photo_like
from tiles import tiles_of

IMAGES = [photo_like(40, 56), photo_like(40, 56)[::-1].copy(), photo_like(70, 33)]
TUNES = ("psnr", "fastdecode")


@pytest.mark.parametrize("engine", ["openvino", "torch"])
@pytest.mark.parametrize("tune", TUNES)
def test_batches_are_what_single_calls_make(engine: str, tune: str) -> None:
    codec = Codec(engine=engine, threads=2)
    images = [*IMAGES, IMAGES[0][:, :, 0].copy()]
    files = codec.encode_batch(images, quality=60, tune=tune)
    assert files == [codec.encode(image, quality=60, tune=tune) for image in images]
    for found, file in zip(codec.decode_batch(files), files, strict=True):
        assert np.array_equal(found, codec.decode(file))
    small = codec.decode_batch(files, reduction=4)
    assert [image.shape[:2] for image in small] == [(10, 14), (10, 14), (18, 9), (10, 14)]
    assert codec.encode_batch([]) == []
    assert codec.decode_batch([]) == []


def test_images_of_several_tiles_too(codec: Codec) -> None:
    images = [photo_like(140, 200), photo_like(100, 140)]
    with tiles_of(64):
        files = codec.encode_batch(images, quality=50)
        assert files == [codec.encode(image, quality=50) for image in images]
    for found, file in zip(codec.decode_batch(files), files, strict=True):
        assert np.abs(found.astype(int) - codec.decode(file)).max() <= 1


def test_the_first_error_is_raised(codec: Codec) -> None:
    files = codec.encode_batch(IMAGES, quality=50)
    with pytest.raises(CorruptError, match="checksum"):
        codec.decode_batch([files[0], files[1][:-1] + b"?", files[2]])
    with pytest.raises(ParameterError, match="effort: found 0"):
        codec.encode_batch(IMAGES, effort=0)
    with pytest.raises(ParameterError, match="reduction: found 3"):
        codec.decode_batch(files, reduction=3)


@pytest.mark.parametrize("tune", TUNES)
def test_runs_together_compute_what_single_runs_do(tune: str) -> None:
    networks = TorchNetworks(load_model(find_model(None, None, tune).model_id), "float32", "cpu")
    rng, rates, grid = np.random.default_rng(2), [0.2, 0.5, 0.9], (5, 6)
    sizes = networks.config
    hyper = [
        rng.integers(-3, 4, (sizes.hyper_latent_channels, 2, 2)).astype(np.int32) for _ in rates
    ]
    residual = [
        rng.integers(-2, 3, (sizes.predicted_channels, *grid)).astype(np.int32) for _ in rates
    ]
    steps = [rng.normal(0, 3, (sizes.latent_channels, *grid)).astype(np.float32) for _ in rates]

    def means(n: int) -> NDArray[Any]:
        features, first = networks.first_means(hyper[n], rates[n], grid)
        return np.stack([first, networks.second_means(features, first, rates[n])])

    calls: list[Callable[[int], NDArray[Any]]] = [
        lambda n: networks.analyse(photo_like(80, 96, seed=n), rates[n]),
        lambda n: networks.hyper_analyse(steps[n], rates[n]),
        means,
        lambda n: networks.decoded(hyper[n], residual[n], rates[n]),
        lambda n: networks.synthesise(steps[n], rates[n], 1, gray=False, dtype=np.uint8),
        lambda n: networks.synthesise(steps[n], rates[n], 2, gray=True, dtype=np.uint16),
    ]
    assert grid[0] % HYPER_STRIDE
    for call in calls:
        alone = [call(n) for n in range(len(rates))]
        networks._together = company = _Company(len(rates))
        with ThreadPoolExecutor(len(rates)) as pool:
            together = list(pool.map(call, range(len(rates))))
        networks._together = None
        assert company.largest == len(rates)
        for found, wanted in zip(together, alone, strict=True):
            assert found.dtype == wanted.dtype
            off = np.abs(found.astype(np.float64) - wanted).max() / np.abs(wanted).max()
            assert off < 2e-2


class _Company(Together):
    """The first call waits until all others do."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.largest, self._size, self._here = 0, size, Event()

    def __call__(self, kind: Any, run: Any, item: Any) -> Any:
        def counted(items: Sequence[Any]) -> Any:
            self.largest = max(self.largest, len(items))
            return run(items)

        with self._running:  # nothing runs until they all are there
            call = self._joined(kind, item)
            if sum(map(len, self._waiting.values())) == self._size:
                self._here.set()
        self._here.wait(30)
        return self._result(kind, counted, call)


def test_a_gpu_is_where_calls_run_together() -> None:
    networks = TorchNetworks(load_model(), "float32", "cpu")
    assert networks._together is None  # on a CPU each thread's call runs at once
    if torch.cuda.is_available():
        assert TorchNetworks(load_model(), "float32", "cuda")._together is not None
