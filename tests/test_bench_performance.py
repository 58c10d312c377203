"""The page on where the time goes: stages of a profile, and the document that it is put into."""

from __future__ import annotations

import cProfile
import pstats
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from caezip import Codec
from caezip_bench import performance
from images import noise


def busy(count: int) -> int:
    return sum(number * number for number in range(count))


def analyse() -> int:
    return busy(200_000) + hyper_analyse()


def hyper_analyse() -> int:
    return busy(800_000)


def encode() -> int:
    return busy(50_000) + analyse()


def test_a_stage_does_not_count_what_another_does_inside_it() -> None:
    profile = cProfile.Profile()
    profile.enable()
    encode()
    profile.disable()
    stats: Any = pstats.Stats(profile)
    spent = performance._by_stage(stats.stats, "encode")
    outer, inner = spent["analysis transform"], spent["hyper-analysis"]
    assert inner > outer > spent["rest"] > 0
    whole = max(row[3] for place, row in stats.stats.items() if place[2] == "encode")
    assert outer + inner + spent["rest"] == pytest.approx(whole)


def test_the_profile_of_a_codec_has_its_stages() -> None:
    codec, picture = Codec(threads=1), noise(64, 64)
    data = codec.encode(picture)  # what is loaded late is loaded
    with performance.in_this_thread(codec):
        encoding = performance.stage_times(lambda: codec.encode(picture), "encode")
        decoding = performance.stage_times(lambda: codec.decode(data), "decode_picture")
    for stages in (encoding, decoding):
        assert stages["means"] > 0
        assert stages["rest"] > 0
    assert encoding["analysis transform"] > 0
    assert decoding["synthesis transform"] > 0
    assert codec.encode(picture) == data


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells")
def test_memory_that_is_held_counts_what_is_written_to() -> None:
    # in a process of its own: here, what codecs of other tests let go of would count as well
    program = (
        "import mmap\n"
        "from caezip_bench import performance\n"
        "before_mb = performance.resident_mb()\n"
        # from the system itself: an array might get memory that was held, and freed, before
        "with mmap.mmap(-1, 50_000_000) as pages:\n"
        "    pages.write(bytes(range(250)) * 200_000)\n"
        "    print(performance.resident_mb() - before_mb)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert 45 < float(found.stdout) < 60


def test_a_document_without_the_marker_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("nothing to replace\n")
    result = CliRunner().invoke(performance.main, [str(tmp_path), str(document)])
    assert "found no <!-- measured --> marker" in str(result.exception)
    assert document.read_text() == "nothing to replace\n"
