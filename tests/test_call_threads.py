"""How many threads work side by side, and what they leave to the networks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from caezip import Codec
from caezip.call_threads import limited, threads_here, workers_for
from images import photo_like
from tiles import tiles_of


@pytest.mark.parametrize(
    ("threads", "jobs", "expected"), [(1, 9, 1), (2, 1, 1), (2, 9, 2), (3, 2, 2), (9, 9, 4)]
)
def test_no_more_work_side_by_side_than_there_are_threads_and_jobs(
    threads: int, jobs: int, expected: int
) -> None:
    assert workers_for(threads, jobs) == expected


def test_a_limit_is_the_threads_own_and_ends() -> None:
    assert threads_here() is None
    with limited(3):
        with limited(1), ThreadPoolExecutor(1) as other:
            assert threads_here() == 1
            assert other.submit(threads_here).result() is None
        assert threads_here() == 3
    assert threads_here() is None


@pytest.mark.parametrize("tune", ["psnr", "fastdecode"])
@pytest.mark.parametrize("threads", [2, 3, 8])
def test_pictures_are_the_same_however_many_work_on_them(tune: str, threads: int) -> None:
    picture = photo_like(200, 330)
    with tiles_of(64):
        data = Codec(threads=1).encode(picture, quality=70, tune=tune)
        together, alone = Codec(threads=threads), Codec(threads=1)
        for region in (None, (0, 0, 64, 64), (40, 50, 100, 30)):
            expected = alone.decode(data, region=region)
            assert np.array_equal(together.decode(data, region=region), expected)
