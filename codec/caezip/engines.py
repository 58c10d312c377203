"""Which engine runs a model's networks."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from caezip.errors import MissingDependencyError, ParameterError
from caezip.networks import Networks
from caezip.pretrained import Model
from caezip.processor import default_threads, openvino_can_run

ENGINES = ("auto", "openvino", "torch")
PRECISIONS = ("auto", "float32", "bfloat16", "int8")


def engine_for(engine: str, device: str) -> str:
    """The engine that is meant: "auto" is OpenVINO where it can run, torch elsewhere.

    Raises ParameterError or MissingDependencyError for one that cannot.
    """
    installed = importlib.util.find_spec("openvino") is not None
    if engine == "auto":
        return "openvino" if installed and device == "cpu" and openvino_can_run() else "torch"
    if engine == "openvino" and device != "cpu":
        raise ParameterError(f"device: found {device!r}, the engine openvino needs cpu")
    if engine == "openvino" and not installed:
        raise MissingDependencyError("engine: openvino is missing; pip install openvino")
    if engine == "openvino" and not openvino_can_run():
        raise ParameterError("engine: found 'openvino', it needs a processor with AVX")
    return engine


def load_networks(
    model: Model,
    engine: str,
    precision: str,
    device: str,
    threads: int | None,
    cache_folder: Path | None = None,
) -> Networks:
    """The networks of ``model`` on "openvino" or "torch".

    Raises ParameterError, WeightsError.
    """
    if engine == "openvino":
        from caezip.openvino_networks import OpenVinoNetworks

        return OpenVinoNetworks(model, precision, threads or default_threads(), cache_folder)
    from caezip.torch_networks import TorchNetworks

    return TorchNetworks(model, precision, device)
