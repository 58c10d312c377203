"""The fuzz targets for a moment, and what drives them; SECURITY.md says how to run them longer.

``CAEZIP_FUZZ_EXAMPLES=5000 pytest tests/fuzz`` draws that many examples for each
target, others every time.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fuzz_targets
import harness
import mutations
import seeds
from fuzz_mutations import count_outcomes
from fuzz_targets import TARGETS

FOLDER = Path(__file__).parent
MUTATIONS = 300
EXAMPLES = int(os.environ.get("CAEZIP_FUZZ_EXAMPLES", "0"))
fuzzing = settings(
    max_examples=EXAMPLES or 40,
    derandomize=not EXAMPLES,
    suppress_health_check=list(HealthCheck),
)
# what targets say of an input that they looked at: an error of a promised kind, or the end of
# `decode`; all else is raised
OUTCOMES = {
    "CorruptError",
    "NotCaeError",
    "TruncatedError",
    "UnsupportedError",
    "UnknownModelError",
    "decoded",
}
all_targets = pytest.mark.parametrize("name", sorted(TARGETS))


# -- the targets -------------------------------------------------------------


@all_targets
def test_a_target_holds_for_what_it_starts_from(name: str) -> None:
    target, inputs = TARGETS[name]
    assert len(inputs()) >= 5
    for data in inputs():
        target(data)


@all_targets
@fuzzing
@given(data=st.data())
def test_a_target_holds_for_mutations(name: str, data: st.DataObject) -> None:
    target, inputs = TARGETS[name]

    def choose(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    change = mutations.mutated if name in ("header", "decode") else mutations.changed_bytes
    outcome = target(change(data.draw(st.sampled_from(inputs())), inputs(), choose))
    assert (outcome in OUTCOMES) if name == "decode" else outcome is None


@all_targets
@fuzzing
@given(data=st.binary(max_size=120))
def test_a_target_holds_for_any_bytes(name: str, data: bytes) -> None:
    target, _ = TARGETS[name]
    for attempt in (data, mutations.SIGNATURE + data):
        outcome = target(attempt)
        assert (outcome in OUTCOMES) if name == "decode" else outcome is None


def test_hundreds_of_mutations_end_in_an_error_or_an_image_of_the_headers_size() -> None:
    outcomes = count_outcomes(range(MUTATIONS))
    assert outcomes.total() == MUTATIONS
    assert set(outcomes) <= OUTCOMES
    # they reach the innermost layer, not just the checksums
    assert outcomes["decoded"] >= MUTATIONS // 25


def test_a_target_notices_an_exception_that_is_not_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(data: bytes) -> None:
        raise ValueError("not promised")

    monkeypatch.setattr(fuzz_targets, "_check_decoded", fail)
    with pytest.raises(ValueError, match="not promised"):
        fuzz_targets.decode(b"anything")


# -- mutations ---------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(seeds.files())))
def test_a_file_is_the_sum_of_its_sections(number: int) -> None:
    data = seeds.files()[number]
    assert mutations.join(mutations.split(data)) == data
    assert mutations.repaired(data) == data


def test_repairing_makes_checksums_right_again() -> None:
    data = seeds.files()[0]
    for place in (6, len(data) - 5):
        altered = bytearray(data)
        altered[place] ^= 0x20
        repaired = mutations.repaired(bytes(altered))
        assert repaired != bytes(altered)
        assert mutations.join(mutations.split(repaired)) == repaired


# -- the entry points --------------------------------------------------------


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", ["header", "round_trip"])
def test_a_target_runs_by_itself_with_the_options_of_libfuzzer(tmp_path: Path, name: str) -> None:
    script = str(FOLDER / f"fuzz_{name}.py")
    done = run(script, "-guided=0", "-runs=3", "-seed=5", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{name}: " in done.stdout
    assert "3 mutations from number 5 on" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_target_is_guided_by_coverage_where_atheris_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    done = run(str(FOLDER / "fuzz_header.py"), "-runs=50", "-seed=5", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^Done \d+ runs", done.stderr, re.MULTILINE)


def test_there_is_a_script_for_each_target() -> None:
    scripts = {path.stem for path in FOLDER.glob("fuzz_*.py")}
    assert scripts - {"fuzz_targets", "fuzz_mutations"} == {f"fuzz_{name}" for name in TARGETS}


def test_what_is_found_is_kept_and_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def dislike(data: bytes) -> None:
        if b"!" in data:
            raise KeyError("!")

    monkeypatch.setitem(TARGETS, "header", (dislike, lambda: (b"some text", b"more")))
    with pytest.raises(SystemExit) as ended:
        harness.run_at_random("header", ["-seed=1", f"-artifact_prefix={tmp_path}/found/"], [])
    assert ended.value.code == harness.EXIT_CRASH
    (kept,) = (tmp_path / "found").iterdir()
    assert b"!" in kept.read_bytes()
    assert f"found by {kept}" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        harness.run_at_random("header", [], [str(kept)])
    assert (tmp_path / kept.name).read_bytes() == kept.read_bytes()


def test_a_hang_ends_the_run_and_leaves_what_hung(tmp_path: Path) -> None:
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import harness, fuzz_targets;"
        "fuzz_targets.TARGETS['header'] = (lambda data: time.sleep(60), lambda: (b'slow',));"
        "harness.SECONDS_PER_INPUT = 1; harness.run_at_random('header', [], [])"
    )
    done = run("-c", script, str(FOLDER), folder=tmp_path)
    assert done.returncode != 0
    assert "Timeout" in done.stderr
    assert (tmp_path / "crash-current").read_bytes() == b"slow"
