"""Processes that code on request: what they report, and every way in which a codec can fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from caezip_bench.cost.worker import THREAD_VARIABLES, Worker, WorkerError
from caezip_bench.peers import Peer
from cost_peers import CoresPeer, LatePeer, MoodyPeer, StrictPeer
from images import noise


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("cost") / "picture.npy"
    np.save(file, noise(20, 30))
    return file


@pytest.fixture(scope="module")
def moody() -> Iterator[Worker]:
    with closing(Worker(StrictPeer(), 1)) as worker:
        yield worker


def test_a_picture_goes_there_and_back(moody: Worker, picture: Path) -> None:
    coded = moody.code(picture, MoodyPeer.GOOD, limit_s=60)
    assert coded.size_bytes == 4
    assert coded.encode_s > 0
    assert coded.decode_s > 0
    if coded.peak_bytes is not None:  # known to Linux and macOS
        assert moody.baseline_bytes is not None
        assert coded.peak_bytes >= moody.baseline_bytes > 2**20


@pytest.mark.parametrize(
    ("mood", "reason"),
    [
        (MoodyPeer.RAISES, "ValueError: out of ideas"),
        (MoodyPeer.EMPTY, "the coded file is empty"),
        (
            MoodyPeer.CROPS,
            "the decoded image has the shape [19, 30, 3], the original [20, 30, 3]",
        ),
        (MoodyPeer.FLOATS, "the decoded image is float32, not a uint8 array"),
        (MoodyPeer.CHANGES, "a lossless codec returned different pixels"),
    ],
)
def test_what_is_no_picture_is_refused(
    moody: Worker, picture: Path, mood: float, reason: str
) -> None:
    with pytest.raises(WorkerError) as refused:
        moody.code(picture, mood, limit_s=60)
    assert str(refused.value) == reason


@pytest.mark.parametrize(
    ("mood", "limit_s", "reason"),
    [
        (MoodyPeer.EXITS, 60, "its process ended with exit code 3"),
        (MoodyPeer.IS_KILLED, 60, "its process was ended by SIGKILL"),
        (MoodyPeer.HANGS, 0.2, "took longer than 0.2 s"),
    ],
)
def test_a_process_that_ends_or_hangs(
    picture: Path, mood: float, limit_s: float, reason: str
) -> None:
    with closing(Worker(MoodyPeer("moody"), 1)) as worker:
        with pytest.raises(WorkerError) as failed:
            worker.code(picture, mood, limit_s=limit_s)
        assert str(failed.value) == reason


class _Local:
    def peer(self) -> Peer:
        class Unknown(MoodyPeer):
            pass

        return Unknown("unknown")


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (_Local().peer(), "cannot be sent to a process: "),
        (LatePeer(), "its process ended with exit code 4"),
    ],
)
def test_a_process_that_does_not_start(peer: Peer, reason: str) -> None:
    with pytest.raises(WorkerError, match=reason):
        Worker(peer, 1)


def test_a_process_has_the_cores_that_it_is_to_have(picture: Path) -> None:
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    with closing(Worker(CoresPeer(), 1)) as worker:
        assert worker.code(picture, None, limit_s=60).size_bytes == 10 + 1
    assert {name: os.environ.get(name) for name in THREAD_VARIABLES} == before
    if cores is not None:
        assert os.sched_getaffinity(0) == cores
