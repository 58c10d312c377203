"""No file is unpickled or run, nothing is fetched, and SECURITY.md names what there is."""

from __future__ import annotations

import ast
import hashlib
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caezip.errors import CheckpointError, WeightsError
from caezip.pretrained import load_model

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for folder in ("codec", "weights") for path in (ROOT / folder).rglob("*.py"))
EVERYTHING = SOURCES + sorted((ROOT / "bench").rglob("*.py"))
RUNS_CODE_OF_FILES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
NETWORK = {"socket", "ssl", "http", "urllib", "requests", "httpx", "ftplib", "aiohttp"}
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    for path in EVERYTHING:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path, node


def test_no_module_imports_what_unpickles_or_fetches() -> None:
    imported = set()
    for _, node in nodes():
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    assert "torch" in imported
    assert not imported & (RUNS_CODE_OF_FILES | NETWORK)


def test_no_call_runs_what_it_is_given() -> None:
    for path, node in nodes():
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        assert name not in {"eval", "exec", "compile", "os.system", "os.popen"}, path
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert keywords.get("allow_pickle", "False") == "False", path
        assert keywords.get("shell", "False") == "False", path
        if name in {"torch.load", "torch.hub.load", "torch.jit.load"}:
            assert keywords.get("weights_only") == "True", path


class Dangerous:
    """What runs code when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.fixture
def pickled(tmp_path: Path) -> tuple[bytes, Path]:
    """A pickle, and the file that appears when it is loaded."""
    data, trace = pickle.dumps(Dangerous(tmp_path / "trace")), tmp_path / "trace"
    pickle.loads(data)  # noqa: S301  # it is ours, and shows that it works
    assert trace.exists()
    trace.unlink()
    return data, trace


@pytest.mark.usefixtures("training")
def test_a_checkpoint_with_code_in_it_is_refused(
    tmp_path: Path, pickled: tuple[bytes, Path]
) -> None:
    import torch

    from caezip.training.checkpoint import load_checkpoint

    data, trace = pickled
    plain, archive = tmp_path / "plain.pt", tmp_path / "archive.pt"
    plain.write_bytes(data)
    torch.save({"config": Dangerous(trace)}, archive)
    for path in (plain, archive):
        with pytest.raises(CheckpointError, match=rf"checkpoint: {path} cannot be read"):
            load_checkpoint(path)
        assert not trace.exists()


def test_weights_with_code_in_them_are_refused(tmp_path: Path, pickled: tuple[bytes, Path]) -> None:
    data, trace = pickled
    (tmp_path / "weights.safetensors").write_bytes(data)
    entry = {
        "model_id": 0x9000,
        "name": "forged",
        "file": "weights.safetensors",
        "sha256": hashlib.sha256(data).hexdigest(),
        "details": {},
    }
    (tmp_path / "manifest.json").write_text(json.dumps({"manifest_version": 1, "models": [entry]}))
    with pytest.raises(WeightsError, match="is malformed"):
        load_model(0x9000, tmp_path)
    assert not trace.exists()


def test_the_document_names_only_files_and_tests_that_exist() -> None:
    paths = re.findall(r"`((?:tests|codec)/[\w/.]+)(?:::(\w+))?`", SECURITY)
    assert len(paths) >= 15
    for path, test in paths:
        assert (ROOT / path).exists(), path
        assert not test or f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), test


def test_the_document_states_the_limits_that_hold() -> None:
    from caezip import container, entropy, payloads
    from caezip.sections import MAX_VARINT_BYTES

    for number in (
        container.DEFAULT_MAX_PIXELS,
        container.MAX_TILES,
        container.MAX_SIDE,
        payloads.MAX_STREAM_PIXELS,
    ):
        assert f"{number:,}" in SECURITY
    assert f"{entropy.MAX_SYMBOL_BYTES} bytes for each symbol" in SECURITY
    assert f"{container.MAX_OTHER_SECTIONS} sections" in SECURITY
    assert f"{1 << (7 * MAX_VARINT_BYTES - 20)} MiB" in SECURITY
