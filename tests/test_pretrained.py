"""Weights are found, verified and loaded, or refused with a reason; never used altered."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load, save

import caezip
from caezip import Codec, ConvolutionalAutoencoder, container
from caezip.config import DEFAULT_TUNE, INDEX_PER_NAT, SCALE_MIN
from caezip.errors import UnknownModelError, WeightsError
from caezip.image_io import Pixels
from caezip.pretrained import find_model, list_models, load_model
from caezip.scales import SCALE_COUNT
from forge import with_model_id
from images import smooth

if TYPE_CHECKING:
    from caezip.config import ModelConfig

FILE_NAME = "model.safetensors"


def write_manifest(folder: Path, **changes: object) -> None:
    """A manifest whose one entry is the file in ``folder``, but for ``changes``."""
    path = folder / FILE_NAME
    entry: dict[str, object] = {
        "model_id": 40000,
        "name": "copy",
        "file": FILE_NAME,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "0" * 64,
        "details": {},
    }
    entry.update(changes)
    manifest = {"manifest_version": 1, "models": [entry]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="session")
def installed() -> bytes:
    """The installed weights file."""
    return find_model(None).file.read_bytes()


def encode_with(folder: Path) -> bytes:
    return Codec(threads=1, weights_folder=folder).encode(smooth(16, 16))


# -- the weights that are installed ------------------------------------------


def test_every_installed_file_is_the_one_that_the_manifest_says() -> None:
    models = list_models()
    assert models
    for model_id, entry in models.items():
        assert 0 <= model_id <= 0xFFFF
        assert hashlib.sha256(entry.file.read_bytes()).hexdigest() == entry.sha256


def test_the_default_is_the_last_model_of_the_manifest_with_the_default_tune() -> None:
    last = [entry for entry in list_models().values() if entry.tune == DEFAULT_TUNE][-1]
    assert find_model(None) == last
    assert caezip.info(caezip.encode(smooth(8, 8))).model_id == last.model_id


def test_a_copy_in_another_folder_works_like_the_installed_weights(
    tmp_path: Path, installed: bytes, codec: Codec, photo: Pixels
) -> None:
    (tmp_path / FILE_NAME).write_bytes(installed)
    write_manifest(tmp_path)
    for folder in (tmp_path, str(tmp_path)):
        other = Codec(threads=1, weights_folder=folder)
        data = other.encode(photo, quality=50)
        assert caezip.info(data).model_id == 40000
        original = codec.encode(photo, quality=50)
        assert data == with_model_id(original, 40000)
        assert np.array_equal(other.decode(data), codec.decode(original))
    with pytest.raises(UnknownModelError):
        codec.decode(data)


# -- unknown models ----------------------------------------------------------


@pytest.mark.parametrize(("model_id", "kind"), [(1999, "a release"), (65535, "trained by a user")])
def test_a_file_of_an_unknown_model_names_it(
    codec: Codec, encoded: bytes, model_id: int, kind: str
) -> None:
    known = caezip.info(encoded).model_id
    data = with_model_id(encoded, model_id)
    assert caezip.info(data).model_id == model_id
    for read in (codec.decode, codec.decode_latents, caezip.decode):
        with pytest.raises(UnknownModelError, match=f"model {model_id} .*{kind}") as caught:
            read(data)
        assert str(known) in str(caught.value)


def test_an_autoencoder_of_an_unknown_model_is_refused() -> None:
    with pytest.raises(UnknownModelError, match="model 1999"):
        ConvolutionalAutoencoder.from_pretrained(1999)


def test_an_empty_manifest_has_no_models(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"manifest_version": 1, "models": []}')
    with pytest.raises(UnknownModelError, match="in the folder given, found are: none"):
        encode_with(tmp_path)


# -- altered and missing files -----------------------------------------------


@pytest.mark.parametrize("place", [0, 1000, -1])
def test_an_altered_byte_anywhere_is_noticed(tmp_path: Path, installed: bytes, place: int) -> None:
    altered = bytearray(installed)
    altered[place] ^= 1
    (tmp_path / FILE_NAME).write_bytes(altered)
    digest = hashlib.sha256(installed).hexdigest()
    write_manifest(tmp_path, sha256=digest)
    with pytest.raises(WeightsError, match=rf"{FILE_NAME} has sha256 .*manifest says {digest}"):
        encode_with(tmp_path)


def test_a_missing_file_or_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"manifest\.json does not exist"):
        encode_with(tmp_path)
    with pytest.raises(WeightsError, match=r"nowhere/manifest\.json does not exist"):
        encode_with(tmp_path / "nowhere")
    write_manifest(tmp_path)
    with pytest.raises(WeightsError, match=rf"{FILE_NAME} cannot be read: No such file"):
        encode_with(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.5, 0.999])
def test_truncated_files_are_malformed_even_with_a_matching_sha256(
    tmp_path: Path, installed: bytes, share: float
) -> None:
    (tmp_path / FILE_NAME).write_bytes(installed[: int(share * len(installed))])
    write_manifest(tmp_path)
    with pytest.raises(WeightsError, match=f"{FILE_NAME} is malformed"):
        encode_with(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '"text"',
        "{}",
        '{"manifest_version": 1}',
        '{"manifest_version": 1, "models": 3}',
        '{"manifest_version": 1, "models": [3]}',
        '{"manifest_version": 1, "models": [{}]}',
        '{"manifest_version": 2, "models": []}',
        "\udcff",
    ],
)
def test_malformed_manifests_are_weights_errors(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(WeightsError, match=r"weights: .*manifest\.json"):
        encode_with(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_id": "no number"},
        {"model_id": None},
        {"model_id": 65536},
        {"model_id": -1},
        {"file": None},
        {"file": 7},
        {"details": 7},
    ],
)
def test_manifest_entries_with_impossible_values_are_weights_errors(
    tmp_path: Path, installed: bytes, changes: dict[str, Any]
) -> None:
    (tmp_path / FILE_NAME).write_bytes(installed)
    write_manifest(tmp_path, **changes)
    with pytest.raises(WeightsError, match=r"manifest\.json is malformed"):
        encode_with(tmp_path)


# -- files with a matching sha256 and wrong contents -------------------------


def _without(name: str) -> Any:
    return lambda tensors: tensors.pop(name)


def _replaced(name: str, value: NDArray[Any]) -> Any:
    return lambda tensors: tensors.update({name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("config"), "malformed"),
        (_without("hyper.frequencies"), "malformed"),
        (_without("integer_scales.shift"), "malformed"),
        (_without("integer_scales.evidence"), "malformed"),
        (_without("analysis.embed.weight"), "do not fit the network"),
        (_replaced("config", np.frombuffer(b"{", np.uint8)), "malformed"),
        (_replaced("config", np.frombuffer(b"[1]", np.uint8)), "do not fit|malformed"),
        (_replaced("config", np.frombuffer(b'{"depth": 3}', np.uint8)), "do not fit|malformed"),
        (_replaced("hyper.lengths", np.array([2], np.int32)), "do not add up"),
        (_replaced("latent.offsets", np.array([2], np.int32)), "do not add up"),
        (_replaced("integer_scales.shift", np.array(40)), " shift: found 40"),
        (_replaced("integer_scales.evidence_shift", np.array(0)), "evidence_shift: found 0"),
        (_replaced("integer_scales.shift", np.array([], np.int32)), "malformed"),
        (_replaced("integer_scales.evidence_shift", np.array([3, 3])), "malformed"),
        (_replaced("integer_scales.weight", np.zeros((16, 2), np.int8)), "differ in channels"),
        (_replaced("integer_scales.across", np.zeros((2, 2), np.int8)), r"across: found \(2, 2\)"),
        (_replaced("integer_hyper_features.shift", np.array(40)), "features shift: found 40"),
        (_replaced("integer_hyper_features.bias", np.zeros((2, 3), np.int32)), "weight: found"),
        (_without("integer_hyper_features.bias"), "malformed"),
        (_without("integer_hyper_features.weight"), "channels are not the scale predictor's"),
        (_replaced("analysis.embed.weight", np.zeros((2, 2), np.float16)), "do not fit"),
        (_replaced("row_step.analysis.embed.weight", np.ones(3, np.float32)), "do not fit"),
        (_replaced("something.else", np.zeros(3, np.float32)), "do not fit the network"),
    ],
)
def test_contents_that_do_not_make_a_model_are_weights_errors(
    tmp_path: Path, installed: bytes, change: Any, message: str
) -> None:
    tensors = load(installed)
    change(tensors)
    (tmp_path / FILE_NAME).write_bytes(save(tensors))
    write_manifest(tmp_path)
    with pytest.raises(WeightsError, match=message) as caught:
        encode_with(tmp_path)
    assert "\n" not in str(caught.value)  # the command prints one line


@pytest.mark.parametrize("table", ["bias", "second_bias"])
def test_weights_whose_sums_could_overflow_are_refused(
    tmp_path: Path, installed: bytes, table: str
) -> None:
    tensors = load(installed)
    name = f"integer_scales.{table}"
    tensors[name] = np.full_like(tensors[name], 2**31 - 1)
    (tmp_path / FILE_NAME).write_bytes(save(tensors))
    write_manifest(tmp_path)
    with pytest.raises(WeightsError, match="its sums can exceed 31 bits"):
        encode_with(tmp_path)


# -- from a model to a file and back ------------------------------------------


@pytest.mark.usefixtures("training")
def test_what_is_exported_is_read_back_but_for_its_rounding(
    tiny_config: ModelConfig, tmp_path: Path
) -> None:
    from caezip.config import INDEX_PER_NAT
    from caezip.training.export import export, read_weights
    from caezip.training.objective import TrainingModel
    from caezip.training.optimizer import LINEAR_PATH

    torch.manual_seed(5)
    model = TrainingModel(tiny_config).eval()
    with torch.no_grad():
        for parameter in model.network.scales.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    model_id = export(model, tmp_path, name="tiny", details={})
    path = tmp_path / "tiny.safetensors"
    found = read_weights(path)
    state = model.state_dict()
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert sorted(found) == sorted(trained)

    tensors = load(path.read_bytes())
    shift, evidence_shift = (
        int(tensors[f"integer_scales.{name}"]) for name in ("shift", "evidence_shift")
    )
    sum_step = 1 / (INDEX_PER_NAT * 2**shift)
    evidence_step = 1 / 16
    features_step = 2.0 ** -int(tensors["integer_hyper_features.shift"]) / 4  # of quarters
    # evidence times a weight counts in steps of the sums once it is shifted
    mixing_step = sum_step / (evidence_step * 2**evidence_shift)
    steps = {
        "linear.weight": sum_step,
        "bias.table": sum_step,
        "second_bias.table": sum_step,
        "evidence": evidence_step,
        "across.weight": mixing_step,
        "around.weight": mixing_step,
        "features.weight": features_step,
        "features_bias.table": features_step,
    }
    neighbours = torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]])  # pass two sees only these
    state["network.scales.around.weight"] *= neighbours
    state["network.hyper_prior.before.weight"] *= model.network.hyper_prior.seen
    first_step, second_step = (
        2.0 ** -int(tensors[f"integer_hyper_prior.{name}_shift"]) for name in ("first", "second")
    )
    for name in trained:
        if name.startswith("network.hyper_prior."):
            # sixteenths of a magnitude, 32nds of a hidden value, less than 8 indexes a nat
            step = 16 * first_step / 32 if ".first" in name else 32 * second_step / 4
            assert float((found[name] - state[name]).abs().max()) <= 0.5 * step, name
            continue
        _, _, part = name.partition("network.scales.")
        error = (found[name] - state[name]).abs()
        if part == "linear.weight":
            error[:, tiny_config.hyper_latent_channels :] /= 4  # integers of quarters are read
        if part:
            assert float(error.max()) <= 0.5001 * steps[part], name
        elif state[name].ndim != 4:
            assert float(error.max()) == 0, name
        elif name.startswith(tuple(f"network.{prefix}" for prefix in LINEAR_PATH)):
            assert (error <= 2**-8.6 * state[name].abs() + 2e-7).all(), name
            halves = found[name].half()
            assert torch.equal(halves.float(), found[name]), name
            assert not (halves.view(torch.int16) % 4).any(), name  # 9 bits of 11
        else:  # 64 steps up to the largest weight of each row
            row_steps = state[name].abs().amax((1, 2, 3), keepdim=True) / 64
            assert (error <= 0.5001 * row_steps).all(), name

    # training goes on from the very numbers that the codec uses
    network = load_model(model_id, tmp_path).build_network().state_dict()
    assert {f"network.{name}" for name in network} == set(found)
    for name, tensor in network.items():
        assert torch.equal(tensor, found[f"network.{name}"]), name


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize(
    "change",
    [
        _without("integer_scales.around"),
        _replaced("integer_scales.shift", np.array([], np.int32)),
    ],
)
def test_files_that_training_cannot_go_on_from_are_weights_errors(
    tmp_path: Path, installed: bytes, change: Any
) -> None:
    from caezip.training.export import read_weights

    path = tmp_path / FILE_NAME
    tensors = load(installed)
    change(tensors)
    path.write_bytes(save(tensors))
    with pytest.raises(WeightsError, match=f"{FILE_NAME} is malformed"):
        read_weights(path)


# -- the autoencoder ---------------------------------------------------------


def test_an_autoencoder_takes_weights_from_a_folder(
    weights_folder: Path, encoded: bytes, photo: Pixels
) -> None:
    model_id = container.read_header(encoded).model_id
    default = ConvolutionalAutoencoder.from_pretrained()
    named = ConvolutionalAutoencoder.from_pretrained(model_id, str(weights_folder))
    assert np.array_equal(default.encode(photo).values, named.encode(photo).values)


# -- tables of exported weights ----------------------------------------------


@pytest.fixture(scope="module")
def distributions(training: None) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Symbols and their probabilities, of each scale's table without its escape."""
    from caezip.training.export import _latent_tables

    tables, out, start = _latent_tables(), [], 0
    for length, first in zip(tables.lengths, tables.offsets, strict=True):
        part = tables.frequencies[start : start + length - 1].astype(np.float64)
        out.append((first + np.arange(length - 1), part / part.sum()))
        start += int(length)
    return out


def test_tables_of_symbols_are_even_and_fall_from_zero(
    distributions: list[tuple[NDArray[np.int64], NDArray[np.float64]]],
) -> None:
    assert len(distributions) == SCALE_COUNT
    for symbols, p in distributions:
        assert (symbols == -symbols[::-1]).all()
        assert np.abs(p - p[::-1]).max() < 2.0**-15
        assert (np.diff(p[len(p) // 2 :]) < 2.0**-15).all()


def test_tables_have_their_scales_and_heavier_tails_than_gaussians(
    distributions: list[tuple[NDArray[np.int64], NDArray[np.float64]]],
) -> None:
    for index in (16, 20, 24):  # wide enough for moments, with few symbols of the least frequency
        scale = SCALE_MIN * np.exp(index / INDEX_PER_NAT)
        symbols, p = distributions[index]
        variance, fourth = (float((p * symbols**power).sum()) for power in (2, 4))
        # that of the mixture, whose scales are exp(0.2 g - 0.04), and of rounding
        expected = scale**2 * np.exp(2 * 0.2**2 - 2 * 0.04) + 1 / 12
        assert variance == pytest.approx(expected, rel=0.02)
        assert 3.2 < fourth / variance**2 < 3.8  # 3 in a Gaussian
