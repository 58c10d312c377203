"""The folder that a benchmark writes its results to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caezip.errors import OutputError
from caezip.image_io import write_atomically


@dataclass(frozen=True)
class OutputFolder:
    """Where results go; with ``force`` they may replace those of an earlier run."""

    folder: Path
    force: bool

    def prepare(self, names: Sequence[str]) -> None:
        """Fail now rather than after an hour: raises OutputError if ``names`` cannot be written."""
        existing = [name for name in names if (self.folder / name).exists()]
        if existing and not self.force:
            raise OutputError(
                f"{self.folder}: has {', '.join(existing)} already; --force overwrites them"
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.folder}: cannot be made a folder: {error.strerror or error}"
            ) from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise OutputError(f"{self.folder}: cannot be written to")

    def write(self, name: str, data: bytes) -> None:
        """Whole or not at all. Raises OutputError."""
        write_atomically(self.folder / name, data, force=self.force)
