"""The documents' tables are the benchmark's output, word for word."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from caezip.errors import ParameterError
from caezip_bench.entry import run_as_module
from caezip_bench.readme import main, with_tables

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("document", ["README.md", "weights/README.md"])
def test_tables_are_those_of_the_run(document: str) -> None:
    path = ROOT / document
    text = path.read_text(encoding="utf-8")
    assert with_tables(text, path.parent) == text


def test_results_were_made_with_the_shipped_weights() -> None:
    table = (ROOT / "bench/results/0.1.0/table.md").read_text(encoding="utf-8")
    manifest = json.loads((ROOT / "weights/caezip_weights/manifest.json").read_text())
    newest = {model.get("tune", "psnr"): model for model in manifest["models"]}
    peers = {"psnr": "caezip", "archive": "caezip-archive"}
    peers |= {"ssim": "caezip-ssim", "fastdecode": "caezip-fast"}
    for tune, model in newest.items():
        assert f"- {peers[tune]}: model {model['model_id']} ({model['name']})," in table


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


def test_a_module_s_error_is_one_line_and_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "plain.md"
    document.write_text("nothing here")
    monkeypatch.setattr(sys, "argv", ["readme", str(document)])
    with pytest.raises(SystemExit) as caught:
        run_as_module(main)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "caezip: table: found no <!-- table: PATH --> marker\n"
