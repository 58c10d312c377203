"""A process of its own for one codec: it codes pictures on request and says what that took.

Separate processes keep one codec's memory and threads out of another's figures, and a
codec that crashes from taking the run with it. They stay alive, with their libraries and
models loaded, so that codecs can be measured in turns.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from caezip.errors import CaeError
from caezip_bench.peers import Peer
from caezip_bench.peers.checks import WrongResultError, checked_pixels, one_line

START_LIMIT_S = 120.0
STOP_LIMIT_S = 2.0
# what OpenMP, BLAS libraries and OpenJPEG take their number of threads from
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OPJ_NUM_THREADS",
)


class WorkerError(CaeError):
    """The codec failed, or its process died or took too long; the message says which."""


@dataclass(frozen=True)
class Coded:
    """One picture encoded and decoded again.

    Seconds are wall time of the codec's two calls, from array to bytes and back: neither
    reading nor writing files counts. ``peak_bytes`` is the most memory that the process
    has had so far, the picture and the decoded one included; None if unknown.
    """

    size_bytes: int
    encode_s: float
    decode_s: float
    peak_bytes: int | None


class Worker:
    """Starts the process, with ``threads`` cores to use where the system can confine it.

    ``baseline_bytes`` is its peak memory before the first picture. Raises WorkerError if
    it does not start.
    """

    def __init__(self, peer: Peer, threads: int) -> None:
        # not forked: neither torch's threads nor this process's memory may come along
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, peer), daemon=True)
        try:
            with _confined(threads):
                self._process.start()
        except Exception as error:  # a codec that cannot be pickled raises anything
            self._connection.close()
            raise WorkerError(f"cannot be sent to a process: {one_line(error)}") from error
        finally:
            theirs.close()
        try:
            self.baseline_bytes: int | None = self._answer(START_LIMIT_S)
        except WorkerError:
            self.close()
            raise

    def code(self, picture: Path, quality: float | None, *, limit_s: float) -> Coded:
        """Code the picture in this .npy file, uint8 RGB ``[H, W, 3]``.

        Raises WorkerError if the codec fails, returns something else than a picture of
        this size, or takes longer than ``limit_s`` seconds. Use no worker after that.
        """
        try:
            self._connection.send((str(picture), quality))
        except OSError:
            raise WorkerError(self._end()) from None
        answer = self._answer(limit_s)
        if isinstance(answer, str):
            raise WorkerError(answer)
        coded: Coded = answer
        return coded

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._connection.close()  # which ends one that waits for work
        self._process.join(STOP_LIMIT_S)
        self._process.kill()
        self._process.join()

    def _answer(self, limit_s: float) -> Any:
        try:
            if not self._connection.poll(limit_s):
                raise WorkerError(f"took longer than {limit_s:g} s")
            return self._connection.recv()
        except (EOFError, OSError):
            raise WorkerError(self._end()) from None

    def _end(self) -> str:
        self._process.join(STOP_LIMIT_S)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with exit code {code}"


def serve(connection: Connection, peer: Peer) -> None:
    """The process: answers each ``(picture, quality)`` with a `Coded` or a reason."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    connection.send(peak_memory_bytes())
    while True:
        try:
            picture, quality = connection.recv()
        except EOFError:
            return
        answer: Coded | str
        try:
            answer = _code(peer, picture, quality)
        except Exception as error:  # other people's codecs raise anything
            answer = one_line(error)
        connection.send(answer)


def peak_memory_bytes() -> int | None:
    """The most memory (resident set) that this process has had; None if unknown."""
    # Linux's ru_maxrss starts at what the parent had, so it is only the second choice
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _code(peer: Peer, picture: str, quality: float | None) -> Coded:
    pixels = np.load(picture)
    before = perf_counter()
    data = peer.encode(pixels, quality)
    encode_s = perf_counter() - before
    if not data:
        raise WrongResultError("the coded file is empty")
    before = perf_counter()
    decoded = peer.decode(data)
    decode_s = perf_counter() - before
    checked_pixels(peer, decoded, pixels)
    return Coded(len(data), encode_s, decode_s, peak_memory_bytes())


@contextmanager
def _confined(threads: int) -> Iterator[None]:
    """A process started meanwhile has this many cores, and libraries are told so."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    try:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
        if cores is not None:
            os.sched_setaffinity(0, sorted(cores)[-threads:])  # the first has most interrupts
        yield
    finally:
        if cores is not None:
            os.sched_setaffinity(0, cores)
        _restore(before)


def _restore(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
