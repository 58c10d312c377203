"""Networks that OpenVINO has compiled, ready to be called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caezip._openvino import load_openvino

Copy = Callable[[NDArray[Any]], NDArray[Any]]


class Program:
    """A compiled model. Calls from several threads wait for each other: each uses all cores."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._outputs = len(compiled.outputs)
        self._running = Lock()

    def compute_into(self, outputs: Sequence[NDArray[Any]], *inputs: NDArray[Any]) -> None:
        """Compute into arrays of the right shapes: nothing has to be copied out.

        Of one program either this is called or the program itself, never both.
        """
        contiguous = dict(enumerate(map(np.ascontiguousarray, inputs)))
        with self._running:
            for number, output in enumerate(outputs):
                tensor = load_openvino().Tensor(output, shared_memory=True)
                self._request.set_output_tensor(number, tensor)
            self._request.infer(contiguous, share_inputs=True, share_outputs=True)

    def __call__(self, *inputs: NDArray[Any], copied: Copy = np.copy) -> list[NDArray[Any]]:
        """The outputs, ``copied`` out of the request's memory."""
        contiguous = dict(enumerate(map(np.ascontiguousarray, inputs)))
        with self._running:
            results = self._request.infer(contiguous, share_inputs=True, share_outputs=True)
            return [copied(results[number]) for number in range(self._outputs)]
