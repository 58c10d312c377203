"""Tables of many small pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from caezip import Codec
from caezip_bench import small_images
from images import noise


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """One larger than crops are, one as small as a patch."""
    paths = [tmp_path / "large.png", tmp_path / "small.png"]
    for path, side in zip(paths, (460, 16), strict=True):
        Image.fromarray(noise(side, side)).save(path)
    return paths


def test_crops_are_parts_of_pictures_of_different_shapes(pictures: list[Path]) -> None:
    crops = small_images.crops_of(pictures, 4)
    assert [crop.shape[:2] for crop in crops[1::2]] == [(16, 16)] * 2
    large = {crop.shape for crop in crops[::2]}
    assert len(large) == 2
    assert all(192 <= side < 449 for shape in large for side in shape[:2])


def test_networks_are_timed_as_long_as_it_is_asked_for(pictures: list[Path]) -> None:
    codec, picture = Codec(threads=1), noise(64, 64)
    data = codec.encode(picture)
    for direction, work in (
        ("encode", lambda: codec.encode(picture)),
        ("decode", lambda: codec.decode(data)),
    ):
        with small_images._timed_networks(codec, direction) as spent:
            work()
        calls = len(spent)
        assert calls >= 2
        assert min(spent) > 0
        work()
        assert len(spent) == calls


def test_tables_are_of_both_directions(pictures: list[Path]) -> None:
    lines = small_images.small_images(pictures, images=2, in_files=3)
    text = "\n".join(lines)
    assert text.startswith("2 crops of 192 to 448 pixels a side")
    assert "3 such crops in files" in text
    for row in ("encode, again", "decode, again", "encode, jpeg to coded", "decode, coded to png"):
        (line,) = [line for line in text.splitlines() if row in line]
        numbers = [float(cell) for cell in line.split("|")[2:-1]]
        assert all(number >= 0 for number in numbers)
        assert numbers[0] > 0
