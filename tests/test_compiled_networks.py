"""Networks without an engine: the same as with one, on every kind of processor."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import caezip
import caezip.compiled_networks
from caezip.compiled import load_loops
from caezip.compiled_layers import PAIRS
from caezip.compiled_networks import (
    CompiledAnalysis,
    CompiledMeans,
    CompiledStream,
    compiled,
)
from caezip.openvino_networks import OpenVinoNetworks
from caezip.pretrained import ROW_STEP, Model, find_model, load_model
from caezip.processor import instruction_sets
from caezip.scales import Floats
from images import noise, photo_like, psnr_db

RATE = 0.4
LOOPS = load_loops()
KIND = 0 if LOOPS is None else int(LOOPS.caezip_dense_kind())
pytestmark = pytest.mark.skipif(not KIND, reason="no compiled networks on this machine")
GRIDS = [(1, 1), (3, 1), (1, 6), (7, 9), (19, 26)]
TUNES = ["psnr", "archive"]
ANALYSED = 4  # of `results`
FOURS_OF_EIGHT = 2
# what this processor can do with fewer instructions than it has
OTHER_KINDS = [k for k in range(1, KIND) if k != FOURS_OF_EIGHT or "avx_vnni" in instruction_sets()]
NAMES = ("_compiled_analysis", "_compiled_means", "_compiled_stream")


def model_of(tune: str) -> Model:
    return load_model(find_model(None, None, tune).model_id)


def networks_of(model: Model, precision: str = "auto", threads: int = 1) -> OpenVinoNetworks:
    return OpenVinoNetworks(model, precision, threads)


def without_functions(model: Model, precision: str = "auto") -> OpenVinoNetworks:
    networks = networks_of(model, precision)
    vars(networks).update(dict.fromkeys(NAMES))
    return networks


def results(networks: OpenVinoNetworks, grid: tuple[int, int]) -> list[Floats]:
    """Of all networks, each of the same inputs."""
    sizes, rng = networks.config, np.random.default_rng(sum(grid))
    hyper_shape = (sizes.hyper_latent_channels, *(-(-side // 4) for side in grid))
    hyper = rng.integers(-4, 5, hyper_shape).astype(np.int32)
    first = rng.integers(-3, 4, (sizes.predicted_channels, *grid)).astype(np.float32)
    latent = rng.normal(0, 0.5, (sizes.latent_channels, *grid)).astype(np.float32)
    features, means = networks.first_means(hyper, RATE, grid)
    second = networks.second_means(features, first, RATE)
    found = [*map(np.array, (features, means, second)), networks.hyper_analyse(latent, RATE)]
    picture = photo_like(16 * grid[0] - 5, 16 * grid[1] - 3)
    found += [networks.analyse(picture, RATE)]
    if sizes.lean_decoder:
        steps = rng.normal(0, 2, (sizes.synthesis_channels, *grid)).astype(np.float32)
        found += [networks._stream(RATE, steps).copy()]
    return found


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("tune", TUNES)
def test_they_compute_what_an_engine_does(tune: str, grid: tuple[int, int]) -> None:
    model = model_of(tune)
    ours, theirs = (results(make(model, "int8"), grid) for make in (networks_of, without_functions))
    in_float = results(without_functions(model, "float32"), grid)
    for our, their, exact in zip(ours, theirs, in_float, strict=True):
        assert our.shape == their.shape
        # a level may be the next one where a value lies between two: seldom, as between engines
        off = np.abs(our - exact).mean()
        assert off <= 2 * np.abs(their - exact).mean() + 5e-3 * np.abs(exact).mean()


def of_kind(model: Model, kind: int) -> OpenVinoNetworks:
    """As on a processor with another kind of products, which this one has as well."""
    networks = networks_of(model)
    made = (CompiledAnalysis, CompiledMeans, CompiledStream)
    assert LOOPS is not None
    for name, network in zip(NAMES, made, strict=True):
        if getattr(networks, name) is not None:
            vars(networks)[name] = network(LOOPS, model, kind)
    return networks


@pytest.mark.parametrize("kind", OTHER_KINDS)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("tune", TUNES)
def test_all_kinds_of_products_are_exact(tune: str, grid: tuple[int, int], kind: int) -> None:
    model = model_of(tune)
    ours, theirs = results(networks_of(model), grid), results(of_kind(model, kind), grid)
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        # rounds its first layer otherwise; this is noise, photographs move by less than 0.02 dB
        if number == ANALYSED and PAIRS in (kind, KIND):
            assert np.abs(one - other).mean() < 0.04 * np.abs(one).mean()
        else:
            assert np.allclose(one, other, rtol=0, atol=1e-5 * np.abs(one).max())


def test_blocks_are_what_their_definition_says() -> None:
    """In float64, with levels rounded as everywhere; nothing of it is shared with the functions."""
    model = model_of("fastdecode")
    networks, grid = networks_of(model), (6, 11)
    sizes = networks.config
    shape = (sizes.synthesis_channels, *grid)
    steps: Floats = np.random.default_rng(1).normal(0, 2, shape).astype(np.float32)
    gains = networks._gain("latent_inverse_gain", RATE)[0, : len(steps)]
    x = steps * gains * networks._gain("synthesis.gain", RATE)[0]
    x = x.astype(np.float64)
    for number in range(sizes.synthesis_blocks):
        x = _block(model, f"synthesis.blocks.{number}", x)
    found = networks._stream(RATE, steps)
    assert np.abs(found - x).mean() < 1e-4 * np.abs(x).mean()


def _block(model: Model, name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    def layer(part: str, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        weights, full = model.network_weights, f"{name}.{part}"
        low, high = map(float, model.activation_ranges[full])
        step = (high - low) / 255
        levels = np.rint(inputs / step).clip(round(low / step), round(high / step)) * step
        steps = weights[f"{ROW_STEP}{full}.weight"][:, None, None, None]
        kernel = weights[f"{full}.weight"] * steps
        if part == "depthwise":
            around = np.pad(levels, [(0, 0), (1, 1), (1, 1)])
            height, width = inputs.shape[1:]
            out = np.zeros(inputs.shape)
            for row, column in np.ndindex(3, 3):
                seen = around[:, row : row + height, column : column + width]
                out += seen * kernel[:, 0, row, column, None, None]
        else:
            out = np.einsum("chw,oc->ohw", levels, kernel[:, :, 0, 0])
        return np.asarray(out + weights[f"{full}.bias"][:, None, None])

    expanded = layer("expand", layer("depthwise", x))
    return x + layer("reduce", np.maximum(expanded, expanded / 8))


# -- threads -----------------------------------------------------------------


def test_calls_may_run_side_by_side() -> None:
    networks = networks_of(model_of("fastdecode"))
    wanted = [results(networks, grid) for grid in GRIDS]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: results(networks, GRIDS[n % len(GRIDS)]), range(40)))
    for number, got in enumerate(found):
        for one, other in zip(got, wanted[number % len(GRIDS)], strict=True):
            assert np.array_equal(one, other)


@pytest.mark.parametrize("threads", [2, 3, 7])
@pytest.mark.parametrize("shape", [(1, 1), (600, 70), (1030, 45)])
def test_bands_of_several_threads_are_what_one_makes(threads: int, shape: tuple[int, int]) -> None:
    model, picture = model_of("psnr"), photo_like(*shape)
    alone = networks_of(model).analyse(picture, RATE)
    assert np.array_equal(networks_of(model, threads=threads).analyse(picture, RATE), alone)


def test_a_part_of_a_picture_is_read_where_it_lies() -> None:
    networks, picture = networks_of(model_of("psnr")), photo_like(100, 160)
    part = picture[16:80, 32:128]
    assert np.array_equal(networks.analyse(part, RATE), networks.analyse(part.copy(), RATE))
    mirrored = part[:, ::-1]
    assert np.array_equal(networks.analyse(mirrored, RATE), networks.analyse(mirrored.copy(), RATE))


# -- which models and processors ---------------------------------------------


def too_large(model: Model) -> Model:
    weights = dict(model.network_weights)
    for name in ("context.first", "analysis.blocks.1.expand", "synthesis.blocks.0.reduce"):
        weights[f"{name}.weight"] = np.full_like(weights[f"{name}.weight"], 65)
    return replace(model, network_weights=weights)


def without_ranges(model: Model) -> Model:
    ranges = {n: r for n, r in model.activation_ranges.items() if not n.endswith("depthwise")}
    return replace(model, activation_ranges=ranges)


def of_other_sizes(model: Model) -> Model:
    weights = {
        name: array[:, :30] if array.ndim == 4 and "embed" not in name else array
        for name, array in model.network_weights.items()
    }
    other = replace(model, network_weights=weights)
    vars(other)["sizes"] = model.sizes  # not looked at again
    return other


@pytest.mark.parametrize("kind", [CompiledAnalysis, CompiledMeans, CompiledStream])
@pytest.mark.parametrize("changed", [too_large, without_ranges, of_other_sizes])
def test_other_models_take_an_engine(changed: Callable[[Model], Model], kind: type) -> None:
    model = model_of("fastdecode")
    assert isinstance(compiled(kind, model), kind)
    assert compiled(kind, changed(model)) is None


def test_decoders_with_a_renderer_take_an_engine_for_it() -> None:
    model = model_of("archive")
    assert compiled(CompiledStream, model) is None
    assert compiled(CompiledMeans, model) is not None


def test_float32_takes_an_engine() -> None:
    model = model_of("fastdecode")
    for precision, expected in (("float32", False), ("int8", True), ("auto", True)):
        networks = networks_of(model, precision)
        assert [getattr(networks, name) is not None for name in NAMES] == [expected] * len(NAMES)


@pytest.mark.parametrize("tune", TUNES)
def test_without_compiled_functions_an_engine_does_it(
    tune: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = photo_like(60, 80)
    codec = caezip.Codec(threads=1)
    data = codec.encode(picture, quality=60, tune=tune)
    ours = codec.decode(data)
    monkeypatch.setattr(caezip.compiled_networks, "load_loops", lambda: None)
    other = caezip.Codec(threads=1)
    assert psnr_db(ours, other.decode(data)) > 45
    theirs = other.encode(picture, quality=60, tune=tune)
    assert len(theirs) == pytest.approx(len(data), rel=0.02)


@pytest.mark.parametrize(
    ("call", "tune"),
    [("encode", "psnr"), ("encode", "archive"), ("decode", "psnr"), ("decode", "fastdecode")],
)
def test_no_engine_is_loaded(call: str, tune: str, tmp_path: Path) -> None:
    (tmp_path / "a.cae").write_bytes(caezip.encode(photo_like(70, 90), quality=50, tune=tune))  # type: ignore[arg-type]  # one of them
    script = """
