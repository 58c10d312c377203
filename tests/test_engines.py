"""The engines: what they agree on, how they are chosen, and what each refuses."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch

from caezip import Codec, MissingDependencyError, ParameterError, WeightsError, engines, processor
from caezip.config import TUNES, ModelConfig, parameter_shapes, sizes_of_tune
from caezip.networks import Floats, Networks
from caezip.openvino_networks import OpenVinoNetworks
from caezip.picture import Samples
from caezip.pretrained import Model, find_model, load_model
from caezip.tiling import Box
from caezip.torch_networks import TorchNetworks
from caezip.transforms import CodecNetwork
from caezip.workers import Loading
from images import gray_of, photo_like, psnr_db

RATE = 0.6


@pytest.fixture(scope="module", params=[True, False], ids=["", "lean decoder"])
def model(
    request: pytest.FixtureRequest, tiny_config: ModelConfig, training: None, tmp_path_factory: Any
) -> Model:
    """Random networks of some depth, with the ranges that int8 needs."""
    from caezip.training.calibration import activation_ranges
    from caezip.training.export import export
    from caezip.training.trainer import Trainer, TrainingOptions

    folder: Path = tmp_path_factory.mktemp("weights")
    photos = [photo_like(128, 192)]
    lean = replace(tiny_config, renderer_blocks=0, synthesis_channels=16, mean_channels=18)
    config = tiny_config if request.param else lean
    options = TrainingOptions(steps=8, batch_size=2, crop_size=64, early_crop_size=64)
    trainer = Trainer(photos, options, config=config)
    trainer.run()
    trained = trainer.averaged_model()
    ranges = activation_ranges(trained, [trainer.crops.batch(2, 64)])
    export(trained, folder, name="tiny", details={}, ranges=ranges, model_id=9)
    return load_model(9, folder)


def without_ranges(model: Model) -> Model:
    return Model(model.entry, model.config, model.coder, model.network_weights, {})


PICTURE = photo_like(75, 106)
SOURCES: tuple[Samples, ...] = (PICTURE, gray_of(PICTURE), PICTURE.astype(np.uint16) * 257)


Function = Callable[[Networks], Floats]
HYPER_LATENT = np.random.default_rng(1).integers(-3, 4, (6, 2, 2)).astype(np.int32)
RESIDUAL = np.random.default_rng(2).integers(-3, 4, (24, 5, 7)).astype(np.int32)
STEPS = (RESIDUAL + np.random.default_rng(3).normal(0, 0.3, RESIDUAL.shape)).astype(np.float32)


def _second_means(networks: Networks) -> Floats:
    features, means = networks.first_means(HYPER_LATENT, RATE, (5, 7))
    return networks.second_means(features, means, RATE)


def _decoded(networks: Networks) -> Floats:
    residual = RESIDUAL[: networks.config.predicted_channels]
    return networks.decoded(HYPER_LATENT, residual, RATE)


FUNCTIONS: dict[str, Function] = {
    "analyse": lambda networks: networks.analyse(PICTURE, RATE),
    "analyse 16 bits": lambda networks: networks.analyse(PICTURE.astype(np.uint16) * 257, RATE),
    "hyper_analyse": lambda networks: networks.hyper_analyse(STEPS, RATE),
    "first_means": lambda networks: networks.first_means(HYPER_LATENT, RATE, (5, 7))[1],
    "second_means": _second_means,
    "decoded": _decoded,
    "latent_gain": lambda networks: networks.latent_gain(RATE),
    "latent_inverse_gain": lambda networks: networks.latent_inverse_gain(RATE),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_engines_agree_in_float32_up_to_its_rounding(name: str, model: Model) -> None:
    plain = without_ranges(model)
    expected = FUNCTIONS[name](TorchNetworks(plain, "float32", "cpu"))
    found = FUNCTIONS[name](OpenVinoNetworks(plain, "float32", 1))
    assert found.dtype == expected.dtype == np.float32
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_pictures_agree_in_float32_within_a_level(
    model: Model, reduction: int, dtype: type[Any], gray: bool
) -> None:
    plain = without_ranges(model)
    pictures = [
        engine.synthesise(STEPS, RATE, reduction, gray=gray, dtype=dtype).astype(int)
        for engine in (TorchNetworks(plain, "float32", "cpu"), OpenVinoNetworks(plain, "auto", 1))
    ]
    assert pictures[0].shape == (80 // reduction, 112 // reduction, 3)[: 2 if gray else 3]
    assert np.abs(pictures[0] - pictures[1]).max() <= (1 if dtype is np.uint8 else 60)
    assert np.ptp(pictures[0]) > 20  # not two blank pages


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_the_picture_of_some_cells_is_a_part_of_that_of_all(
    model: Model, engine: str, reduction: int
) -> None:
    networks: Networks = (
        OpenVinoNetworks(model, "float32", 1)
        if engine == "openvino"
        else TorchNetworks(model, "float32", "cpu")
    )
    draw = partial(networks.synthesise, STEPS, RATE, reduction, gray=False, dtype=np.uint8)
    whole, side = draw(), 16 // reduction
    for cells in (Box(0, 0, 7, 5), Box(1, 1, 5, 4), Box(0, 2, 7, 5)):
        part = draw(cells=cells)
        place = cells.multiplied(side)
        expected = whole[place.top : place.bottom, place.left : place.right]
        # but for the outermost cells, which may see nothing beyond
        inside = np.s_[side:-side, side:-side]
        assert part.shape == expected.shape
        assert np.abs(part[inside].astype(int) - expected[inside]).max() <= 1


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("name", ["analyse", "decoded", "second_means"])
def test_engines_agree_in_what_layers_that_see_levels_make(
    name: str, precision: str, model: Model
) -> None:
    if precision == "int8" and not processor.largest_exact_weight():
        pytest.skip("this processor has no exact int8")
    float_only = FUNCTIONS[name](TorchNetworks(without_ranges(model), "float32", "cpu"))
    expected = FUNCTIONS[name](TorchNetworks(model, "float32", "cpu"))
    found = FUNCTIONS[name](OpenVinoNetworks(model, precision, 1))
    rounding = np.sqrt(np.square(float_only - expected).mean())
    assert rounding > 0  # layers really see levels
    assert np.sqrt(np.square(found - expected).mean()) < rounding


def test_int8_is_refused_where_it_would_not_be_exact(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caezip.openvino_programs.largest_exact_weight", lambda: 0)
    with pytest.raises(ParameterError, match="precision: found 'int8', this processor has no"):
        OpenVinoNetworks(model, "int8", 1)
    assert _decoded(OpenVinoNetworks(model, "auto", 1)).size
    with pytest.raises(ParameterError, match="precision: found 'int8', the engine torch"):
        TorchNetworks(model, "int8", "cpu")


def test_large_weights_are_rounded_for_older_processors_but_not_those_of_means(
    one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not processor.largest_exact_weight():
        pytest.skip("this processor has no exact int8")
    monkeypatch.setattr("caezip.openvino_programs.largest_exact_weight", lambda: 64)
    # those of the oldest weights are up to 127
    model, rng = load_model(find_model(None, None, "ssim").model_id), np.random.default_rng(0)
    older, exact = (OpenVinoNetworks(model, precision, 1) for precision in ("int8", "float32"))
    hyper = rng.integers(-2, 3, (model.sizes.hyper_latent_channels, 2, 2)).astype(np.int32)
    residual = rng.integers(-1, 2, (model.sizes.latent_channels, 5, 7)).astype(np.int32)
    steps = exact.decoded(hyper, residual, RATE)
    assert np.array_equal(older.decoded(hyper, residual, RATE), steps)
    ours, theirs = (
        networks.synthesise(steps, RATE, 1, gray=False, dtype=np.uint8)
        for networks in (older, exact)
    )
    assert not np.array_equal(ours, theirs)
    assert psnr_db(ours, theirs) > 45


@pytest.mark.parametrize("source", SOURCES, ids=["colour", "gray", "16 bits"])
def test_bfloat16_moves_pictures_of_8_bits_a_little_where_it_is_fast_and_nothing_else(
    source: Samples, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (processor.largest_exact_weight() and processor.bfloat16_is_fast()):
        pytest.skip("this processor has no exact int8, or no fast bfloat16")
    steady = Codec(precision="int8", threads=1)
    data = steady.encode(source, quality=60, tune="archive")
    expected = steady.decode(data)
    hurried = Codec(threads=1)
    assert hurried.encode(source, quality=60, tune="archive") == data
    found = hurried.decode(data)
    if source.ndim == 2 or source.dtype != np.uint8:
        assert np.array_equal(found, expected)
        return
    assert not np.array_equal(found, expected)
    assert np.abs(found.astype(int) - expected).max() <= 6
    assert psnr_db(found, expected) > 48
    assert abs(psnr_db(source, found) - psnr_db(source, expected)) < 0.1
    monkeypatch.setattr("caezip.openvino_programs.bfloat16_is_fast", lambda: False)
    assert np.array_equal(Codec(threads=1).decode(data), expected)


def test_streams_of_either_engine_mean_the_same_to_both(codec: Codec) -> None:
    other = Codec(engine="torch", threads=1)
    for encoder in (codec, other):
        for source in SOURCES:
            data = encoder.encode(source, quality=60)
            (mine,), (theirs,) = codec.decode_latents(data), other.decode_latents(data)
            assert np.array_equal(mine.residual, theirs.residual)
            assert np.array_equal(mine.hyper_latent, theirs.hyper_latent)
            original, one, another = (
                np.rint(samples / (1 if source.dtype == np.uint8 else 257)).astype(np.uint8)
                for samples in (source, codec.decode(data), other.decode(data))
            )
            # layers round to levels: what lies in the middle of two is rounded either way
            assert np.abs(one.astype(int) - another).max() <= 8
            assert psnr_db(one, another) > 45
            assert psnr_db(original, one) > 25


def test_refinement_uses_torch_whatever_the_engine() -> None:
    files = [
        Codec(engine=engine, threads=1).encode(PICTURE[:32, :32], quality=50, effort=3)
        for engine in ("openvino", "torch")
    ]
    assert files[0] == files[1]


# -- which engine --------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "device", "expected"),
    [
        ("auto", "cpu", "openvino"),
        ("auto", "cuda", "torch"),
        ("openvino", "cpu", "openvino"),
        ("torch", "cpu", "torch"),
    ],
)
def test_the_engine_follows_the_device(engine: str, device: str, expected: str) -> None:
    assert engines.engine_for(engine, device) == expected


def test_openvino_runs_on_cpus_only() -> None:
    with pytest.raises(ParameterError, match="device: found 'cuda', the engine openvino needs cpu"):
        engines.engine_for("openvino", "cuda")


def test_without_openvino_torch_steps_in(
    monkeypatch: pytest.MonkeyPatch, encoded: bytes, codec: Codec
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found, expected = Codec(threads=1).decode(encoded), codec.decode(encoded)
    assert psnr_db(found, expected) > 51  # what FORMAT.md tells of weights with ranges
    with pytest.raises(MissingDependencyError, match="pip install openvino"):
        Codec(engine="openvino")


@pytest.mark.parametrize("name", ["engine", "precision"])
def test_engines_and_precisions_are_among_those_there_are(name: str) -> None:
    with pytest.raises(ParameterError, match=rf"{name}: found 'fast', allowed are \('auto', "):
        Codec(**{name: "fast"})  # type: ignore[arg-type]  # the point of the test


def test_a_device_can_be_left_to_the_codec(encoded: bytes) -> None:
    assert Codec(device="auto", threads=1).decode(encoded).shape == (75, 106, 3)


@pytest.mark.parametrize(("wanted", "most"), [("1", 1), ("0", 10_000), ("x", 10_000), ("", 10_000)])
def test_threads_are_at_most_what_the_environment_says(
    wanted: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert 1 <= processor.default_threads() <= most


# -- parameters ------------------------------------------------------------------


def test_the_list_of_parameters_is_that_of_the_networks(tiny_config: ModelConfig) -> None:
    for config in (*map(sizes_of_tune, TUNES), tiny_config):
        with torch.device("meta"):
            state = CodecNetwork(config).state_dict()
        shapes = {
            name: tuple(parameter.shape)
            for name, parameter in state.items()
            if not name.startswith(("scales.", "hyper_prior."))
        }
        assert parameter_shapes(config) == shapes


def test_the_installed_weights_run_without_torch_networks(tmp_path: Path) -> None:
    entry = load_model().entry
    shutil.copytree(Path(str(entry.file)).parent, tmp_path / "weights")
    assert load_model(entry.model_id, tmp_path / "weights").sizes == ModelConfig(
        **load_model().config
    )


# -- what is loaded ahead ----------------------------------------------------


def test_what_is_loaded_ahead_encodes_as_what_is_not(codec: Codec) -> None:
    ahead = Codec()
    ahead.prepare_encoding()
    assert ahead.encode(PICTURE, quality=60) == codec.encode(PICTURE, quality=60)
    ahead.prepare_encoding(tune="ssim")  # too late to make a difference


def test_what_fails_ahead_is_raised_by_encode(tmp_path: Path) -> None:
    codec = Codec(weights_folder=tmp_path)
    codec.prepare_encoding()
    with pytest.raises(WeightsError, match=r"manifest\.json does not exist"):
        codec.encode(PICTURE)


def test_what_loads_in_a_thread_is_waited_for_and_raises_what_went_wrong() -> None:
    begin = Event()
    seen: list[str] = []

    def make() -> str:
        begin.wait()
        return "made"

    loading = Loading(make)
    loading.once("seen", seen.append)
    assert not seen
    begin.set()
    assert loading() == loading() == "made"
    later = Event()
    loading.once("later", lambda _: later.set())
    assert later.wait(timeout=60)
    assert seen == ["made"]

    failing: Loading[str] = Loading(lambda: str(1 // 0))
    failing.once("never", lambda _: pytest.fail("there is nothing to call this with"))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            failing()


def test_several_threads_import_openvino_whole() -> None:
    script = """
