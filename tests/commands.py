"""Running the ``caezip`` command in this process, and what a refusal has to look like."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from caezip.cli import main


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    """``caezip ARGUMENTS…``."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def succeed(*arguments: object, stdin: bytes | None = None) -> Result:
    done = run(*arguments, stdin=stdin)
    assert done.exit_code == 0, (done.output, done.exception)
    return done


def assert_refused(done: Result, exit_code: int, *parts: object) -> None:
    """One line on standard error that says what is wrong, nothing on standard output."""
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("caezip: ")
    for part in parts:
        assert str(part) in lines[0]
    assert done.stdout_bytes == b""
    assert done.exit_code == exit_code


def names(folder: Path) -> list[str]:
    """Everything below a folder, hidden files too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
