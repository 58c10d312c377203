"""Work in several processes that survives one of them dying."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from enum import Enum
from multiprocessing.connection import wait as wait_for
from threading import Thread, main_thread
from types import FrameType
from typing import Literal, NoReturn, TypeVar

Input = TypeVar("Input")
Output = TypeVar("Output")


class _Died(Enum):
    DIED = "died"


DIED = _Died.DIED  # instead of the output of a task that took its process down


class _Terminated(BaseException):
    """This process is to end, but what it began is to be cleaned up before."""


def in_processes(
    work: Callable[[Input], Output],
    inputs: Sequence[Input],
    *,
    jobs: int,
    threads: int | None = None,
    queued: int = 1,
    start: Callable[[], None] | None = None,
    again: Callable[[Input], Output] | None = None,
) -> Iterator[tuple[int, Output | Literal[_Died.DIED]]]:
    """``(index, work(inputs[index]))`` in the order in which they are done.

    At most ``queued`` times ``jobs`` inputs are under way at a time, so that when a process
    dies, few are suspected; each of those runs once more in a process of its own, as
    ``again(input)`` if that is given, and if that dies too, its output is `DIED`. Functions
    and inputs must be picklable; exceptions of ``work`` are raised. ``threads`` is for the
    libraries in each process, which calls ``start`` first.
    """
    waiting = deque(range(len(inputs)))
    while waiting:
        suspects: list[int] = []
        pool = _pool(min(jobs, len(waiting)), threads, start)
        try:
            running: dict[Future[Output], int] = {}
            while (waiting or running) and not suspects:
                while waiting and len(running) < queued * jobs:
                    index = waiting.popleft()
                    try:
                        running[pool.submit(_worked, work, inputs[index])] = index
                    except BrokenProcessPool:  # it died between two results
                        suspects.append(index)
                        break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    index = running.pop(future)
                    try:
                        output = future.result()
                    except BrokenProcessPool:
                        suspects.append(index)
                    else:
                        yield index, output
            suspects += running.values()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # who stops early waits for none
        for index in suspects:
            yield index, _alone(again or work, inputs[index], threads, start)


def _alone(
    work: Callable[[Input], Output],
    argument: Input,
    threads: int | None,
    start: Callable[[], None] | None,
) -> Output | Literal[_Died.DIED]:
    with _pool(1, threads, start) as pool:
        try:
            return pool.submit(_worked, work, argument).result()
        except BrokenProcessPool:
            return DIED


def _pool(jobs: int, threads: int | None, start: Callable[[], None] | None) -> ProcessPoolExecutor:
    # not forked: threads of the libraries do not survive a fork
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, context, initializer=_start, initargs=(threads, start))


def _start(threads: int | None, start: Callable[[], None] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, _end)
    Thread(target=_end_with_parent, name="caezip-parent", daemon=True).start()
    if threads is not None:  # what all libraries for arithmetic read before they start
        os.environ["OMP_NUM_THREADS"] = str(threads)
    if start is not None:
        start()


def _end_with_parent() -> None:
    """A parent that was killed tells nobody, and its pool's processes wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        signal.pthread_kill(main_thread().ident or 0, signal.SIGTERM)


_at_work = False  # of this process: whether there may be something to clean up


def _worked(work: Callable[[Input], Output], argument: Input) -> Output:
    """``work(argument)``; when one process dies, its pool terminates the others.

    They remove the files that they were writing. The pool would take any exception for a
    result and wait for the process to end, so it ends here.
    """
    global _at_work
    try:
        try:
            _at_work = True
            return work(argument)
        finally:
            _at_work = False
    except _Terminated:  # from the inner `finally` too
        os._exit(128 + signal.SIGTERM)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    if _at_work:
        raise _Terminated
    os._exit(128 + number)
