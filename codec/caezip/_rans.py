"""compressai's C++ range ANS coder, without the rest of compressai.

Importing the package would cost two seconds and fail beside a CPU-only torch
(see `caezip.training._compressai`); its `ans` extension needs neither torch nor
torchvision. The extension is therefore found on disk and loaded by itself.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from importlib.machinery import PathFinder
from typing import Protocol, cast

from caezip.errors import MissingDependencyError


class _Encoder(Protocol):
    def encode_with_indexes(
        self,
        symbols: list[int],
        indexes: list[int],
        cdfs: list[list[int]],
        cdf_sizes: list[int],
        offsets: list[int],
    ) -> bytes: ...


class RansDecoder(Protocol):
    def set_stream(self, stream: bytes) -> None: ...

    def decode_stream(
        self,
        indexes: list[int],
        cdfs: list[list[int]],
        cdf_sizes: list[int],
        offsets: list[int],
    ) -> list[int]: ...


class _AnsModule(Protocol):
    def RansEncoder(self) -> _Encoder: ...  # noqa: N802  # the extension's own name
    def RansDecoder(self) -> RansDecoder: ...  # noqa: N802


@cache
def load_ans() -> _AnsModule:
    """The extension module. Raises MissingDependencyError if it is not installed."""
    name = "compressai.ans"
    if name in sys.modules:
        return cast(_AnsModule, sys.modules[name])
    package = PathFinder.find_spec("compressai")
    folders = package.submodule_search_locations if package else None
    spec = PathFinder.find_spec(name, list(folders)) if folders else None
    if spec is None or spec.loader is None:
        raise MissingDependencyError(
            "entropy coder: compressai's ans extension was not found; "
            "install it with: pip install compressai"
        )
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        raise MissingDependencyError(f"entropy coder: {error}") from error
    return cast(_AnsModule, module)
