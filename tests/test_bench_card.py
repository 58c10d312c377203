"""The model card's facts are computed from the weights that it describes."""

from __future__ import annotations

import zlib
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from caezip.config import ModelConfig
from caezip.errors import ParameterError
from caezip_bench.card import multiply_accumulates, with_models

ROOT = Path(__file__).parent.parent


def test_the_card_describes_the_shipped_weights() -> None:
    path = ROOT / "weights" / "README.md"
    text = path.read_text(encoding="utf-8")
    assert with_models(text, path.parent) == text


def test_costs_are_those_of_the_layers() -> None:
    config = ModelConfig(
        analysis_channels=32,
        analysis_blocks=1,
        latent_channels=16,
        hyper_latent_channels=4,
        hyper_channels=8,
        context_channels=8,
        synthesis_channels=24,
        synthesis_blocks=2,
        renderer_blocks=1,
        anchor_rates=2,
    )
    costs = multiply_accumulates(asdict(config))

    def block(channels: int) -> int:  # two mixings, 3x3 depthwise, and an MLP of twice the width
        return channels * (channels + 9 + channels + 2 * channels + 2 * channels)

    analysis = 768 * 32 + block(32) + 32 * 16
    hyper_analysis = 16 * 8 + block(8) + (8 * 8 * 4 + block(8)) / 4 + 8 * 4 * 4 / 16
    hyper_synthesis = 4 * 32 / 16 + (block(8) + 8 * 32) / 4 + block(8)
    context = 8 * 16 + (8 + 16) * 8 + block(8) + 8 * 16
    scales = 4 * 16 * 16 / 16 + 16 * 16
    renderer = 16 * (48 * 96 + 96 * 48 + 48 * 48 * 9)
    synthesis = 16 * 24 + 2 * block(24) + 16 * 768 + 24 * 768 + 24 * 144 + renderer
    entropy_model = hyper_synthesis + context + scales
    expected = {
        "encode": analysis + hyper_analysis + entropy_model,
        "decode": entropy_model + synthesis,
    }
    assert costs == pytest.approx({k: v / 256 / 1000 for k, v in expected.items()}, rel=1e-9)


def test_the_planes_of_a_lean_decoder_are_counted() -> None:
    lean = ModelConfig(16, 1, 16, 4, 8, 8, 8, 2, 0, 2, coloured_planes=20)
    narrower = replace(lean, coloured_planes=0)
    synthesis = {
        config.plane_count: 1000 * 256 * multiply_accumulates(asdict(config))["decode"]
        for config in (lean, narrower)
    }
    assert synthesis[20] - synthesis[16] == pytest.approx(4 * 256)


def test_the_shipped_weights_keep_to_their_budget() -> None:
    from caezip.pretrained import list_models, load_model

    wheel_bytes = 0
    for entry in list_models().values():
        costs = multiply_accumulates(load_model(entry.model_id).config)
        assert costs["decode"] <= 25
        assert costs["encode"] <= 45
        wheel_bytes += len(zlib.compress(entry.file.read_bytes()))  # as wheels are zipped
    assert wheel_bytes <= 20_000_000


def test_a_document_without_a_marker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no <!-- models"):
        with_models("nothing here", tmp_path)