import sys, caezip, numpy
if sys.argv[2] == "decode":
    caezip.decode(open(sys.argv[1], "rb").read())
else:
    picture = numpy.random.default_rng(0).integers(0, 256, (70, 90, 3)).astype(numpy.uint8)
    caezip.encode(picture, tune=sys.argv[3])
assert not {"openvino", "torch"} & set(sys.modules), "an engine was loaded"
"""
    subprocess.run([sys.executable, "-c", script, tmp_path / "a.cae", call, tune], check=True)


@pytest.mark.parametrize(("height", "width"), [(33, 47), (1, 130), (64, 65), (95, 16)])
def test_beyond_a_picture_and_a_latent_the_last_cells_are_seen_again(
    height: int, width: int
) -> None:
    networks = OpenVinoNetworks(model_of("psnr"), "auto", 1)
    samples = noise(height, width)
    missing = [(0, -side % 16) for side in (height, width)]
    latent = networks.analyse(samples, 0.5)
    whole = networks.analyse(np.pad(samples, [*missing, (0, 0)], mode="edge"), 0.5)
    assert np.array_equal(latent, whole)

    grid = latent.shape[1], latent.shape[2]
    missing = [(0, -side % 4) for side in grid]
    hyper = networks.hyper_analyse(latent, 0.5)
    padded = np.pad(latent, [(0, 0), *missing], mode="edge")
    assert np.array_equal(hyper, networks.hyper_analyse(padded, 0.5))

    integers = np.rint(hyper).astype(np.int32)
    features, means = networks.first_means(integers, 0.5, grid)
    whole_features, whole_means = networks.first_means(
        integers, 0.5, (padded.shape[1], padded.shape[2])
    )
    inside = np.s_[:, : grid[0], : grid[1]]
    assert np.array_equal(features, whole_features[inside])
    assert np.array_equal(means, whole_means[inside])


# -- what does not fit -------------------------------------------------------


def room(size: int) -> NDArray[np.uint8]:
    return np.empty(size, np.uint8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": (8, 12, 1)}, "features: found"),
        ({"means": (3, 8, 12)}, "means: found"),
        ({"means": (192, 4, 12)}, "means: found"),
        ({"means": (192, 8, 13)}, "means: found"),
        ({"hyper": (5, 2, 3)}, "hyper_latent: found"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    change: dict[str, tuple[int, ...]], message: str
) -> None:
    model = model_of("fastdecode")
    networks, sizes = compiled(CompiledMeans, model), model.sizes
    assert networks is not None
    shapes: dict[str, tuple[int, ...]] = {
        "features": (8, 12, sizes.hyper_channels),
        "means": (sizes.predicted_channels, 8, 12),
        "hyper": (sizes.hyper_latent_channels, 2, 3),
    } | change
    features, means = (np.zeros(shapes[name], np.float32) for name in ("features", "means"))
    hyper = np.zeros(shapes["hyper"], np.int32)
    gains = np.ones(len(hyper), np.float32), np.ones(len(means), np.float32)
    with pytest.raises(ValueError, match=message):
        networks.write_first(features, means, hyper, gains, room)


@pytest.mark.parametrize(
    ("latent", "samples", "rows", "message"),
    [
        ((320, 2, 3), (32, 32, 3), range(2), "samples: found"),
        ((320, 2, 3), (33, 47, 3), range(2), "samples: found"),
        ((320, 2, 3), (32, 48, 4), range(2), "samples: found"),
        ((300, 2, 3), (32, 48, 3), range(2), "latent: found"),
        ((320, 2, 3), (32, 48, 3), range(3), "latent: found"),
    ],
)
def test_samples_that_do_not_fit_are_refused(
    latent: tuple[int, ...], samples: tuple[int, ...], rows: range, message: str
) -> None:
    model = model_of("psnr")
    network = compiled(CompiledAnalysis, model)
    assert network is not None
    arrays = np.zeros(latent, np.float32), np.zeros(samples, np.uint8)
    gains = np.ones(model.sizes.analysis_channels, np.float32)
    with pytest.raises(ValueError, match=message):
        network.write_latent(*arrays, gains, rows, room)


@pytest.mark.parametrize("grid", [(4, 12), (9, 12), (8, 13), (8, 8)])
def test_latents_of_another_size_than_their_hyper_latent_are_refused(grid: tuple[int, int]) -> None:
    model = model_of("psnr")
    network = compiled(CompiledAnalysis, model)
    assert network is not None
    count = model.sizes.hyper_latent_channels
    hyper, gains = np.zeros((count, 2, 3), np.float32), np.ones(count, np.float32)
    latent = np.zeros((model.sizes.latent_channels, *grid), np.float32)
    with pytest.raises(ValueError, match="latent: found"):
        network.write_hyper_latent(hyper, latent, gains, room)


def test_room_that_is_too_small_is_refused() -> None:
    model = model_of("fastdecode")
    network = compiled(CompiledStream, model)
    assert network is not None
    stream, steps = np.zeros((2, model.sizes.synthesis_channels, 4, 4), np.float32)
    gains = np.ones(model.sizes.synthesis_channels, np.float32)
    with pytest.raises(ValueError, match="room: found"):
        network.write(stream, steps, gains, lambda size: room(size - 1))
