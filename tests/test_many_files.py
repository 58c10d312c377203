"""Folders of pictures: trees, several processes, failures, what exists already."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from PIL import Image

from caezip import CaeError, ImageError, OutputError, ParameterError, info
from caezip.file_jobs import plan
from caezip.file_runs import GROUP_BYTES, Product, _groups, run
from caezip.processes import in_processes
from commands import run as invoke


def colour(path: Path, *levels: int) -> Path:
    """A picture of one colour, for which no network is needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 10), levels or (9, 80, 200)).save(path)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three pictures in two levels, and a file that is none."""
    folder = tmp_path / "photos"
    colour(folder / "a.png", 1, 2, 3)
    colour(folder / "trip" / "b.JPG", 40, 50, 60)
    colour(folder / "trip" / "sea" / "c.webp")
    (folder / "trip" / "notes.txt").write_text("not a picture")
    return folder


def names_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


CODED = ["a.cae", "trip/b.cae", "trip/sea/c.cae"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_tree_is_kept_and_comes_back(tree: Path, tmp_path: Path, jobs: int) -> None:
    coded, back = tmp_path / "coded", tmp_path / "back"
    done = invoke("encode", tree, "-r", "-o", coded, "--jobs", jobs)
    assert done.exit_code == 0, done.output
    assert names_below(coded) == CODED
    assert f"{tree / 'a.png'} -> {coded / 'a.cae'}: 20x10" in done.output
    assert "notes.txt" not in done.output
    done = invoke("decode", coded, "--recursive", "-o", back, "-j", jobs)
    assert done.exit_code == 0, done.output
    assert names_below(back) == ["a.png", "trip/b.png", "trip/sea/c.png"]
    assert (np.asarray(Image.open(back / "a.png")) == (1, 2, 3)).all()


def test_without_an_output_folder_files_lie_beside_their_sources(tree: Path) -> None:
    assert invoke("encode", tree, "--recursive").exit_code == 0
    assert [name for name in names_below(tree) if name.endswith(".cae")] == CODED


def test_a_folder_needs_recursive(tree: Path, tmp_path: Path) -> None:
    done = invoke("encode", tree, "-o", tmp_path / "coded.cae")
    assert done.exit_code == 3
    assert str(tree) in done.output


@pytest.mark.parametrize("jobs", [1, 3])
def test_bad_files_are_listed_and_the_others_done(tree: Path, tmp_path: Path, jobs: int) -> None:
    (tree / "bad.png").write_bytes(b"no picture")
    (tree / "trip" / "worse.jpg").write_bytes(b"")
    done = invoke("encode", tree, "-r", "-o", tmp_path / "out", "--jobs", jobs)
    assert done.exit_code == 3
    assert names_below(tmp_path / "out") == CODED
    summary = done.output[done.output.index("2 of 5 files failed:") :]
    assert set(summary.split("\n")[1:3]) == {
        f"  {tree / 'bad.png'}",
        f"  {tree / 'trip' / 'worse.jpg'}",
    }


def test_existing_outputs_are_skipped_and_left_as_they_are(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "trip").mkdir(parents=True)
    (out / "trip" / "b.cae").write_bytes(b"precious")
    done = invoke("encode", tree, "-r", "-o", out, "--skip-existing")
    assert done.exit_code == 0
    assert "1 skipped" in done.output
    assert names_below(out) == CODED
    assert (out / "trip" / "b.cae").read_bytes() == b"precious"
    assert info((out / "a.cae").read_bytes()).width == 20
    again = invoke("encode", tree, "-r", "-o", out, "--skip-existing")
    assert again.exit_code == 0
    assert "3 skipped" in again.output


def test_existing_outputs_stop_the_work_before_it_begins(tree: Path, tmp_path: Path) -> None:
    colour(tmp_path / "out" / "z.png").rename(tmp_path / "out" / "a.cae")
    done = invoke("encode", tree, "-r", "-o", tmp_path / "out")
    assert done.exit_code == 6
    assert names_below(tmp_path / "out") == ["a.cae"]
    assert invoke("encode", tree, "-r", "-o", tmp_path / "out", "--force").exit_code == 0


def test_an_empty_folder_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = invoke("encode", tmp_path / "empty", "-r", "-o", tmp_path / "out")
    assert done.exit_code == 0


# -- plans ---------------------------------------------------------------------


def test_two_sources_never_share_an_output(tree: Path) -> None:
    colour(tree / "a.bmp")
    with pytest.raises(ParameterError, match=r"both .*a\.bmp and .*a\.png would be written"):
        plan((str(tree),), None, ".cae", force=True, recursive=True)


def test_a_tree_does_not_go_to_standard_output_or_over_a_file(tree: Path) -> None:
    with pytest.raises(ParameterError, match="output -: allowed for one input only"):
        plan((str(tree),), "-", ".cae", force=True, recursive=True)
    with pytest.raises(OutputError, match=r"a\.png: is a file"):
        plan((str(tree),), str(tree / "a.png"), ".cae", force=True, recursive=True)


def test_plans_are_in_order_and_count_what_they_leave_out(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    colour(out / "trip" / "b.png").rename(out / "trip" / "b.cae")
    found = plan((str(tree),), str(out), ".cae", force=False, skip_existing=True, recursive=True)
    assert found.skipped == 1
    assert found.jobs == [
        (str(tree / "a.png"), str(out / "a.cae")),
        (str(tree / "trip" / "sea" / "c.webp"), str(out / "trip" / "sea" / "c.cae")),
    ]


# -- processes -------------------------------------------------------------------


@dataclass(frozen=True)
class Copy:
    """Copies files, fails at some, and dies at those called "deadly"."""

    def read(self, source: str) -> bytes:
        return Path(source).read_bytes()

    def code(self, source: str, read: bytes) -> bytes:
        if "deadly" in source:
            os._exit(1)
        if "bad" in source:
            raise ImageError("found nothing in it")
        return read

    def finish(self, source: str, coded: bytes) -> Product:
        return Product(coded, "copied", 0, len(coded))


def test_a_process_that_dies_takes_no_other_file_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [
        f"{number}{kind}" for number in range(6) for kind in ("", "bad", "deadly")[:: number or 1]
    ]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    jobs = [(str(tmp_path / name), str(tmp_path / "out" / name)) for name in names]
    with pytest.raises(SystemExit):
        run(jobs, Copy(), processes=2, force=False, quiet=True, many=True)
    good = [name for name in names if name.isdecimal()]
    assert names_below(tmp_path / "out") == sorted(good)
    for name in good:
        assert (tmp_path / "out" / name).read_bytes() == name.encode()
    errors = capsys.readouterr().err
    assert f"{len(names) - len(good)} of {len(names)} files failed" in errors
    assert "0deadly: the process that worked on it died" in errors
    assert "0bad: found nothing in it" in errors


def test_a_group_that_dies_loses_only_the_file_it_died_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{number}" for number in range(40)]
    names[21], names[30] = "21deadly", "30bad"
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    jobs = [(str(tmp_path / name), str(tmp_path / "out" / name)) for name in names]
    assert max(map(len, _groups(jobs, 2))) == 2
    with pytest.raises(SystemExit):
        run(jobs, Copy(), processes=2, force=False, quiet=True, many=True)
    # what a process was writing when it died is there under a name of its own, beside the whole
    written = [name for name in names_below(tmp_path / "out") if not name.startswith(".")]
    assert written == sorted(name for name in names if name.isdecimal())
    for name in written:
        assert (tmp_path / "out" / name).read_bytes() == name.encode()
    errors = capsys.readouterr().err
    assert "2 of 40 files failed" in errors
    assert "21deadly: the process that worked on it died" in errors
    assert "30bad: found nothing in it" in errors


def test_groups_are_of_small_files_that_follow_each_other(tmp_path: Path) -> None:
    sizes = [0, GROUP_BYTES, 1, GROUP_BYTES - 1, 2 * GROUP_BYTES] + 2000 * [10]
    jobs = []
    for number, size in enumerate(sizes):
        with (tmp_path / str(number)).open("wb") as file:
            file.truncate(size)
        jobs.append((file.name, ""))
    groups = _groups([*jobs, ("-", "-")], 3)
    assert [job for group in groups for job in group] == [*jobs, ("-", "-")]
    assert [len(group) for group in groups[:5]] == [2, 2, 1, 16, 16]
    assert groups[-1] == [("-", "-")]
    assert [len(group) for group in _groups(jobs[5:15], 1)] == 10 * [1]


@dataclass(frozen=True)
class Waiting:
    """Is not done with a file until the next is read, and what was made of the last written."""

    count: int
    steps: dict[tuple[str, int], Event]

    def _wait(self, step: str, number: int) -> None:
        if 0 <= number < self.count:
            assert self.steps[step, number].wait(60)

    def read(self, source: str) -> int:
        self.steps["read", int(source)].set()
        return int(source)

    def code(self, source: str, read: int) -> int:
        self._wait("read", read + 1)
        self._wait("finish", read - 1)
        return read

    def finish(self, source: str, coded: int) -> Product:
        self.steps["finish", coded].set()
        return Product(source.encode(), "waited", 0, 0)


def test_a_file_is_read_and_another_written_while_one_is_coded(tmp_path: Path) -> None:
    count = 4
    steps = {(step, n): Event() for step in ("read", "finish") for n in range(count)}
    jobs = [(str(number), str(tmp_path / str(number))) for number in range(count)]
    assert run(jobs, Waiting(count, steps), force=False, quiet=True)
    assert names_below(tmp_path) == [str(number) for number in range(count)]


def hold_or_die(task: tuple[Path, bool]) -> None:
    """Has a file until it is done, which takes long; or dies as soon as there is the file."""
    file, dies = task
    if dies:
        while not file.exists():
            time.sleep(0.01)
        os._exit(1)
    file.touch()
    try:
        time.sleep(60)
    finally:
        file.unlink()


def do_nothing(task: tuple[Path, bool]) -> None:
    pass


def test_a_process_whose_neighbour_dies_cleans_up(tmp_path: Path) -> None:
    file = tmp_path / "temporary"
    # the third for the pool, which may overlook a death until it is told of another task
    tasks = [(file, False), (file, True), (file, True)]
    done = list(in_processes(hold_or_die, tasks, jobs=2, queued=2, again=do_nothing))
    assert sorted(done) == [(number, None) for number in range(3)]
    for _ in range(1000):
        if not file.exists():
            return
        time.sleep(0.01)
    pytest.fail("its file is still there")


HOLDING = """
import sys, time
from pathlib import Path
from caezip.processes import in_processes

