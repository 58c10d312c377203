"""Compiles caezip's C sources when it is installed, where there is a compiler.

It also works without.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("codec", "caezip")
SOURCES = (
    *("rans.c", "hyper.c", "loops.c", "products.c", "steps.c"),  # over symbols
    *("decoder.c", "encoder.c"),  # networks
    *("patches.c", "planes.c"),  # to pictures
)
LIBRARY = "_loops.so"  # `caezip.compiled` loads it by this name
# contracted: a product and a sum are one instruction, where there is one. Without traps, which
# nobody sets, what a comparison chooses is computed for many side by side.
OPTIONS = ("-std=c11", "-O3", "-ffp-contract=fast", "-fno-trapping-math", "-shared", "-fPIC")
SWITCH = "CAEZIP_COMPILE"  # 0: leave it out, for wheels that are the same on all systems


class LoopsHook(BuildHookInterface[Any]):
    """A wheel with the library is for one system, of any version of Python: it is no extension."""

    _folder: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        folder = Path(self.root) / FOLDER
        if version == "editable":  # it is imported from where it lies
            compile_loops(folder, folder / LIBRARY)
            return
        self._folder = tempfile.TemporaryDirectory(prefix="caezip-")
        library = Path(self._folder.name) / LIBRARY
        if compile_loops(folder, library):
            system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{system}"
            build_data["pure_python"] = False
            build_data["force_include"][str(library)] = f"caezip/{LIBRARY}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def compile_loops(folder: Path, library: Path) -> bool:
    """Whether ``library`` was made of the sources in ``folder``.

    What an earlier call made is replaced, or removed.
    """
    if os.environ.get(SWITCH) == "0" or sys.platform == "win32":
        return False
    # what Python was made with need not be here
    here = [os.environ["CC"]] if "CC" in os.environ else [sysconfig.get_config_var("CC"), "cc"]
    made = library.with_suffix(".new")
    reasons = []
    sources = [str(folder / name) for name in SOURCES]
    for compiler in filter(None, here):
        reason = _failure([*shlex.split(compiler), *OPTIONS, *sources, "-o", str(made)])
        if not reason:
            made.replace(library)
            return True
        reasons.append(reason)
    library.unlink(missing_ok=True)
    reason = "; ".join(reasons)
    names = " and ".join(SOURCES)
    print(f"caezip: {names} not compiled, coding will be slower: {reason}", file=sys.stderr)  # noqa: T201  # pip shows it with -v
    return False


def _failure(command: list[str]) -> str:
    """Why a command failed; empty if it did not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # a compiler of this system's
    except OSError as error:
        return str(error)
    return done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else ""
