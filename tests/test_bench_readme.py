"""The documents' tables are the benchmark's output, word for word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from caezip.errors import ParameterError
from caezip_bench.readme import with_tables

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("document", ["README.md", "weights/README.md"])
def test_tables_are_those_of_the_run(document: str) -> None:
    path = ROOT / document
    text = path.read_text(encoding="utf-8")
    assert with_tables(text, path.parent) == text


def test_results_were_made_with_the_shipped_weights() -> None:
    table = (ROOT / "bench/results/0.1.0/table.md").read_text(encoding="utf-8")
    manifest = json.loads((ROOT / "weights/caezip_weights/manifest.json").read_text())
    newest = manifest["models"][-1]
    assert f"caezip: model {newest['model_id']} ({newest['name']})" in table


def test_a_marked_table_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "t.md").write_text("| new |\n")
    text = "before\n<!-- table: t.md -->\n\n| old |\n\n<!-- end -->\nafter\n"
    assert with_tables(text, tmp_path) == (
        "before\n<!-- table: t.md -->\n\n| new |\n\n<!-- end -->\nafter\n"
    )


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"t\.md cannot be read: No such file"):
        with_tables("<!-- table: t.md -->\n<!-- end -->", tmp_path)


def test_a_document_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no <!-- table"):
        with_tables("nothing here", tmp_path)
