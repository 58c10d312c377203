"""Golden files decode to the latents and pixels that they always did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import caezip
from golden_files import FORMAT, GOLDEN, SOURCES, describe, with_dump

FILES = sorted(GOLDEN.glob("*.cae"))


def test_there_is_a_golden_file_for_every_source() -> None:
    assert [path.stem for path in FILES] == sorted(SOURCES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_latents_are_identical(path: Path) -> None:
    assert describe(path.read_bytes()) == json.loads(path.with_suffix(".json").read_text())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_pixels_differ_by_one_level_at_most(path: Path) -> None:
    with Image.open(path.with_suffix(".png")) as image:
        expected = np.array(image).astype(int)
    pixels = caezip.decode(path.read_bytes())
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_format_document_shows_the_golden_file_byte_by_byte() -> None:
    text = FORMAT.read_text(encoding="utf-8")
    assert "rANS stream" in text
    assert with_dump(text, (GOLDEN / "gradient.cae").read_bytes()) == text
