"""Finding, checking and loading weights: a manifest and safetensors files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache, cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caezip.config import DEFAULT_TUNE, ModelConfig, parameter_shapes
from caezip.entropy import EntropyCoder
from caezip.errors import ParameterError, UnknownModelError, WeightsError
from caezip.frequency_tables import FrequencyTables
from caezip.hyper_features import IntegerHyperFeatures
from caezip.hyper_prior import IntegerHyperPrior
from caezip.scales import IntegerScales

if TYPE_CHECKING:
    from importlib.abc import Traversable  # moved in 3.11, kept for typing until 3.14

    from caezip.transforms import CodecNetwork

MANIFEST_NAME = "manifest.json"
MANIFEST_VERSION = 1
_TABLE_PARTS = ("frequencies", "lengths", "offsets")
INTEGER_SCALES = "integer_scales."  # prefix of the fields of `IntegerScales`
INTEGER_HYPER_PRIOR = "integer_hyper_prior."  # and of `IntegerHyperPrior`
INTEGER_HYPER_FEATURES = "integer_hyper_features."  # and of `IntegerHyperFeatures`
IntegerPart = type[IntegerScales] | type[IntegerHyperPrior] | type[IntegerHyperFeatures]
_INTEGER_PARTS: tuple[tuple[str, IntegerPart], ...] = (
    (INTEGER_SCALES, IntegerScales),
    (INTEGER_HYPER_PRIOR, IntegerHyperPrior),
    (INTEGER_HYPER_FEATURES, IntegerHyperFeatures),
)


def exported_fields(part: IntegerPart) -> list[str]:
    """Those that are tensors of a weights file; scales' features are a part of their own."""
    return [field.name for field in fields(part) if field.default is MISSING]


ERROR_ENERGY = "encoder.error_energy"  # see `Model.error_energy`
CODER_TENSORS = frozenset(
    {"config", ERROR_ENERGY}
    | {prefix + name for prefix, part in _INTEGER_PARTS for name in exported_fields(part)}
    | {f"{table}.{part}" for table in ("hyper", "latent") for part in _TABLE_PARTS}
)
LAST_ID = 0xFFFF
ROW_STEP = "row_step."  # prefix of the steps of matrices that are stored as int8
ACTIVATION_RANGE = "activation_range."  # prefix: lowest and highest input of a layer in int8
CONTENT = "synthesis.content.weight"  # see `network_array`
FIRST_PRIVATE_ID = 0x8000  # ids from here on belong to weights that users trained


@dataclass(frozen=True)
class ManifestEntry:
    """One model: where its weights are and what they are."""

    model_id: int
    name: str
    file: Traversable
    sha256: str
    details: dict[str, Any]  # data, command, steps, hours …
    tune: str = DEFAULT_TUNE  # what it was trained for, one of `caezip.config.TUNES`


