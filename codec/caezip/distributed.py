"""Encoding a dataset on many machines, with Ray Data: ``pip install caezip[ray]``.

Workers are actors that keep their networks loaded. A file that a dead worker had begun
is encoded again by another; outputs appear whole or not at all, and a manifest in
Parquet says what became of every picture, so that a later call goes on where an earlier
one ended.
"""

from __future__ import annotations

import io
import posixpath
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caezip.container import quality_in_hundredths
from caezip.errors import CaeError, MissingDependencyError, OutputError, ParameterError

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.fs import FileSystem

MANIFEST_FOLDER = "_manifest"  # below the target: Parquet files, one after the other
PART_SUFFIX = ".caepart"  # of outputs that are being written
ROWS_A_PART, SECONDS_A_PART = 500, 30.0
FILES_A_TASK = 8  # what is lost with a worker is encoded again
RETRIES = 5  # of a task whose workers die, before the call gives up
ENCODED, FAILED = "encoded", "failed"


@dataclass(frozen=True)
class DatasetSummary:
    """What a call of `encode_dataset` did."""

    encoded: int
    skipped: int  # by an earlier call, with the same settings
    failed: int  # the manifest has their errors; a later call tries them again
    manifest: str  # the folder of the manifest


@dataclass(frozen=True)
class _Settings:
    quality: float
    effort: int
    tune: str
    measure: bool


