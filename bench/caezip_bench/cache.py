"""Outcomes of earlier runs, so that an interrupted or a wider run need not repeat them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from caezip.errors import OutputError
from caezip.image_io import write_atomically
from caezip_bench.runner import Measurement, Outcome, Task, file_sha256
from caezip_bench.versions import versions

MEASURING = ("peers", "metrics.py", "runner.py")  # what in this package decides an outcome
READING = ("image_io.py", "picture.py")  # and in caezip, for any codec


@dataclass(frozen=True)
class Cache:
    """A folder with one JSON file for every image and codec.

    A file's name is a digest of all that decides the outcome: the image's bytes, the
    codec's settings and qualities, the metrics, the versions of all libraries, and for
    codecs that are made of caezip its sources and weights. What has changed is thus
    simply not found.
    """

    folder: Path
    weights_folder: Path | None = None  # None: the installed ones

    def recall(self, task: Task) -> Outcome | None:
        """The outcome of the same task, if there is one that can be read."""
        try:
            path = self._path(task)
            document = json.loads(path.read_bytes())
            return Outcome(
                sha256=document["sha256"],
                measurements=tuple(
                    Measurement(**(row | {"image": task.image})) for row in document["measurements"]
                ),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, task: Task, outcome: Outcome) -> None:
        """Remember an outcome; failures are not, so that the next run tries again."""
        if outcome.failure is not None or outcome.skip_reason is not None:
            return
        document = {
            "sha256": outcome.sha256,
            "measurements": [asdict(row) for row in outcome.measurements],
        }
        with suppress(OSError, OutputError):  # it costs time, not results
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(task), json.dumps(document).encode(), force=True)

    def _path(self, task: Task) -> Path:
        digest = hashlib.sha256(self._measuring)
        digest.update(file_sha256(task.file).encode())
        peer = task.peer
        if peer.is_made_of_caezip:
            digest.update(self._caezip)
        parts = [peer.name, peer.settings, list(peer.qualities), list(task.metrics)]
        digest.update(json.dumps(parts).encode())
        return self.folder / f"{digest.hexdigest()[:32]}.json"

    @cached_property
    def _measuring(self) -> bytes:
        """Of the libraries and of what measures any codec."""
        own = Path(__file__).parent
        sources = [own / name for name in MEASURING]
        sources += [folder / name for folder in _folders("caezip") for name in READING]
        return _digest(json.dumps(versions(), sort_keys=True), sources)

    @cached_property
    def _caezip(self) -> bytes:
        """Of caezip itself."""
        sources = [*_folders("caezip"), *_folders("caezip_weights")]
        if self.weights_folder is not None:
            sources.append(self.weights_folder)
        return _digest("caezip", sources)


def _folders(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    return [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]


def _digest(text: str, sources: Iterable[Path]) -> bytes:
    """Of ``text`` and of the code and data in files and folders."""
    digest = hashlib.sha256(text.encode())
    for source in sources:
        files = [source] if source.is_file() else sorted(source.rglob("*"))
        for file in files:
            if file.suffix in (".py", ".json", ".npz", ".safetensors") and file.is_file():
                digest.update(f"{file.name} {file_sha256(file)}".encode())
    return digest.digest()
