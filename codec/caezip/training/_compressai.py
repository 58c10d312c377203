"""The one place where the whole compressai package is imported.

compressai imports torchvision, whose wheels are built for CUDA: beside a
CPU-only torch its compiled operators are absent and its import fails with
"operator torchvision::nms does not exist", although nothing here calls them.
Declaring the two operators' signatures is enough for the import to pass.
"""

from __future__ import annotations

import importlib
import sys

import torch

from caezip.errors import MissingDependencyError

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_libraries: list[torch.library.Library] = []  # signatures last as long as their Library


def _declare_torchvision_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch annotates it no further
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            library.define(operator + _SIGNATURE)  # type: ignore[no-untyped-call]  # as above
    _libraries.append(library)


def _forget(package: str) -> None:
    for name in [n for n in sys.modules if n == package or n.startswith(package + ".")]:
        del sys.modules[name]


def _import_entropy_models() -> None:
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _forget("torchvision")
        _declare_torchvision_operators()
    importlib.import_module("compressai.entropy_models")


try:
    _import_entropy_models()
    from compressai.entropy_models import GaussianConditional
except (ImportError, RuntimeError) as error:
    raise MissingDependencyError(
        f"training needs compressai's entropy models, whose import failed: {error}; "
        "install them with: pip install compressai torchvision"
    ) from error

__all__ = ["GaussianConditional"]
