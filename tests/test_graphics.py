"""Drawn training images: the generator alone decides them, and no kind is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from caezip.image_io import Pixels

pytestmark = pytest.mark.usefixtures("training")


def draw(seed: int, size: int) -> Pixels:
    from caezip.training.graphics import draw_graphic

    return draw_graphic(np.random.default_rng(seed), size)


@pytest.mark.parametrize(("size", "count"), [(64, 150), (192, 40)])
def test_graphics_are_squares_of_rgb_samples(size: int, count: int) -> None:
    for seed in range(count):
        picture = draw(seed, size)
        assert picture.shape == (size, size, 3)
        assert picture.dtype == np.uint8


def test_the_state_of_the_generator_fixes_a_graphic() -> None:
    from caezip.training.graphics import draw_graphic

    rng = np.random.default_rng(11)
    states, pictures = [], []
    for _ in range(40):
        states.append(rng.bit_generator.state)
        pictures.append(draw_graphic(rng, 64))
    for state, picture in zip(states, pictures, strict=True):
        other = np.random.default_rng(0)
        other.bit_generator.state = state
        assert np.array_equal(draw_graphic(other, 64), picture)
    assert len({picture.tobytes() for picture in pictures}) > 30  # a flat one may come twice


def test_every_kind_is_drawn_about_as_often_as_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    from caezip.training import graphics

    drawn: list[str] = []

    def recorder(kind: str) -> Any:
        def record(_rng: np.random.Generator, size: int) -> Pixels:
            drawn.append(kind)
            return np.zeros((size, size, 3), np.uint8)

        return record

    for kind in ("gradient", "page", "pattern"):
        monkeypatch.setattr(graphics, f"_{kind}", recorder(kind))
    rng = np.random.default_rng(2)
    for _ in range(1000):
        before = len(drawn)
        picture = graphics.draw_graphic(rng, 2)
        if len(drawn) == before:  # none of the others: flat
            assert (picture == picture[0, 0]).all()
            drawn.append("flat")
    shares = {kind: drawn.count(kind) / 1000 for kind in drawn}
    expected = {"flat": 0.15, "gradient": 0.25, "page": 0.4, "pattern": 0.2}
    assert shares == pytest.approx(expected, abs=0.05)


def test_patterns_have_two_colours_and_repeat() -> None:
    from caezip.training.graphics import _pattern

    for seed in range(40):
        picture = _pattern(np.random.default_rng(seed), 64)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) <= 2
        periods = [p for p in range(2, 34, 2) if np.array_equal(picture[p:, p:], picture[:-p, :-p])]
        assert periods


SENTINEL = np.full((100, 100, 3), (1, 2, 3), np.uint8)  # no graphic has just this colour


def photographs_in(batch: torch.Tensor) -> list[bool]:
    colour = torch.tensor([1.0, 2.0, 3.0])[:, None, None] / 255
    return [torch.equal(crop, colour.expand(3, 64, 64)) for crop in batch]


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 60, 60), (0.5, 15, 45), (1.0, 0, 0)])
def test_a_share_of_the_crops_is_drawn(share: float, least: int, most: int) -> None:
    from caezip.training.data import RandomCrops

    crops = RandomCrops([SENTINEL], 4, graphics_share=share)
    batch = crops.batch(60, 64)
    assert (batch.shape, batch.dtype) == ((60, 3, 64, 64), torch.float32)
    assert 0 <= float(batch.min()) <= float(batch.max()) <= 1
    assert least <= sum(photographs_in(batch)) <= most


def test_the_seed_and_the_random_state_fix_drawn_crops_too() -> None:
    from caezip.training.data import RandomCrops

    one, other = (RandomCrops([SENTINEL], 3, graphics_share=0.7) for _ in range(2))
    assert torch.equal(one.batch(6, 64), other.batch(6, 64))
    state = one.random_state
    expected = one.batch(6, 64)
    other.batch(9, 64)
    other.random_state = state
    assert torch.equal(other.batch(6, 64), expected)
