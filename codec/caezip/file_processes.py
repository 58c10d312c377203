"""Files in several processes, of which one that dies takes no other file with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from caezip.file_jobs import return_freed_memory
from caezip.networks import default_threads

QUEUED_PER_PROCESS = 2  # so that none waits for the next file
Outcome = TypeVar("Outcome")
Job = tuple[str, str]  # source and target


def in_processes(
    jobs: Sequence[Job],
    work: Callable[[str, str, bool], Outcome],
    died: Callable[[str, str], Outcome],
    processes: int,
    force: bool,
) -> Iterator[Outcome]:
    """``work(source, target, force)`` of every job, as they come.

    ``died(source, target)`` stands for those of a job whose process died.
    """
    waiting = deque(jobs)
    while waiting:
        running: dict[Future[Outcome], Job] = {}
        pool = _pool(processes)
        try:
            while waiting or running:
                while waiting and len(running) < QUEUED_PER_PROCESS * processes:
                    job = waiting.popleft()
                    running[pool.submit(work, *job, force)] = job
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    outcome = future.result()  # before it is forgotten: it may be unfinished
                    del running[future]
                    yield outcome
        except BrokenProcessPool:
            # one of these is to blame; which, they tell alone. Outputs that others have
            # written since the plan found none are overwritten by the same
            for job in running.values():
                yield _alone(work, died, job)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _alone(
    work: Callable[[str, str, bool], Outcome], died: Callable[[str, str], Outcome], job: Job
) -> Outcome:
    with _pool(1) as pool:
        try:
            return pool.submit(work, *job, True).result()
        except BrokenProcessPool:
            return died(*job)


def _pool(processes: int) -> ProcessPoolExecutor:
    # not forked: threads of the libraries do not survive a fork
    context = multiprocessing.get_context("spawn")
    threads = max(1, default_threads() // processes)
    return ProcessPoolExecutor(processes, context, initializer=_start, initargs=(threads,))


def _start(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.environ["OMP_NUM_THREADS"] = str(threads)  # what the libraries for arithmetic read
    return_freed_memory()
