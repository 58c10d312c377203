"""From a trained model to a weights file: half precision, integers, and a manifest entry."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from caezip.config import DEFAULT_TUNE, INDEX_PER_NAT
from caezip.entropy import EntropyCoder
from caezip.errors import ParameterError, WeightsError
from caezip.frequency_tables import PRECISION_BITS, FrequencyTables
from caezip.hyper_features import IntegerHyperFeatures
from caezip.hyper_prior import HYPER_SCALE_COUNT, PHASES
from caezip.hyper_prior_network import (
    HYPER_INDEX_PER_NAT,
    HYPER_SCALE_MIN,
    integer_hyper_prior_of,
    logistic_bits,
)
from caezip.image_io import write_atomically
from caezip.pretrained import (
    ACTIVATION_RANGE,
    CODER_TENSORS,
    ERROR_ENERGY,
    FIRST_PRIVATE_ID,
    INTEGER_HYPER_FEATURES,
    INTEGER_HYPER_PRIOR,
    INTEGER_SCALES,
    MANIFEST_NAME,
    MANIFEST_VERSION,
    ROW_STEP,
    exported_fields,
    integer_hyper_prior,
    integer_scales,
    list_models,
    network_arrays,
)
from caezip.processor import LARGEST_WEIGHT
from caezip.scale_network import EVIDENCE_STEP, FEATURE_STEPS, ScalePredictor, scale_of_index
from caezip.scales import NEIGHBOURS, SCALE_COUNT, IntegerScales
from caezip.training.calibration import FLOAT_LAYERS
from caezip.training.objective import TrainingModel
from caezip.transforms import integers_state

ESCAPE_MASS = 1e-9  # probability left to symbols outside a table
HALF_PRECISION_LIMIT = 65376.0  # of 9 bits
# How far predicted scales are off, in nats: what made the symbols of training photographs
# smallest, at all qualities. The true ones are a bit smaller, as the dead zone leaves more zeros.
SCALE_SPREAD, SCALE_BIAS = 0.2, -0.04
MIXED_SCALES = 9  # nodes of the quadrature; more change no frequency by 1%
TABLE_REACH = 6.0  # scales from the middle to a table's end
HYPER_TABLE_REACH = 9.0  # the same, of logistic ones
LARGEST_FEATURE_WEIGHT = 1023  # sums are exact in float32 then, and features are rounded anyway


def _frequencies(probabilities: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Positive integers proportional to ``probabilities`` that sum to 2^16.

    Every entry gets one; the rest is shared by largest remainder.
    """
    total = (1 << PRECISION_BITS) - len(probabilities)
    shares = probabilities / probabilities.sum() * total
    counts = np.floor(shares).astype(np.int64)
    order = np.argsort(counts - shares, kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    frequencies: NDArray[np.uint16] = (counts + 1).astype(np.uint16)
    return frequencies


def _tables(
    distributions: list[tuple[int, NDArray[np.float64]]],
) -> FrequencyTables:
    """Tables from ``(first symbol, probabilities)`` pairs, an escape added to each."""
    parts = [_frequencies(np.append(p, max(ESCAPE_MASS, 1 - p.sum()))) for _, p in distributions]
    return FrequencyTables(
        np.concatenate(parts),
        np.array([len(part) for part in parts], np.int32),
        np.array([first for first, _ in distributions], np.int32),
    )


def _hyper_tables() -> FrequencyTables:
    """Logistic distributions: of each scale one for each part of a step that a mean can be at."""
    means = (torch.arange(PHASES, dtype=torch.float64) - PHASES // 2) / PHASES
    out = []
    for index in range(HYPER_SCALE_COUNT):
        log_scale = math.log(HYPER_SCALE_MIN) + index / HYPER_INDEX_PER_NAT
        reach = math.ceil(HYPER_TABLE_REACH * math.exp(log_scale)) + 1
        symbols = torch.arange(-reach, reach + 1, dtype=torch.float64)
        lengths = logistic_bits(
            symbols, means[:, None], torch.tensor(log_scale, dtype=torch.float64)
        )
        out += [(-reach, probabilities) for probabilities in (2.0**-lengths).numpy()]
    return _tables(out)


def _latent_tables() -> FrequencyTables:
    """Mixtures of Gaussians around each scale.

    No predicted scale is exactly right, so what is coded with a table has scales around the
    table's: a scale mixture (Wainwright and Simoncelli 2000, "Scale Mixtures of Gaussians
    and the Statistics of Natural Images"), log-normal here, summed by Gauss-Hermite quadrature.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(MIXED_SCALES)  # type: ignore[no-untyped-call]  # numpy 1 has no annotation for it
    factors = np.exp(SCALE_SPREAD * nodes + SCALE_BIAS)
    out = []
    for scale in scale_of_index(torch.arange(SCALE_COUNT, dtype=torch.float64)).tolist():
        reach = math.ceil(TABLE_REACH * scale)
        ends = torch.arange(-reach, reach + 2, dtype=torch.float64) - 0.5
        below = torch.special.ndtr(ends[:, None] / torch.from_numpy(scale * factors)).numpy()
        out.append((-reach, np.diff(below, axis=0) @ (weights / weights.sum())))
    return _tables(out)


def _power_of_two_step(values: NDArray[np.float64], most: int = 127) -> int:
    """The largest exponent at which ``values`` times 2^exponent are no larger than ``most``."""
    largest = max(float(np.abs(values).max()), 1e-6)
    return int(np.clip(np.floor(np.log2(most / largest)), 1, 16))


def _int8(values: NDArray[np.float64], exponent: int) -> NDArray[np.int8]:
    rounded: NDArray[np.int8] = np.clip(np.round(values * 2**exponent), -127, 127).astype(np.int8)
    return rounded


def in_int8(kernel: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A kernel ``[O, I, h, w]`` as integers up to `LARGEST_WEIGHT`, and its rows' steps ``[O]``."""
    rows = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True)
    steps = np.maximum(rows, np.float32(1e-12)) / np.float32(LARGEST_WEIGHT)
    return np.round(kernel / steps).astype(np.int8), steps.reshape(-1)


def _nine_bits(values: NDArray[np.float16]) -> NDArray[np.float16]:
    """Rounded to 9 bits of 11: the others are hardly worth anything, and cannot be compressed."""
    rounded: NDArray[np.float16] = ((values.view(np.uint16) + 2) & 0xFFFC).view(np.float16)
    return rounded


def _integer_scales(model: TrainingModel) -> IntegerScales:
    """int8 weights at the finest power-of-two steps that clip nothing."""
    predictor = model.network.scales

    def values(parameter: torch.Tensor) -> NDArray[np.float64]:
        array: NDArray[np.float64] = parameter.detach().double().numpy()
        return array

    features = _integer_features(predictor)
    weight = values(predictor.linear.weight)[:, :, 0, 0] * INDEX_PER_NAT
    if features is not None:
        weight[:, features.channels :] /= FEATURE_STEPS
    across = values(predictor.across.weight)[:, :, 0, 0] * INDEX_PER_NAT
    kernels = values(predictor.around.weight)[:, 0] * INDEX_PER_NAT
    around = np.stack([kernels[:, 1 + row, 1 + column] for row, column in NEIGHBOURS], axis=1)
    evidence = values(predictor.evidence)
    mixing_step = _power_of_two_step(np.concatenate([across, around], axis=1))
    shift = min(_power_of_two_step(weight), EVIDENCE_STEP + mixing_step - 1)
    bias, second_bias = (
        np.round(values(table.table) * INDEX_PER_NAT * 2**shift).astype(np.int32)
        for table in (predictor.bias, predictor.second_bias)
    )
    return IntegerScales(
        weight=_int8(weight, shift),
        bias=bias,
        second_bias=second_bias,
        evidence=_int8(evidence, EVIDENCE_STEP),
        across=_int8(across, mixing_step),
        around=_int8(around, mixing_step),
        shift=shift,
        evidence_shift=EVIDENCE_STEP + mixing_step - shift,
        features=features,
    )


def _integer_features(predictor: ScalePredictor) -> IntegerHyperFeatures | None:
    """int16 weights up to `LARGEST_FEATURE_WEIGHT`, so that sums are exact in float32 too."""
    if predictor.features is None or predictor.features_bias is None:
        return None
    # all channels of a cell together
    kernels = predictor.features.weight.detach().double().permute(0, 2, 3, 1).flatten(1)
    weight: NDArray[np.float64] = (kernels * FEATURE_STEPS).numpy()
    bias = (predictor.features_bias.table.detach().double() * FEATURE_STEPS).numpy()
    shift = _power_of_two_step(weight, LARGEST_FEATURE_WEIGHT)
    return IntegerHyperFeatures(
        weight=np.round(weight * 2**shift).astype(np.int16),
        bias=np.round(bias * 2**shift).astype(np.int32),
        shift=shift,
    )


def weight_tensors(
    model: TrainingModel, ranges: dict[str, NDArray[np.float32]] | None = None
) -> dict[str, NDArray[Any]]:
    """Everything that a weights file holds, by name.

    ``ranges`` are `caezip.training.calibration.activation_ranges`; without them the
    weights run in float only.

    Matrices are nearly all of the size. They are stored as int8 with a step per
    row, but for the linear path from patch to latent to patch: the columns of one
    row differ by orders of magnitude there, and every error is seen in the picture.
    """
    hyper, latent, scales = _hyper_tables(), _latent_tables(), _integer_scales(model)
    prior = integer_hyper_prior_of(model.network.hyper_prior)
    EntropyCoder(hyper, latent, scales, prior)  # raises if the parts do not fit
    tensors: dict[str, NDArray[Any]] = {
        "config": np.frombuffer(json.dumps(asdict(model.network.config)).encode(), np.uint8),
        "hyper.frequencies": hyper.frequencies,
        "hyper.lengths": hyper.lengths,
        "hyper.offsets": hyper.offsets,
        "latent.frequencies": latent.frequencies,
        "latent.lengths": latent.lengths,
        "latent.offsets": latent.offsets,
    }
    for prefix, part in (
        (INTEGER_SCALES, scales),
        (INTEGER_HYPER_PRIOR, prior),
        (INTEGER_HYPER_FEATURES, scales.features),
    ):
        for name in () if part is None else exported_fields(type(part)):
            tensors[prefix + name] = np.asarray(getattr(part, name))
    for name, tensor in model.network.state_dict().items():
        if name.startswith(("scales.", "hyper_prior.")):  # in integers above
            continue
        array = tensor.detach().float().contiguous().numpy()
        if not np.isfinite(array).all() or np.abs(array).max() > HALF_PRECISION_LIMIT:
            raise WeightsError(f"weights: {name} has values that half precision cannot hold")
        if array.ndim != 4:
            tensors[name] = array  # gains and biases are small, and kept exactly
        elif name.startswith(FLOAT_LAYERS):
            tensors[name] = _nine_bits(array.astype(np.float16))
        else:
            tensors[name], tensors[ROW_STEP + name] = in_int8(array)
    for name, bounds in (ranges or {}).items():
        tensors[ACTIVATION_RANGE + name] = bounds
    if model.error_energy is not None:
        tensors[ERROR_ENERGY] = model.error_energy.numpy()
    return tensors


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Parameters of a `TrainingModel` from a weights file, for `Trainer.start_from`.

    Raises WeightsError if it cannot be read.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"weights: {path} cannot be read: {error}") from error
    try:
        scales, prior = integer_scales(tensors), integer_hyper_prior(tensors)
    except (KeyError, ValueError) as error:
        raise WeightsError(f"weights: {path} is malformed: {error!r}") from error
    stored = {
        name: array
        for name, array in tensors.items()
        if name not in CODER_TENSORS and not name.startswith(ACTIVATION_RANGE)
    }
    state = {
        name: torch.from_numpy(array) for name, array in network_arrays(stored).items()
    } | integers_state(scales, prior)
    return {f"network.{name}": tensor for name, tensor in state.items()}


