"""What scales see of the hyper-latent around a cell, in integers and in floating point."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference_decoder
from caezip.errors import WeightsError
from caezip.hyper_features import IntegerHyperFeatures
from caezip.integers import Integers
from caezip.pretrained import find_model, load_model
from caezip.scales import IntegerScales
from passes import first_indexes, qualities, scales_of


def features_of(channels: int = 1, features: int = 1, **parts: Any) -> IntegerHyperFeatures:
    """Nothing but zeros and a shift of 1, except for ``parts``."""
    whole = {
        "weight": np.zeros((features, 9 * channels), np.int16),
        "bias": np.zeros((2, features), np.int32),
        "shift": 1,
    }
    return IntegerHyperFeatures(**{**whole, **parts})


def random_features(seed: int, channels: int, largest: int = 300) -> IntegerHyperFeatures:
    rng = np.random.default_rng(seed)
    return features_of(
        weight=rng.integers(-largest, largest + 1, (5, 9 * channels)).astype(np.int16),
        bias=rng.integers(-9000, 9000, (3, 5)).astype(np.int32),
        shift=6,
    )


def tensors_of(features: IntegerHyperFeatures) -> dict[str, Any]:
    """As a weights file holds them."""
    return {
        f"integer_hyper_features.{name}": np.asarray(getattr(features, name))
        for name in ("weight", "bias", "shift")
    }


def new_channels(features: IntegerHyperFeatures, z: Integers, quality: int = 5000) -> Any:
    """What is beside ``z``, which is left as it is."""
    seen = features.beside(z, quality)
    assert seen.dtype == np.int32
    assert np.array_equal(seen[: len(z)], z)
    return seen[len(z) :].tolist()


# -- features ----------------------------------------------------------------


def test_a_feature_sees_one_cell_around_and_nothing_outside() -> None:
    weight = np.zeros((1, 18), np.int16)
    weight[0, 2 * 5 + 1] = 2  # of the second channel, the cell on the right
    z = np.array([[[50, 50, 50]], [[1, 2, 3]]], np.int32)
    assert new_channels(features_of(2, weight=weight), z) == [[[2, 3, 0]]]


def test_cells_are_in_the_order_of_rows() -> None:
    z = np.arange(1, 10, dtype=np.int32).reshape(1, 3, 3)
    weight = 2 * np.eye(9, dtype=np.int16)
    found = features_of(1, weight=weight, bias=np.zeros((2, 9), np.int32)).beside(z, 5000)
    assert found[1:, 1, 1].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert found[1:, 0, 0].tolist() == [0, 0, 0, 0, 1, 2, 0, 4, 5]


def test_features_are_rectified_rounded_and_bounded() -> None:
    weight = np.zeros((1, 9), np.int16)
    weight[0, 4] = 3
    z = np.array([[[-1, 0, 1, 2, 127]]], np.int32)
    assert new_channels(features_of(weight=weight), z) == [[[0, 0, 2, 3, 127]]]


def test_biases_lie_between_anchors() -> None:
    features = features_of(bias=np.array([[0], [200]], np.int32))
    z = np.zeros((1, 1, 1), np.int32)
    found = [new_channels(features, z, quality) for quality in (100, 5050, 10_000)]
    assert found == [[[[0]]], [[[50]]], [[[100]]]]


@given(
    seed=st.integers(0, 999),
    channels=st.sampled_from([1, 4, 7]),
    largest=st.sampled_from([1, 300, 32767]),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    spread=st.sampled_from([0, 1, 20, 127]),
    quality=qualities,
)
def test_features_are_those_of_the_second_decoder(
    seed: int, channels: int, largest: int, height: int, width: int, spread: int, quality: int
) -> None:
    features = random_features(seed, channels, largest)
    z = np.random.default_rng(seed).integers(-spread, spread + 1, (channels, height, width))
    expected = reference_decoder.hyper_features(tensors_of(features), z.astype(np.int64), quality)
    assert new_channels(features, z.astype(np.int32), quality) == expected.tolist()


# -- scales ------------------------------------------------------------------


def test_scales_see_features_behind_the_hyper_latent() -> None:
    weight = np.zeros((1, 9), np.int16)
    weight[0, 3] = 2  # the cell on the left
    scales = scales_of(1, 2, weight=np.array([[0, 6]] * 16, np.int8))
    scales = replace(scales, features=features_of(weight=weight))
    z = np.array([[[5, 2]]], np.int32)
    # three times what the cell on the left has, at the cells that pass one codes
    assert first_indexes(scales, z, 5000, (1, 8)).tolist() == [[[0, 0, 0, 0, 0, 15, 0, 15]]]


def test_features_of_another_hyper_latent_are_refused() -> None:
    with pytest.raises(WeightsError, match="channels are not those of its features"):
        replace(scales_of(1, 4), features=features_of(2, 1))


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize("quality", [100, 4321, 10_000])
def test_the_network_of_training_is_what_coders_run(quality: int) -> None:
    import torch

    from caezip.config import rate_of_quality
    from caezip.scale_network import FEATURE_STEPS, ScalePredictor, scale_predictor_state

    model = load_model()
    scales = model.coder.scales
    assert scales.features is not None
    predictor = ScalePredictor(model.sizes)
    predictor.load_state_dict(scale_predictor_state(scales))
    rng = np.random.default_rng(1)
    z = np.round(rng.laplace(0, 1.5, (scales.hyper_channels, 5, 6))).astype(np.int32)
    with torch.no_grad():
        rate = torch.tensor([rate_of_quality(quality)])
        symbols = torch.from_numpy(z.astype(np.float32))[None]
        seen = predictor.seen(symbols, rate)[0].numpy()
        index = predictor(symbols, rate, (20, 24))[0].round().clamp(0, 63).numpy()
    seen[scales.hyper_channels :] *= FEATURE_STEPS
    off = np.abs(seen - scales.seen(z, quality))
    assert off.max() <= 1  # a bias between two anchors is rounded
    assert np.mean(off > 0) < 0.01
    found = first_indexes(scales, z, quality, (20, 24))
    assert np.abs(index - found)[found > 0].max() <= 1


@pytest.mark.usefixtures("training")
def test_weights_are_read_as_they_were_written() -> None:
    from caezip.training.export import read_weights, weight_tensors
    from caezip.training.objective import TrainingModel

    model = load_model()
    trained = TrainingModel(model.sizes)
    path = find_model(None).file
    trained.load_state_dict(read_weights(path), strict=False)  # type: ignore[arg-type]  # it is a path where weights are installed as files
    tensors = weight_tensors(trained)
    assert model.coder.scales.features is not None
    for name, value in tensors_of(model.coder.scales.features).items():
        assert np.array_equal(tensors[name], value), name
    assert np.array_equal(tensors["integer_scales.weight"], model.coder.scales.weight)


def test_models_without_features_see_the_hyper_latent_alone() -> None:
    scales: IntegerScales = load_model(find_model(None, tune="ssim").model_id).coder.scales
    z = np.ones((scales.hyper_channels, 2, 3), np.int32)
    assert scales.features is None
    assert scales.seen(z, 5000) is z


# -- weights that are none ---------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"weight": np.zeros((1, 17), np.int16)}, r"weight: found \(1, 17\), allowed is \(1, 9\)"),
        ({"weight": np.zeros((2, 18), np.int16)}, r"weight: found \(2, 18\), allowed is \(1, 18\)"),
        ({"weight": np.zeros(18, np.int16)}, "must be matrices"),
        ({"bias": np.zeros(1, np.int32)}, "must be matrices"),
        ({"bias": np.zeros((1, 1), np.int32)}, "must be matrices"),
        ({"shift": 0}, "shift: found 0, allowed are 1 to 24"),
        ({"shift": 25}, "shift: found 25, allowed are 1 to 24"),
        ({"bias": np.full((2, 1), 2**31 - 1, np.int32)}, "can exceed 31 bits"),
    ],
)
def test_features_that_are_none_are_refused(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=f"hyper-features.*{message}"):
        features_of(2, **parts)


def test_sums_beyond_31_bits_are_refused() -> None:
    features_of(57, weight=np.full((1, 9 * 57), 32767, np.int16))
    with pytest.raises(WeightsError, match="can exceed 31 bits"):
        features_of(58, weight=np.full((1, 9 * 58), 32767, np.int16))
