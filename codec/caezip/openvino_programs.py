"""Compiled networks on OpenVINO: each made once, or loaded, and called from any thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from caezip._openvino import load_openvino
from caezip.errors import ParameterError
from caezip.network_cache import NetworkCache
from caezip.pretrained import Model
from caezip.processor import bfloat16_is_fast, instruction_sets, largest_exact_weight
from caezip.workers import side_by_side

# Of each kind, per network, in all shapes: four shapes of the largest network. By itself the
# engine keeps 5,000, some 7 MB for every new shape of a picture.
KEPT_LAYERS = 192
# Networks of lean decoders whose calls take a share of the threads each, to run side by side:
# their layers are so small that threads, which meet behind each, take up to half as long again.
SHARING = ("first_means", "second_means", "streamed")
Copy = Callable[[NDArray[Any]], NDArray[Any]]


class Programs:
    """The programs of a model, as `caezip.openvino_networks.OpenVinoNetworks` describes them.

    They are called by the names of what makes them in `caezip.openvino_graphs`, and its further
    arguments. What is compiled is kept in ``cache_folder``, if there is one, for other processes.
    """

    def __init__(
        self, model: Model, precision: str, threads: int, cache_folder: Path | None = None
    ) -> None:
        self._model, self._threads = model, threads
        exact = largest_exact_weight()
        if precision == "int8" and not exact:
            raise ParameterError("precision: found 'int8', this processor has no exact int8")
        self._largest_weight = exact if precision in ("int8", "auto") else 0
        self._fast_synthesis = (
            precision == "auto"
            and bool(exact)
            and bool(model.activation_ranges)
            and bfloat16_is_fast()
        )
        bfloat16 = precision == "bfloat16" and bfloat16_is_fast()
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "CPU_RUNTIME_CACHE_CAPACITY": KEPT_LAYERS,
            "INFERENCE_NUM_THREADS": threads,
            # Pinned, threads would share a core with others of ours while the next one idles; and
            # those of all processes that have one would be on the same core.
            "ENABLE_CPU_PINNING": False,
            # in bfloat16 the engine gets small pictures wrong where it has to imitate it
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        }
        self._cache_folder = cache_folder
        self._programs: dict[object, Future[Program]] = {}
        self._starting, self._first_use = Lock(), Lock()
        # compiling is not parallel in itself
        self._compilers = ThreadPoolExecutor(threads, thread_name_prefix="caezip-compiler")

    @property
    def runs_in_int8(self) -> bool:
        """Whether layers do that can."""
        return self._largest_weight > 0

    def __call__(self, network: str, *arguments: Any) -> Program:
        """Compiled at its first use, or before that by `prepare`."""
        return self.prepare(network, *arguments).result()

    def prepare(self, network: str, *arguments: Any) -> Future[Program]:
        """Start to make a program, without waiting, unless it is there."""
        key = (network, *arguments)
        with self._starting:
            if key not in self._programs:
                self._programs[key] = self._compilers.submit(self._program, *key)
            return self._programs[key]

    def _program(self, network: str, *arguments: Any) -> Program:
        compiled = self._compiled(network, *arguments)
        if not self._shares(network):
            return Program(compiled)

        ours = ref(self)  # in a cycle they would outlive their codec

        def another() -> Future[Any]:
            programs = ours()
            if programs is None:
                raise RuntimeError("programs: found none, their codec is gone")
            return programs._compilers.submit(programs._compiled, network, *arguments)

        return Program(compiled, side_by_side(self._threads), another)

    def _shares(self, network: str) -> bool:
        return self._model.sizes.lean_decoder and network in SHARING

    @cached_property
    def _core(self) -> Any:
        """Of the engine: what a lean decoder runs may need none."""
        return load_openvino().Core()

    @cached_property
    def _cache(self) -> NetworkCache:
        identity = ""  # of no use without a folder
        if self._cache_folder is not None:
            kind = (self._largest_weight, self._fast_synthesis)
            decisive = (self._model.entry.sha256, *kind, sorted(self._settings.items()))
            version = load_openvino().__version__
            here = (version, sorted(instruction_sets()), _source_of_graphs())
            identity = repr((decisive, here))
        return NetworkCache(self._cache_folder, identity)

    def _compiled(self, network: str, *arguments: Any) -> Any:
        """From the cache, or compiled and put there."""
        with self._first_use:  # others wait for what the first one makes
            core, cache = self._core, self._cache
        name = "-".join([network, *(getattr(a, "__name__", str(a)) for a in arguments)])
        settings = dict(self._settings)
        if self._shares(network):
            settings["INFERENCE_NUM_THREADS"] = round(self._threads / side_by_side(self._threads))
        if network == "filtered_synthesis":
            # what filters add is lost in bfloat16, and the engine fails at it
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        elif self._fast_synthesis and (
            network in ("streamed", "planes") or (network == "synthesis" and np.uint8 in arguments)
        ):
            settings["INFERENCE_PRECISION_HINT"] = "bf16"
        kept = cache.load(name)
        if kept is not None:
            with suppress(RuntimeError):  # whatever OpenVINO has against it
                return core.import_model(kept, "CPU", settings)
        from caezip import openvino_graphs as graphs  # not needed for what was kept
        from caezip.openvino_layers import GraphBuilder

        model = self._model
        builder = GraphBuilder(model.network_weights, model.activation_ranges, self._largest_weight)
        graph = getattr(graphs, network)(builder, model.sizes, *arguments)
        compiled = core.compile_model(graph, "CPU", settings)
        if cache.keeps:
            with suppress(RuntimeError):  # the program is ending
                self._compilers.submit(self._keep, name, compiled)
        return compiled

    def _keep(self, name: str, compiled: Any) -> None:
        self._cache.save(name, compiled.export_model().getvalue())


class Program:
    """A compiled network. Calls from several threads take turns, at as many as there are of it.

    When somebody has to wait one more is made, with ``another``, up to ``most``.
    """

    def __init__(
        self, compiled: Any, most: int = 1, another: Callable[[], Future[Any]] | None = None
    ) -> None:
        self._outputs = len(compiled.outputs)
        self._idle: SimpleQueue[Any] = SimpleQueue()  # requests
        self._lacking, self._another = most - 1, another
        self._counting = Lock()
        self._idle.put(compiled.create_infer_request())

    def compute_into(self, outputs: Sequence[NDArray[Any]], *inputs: NDArray[Any]) -> None:
        """Compute into arrays of the right shapes: nothing has to be copied out.

        Of one program either this is called or the program itself, never both.
        """
        contiguous = dict(enumerate(map(np.ascontiguousarray, inputs)))
        with self._request() as request:
            for number, output in enumerate(outputs):
                tensor = load_openvino().Tensor(output, shared_memory=True)
                request.set_output_tensor(number, tensor)
            request.infer(contiguous, share_inputs=True, share_outputs=True)

    def __call__(self, *inputs: NDArray[Any], copied: Copy = np.copy) -> list[NDArray[Any]]:
        """The outputs, ``copied`` out of the request's memory."""
        contiguous = dict(enumerate(map(np.ascontiguousarray, inputs)))
        with self._request() as request:
            results = request.infer(contiguous, share_inputs=True, share_outputs=True)
            return [copied(results[number]) for number in range(self._outputs)]

    @contextmanager
    def _request(self) -> Iterator[Any]:
        """One that nobody else uses meanwhile."""
        try:
            request = self._idle.get_nowait()
        except Empty:
            self._make_another()
            request = self._idle.get()
        try:
            yield request
        finally:
            self._idle.put(request)

    def _make_another(self) -> None:
        with self._counting:
            if self._another is None or not self._lacking:
                return
            self._lacking -= 1
        with suppress(RuntimeError):  # the program is ending
            self._another().add_done_callback(self._add)

    def _add(self, made: Future[Any]) -> None:
        with suppress(Exception):  # those that are there are enough
            self._idle.put(made.result().create_infer_request())


def _source_of_graphs() -> str:
    """The text that says what is compiled; nothing where there is none."""
    with suppress(OSError):
        names = ("openvino_layers.py", "openvino_graphs.py", "sample_layers.py")
        files = map(Path(__file__).with_name, names)
        return "".join(file.read_text(encoding="utf-8") for file in files)
    return ""
