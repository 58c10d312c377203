"""OpenVINO without its model converter.

Importing the package would also import ``openvino.tools.ovc``, which caezip has no use
for: command-line parsers, an HTTP client and a telemetry library, half of the time that
the import takes. OpenVINO itself goes on without it where it is missing, so it is
declared missing while the package is imported.
"""

from __future__ import annotations

import importlib
import sys
from threading import Lock
from types import ModuleType

_CONVERTER = "openvino.tools.ovc"
_importing = Lock()


def load_openvino() -> ModuleType:
    """The package. A program that imported it before has it as it was."""
    with _importing:  # what another thread has half imported is of no use
        if "openvino" in sys.modules:
            return sys.modules["openvino"]
        hidden = _CONVERTER not in sys.modules
        if hidden:
            sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # how Python spells "missing"
        try:
            return importlib.import_module("openvino")
        finally:
            if hidden:
                del sys.modules[_CONVERTER]
