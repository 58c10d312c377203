"""Running a command of this package as a module, ``python -m caezip_bench.…``."""

from __future__ import annotations

import sys

import click

from caezip.errors import CaeError
from caezip.file_jobs import exit_code_of


def run_as_module(command: click.Command) -> None:
    """Run it on the program's arguments; what went wrong is one line, as of ``caezip``."""
    try:
        command()
    except CaeError as error:
        click.echo(f"caezip: {error}", err=True)
        sys.exit(exit_code_of(error))
