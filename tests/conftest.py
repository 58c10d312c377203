"""What several test files share: one codec, the folder of its weights, a small trained-on model."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from caezip.pretrained import find_model
from images import photo_like

if TYPE_CHECKING:
    from caezip import Codec
    from caezip.config import ModelConfig
    from caezip.image_io import Pixels

os.environ["CAEZIP_CACHE"] = ""  # commands under test leave the user's folder alone

settings.register_profile(
    "caezip",
    deadline=None,  # tests say what is right, not how fast
    derandomize=True,
    database=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("caezip")


@pytest.fixture(scope="session")
def one_thread() -> None:
    """Small images and small networks are fastest so, above all on a busy machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def codec(one_thread: None) -> Codec:
    """The installed weights."""
    from caezip import Codec

    return Codec(threads=1)


@pytest.fixture
def small_tiles() -> Iterator[None]:
    """Images of more than 64 pixels a side are coded in tiles of 64."""
    from tiles import tiles_of  # imports torch

    with tiles_of(64):
        yield


@pytest.fixture(scope="session")
def weights_folder() -> Path:
    """Where the installed weights are."""
    return Path(str(find_model(None).file)).parent


@pytest.fixture(scope="session")
def photo() -> Pixels:
    """An image that is no multiple of anything."""
    return photo_like(75, 106)


@pytest.fixture(scope="session")
def encoded(codec: Codec, photo: Pixels) -> bytes:
    """`photo` at quality 50."""
    return codec.encode(photo, quality=50)


@pytest.fixture(scope="session")
def training(one_thread: None) -> None:
    """Import what training needs; its third-party packages warn while they are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in ("command", "export", "trainer"):
            importlib.import_module(f"caezip.training.{module}")


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    """A network that trains in milliseconds a step."""
    from caezip.config import ModelConfig

    return ModelConfig(
        analysis_channels=48,
        analysis_blocks=1,
        latent_channels=24,
        hyper_latent_channels=6,
        hyper_channels=48,
        context_channels=48,
        synthesis_channels=48,
        synthesis_blocks=1,
        renderer_blocks=1,
        anchor_rates=3,
        hyper_feature_channels=5,
    )
