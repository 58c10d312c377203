"""The compiled loops: the plain decoder's results, and nothing outside their arrays."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caezip import compiled
from caezip._rans import load_ans
from caezip.compiled import (
    LIBRARY,
    LoopTables,
    StreamDecoder,
    StreamEncoder,
    SymbolBeyondLimitError,
    load_loops,
)
from caezip.compiled_hyper_prior import CompiledHyperPrior, HyperPass
from caezip.entropy import EntropyCoder
from caezip.errors import CorruptError
from caezip.hyper_prior import HYPER_TABLE_COUNT
from caezip.pretrained import load_model
from caezip.tile_passes import TilePasses
from decoders import decoded_both_ways, encoded_both_ways
from passes import coded_latent, prior_of, qualities, random_prior, random_scales, scales_of
from test_entropy import make_tables

LOOPS = load_loops()
pytestmark = pytest.mark.skipif(LOOPS is None, reason="caezip was installed without a compiler")


def decoder_of(stream: bytes) -> StreamDecoder:
    assert LOOPS is not None
    return StreamDecoder(LOOPS, stream)


# -- the same as without -----------------------------------------------------


@given(
    seed=st.integers(0, 999),
    channels=st.integers(1, 5),
    features=st.sampled_from([0, 1, 5, 32]),
    height=st.integers(1, 9),
    width=st.integers(1, 9) | st.integers(126, 131),
    quality=qualities,
)
def test_latents_of_all_shapes_are_decoded_alike(
    seed: int, channels: int, features: int, height: int, width: int, quality: int
) -> None:
    rng = np.random.default_rng(seed)
    scales = random_scales(rng, channels, features)
    hyper, latent = make_tables(HYPER_TABLE_COUNT, seed), make_tables(64, seed + 1, entries=40)
    coder = EntropyCoder(hyper, latent, scales, random_prior(seed, 4))
    z = rng.integers(-20, 21, (4, -(-height // 4), -(-width // 4))).astype(np.int32)
    residual = rng.integers(-30, 31, (channels, height, width)).astype(np.int32)
    coded = coded_latent(scales, z, residual, quality)
    stream = encoded_both_ways(coder, z, quality, coded.passes)
    found = decoded_both_ways(coder, stream, quality, (height, width))
    assert np.array_equal(found[0], z)
    assert np.array_equal(found[1], coded.symbols())


@given(data=st.binary(min_size=8, max_size=80), has_filter=st.booleans(), quality=qualities)
def test_noise_is_decoded_or_refused_alike(data: bytes, has_filter: bool, quality: int) -> None:
    coder = load_model().coder
    stream = data[: len(data) // 4 * 4]
    refused = ""
    try:
        _, residual, coefficients = decoded_both_ways(
            coder, stream, quality, (3, 5), has_filter=has_filter
        )
        assert residual.shape == (coder.latent_channels, 3, 5)
        assert has_filter or not coefficients.any()
    except CorruptError as error:
        refused = str(error)
    assert refused == "" or "symbol" in refused


def test_hyper_latents_whose_products_float32_cannot_hold_are_decoded_alike() -> None:
    # 127 * 128 * 1,100 is above 2^24
    channels, z_channels = 2, 1100
    rng = np.random.default_rng(0)
    scales = scales_of(
        channels,
        z_channels,
        weight=rng.choice([-128, 127], (16 * channels, z_channels)).astype(np.int8),
        shift=19,
    )
    hyper, latent = make_tables(HYPER_TABLE_COUNT, 1), make_tables(64, 2)
    coder = EntropyCoder(hyper, latent, scales, prior_of(z_channels))
    z = np.where(scales.weight[3] > 0, 127, -127).astype(np.int32).reshape(-1, 1, 1)
    assert scales.exact_type(z) == np.float64
    residual = rng.integers(-1, 2, (channels, 4, 4)).astype(np.int32)
    coded = coded_latent(scales, z, residual, 5000)
    found = decoded_both_ways(coder, coder.encode(z, 5000, coded.passes), 5000, (4, 4))
    assert np.array_equal(found[1], coded.symbols())
    assert found[1].any()


def test_hyper_latents_are_read_with_all_of_their_tables_or_not_at_all() -> None:
    few = LoopTables([[0, 65535, 65536]] * 255, [0] * 255)
    prior = CompiledHyperPrior(prior_of(4))
    with pytest.raises(ValueError, match="tables: found 255, allowed are 256"):
        decoder_of(bytes(8)).read_hyper_latent(few, prior, 5000, (1, 1))
    with pytest.raises(ValueError, match="hyper_latent: found"):
        HyperPass(prior, 5000, np.zeros((3, 1, 1), np.int32))


def test_a_table_is_read_right_at_both_ends_of_every_entry() -> None:
    # of the second table, one entry has more than 256 parts, and 300 have one each
    rows = [[1, 65535], [1] * 300 + [65536 - 301, 1]]
    cumulative = [np.cumsum([0, *row]).tolist() for row in rows]
    tables = LoopTables(cumulative, [5, -7])
    for number, sums in enumerate(cumulative):
        for entry, (low, high) in enumerate(pairwise(sums[:-1])):
            for u in {low, high - 1}:
                words = np.array([u, 1 << 20], "<u4").tobytes()
                (found,) = decoder_of(words).read_symbols(
                    tables, np.array([number], np.uint16), 1 << 20
                )
                assert found == entry + (5, -7)[number]


@pytest.mark.parametrize(
    ("nibbles", "expected"),
    [
        ([1, 5], -3),
        ([3, 4, 0, 0], 3),
        ([2, 0, 1], 9),
        ([9, *[0] * 9], 1),
        ([15, 1, *[0] * 16], 1),
        ([4, 15, 15, 15, 15], -32768),
        ([8, *[15] * 8], None),
        # compressai's coder reads this as 0
        ([9, *[0] * 8, 1], None),
        ([15, 1, 2, *[0] * 15], 2),
    ],
)
def test_escapes_are_read_to_their_end(nibbles: list[int], expected: int | None) -> None:
    """The count of nibbles, then the nibbles, the least significant first."""
    low, high = (
        sum(nibble << 4 * place for place, nibble in enumerate(some))
        for some in (nibbles[:8], nibbles[8:16])
    )
    behind = (
        low | 1 << 62
    )  # the state, once the escape is read: its 8 nibbles, then those of a word
    state = (behind // 65535 << 16) + behind % 65535 + 1
    words = [state & 0xFFFFFFFF, state >> 32, high, *[0] * 4]
    stream = np.array(words, np.uint32).astype("<u4").tobytes()
    tables, numbers = LoopTables([[0, 1, 65536]], [0]), np.zeros(1, np.uint16)
    if expected is None:
        with pytest.raises(SymbolBeyondLimitError):
            decoder_of(stream).read_symbols(tables, numbers, 1 << 20)
    else:
        assert decoder_of(stream).read_symbols(tables, numbers, 1 << 20).tolist() == [expected]


@given(
    # of more than 28 bits compressai's coder never comes back
    symbols=st.lists(st.integers(-(1 << 26), 1 << 26) | st.integers(-40, 40), max_size=40),
    seed=st.integers(0, 99),
)
def test_streams_are_those_of_compressai_s_coder(symbols: list[int], seed: int) -> None:
    assert LOOPS is not None
    tables = make_tables(3, seed, entries=30)
    numbers = np.random.default_rng(seed).integers(0, 3, len(symbols)).astype(np.uint16)
    cumulative, offsets = tables.cumulative(), tables.offsets.tolist()
    # its own room is a word a symbol: some symbols that take next to nothing make it enough
    padding = 3 * len(symbols) + 8
    whole = [*symbols, *[offsets[0]] * padding]
    of_all = [*numbers.tolist(), *[0] * padding]
    expected = (
        load_ans()
        .RansEncoder()
        .encode_with_indexes(whole, of_all, cumulative, [len(sums) for sums in cumulative], offsets)
    )
    encoder = StreamEncoder(LOOPS, len(whole))
    encoder.write_symbols(
        LoopTables(cumulative, offsets), np.array(of_all, np.uint16), np.array(whole, np.int32)
    )
    assert encoder.finished() == expected


# -- what is checked before --------------------------------------------------

TABLES = LoopTables([[0, 1, 65536]], [0])
NUMBERS = np.zeros(3, np.uint16)


@pytest.mark.parametrize(
    "numbers",
    [
        NUMBERS.astype(np.int64),
        NUMBERS[::-1],
        np.zeros((3, 1), np.uint16),
        np.array([0, 1, 0], np.uint16),
    ],
    ids=["type", "order", "shape", "no such table"],
)
def test_what_does_not_fit_never_reaches_the_loops(numbers: Any) -> None:
    decoder = decoder_of(bytes(8))
    with pytest.raises(ValueError, match="found "):
        decoder.read_symbols(TABLES, numbers, 127)
    assert decoder.read_symbols(TABLES, NUMBERS, 127).tolist() == [0, 0, 0]


def test_no_more_is_written_than_there_is_room_for() -> None:
    assert LOOPS is not None
    encoder, one = StreamEncoder(LOOPS, 1), np.zeros(1, np.int32)
    with pytest.raises(ValueError, match="numbers: found 1, there are 1 tables"):
        encoder.write_symbols(TABLES, np.ones(1, np.uint16), one)
    with pytest.raises(ValueError, match="symbols: found "):
        encoder.write_symbols(TABLES, NUMBERS, one)
    encoder.write_symbols(TABLES, NUMBERS[:1], one)
    with pytest.raises(ValueError, match="symbols: found 1 more than were announced"):
        encoder.write_symbols(TABLES, NUMBERS[:1], one)


def passes_of(**parts: Any) -> TilePasses:
    assert LOOPS is not None
    whole = {
        "scales": random_scales(np.random.default_rng(0), 4),
        "hyper_latent": np.zeros((4, 2, 2), np.int32),
        "grid": (5, 6),
        "residual": np.zeros((4, 5, 6), np.int32),
    }
    return TilePasses(LOOPS, quality_hundredths=5000, **{**whole, **parts})


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ({"residual": np.zeros((4, 5, 6), np.int64)}, "residual"),
        ({"residual": np.zeros((4, 6, 5), np.int32).transpose(0, 2, 1)}, "residual"),
        ({"residual": np.zeros((4, 5, 5), np.int32)}, "residual"),
        ({"hyper_latent": np.zeros((4, 2, 1), np.int32)}, "hyper-latent"),
        ({"hyper_latent": np.zeros((5, 2, 2), np.int32)}, "hyper_latent"),
        ({"hyper_latent": np.zeros((4, 2, 2), np.int64)}, "hyper_latent"),
        ({"grid": (5, 9), "residual": None}, "hyper-latent"),
    ],
)
def test_passes_that_do_not_fit_are_refused(parts: dict[str, Any], name: str) -> None:
    passes_of()
    with pytest.raises(ValueError, match=f"^{name}: found "):
        passes_of(**parts)


def test_passes_are_decoded_with_all_tables_to_a_residual() -> None:
    decoder, passes = decoder_of(bytes(8)), passes_of()
    tables = LoopTables([[0, 1, 65536]] * 64, [0] * 64)
    for decode in (decoder.first_pass, decoder.second_pass):
        decode(tables, passes, 127)
        with pytest.raises(ValueError, match=r"tables: found 1, .* 64"):
            decode(TABLES, passes, 127)
        with pytest.raises(ValueError, match="passes: found some without a residual"):
            decode(tables, passes_of(residual=None), 127)


def test_a_symbol_beyond_the_limit_is_told() -> None:
    tables = LoopTables([[0, 65535, 65536]], [3])
    numbers = np.zeros(1, np.uint16)
    assert decoder_of(bytes(8)).read_symbols(tables, numbers, 3).tolist() == [3]
    with pytest.raises(SymbolBeyondLimitError):
        decoder_of(bytes(8)).read_symbols(tables, numbers, 2)


# -- finding it --------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder from which the library is loaded anew."""
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    load_loops.cache_clear()
    yield tmp_path / LIBRARY
    load_loops.cache_clear()


def test_nothing_is_loaded_where_nothing_was_compiled(fresh: Path) -> None:
    assert load_loops() is None


def test_a_file_that_is_no_library_is_not_loaded(fresh: Path) -> None:
    fresh.write_bytes(b"no library")
    assert load_loops() is None


@pytest.mark.parametrize("source", ["int caezip_loops_version(void) { return 0; }", "int x;"])
def test_a_library_of_another_version_is_not_used(fresh: Path, source: str) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no compiler here")
    program = fresh.with_suffix(".c")
    program.write_text(source)
    subprocess.run([compiler, "-shared", "-fPIC", str(program), "-o", str(fresh)], check=True)
    assert load_loops() is None
