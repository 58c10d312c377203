"""Decoding by several threads: parts of tiles, windows of one tile, programs that run at once."""

from __future__ import annotations

import gc
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest

import caezip.decoding
from caezip import Codec
from caezip.openvino_networks import OpenVinoNetworks
from caezip.openvino_programs import Program
from caezip.prediction import decode_tile_into, decoded_tile
from caezip.pretrained import find_model, list_models, load_model
from caezip.tile_coder import Latents, TileCoder
from caezip.tiling import Box, Edges
from images import photo_like
from tiles import tiles_of

RATE = 0.5
EDGES = [
    Edges(),
    Edges(left=True, bottom=True),
    Edges(left=True, top=True, right=True, bottom=True),
]


@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("model_id", list_models())
def test_parts_of_a_tile_are_what_the_whole_has_there(model_id: int, edges: Edges) -> None:
    networks = OpenVinoNetworks(load_model(model_id), "auto", 1)
    sizes, (height, width) = networks.config, (22, 13)
    rng = np.random.default_rng(3)
    hyper = rng.integers(-3, 4, (sizes.hyper_latent_channels, 6, 4)).astype(np.int32)
    residual = rng.integers(-2, 3, (sizes.latent_channels, height, width)).astype(np.int32)
    whole = decoded_tile(networks, hyper, residual, RATE, edges)
    for part in (Box(0, 0, width, 8), Box(0, 8, width, 12), Box(4, 12, 8, height)):
        found = np.empty((len(residual), part.height, part.width), np.float32)
        decode_tile_into(found, networks, hyper, residual, RATE, edges, part)
        assert np.allclose(found, whole[part.slices], atol=1e-3)


@pytest.mark.parametrize("tune", ["psnr", "ssim", "fastdecode"])
@pytest.mark.parametrize("tile_side", [0, 128, 192])
def test_more_threads_decode_the_same_picture(
    tune: str, tile_side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caezip.decoding, "SMALLEST_SHARED", 1)
    image = photo_like(300, 410)
    with tiles_of(tile_side or 1024):
        data = Codec(threads=1).encode(image, quality=70, tune=tune)
    wanted = Codec(threads=1).decode(data).astype(int)
    for threads in (2, 3, 4):
        codec = Codec(threads=threads)
        for _ in range(2):  # once more with all instances of the networks
            off = np.abs(codec.decode(data) - wanted)
            assert off.max() <= 1  # floats are added up in another order
            assert (off > 0).mean() < 0.01


@pytest.mark.parametrize(
    ("threads", "region", "parts"),
    [
        (1, None, [1] * 4),
        (2, None, [1] * 4),
        (4, None, [1] * 4),
        (4, (0, 0, 16, 16), [1]),  # a small part of a tile does not make more of it
        (4, (120, 120, 20, 20), [1] * 4),
    ],
)
def test_tiles_are_predicted_in_as_many_parts_as_there_are_threads_without_one(
    threads: int,
    region: tuple[int, int, int, int] | None,
    parts: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tiles_of(128):
        data = Codec().encode(photo_like(256, 256), quality=50, tune="fastdecode")
    assert _parts_by_tile(data, threads, region, monkeypatch) == parts


@pytest.mark.parametrize(("threads", "parts"), [(1, [1]), (2, [2]), (4, [4]), (9, [4])])
def test_one_tile_is_for_all_threads(
    threads: int, parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caezip.decoding, "SMALLEST_SHARED", 1)
    data = Codec().encode(photo_like(300, 200), quality=50, tune="fastdecode")
    assert _parts_by_tile(data, threads, None, monkeypatch) == parts


def _parts_by_tile(
    data: bytes,
    threads: int,
    region: tuple[int, int, int, int] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> list[int]:
    """How many parts each tile is predicted in."""
    seen: dict[int, int] = {}  # by the tile's integers
    decode_into = TileCoder.decode_into

    def counted(self: TileCoder, out: Any, latents: Latents, edges: Edges, part: Box) -> None:
        seen[id(latents)] = seen.get(id(latents), 0) + 1
        kept.append(latents)
        decode_into(self, out, latents, edges, part)

    kept: list[Latents] = []  # so that no other gets its id
    monkeypatch.setattr(TileCoder, "decode_into", counted)
    Codec(threads=threads).decode(data, region=region)
    return list(seen.values())


def test_a_lean_decoder_has_a_program_for_each_thread_once_one_waits() -> None:
    model = load_model(find_model(None, None, "fastdecode").model_id)
    networks = OpenVinoNetworks(model, "auto", 3)
    vars(networks)["_compiled_stream"] = None  # as where no functions do it
    steps = np.zeros((networks.config.synthesis_channels, 8, 8), np.float32)
    networks._stream(RATE, steps)
    program = networks._programs("streamed")
    assert program._idle.qsize() == 1
    together = Barrier(3, timeout=30)

    def run(_: int) -> None:
        for _ in range(50):
            together.wait()
            networks._stream(RATE, steps)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, range(3)))
    networks._programs._compilers.shutdown(wait=True)
    assert program._idle.qsize() == 3


class _Request:
    """One at a time may use it."""

    def __init__(self) -> None:
        self.busy, self.runs = False, 0

    def infer(self, inputs: dict[int, Any], **_: bool) -> list[Any]:
        assert not self.busy
        self.busy = True
        self.runs += 1
        self.busy = False
        return [inputs[0] + 1]


class _Compiled:
    outputs = (0,)

    def create_infer_request(self) -> _Request:
        return _Request()


def test_no_request_is_used_by_two_at_a_time() -> None:
    made: list[Future[Any]] = []

    def another() -> Future[Any]:
        made.append(Future())
        if len(made) == 1:
            made[0].set_exception(RuntimeError("no memory"))  # those that are there are enough
        else:
            made[-1].set_result(_Compiled())
        return made[-1]

    program = Program(_Compiled(), 4, another)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: int(program(np.array([n]))[0][0]), range(2000)))
    assert results == list(range(1, 2001))
    assert len(made) <= 3
    assert program._idle.qsize() <= 3


@pytest.mark.parametrize("tune", ["psnr", "fastdecode"])
@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_nothing_of_a_codec_waits_for_the_garbage_collector(engine: str, tune: str) -> None:
    """Its networks and its pictures would be in memory for as long."""
    image = photo_like(200, 150)
    Codec(engine=engine).encode(image)  # torch keeps the frames of what first made it import
    gc.collect()
    gc.disable()
    try:
        codec = Codec(engine=engine, threads=2)
        with tiles_of(64):
            for _ in range(2):
                codec.decode(codec.encode(image, quality=50, tune=tune))
                codec.decode_batch(codec.encode_batch([image, image], quality=50, tune=tune))
        networks = [weakref.ref(loading()) for loading in codec._networks.values()]
        kept = weakref.ref(codec)
        del codec
        deadline = time.monotonic() + 30
        while any(network() is not None for network in networks):  # threads are ending
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert kept() is None
    finally:
        gc.enable()