def export(
    model: TrainingModel,
    folder: Path,
    *,
    name: str,
    details: dict[str, Any],
    ranges: dict[str, NDArray[np.float32]] | None = None,
    tune: str = DEFAULT_TUNE,
    model_id: int | None = None,
    force: bool = False,
) -> int:
    """Write ``folder/name.safetensors`` and its manifest entry; return the model id.

    Without ``model_id`` a private one is derived from the weights' sha256, so
    that files name their weights and two trainings do not collide by habit.
    Raises OutputError, WeightsError, or ParameterError if the id is taken.
    """
    tensors = weight_tensors(model, ranges)
    return write_weights(
        tensors, folder, name=name, details=details, tune=tune, model_id=model_id, force=force
    )


def write_weights(
    tensors: dict[str, NDArray[Any]],
    folder: Path,
    *,
    name: str,
    details: dict[str, Any],
    tune: str,
    model_id: int | None,
    force: bool,
) -> int:
    """`export`, of what a weights file holds."""
    # of arrays in another order of axes it would write the memory as it lies
    data = save({name: np.asarray(array, order="C") for name, array in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    if model_id is None:
        model_id = FIRST_PRIVATE_ID | int(digest[:4], 16) & (FIRST_PRIVATE_ID - 1)
    manifest_path = folder / MANIFEST_NAME
    entries = list_models(folder) if manifest_path.exists() else {}
    if model_id in entries and not force:
        raise ParameterError(f"model_id: {model_id} is taken by {entries[model_id].name}")
    file_name = f"{name}.safetensors"
    models: list[dict[str, Any]] = [
        {
            "model_id": entry.model_id,
            "name": entry.name,
            "file": Path(str(entry.file)).name,
            "sha256": entry.sha256,
            "tune": entry.tune,
            "details": entry.details,
        }
        for entry in entries.values()
        if entry.model_id != model_id and entry.file.name != file_name
    ]
    models.append(
        {
            "model_id": model_id,
            "name": name,
            "file": file_name,
            "sha256": digest,
            "tune": tune,
            "details": details,
        }
    )
    manifest = {"manifest_version": MANIFEST_VERSION, "models": models}
    write_atomically(folder / file_name, data, force=force)
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    write_atomically(manifest_path, text.encode(), force=True)
    return model_id
