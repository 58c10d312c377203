"""Put a benchmark's table into a Markdown file, between the markers that name it.

The text between ``<!-- table: PATH -->`` and ``<!-- end -->`` is replaced by the
file at PATH, which is relative to the Markdown file.
"""

from __future__ import annotations

import re
from pathlib import Path

import click

from caezip.errors import ParameterError
from caezip.image_io import write_atomically
from caezip_bench.entry import run_as_module

_MARKED = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str, folder: Path) -> str:
    """``text`` with every marked table read anew. Raises ParameterError if one is missing."""

    def table(match: re.Match[str]) -> str:
        path = folder / match[2]
        try:
            content = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ParameterError(f"table: {path} cannot be read: {error.strerror}") from None
        return f"{match[1]}\n{content.strip()}\n\n{match[3]}"

    replaced, count = _MARKED.subn(table, text)
    if not count:
        raise ParameterError("table: found no <!-- table: PATH --> marker")
    return replaced


@click.command()
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def main(document: Path) -> None:
    """Refresh the marked tables of DOCUMENT."""
    text = with_tables(document.read_text(encoding="utf-8"), document.parent)
    write_atomically(document, text.encode(), force=True)


if __name__ == "__main__":
    run_as_module(main)