import threading
from caezip._openvino import load_openvino
found = []
threads = [threading.Thread(target=lambda: found.append(load_openvino().Core)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(found) == 4
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


SHAPES = """
import numpy
from pathlib import Path
from caezip import Codec
codec = Codec()
picture = numpy.random.default_rng(0).integers(0, 256, (48, 48, 3), numpy.uint8)
picture = picture.repeat(8, axis=0).repeat(8, axis=1)
for number in range(120):
    height, width = 100 + 17 * (number % 12), 100 + 17 * (number // 12)
    codec.decode(codec.encode(picture[:height, :width], quality=20))
    if number in (59, 119):
        print(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 1_000_000)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells")
def test_memory_does_not_grow_with_every_new_shape() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHAPES], check=True, timeout=300, capture_output=True, text=True
    )
    halfway_mb, end_mb = map(int, done.stdout.split())
    assert end_mb < halfway_mb + 120  # without a limit to what the engine keeps it is some 370


CORES = """
import os
import numpy
from pathlib import Path
from threading import Thread
from caezip import Codec
picture = numpy.random.default_rng(0).integers(0, 256, (512, 512, 3), numpy.uint8)
codec, allowed, found = Codec(threads=1), os.sched_getaffinity(0), set()
codec.decode(codec.encode(picture))  # the engine looks at each core when it starts
work = Thread(target=lambda: codec.decode(codec.encode(picture)))
work.start()
while work.is_alive():
    for path in Path("/proc/self/task").iterdir():
        try:
            found.add(os.sched_getaffinity(int(path.name)) == allowed)
        except ProcessLookupError:
            pass
print(*found)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux tells")
def test_no_thread_keeps_to_one_core() -> None:
    # else processes side by side, with a thread each, would all work on the same one
    done = subprocess.run(
        [sys.executable, "-c", CORES], check=True, timeout=120, capture_output=True, text=True
    )
    assert done.stdout == "True\n"