@lru_cache(maxsize=4)
def _parse_manifest(folder: Traversable, _version: object) -> dict[int, ManifestEntry]:
    place = f"{folder}/{MANIFEST_NAME}"
    try:
        manifest = json.loads(folder.joinpath(MANIFEST_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"weights: {place} does not exist") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"weights: {place} cannot be read: {error}") from error
    try:
        if manifest["manifest_version"] != MANIFEST_VERSION:
            raise WeightsError(
                f"weights: {place} has version {manifest['manifest_version']}, "
                f"allowed is {MANIFEST_VERSION}"
            )
        entries = [
            ManifestEntry(
                _checked_id(entry["model_id"]),
                str(entry["name"]),
                folder.joinpath(entry["file"]),
                str(entry["sha256"]),
                dict(entry["details"]),
                str(entry.get("tune", DEFAULT_TUNE)),
            )
            for entry in manifest["models"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(f"weights: {place} is malformed: {error!r}") from error
    return {entry.model_id: entry for entry in entries}


def _checked_id(model_id: object) -> int:
    if type(model_id) is not int or not 0 <= model_id <= LAST_ID:
        raise ValueError(f"model_id {model_id!r} is not an integer from 0 to {LAST_ID}")
    return model_id


def list_models(folder: Path | None = None) -> dict[int, ManifestEntry]:
    """Installed models by id, in the manifest's order, or those of another ``folder``.

    Raises WeightsError if the manifest is missing or malformed.
    """
    where = folder if folder is not None else _installed()
    version = _version_of(where)
    return dict(_parse_manifest(where, version))  # type: ignore[arg-type]  # folders are hashable


@cache
def _installed() -> Traversable:
    try:
        return resources.files("caezip_weights")
    except ModuleNotFoundError:
        raise WeightsError("weights: the package caezip_weights is not installed") from None


def _version_of(folder: Traversable) -> object:
    """What changes with a folder's manifest, which takes less time to ask than it to be read."""
    if not isinstance(folder, Path):
        return None
    try:
        found = (folder / MANIFEST_NAME).stat()
    except OSError:  # reading it will say why
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def find_model(
    model_id: int | None, folder: Path | None = None, tune: str = DEFAULT_TUNE
) -> ManifestEntry:
    """The entry of ``model_id``; of None, the one to encode with: the last tuned for ``tune``.

    Raises UnknownModelError if there is none.
    """
    models = list_models(folder)
    where = "in the folder given" if folder else "installed"
    if model_id is None:
        tuned = [entry for entry in models.values() if entry.tune == tune]
        if tuned:
            return tuned[-1]
        found = ", ".join(sorted({entry.tune for entry in models.values()})) or "none"
        raise UnknownModelError(f"tune: no weights for {tune!r} {where}, found are: {found}")
    if model_id in models:
        return models[model_id]
    known = ", ".join(str(i) for i in models) or "none"
    kind = "weights trained by a user" if model_id >= FIRST_PRIVATE_ID else "a release"
    raise UnknownModelError(
        f"model_id: the file needs the weights of model {model_id} ({kind}), {where} are: {known}"
    )


@dataclass(frozen=True)
class Model:
    """Loaded weights: the entropy coder is ready, the network is built on demand."""

    entry: ManifestEntry
    config: dict[str, int]
    coder: EntropyCoder
    network_weights: dict[str, NDArray[Any]]  # as stored; see `network_arrays`
    activation_ranges: dict[str, NDArray[np.float32]]  # by layer, ``[2]``; empty: float only
    measured_energy: NDArray[np.float32] | None = None  # `error_energy`, if the weights have it

    @cached_property
    def error_energy(self) -> NDArray[np.float32]:
        """Squared error in a patch of one unit of each latent channel: ``[C]``.

        As `caezip.training.calibration.error_energy` measured it, or through the linear path
        alone. Raises WeightsError.
        """
        measured = self.measured_energy
        if measured is not None:
            shape = (self.sizes.latent_channels,)
            if measured.shape != shape or not (np.isfinite(measured) & (measured >= 0)).all():
                raise self._misfit(f"{ERROR_ENERGY}: allowed are {shape[0]} numbers from 0")
            return measured
        columns = network_array(self.network_weights, CONTENT)
        energy: NDArray[np.float32] = np.square(columns).sum(axis=(0, 2, 3))
        return energy

    @cached_property
    def sizes(self) -> ModelConfig:
        """The networks' sizes. Raises WeightsError unless the weights are of such networks."""
        try:
            config = ModelConfig(**self.config)
            expected = parameter_shapes(config)
        except (TypeError, ParameterError) as error:
            raise self._misfit(str(error)) from error
        for name, array in self.network_weights.items():
            kernel = name.removeprefix(ROW_STEP)
            shape = expected.get(kernel)
            if shape is None:
                raise self._misfit(f"{name} is not one of its parameters")
            if array.shape != (shape if kernel == name else shape[:1]):
                raise self._misfit(f"{name} has the shape {array.shape}, allowed is {shape}")
        missing = sorted(expected.keys() - self.network_weights.keys())
        if missing:
            raise self._misfit(f"{missing[0]} is missing")
        if config.lean_decoder:
            colour_of = self.network_weights["synthesis.content.colour_of"]
            if np.count_nonzero(colour_of) != config.plane_count:
                raise self._misfit(f"colour_of: allowed are {config.plane_count} planes")
        return config

    def _misfit(self, reason: str) -> WeightsError:
        return WeightsError(
            f"weights of model {self.entry.model_id}: they do not fit the network: {reason}"
        )

    def build_network(self) -> CodecNetwork:
        """The network in float32, ready for inference. Raises WeightsError."""
        import torch

        from caezip.levels import see_inputs_in_levels
        from caezip.transforms import CodecNetwork, integers_state

        # "meta" skips the random initialisation of eight million weights
        with torch.device("meta"):
            network = CodecNetwork(self.sizes)
        state = {
            name: torch.from_numpy(array)
            for name, array in network_arrays(self.network_weights).items()
        }
        state |= integers_state(self.coder.scales, self.coder.prior)
        try:
            network.load_state_dict(state, assign=True)
        except RuntimeError as error:
            raise self._misfit(" ".join(str(error).split())) from error
        see_inputs_in_levels(network, self.activation_ranges)
        return network.eval().requires_grad_(False)


def network_array(tensors: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.float32]:
    """One parameter in float32; of one that is stored in int8, times its rows' steps.

    The weights of a lean decoder's last layer are made of the planes and colours that are stored.
    """
    if name == CONTENT and name not in tensors:
        planes, colours, colour_of = (
            network_array(tensors, name.replace("weight", part))
            for part in ("planes", "colours", "colour_of")
        )
        channel, colour = colour_of.nonzero()
        of_colours = np.zeros((3, len(planes), len(colour_of)), np.float32)
        of_colours[colour, :, channel] = planes[:, :, 0, 0].T
        whole: NDArray[np.float32] = np.einsum("js,jpc->spc", colours, of_colours)
        return whole.reshape(-1, len(colour_of), 1, 1)
    array: NDArray[np.float32] = tensors[name].astype(np.float32)
    steps = tensors.get(ROW_STEP + name)
    if steps is not None:
        array *= steps.reshape(-1, *[1] * (array.ndim - 1))
    return array


def network_arrays(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """A network's parameters, see `network_array`."""
    names = (name for name in tensors if not name.startswith(ROW_STEP))
    return {name: network_array(tensors, name) for name in names}


def integer_scales(tensors: dict[str, NDArray[Any]]) -> IntegerScales:
    """The scale predictor of a weights file. Raises KeyError, ValueError, WeightsError."""
    features = None  # not all models have any
    if INTEGER_HYPER_FEATURES + "weight" in tensors:
        parts = _parts(tensors, IntegerHyperFeatures, INTEGER_HYPER_FEATURES)
        features = IntegerHyperFeatures(**parts)
    return IntegerScales(**_parts(tensors, IntegerScales, INTEGER_SCALES), features=features)


def integer_hyper_prior(tensors: dict[str, NDArray[Any]]) -> IntegerHyperPrior:
    """The hyper-latent's prior of a weights file. Raises KeyError, ValueError, WeightsError."""
    return IntegerHyperPrior(**_parts(tensors, IntegerHyperPrior, INTEGER_HYPER_PRIOR))


def _parts(tensors: dict[str, NDArray[Any]], kind: IntegerPart, prefix: str) -> dict[str, Any]:
    """Its fields: arrays, and shifts as numbers. Raises KeyError, ValueError."""
    parts = {name: tensors[prefix + name] for name in exported_fields(kind)}
    return {name: part.item() if name.endswith("shift") else part for name, part in parts.items()}


def _verified_tensors(entry: ManifestEntry) -> dict[str, NDArray[Any]]:
    """What is in the file of ``entry``. Raises WeightsError if it is altered or malformed."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = entry.file.read_bytes()
    except OSError as error:
        raise WeightsError(f"weights: {entry.file} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry.sha256:
        raise WeightsError(
            f"weights: {entry.file} has sha256 {digest}, the manifest says {entry.sha256}"
        )
    try:
        tensors: dict[str, NDArray[Any]] = load(data)
    except (SafetensorError, ValueError) as error:
        raise WeightsError(f"weights: {entry.file} is malformed: {error!r}") from error
    return tensors


@cache
def load_model(model_id: int | None = None, folder: Path | None = None) -> Model:
    """Read and verify the weights of ``model_id`` (None: those to encode with by default).

    Raises UnknownModelError, or WeightsError if the file is missing, altered or malformed.
    """
    entry = find_model(model_id, folder)
    tensors = _verified_tensors(entry)
    try:
        config = json.loads(tensors["config"].tobytes())
        coder = EntropyCoder(
            FrequencyTables(*(tensors[f"hyper.{part}"] for part in _TABLE_PARTS)),
            FrequencyTables(*(tensors[f"latent.{part}"] for part in _TABLE_PARTS)),
            integer_scales(tensors),
            integer_hyper_prior(tensors),
        )
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(f"weights: {entry.file} is malformed: {error!r}") from error
    network = {
        name: array
        for name, array in tensors.items()
        if name not in CODER_TENSORS and not name.startswith(ACTIVATION_RANGE)
    }
    ranges = {
        name.removeprefix(ACTIVATION_RANGE): array
        for name, array in tensors.items()
        if name.startswith(ACTIVATION_RANGE)
    }
    return Model(entry, config, coder, network, ranges, tensors.get(ERROR_ENERGY))
