"""Photographs for training: random crops for learning, a fixed set held back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caezip.errors import ImageError, TrainingDataError
from caezip.image_io import IMAGE_KINDS, image_files, read_rgb
from caezip.training.graphics import draw_graphic

HOLD_BACK_EVERY = 150  # every 150th file judges models and is never trained on
CACHE_LIMIT_BYTES = 8 << 30
Pixels = NDArray[np.uint8]


def find_images(folder: Path) -> list[Path]:
    """All image files below ``folder``, sorted by path."""
    if not folder.is_dir():
        raise TrainingDataError(f"training data: {folder} is not a folder")
    found = image_files(folder, recursive=True)
    if not found:
        raise TrainingDataError(f"training data: no images in {folder} (looked for {IMAGE_KINDS})")
    return found


def split_held_back(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """``(training, held_back)``: every 150th file is held back, none if there are fewer."""
    held_back = list(files[HOLD_BACK_EVERY - 1 :: HOLD_BACK_EVERY])
    excluded = set(held_back)
    return [f for f in files if f not in excluded], held_back


@dataclass
class _Photo:
    source: Path | Pixels
    height: int
    width: int
    cached: Pixels | None = None


class RandomCrops:
    """Square crops, flipped and transposed at random, from large photos more often.

    Decoded photos stay in memory until ``cache_limit_bytes`` is reached; the
    rest are decoded again at each use. Photos smaller than a crop are extended
    by reflection or, when tiny, by repeating their edge. ``graphics_share`` of
    the crops are drawn instead (`caezip.training.graphics`).
    """

    def __init__(
        self,
        photos: Sequence[Path | Pixels],
        seed: int,
        cache_limit_bytes: int = CACHE_LIMIT_BYTES,
        graphics_share: float = 0.0,
    ) -> None:
        self.graphics_share = graphics_share
        self._photos: list[_Photo] = []
        self.skipped: list[str] = []
        cached_bytes = 0
        for source in photos:
            try:
                pixels = read_rgb(source) if isinstance(source, Path) else source
            except ImageError as error:
                self.skipped.append(str(error))
                continue
            photo = _Photo(source, pixels.shape[0], pixels.shape[1])
            if cached_bytes + pixels.nbytes <= cache_limit_bytes:
                photo.cached = pixels
                cached_bytes += pixels.nbytes
            self._photos.append(photo)
        if not self._photos:
            reason = f"; first error: {self.skipped[0]}" if self.skipped else ""
            raise TrainingDataError(f"training data: no readable image{reason}")
        # a photo's crops resemble each other: weight grows slower than its area
        weights = np.array([float(p.height * p.width) ** 0.6 for p in self._photos])
        self._probabilities = weights / weights.sum()
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self._photos)

    @property
    def random_state(self) -> dict[str, object]:
        """State of the generator, so that a resumed run draws the same crops."""
        return dict(self._rng.bit_generator.state)

    @random_state.setter
    def random_state(self, state: dict[str, object]) -> None:
        self._rng.bit_generator.state = state

    def reseed(self, seed: int | Sequence[int]) -> None:
        self._rng = np.random.default_rng(seed)

    def batch(self, count: int, size: int) -> Tensor:
        """``[count, 3, size, size]`` float32 in [0, 1]."""
        crops = np.empty((count, size, size, 3), np.uint8)
        for slot, index in enumerate(
            self._rng.choice(len(self._photos), count, p=self._probabilities)
        ):
            if self._rng.random() < self.graphics_share:
                crops[slot] = draw_graphic(self._rng, size)
            else:
                crops[slot] = self._crop(self._photos[index], size)
        return torch.from_numpy(crops).permute(0, 3, 1, 2).float().div_(255)

    def _crop(self, photo: _Photo, size: int) -> Pixels:
        pixels = photo.cached
        if pixels is None:
            pixels = read_rgb(photo.source) if isinstance(photo.source, Path) else photo.source
        pixels = _extend(pixels, size)
        top = self._rng.integers(0, pixels.shape[0] - size + 1)
        left = self._rng.integers(0, pixels.shape[1] - size + 1)
        crop = pixels[top : top + size, left : left + size]
        if self._rng.random() < 0.5:
            crop = crop[:, ::-1]
        if self._rng.random() < 0.5:
            crop = crop.transpose(1, 0, 2)
        return crop


def _extend(pixels: Pixels, size: int) -> Pixels:
    missing = [max(0, size - side) for side in pixels.shape[:2]]
    if not any(missing):
        return pixels
    mode = (
        "reflect" if all(m < s for m, s in zip(missing, pixels.shape[:2], strict=True)) else "edge"
    )
    padding = ((0, missing[0]), (0, missing[1]), (0, 0))
    if mode == "reflect":
        return np.pad(pixels, padding, mode="reflect")
    return np.pad(pixels, padding, mode="edge")
