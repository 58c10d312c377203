"""Each broken file raises the error that is due, word for word, whatever is asked of it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broken_files import (
    EXPECTED,
    FOLDER,
    GOOD,
    INSTALLED,
    RGB_TILE,
    broken_files,
    codec_for,
    installed,
    tiled,
)
from caezip import errors, info
from caezip.errors import BitstreamError, CaeError, UnknownModelError
from caezip.pretrained import list_models
from forge import INDEX, section

FILES = sorted(FOLDER.glob("*.cae"))
CASES = json.loads(EXPECTED.read_text(encoding="utf-8"))
by_name = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def kinds_of(kind: type[CaeError]) -> Iterator[type[CaeError]]:
    for narrower in kind.__subclasses__():
        yield narrower
        yield from kinds_of(narrower)


def test_every_file_has_an_expectation_and_is_one_that_the_script_makes() -> None:
    names = [path.stem for path in FILES]
    assert names == sorted(CASES) == sorted(broken_files())


def test_the_script_says_the_same_classes() -> None:
    for name, (kind, _) in broken_files().items():
        assert CASES[name]["error"] == kind.__name__, name


def test_every_class_of_error_about_bytes_has_a_file() -> None:
    classes = {kind.__name__ for kind in kinds_of(BitstreamError)} | {UnknownModelError.__name__}
    assert {case["error"] for case in CASES.values()} == classes


@by_name
def test_each_raises_its_error(path: Path) -> None:
    case, data = CASES[path.stem], path.read_bytes()
    kind, message = getattr(errors, case["error"]), case["message"]
    message = message.replace(INSTALLED, INSTALLED.format(models=installed()))
    codec = codec_for(path.stem)
    asked: tuple[Callable[[bytes], object], ...] = (codec.decode, codec.verify)
    for ask in asked:
        with pytest.raises(kind, match=f"^{re.escape(message)}$") as raised:
            ask(data)
        assert type(raised.value) is kind


@by_name
def test_reading_the_header_or_a_part_raises_nothing_else(path: Path) -> None:
    data = path.read_bytes()
    codec = codec_for(path.stem)
    for ask in (
        info,
        codec.decode_latents,
        codec.salvage,
        lambda data: codec.decode(data, region=(0, 0, 1, 1)),
        lambda data: codec.decode(data, reduction=8),
    ):
        with contextlib.suppress(BitstreamError, UnknownModelError):
            ask(data)


def test_the_file_that_most_of_them_are_made_from_is_whole_and_needs_no_weights() -> None:
    codec = codec_for("")
    assert info(GOOD).model_id not in list_models()
    assert codec.verify(GOOD) == info(GOOD)
    picture, damaged = codec.salvage(GOOD)
    assert damaged == ()
    assert (picture.samples == codec.decode(GOOD)).all()


def test_regions_of_several_tiles_need_weights_where_the_whole_does_not() -> None:
    """The network says how far beyond its region a decoder has to look."""
    data = tiled(section(INDEX, b"\x03\x03"), RGB_TILE, RGB_TILE)
    codec = codec_for("")
    assert codec.verify(data).tile_side == 64
    assert (codec.decode(data) == (0x1E, 0x90, 0xFF)).all()
    with pytest.raises(UnknownModelError, match="needs the weights of model 65535"):
        codec.decode(data, region=(0, 0, 8, 8))
