"""Versions of what takes part in a benchmark, and the machine that it ran on."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "caezip",
    "numpy",
    "pillow",
    "pillow-jxl-plugin",
    "torch",
    "openvino",
    "compressai",
    "pytorch-msssim",
    "ssimulacra2",
    "bjontegaard",
    "scipy",
)
PILLOW_LIBRARIES = ("libjpeg_turbo", "webp", "jpg_2000", "zlib")


def versions() -> dict[str, str | None]:
    """By package or library; None for one that is absent."""
    from PIL import features

    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    for library in PILLOW_LIBRARIES:
        found[library] = features.version(library)
    # features.check("avif") warns in a Pillow that has not heard of AVIF
    found["libavif"] = features.version_module("avif") if "avif" in features.modules else None
    return found


def machine() -> dict[str, Any]:
    """Enough to tell whether two runs' seconds can be compared."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return names[0] if names else platform.processor() or platform.machine()