def hold(file):
    Path(file).touch()
    try:
        time.sleep(60)
    finally:
        Path(file).unlink()

if __name__ == "__main__":
    list(in_processes(hold, sys.argv[1:], jobs=2))
"""


def test_processes_end_with_the_one_that_began_them(tmp_path: Path) -> None:
    script, files = tmp_path / "holding.py", [tmp_path / "first", tmp_path / "second"]
    script.write_text(HOLDING)
    command = [sys.executable, str(script), *map(str, files)]
    # its processes have its output too, which ends with the last of them
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        deadline = time.monotonic() + 60
        while not all(file.exists() for file in files):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        parent.kill()
        output, _ = parent.communicate(timeout=30)
        assert output == b""
    assert not any(file.exists() for file in files)


def test_work_in_processes_writes_what_work_in_one_does(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).write_bytes(b"x" * number)
    for processes in (1, 2, 9):
        out = tmp_path / f"out{processes}"
        jobs = [(str(tmp_path / str(n)), str(out / str(n))) for n in range(5)]
        assert run(jobs, Copy(), processes=processes, force=False, quiet=True)
        assert [(out / str(n)).stat().st_size for n in range(5)] == list(range(5))


def test_errors_of_other_processes_keep_their_exit_code(tmp_path: Path) -> None:
    for name in ("1", "2bad"):
        (tmp_path / name).write_bytes(b"")
    jobs = [(str(tmp_path / name), str(tmp_path / f"{name}.out")) for name in ("1", "2bad")]
    with pytest.raises(SystemExit) as caught:
        run(jobs, Copy(), processes=2, force=False, quiet=True)
    assert caught.value.code == 3
    assert issubclass(ImageError, CaeError)