def encode_dataset(
    source: str,
    target: str,
    *,
    quality: float = 75,
    effort: int = 2,
    tune: str = "psnr",
    workers: int | None = None,
    cpus_per_worker: float = 1,
    measure: bool = True,
    progress: bool = False,
    filesystem: FileSystem | None = None,
) -> DatasetSummary:
    """Encode every picture below ``source`` into the same tree below ``target``.

    Both are local folders or URIs that pyarrow or fsspec know (``s3://bucket/photos``);
    ``filesystem`` is used for both if given. ``workers`` (None: as many as the cluster
    has room for) with ``cpus_per_worker`` threads each. With ``measure`` every file is
    decoded too and its PSNR goes to the manifest.

    Uses the Ray cluster that is initialised, or starts one on this machine. Pictures
    that cannot be encoded are rows with an error, not exceptions. Raises ParameterError,
    OutputError, MissingDependencyError, and CaeError if workers keep dying.
    """
    quality_in_hundredths(quality)
    ray = _imported()
    source_system, source_root = _resolved(source, filesystem)
    target_system, target_root = _resolved(target, filesystem)
    settings = _Settings(quality, effort, tune, measure)
    targets = _targets(source_system, source_root)
    _clean(target_system, target_root)
    done = _done(target_system, target_root, settings)
    waiting = [{"source": name, "target": targets[name]} for name in sorted(targets.keys() - done)]
    manifest = posixpath.join(target_root, MANIFEST_FOLDER)
    counts = {ENCODED: 0, FAILED: 0}
    if waiting:
        target_system.create_dir(manifest, recursive=True)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = progress
        blocks = max(1, -(-len(waiting) // FILES_A_TASK))
        rows = ray.data.from_items(waiting, override_num_blocks=blocks).map(
            _Encoder,
            fn_constructor_args=(
                source_system,
                source_root,
                target_system,
                target_root,
                settings,
                max(1, int(cpus_per_worker)),
            ),
            concurrency=workers or _room_for(ray, cpus_per_worker),
            num_cpus=cpus_per_worker,
            max_restarts=-1,
            max_task_retries=RETRIES,
        )
        try:
            for table in _parts(rows):
                _write_part(target_system, manifest, table)
                for status in table.column("status").to_pylist():
                    counts[status] += 1
        except ray.exceptions.RayError as error:
            reason = (str(error).splitlines() or [""])[0]
            raise CaeError(f"dataset: workers failed for good: {reason}") from error
        finally:
            _clean(target_system, target_root)
    return DatasetSummary(counts[ENCODED], len(done), counts[FAILED], manifest)


def read_manifest(target: str, *, filesystem: FileSystem | None = None) -> pyarrow.Table:
    """The manifest below ``target``: the last row of every picture.

    Columns: source and target (paths below the roots), status ("encoded" or "failed"),
    error, width, height, source_bytes, file_size_bytes, bpp, psnr_db (null if not
    measured or lossless), seconds, quality, effort, tune, written_s (Unix time).
    """
    _imported()
    system, root = _resolved(target, filesystem)
    return _last_rows(system, root)


class _Encoder:
    """A worker: encodes one picture after the other with networks that stay loaded."""

    def __init__(
        self,
        source_system: FileSystem,
        source_root: str,
        target_system: FileSystem,
        target_root: str,
        settings: _Settings,
        threads: int,
    ) -> None:
        from caezip.pipeline import Codec

        self._source, self._source_root = source_system, source_root
        self._target, self._target_root = target_system, target_root
        self._settings = settings
        self._codec = Codec(threads=threads)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        settings = self._settings
        started_s = time.monotonic()
        result: dict[str, Any] = {
            **row,
            "status": ENCODED,
            "error": None,
            "width": None,
            "height": None,
            "source_bytes": None,
            "file_size_bytes": None,
            "bpp": None,
            "psnr_db": None,
            "quality": settings.quality,
            "effort": settings.effort,
            "tune": settings.tune,
        }
        try:
            self._encode(row, result)
        except (CaeError, OSError) as error:
            result |= {"status": FAILED, "error": f"{type(error).__name__}: {error}"}
        result["seconds"] = time.monotonic() - started_s
        result["written_s"] = time.time()
        return result

    def _encode(self, row: dict[str, Any], result: dict[str, Any]) -> None:
        import math

        from caezip.image_io import read_picture
        from caezip.targets import psnr_db

        with self._source.open_input_stream(
            posixpath.join(self._source_root, row["source"])
        ) as stream:
            original = stream.read()
        result["source_bytes"] = len(original)
        picture = read_picture(io.BytesIO(original))
        height, width = picture.samples.shape[:2]
        settings = self._settings
        data = self._codec.encode(
            picture, quality=settings.quality, effort=settings.effort, tune=settings.tune
        )
        result |= {
            "width": width,
            "height": height,
            "file_size_bytes": len(data),
            "bpp": 8 * len(data) / (width * height),
        }
        if settings.measure:
            decoded = self._codec.decode_picture(data).samples
            quality_db = psnr_db(picture.samples, decoded)
            result["psnr_db"] = quality_db if math.isfinite(quality_db) else None
        _write_whole(self._target, posixpath.join(self._target_root, row["target"]), data)


# -- files -------------------------------------------------------------------


def _imported() -> Any:
    """The ray package, with ray.data. Raises MissingDependencyError."""
    try:
        import pyarrow  # noqa: F401  # what Ray Data needs, and may lack
        import ray
        import ray.data
        import ray.exceptions
    except ImportError as error:
        raise MissingDependencyError(f"dataset: {error}; pip install caezip[ray]") from error
    return ray


def _resolved(place: str, filesystem: FileSystem | None) -> tuple[FileSystem, str]:
    """The file system of a folder or URI, and the folder's path on it."""
    from pyarrow import ArrowInvalid, fs

    if filesystem is not None:
        return filesystem, place.rstrip("/")
    if "://" not in place:
        import os

        return fs.LocalFileSystem(), os.path.abspath(place)
    try:
        system, path = fs.FileSystem.from_uri(place)
    except ArrowInvalid:  # not one of pyarrow's own
        try:
            import fsspec

            inner, path = fsspec.core.url_to_fs(place)
        except (ImportError, ValueError) as error:
            raise ParameterError(
                f"dataset: {place!r} is on no known file system: {error}"
            ) from None
        system = fs.PyFileSystem(fs.FSSpecHandler(inner))
    return system, path.rstrip("/")


def _targets(system: FileSystem, root: str) -> dict[str, str]:
    """Pictures below ``root``, and the file that each becomes; both relative."""
    from pyarrow import fs

    from caezip.image_io import IMAGE_SUFFIXES

    try:
        found = system.get_file_info(fs.FileSelector(root, recursive=True))
    except OSError as error:
        raise ParameterError(f"dataset: {root!r} cannot be listed: {error}") from None
    targets: dict[str, str] = {}
    taken: dict[str, str] = {}
    for info in found:
        stem, suffix = posixpath.splitext(info.path)
        if not info.is_file or suffix.lower() not in IMAGE_SUFFIXES:
            continue
        source, target = (posixpath.relpath(path, root) for path in (info.path, f"{stem}.cae"))
        if target in taken:
            raise ParameterError(f"dataset: both {taken[target]} and {source} would be {target}")
        taken[target] = source
        targets[source] = target
    return targets


def _write_whole(system: FileSystem, path: str, data: bytes) -> None:
    """``path`` is the whole of ``data`` or what it was before."""
    system.create_dir(posixpath.dirname(path), recursive=True)
    part = f"{path}.{uuid.uuid4().hex}{PART_SUFFIX}"
    with system.open_output_stream(part) as stream:
        stream.write(data)
    system.move(part, path)


def _clean(system: FileSystem, root: str) -> None:
    """Remove what workers that died had begun to write."""
    from pyarrow import fs

    for info in system.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True)):
        if info.path.endswith(PART_SUFFIX):
            system.delete_file(info.path)


