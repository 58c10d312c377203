"""Calls from several threads that run as one, where one at a time would leave a device idle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

# Tiles or pictures that a GPU works on at once: activations of one take up to 100 MB.
MOST_TOGETHER = 16


@dataclass(frozen=True)
class _Call:
    item: Any
    result: Future[Any] = field(default_factory=Future)


class Together:
    """What is called while something runs waits, and then runs with others of its kind.

    Nobody waits for company: a call that finds nothing running runs at once, alone. At most
    ``most`` run together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[Hashable, list[_Call]] = defaultdict(list)
        self._changing, self._running = Lock(), Lock()

    def __call__(
        self, kind: Hashable, run: Callable[[Sequence[Any]], Sequence[Any]], item: Any
    ) -> Any:
        """What ``run``, a function of several items, makes of ``item``.

        Items of one ``kind`` may be in one run. Raises what the run raises.
        """
        return self._result(kind, run, self._joined(kind, item))

    def _joined(self, kind: Hashable, item: Any) -> _Call:
        call = _Call(item)
        with self._changing:
            self._waiting[kind].append(call)
        return call

    def _result(
        self, kind: Hashable, run: Callable[[Sequence[Any]], Sequence[Any]], call: _Call
    ) -> Any:
        while not call.result.done():
            with self._running:
                self._run(kind, run)  # perhaps without ``call``, if others came before it
        return call.result.result()

    def _run(self, kind: Hashable, run: Callable[[Sequence[Any]], Sequence[Any]]) -> None:
        with self._changing:
            waiting = self._waiting.pop(kind, [])
            calls = waiting[: self._most]
            if waiting[self._most :]:
                self._waiting[kind] = waiting[self._most :]
        if not calls:
            return
        try:
            results = run([call.item for call in calls])
        except BaseException as error:  # each of them has to know
            for call in calls:
                call.result.set_exception(error)
            return
        for call, result in zip(calls, results, strict=True):
            call.result.set_result(result)
