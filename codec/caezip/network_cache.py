"""Networks as an engine has compiled them, kept from one process to the next.

Compiling takes longer than coding a small picture does. Nothing of any picture is kept.
"""

from __future__ import annotations

import hashlib
import os
import sys
import zlib
from contextlib import suppress
from pathlib import Path

from caezip.errors import OutputError
from caezip.image_io import write_atomically

FOLDER_VARIABLE = "CAEZIP_CACHE"  # another folder, or nothing at all for none
KEPT_FILES = 48  # two models, six networks each, in four settings; some 100 MB at most
CHECK_BYTES = 4  # a CRC-32 in front: engines trust what they are given
SUFFIX = ".network"


def users_folder() -> Path | None:
    """Where the commands keep networks: ``$CAEZIP_CACHE``, or the place for such things.

    None if the variable is empty or the user has no home.
    """
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    with suppress(RuntimeError):  # no home
        home = Path.home()
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA", home / "AppData/Local"), "caezip", "cache")
        if sys.platform == "darwin":
            return home / "Library/Caches/caezip"
        return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache", "caezip")
    return None


class NetworkCache:
    """Compiled networks of one ``identity``: everything that decides what compiling makes.

    Without a folder, or where it cannot be used, nothing is found and nothing is kept.
    """

    def __init__(self, folder: Path | None, identity: str) -> None:
        self._folder = folder
        self._identity = hashlib.sha256(identity.encode()).hexdigest()[:32]

    @property
    def keeps(self) -> bool:
        return self._folder is not None

    def load(self, name: str) -> bytes | None:
        """What was saved as ``name``, if it is there and whole."""
        if self._folder is None or not _is_private(self._folder):
            return None
        with suppress(OSError):
            data = self._path(self._folder, name).read_bytes()
            check, compiled = data[:CHECK_BYTES], data[CHECK_BYTES:]
            if check == _check_of(compiled):
                return compiled
        return None

    def save(self, name: str, compiled: bytes) -> None:
        """Keep ``compiled`` as far as that is possible, and few of the others."""
        if self._folder is None:
            return
        with suppress(OSError, OutputError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_private(self._folder):
                path = self._path(self._folder, name)
                write_atomically(path, _check_of(compiled) + compiled, force=True)
                kept = sorted(
                    self._folder.glob(f"*{SUFFIX}"), key=lambda file: file.stat().st_mtime
                )
                for old in kept[:-KEPT_FILES]:
                    old.unlink()

    def _path(self, folder: Path, name: str) -> Path:
        return folder / f"{self._identity}-{name}{SUFFIX}"


def _check_of(compiled: bytes) -> bytes:
    return zlib.crc32(compiled).to_bytes(CHECK_BYTES, "little")


def _is_private(folder: Path) -> bool:
    """Whether nobody else can write there: what an engine loads decides what it does."""
    try:
        status = folder.stat()
    except OSError:
        return False
    return sys.platform == "win32" or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)