# -- the manifest ------------------------------------------------------------


def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    kinds = {
        "source": pa.string(),
        "target": pa.string(),
        "status": pa.string(),
        "error": pa.string(),
        "width": pa.int64(),
        "height": pa.int64(),
        "source_bytes": pa.int64(),
        "file_size_bytes": pa.int64(),
        "bpp": pa.float64(),
        "psnr_db": pa.float64(),
        "seconds": pa.float64(),
        "quality": pa.float64(),
        "effort": pa.int64(),
        "tune": pa.string(),
        "written_s": pa.float64(),
    }
    return pa.schema(list(kinds.items()))


def _parts(rows: Any) -> Iterator[pyarrow.Table]:
    """Rows as they come, in tables of some size or some seconds."""
    import pyarrow as pa

    collected: list[dict[str, Any]] = []
    written_s = time.monotonic()
    for row in rows.iter_rows():
        collected.append(row)
        now_s = time.monotonic()
        if len(collected) >= ROWS_A_PART or now_s - written_s > SECONDS_A_PART:
            yield pa.Table.from_pylist(collected, schema=_schema())
            collected, written_s = [], now_s
    if collected:
        yield pa.Table.from_pylist(collected, schema=_schema())


def _write_part(system: FileSystem, manifest: str, table: pyarrow.Table) -> None:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    name = f"{time.time_ns():020d}-{uuid.uuid4().hex}.parquet"
    try:
        _write_whole(system, posixpath.join(manifest, name), buffer.getvalue())
    except OSError as error:
        raise OutputError(f"manifest: {manifest} cannot be written: {error}") from error


def _last_rows(system: FileSystem, root: str) -> pyarrow.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import fs

    folder = posixpath.join(root, MANIFEST_FOLDER)
    rows: dict[str, dict[str, Any]] = {}
    infos = system.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    for info in sorted(infos, key=lambda info: info.path):
        if info.path.endswith(".parquet"):
            with system.open_input_file(info.path) as file:
                rows.update((row["source"], row) for row in pq.read_table(file).to_pylist())
    return pa.Table.from_pylist(list(rows.values()), schema=_schema())


def _done(system: FileSystem, root: str, settings: _Settings) -> set[str]:
    """Sources whose files are there, made with these settings."""
    from pyarrow import fs

    wanted = (settings.quality, settings.effort, settings.tune)
    rows = [
        row
        for row in _last_rows(system, root).to_pylist()
        if row["status"] == ENCODED and (row["quality"], row["effort"], row["tune"]) == wanted
    ]
    paths = [posixpath.join(root, row["target"]) for row in rows]
    found = system.get_file_info(paths) if paths else []
    return {
        row["source"]
        for row, info in zip(rows, found, strict=True)
        if info.type == fs.FileType.File and info.size == row["file_size_bytes"]
    }


def _room_for(ray: Any, cpus_per_worker: float) -> int:
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    return max(1, int(ray.cluster_resources().get("CPU", 1) // cpus_per_worker))
