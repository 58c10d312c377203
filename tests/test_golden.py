"""Golden files decode to the latents and pixels that they always did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import caezip
from caezip import Codec
from caezip.compiled import load_loops
from caezip.image_io import read_picture
from caezip.processor import LARGEST_INT8, largest_exact_weight
from golden_files import FORMAT, GOLDEN, describe, sources, steady_codec, with_dump

FILES = sorted(GOLDEN.glob("*.cae"))


def test_there_is_a_golden_file_for_every_source() -> None:
    assert [path.stem for path in FILES] == sorted(sources())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_latents_are_identical(path: Path) -> None:
    assert describe(path.read_bytes()) == json.loads(path.with_suffix(".json").read_text())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_samples_differ_by_no_more_than_the_format_tells_and_the_rest_not_at_all(
    one_thread: None, path: Path
) -> None:
    """By a level on processors like that which made them; see FORMAT.md, "Exactness"."""
    expected = read_picture(path.with_suffix(".png"))
    found = steady_codec().decode_picture(path.read_bytes())
    assert found.samples.shape == expected.samples.shape
    assert found.samples.dtype == expected.samples.dtype
    level = 1 if found.samples.dtype == np.uint8 else 257
    loops = load_loops()
    compiled = loops is not None and loops.caezip_dense_kind() > 0
    levels = 1 if compiled and largest_exact_weight() == LARGEST_INT8 else 10
    assert np.abs(found.samples.astype(int) - expected.samples).max() <= levels * level
    assert (found.alpha is None) == (expected.alpha is None)
    if found.alpha is not None and expected.alpha is not None:
        assert np.array_equal(found.alpha, expected.alpha)
    assert found.metadata == expected.metadata


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_are_what_their_sources_ask_for(codec: Codec, path: Path) -> None:
    source, data = sources()[path.stem], path.read_bytes()
    header, found = caezip.info(data), codec.decode_picture(data)
    assert header.quality == source.quality
    assert header.tile_side == source.tile_side
    assert header.has_filters == (source.effort > 2)
    assert header.tiles_continue == source.tiles_continue
    assert found.array.shape == source.picture.array.shape
    assert found.array.dtype == source.picture.array.dtype
    assert (found.alpha is None) == (source.picture.alpha is None)
    if found.alpha is not None and source.picture.alpha is not None:
        assert np.array_equal(found.alpha, source.picture.alpha)
    assert (found.metadata.exif, found.metadata.xmp) == (
        source.picture.metadata.exif,
        source.picture.metadata.xmp,
    )


def test_format_document_shows_the_golden_file_byte_by_byte() -> None:
    text = FORMAT.read_text(encoding="utf-8")
    assert "rANS stream" in text
    assert with_dump(text, (GOLDEN / "gradient.cae").read_bytes()) == text
