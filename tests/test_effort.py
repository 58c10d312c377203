"""What an encoder can do for a stream: dead zones, refinement, flat tiles, tunings."""

from __future__ import annotations

import json
import math
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import reference_decoder
from caezip import Codec, ParameterError, UnknownModelError, container
from caezip.config import SCALE_MAX, SCALE_MIN, lambda_of_rate, rate_of_quality
from caezip.image_io import Pixels
from caezip.pretrained import Model, find_model, load_model
from caezip.quantisation import (
    PRICE_FACTOR,
    bits_per_squared_step,
    code_latent,
    quantise,
    quantise_with_dead_zone,
)
from caezip.scales import SCALE_COUNT, Coded, checkerboard
from caezip.targets import psnr_db
from caezip.tile_coder import EFFORT_ITERATIONS, weights_for
from caezip.torch_networks import TorchNetworks
from caezip.transforms import CodecNetwork
from images import gray_of, photo_like

PHOTO = photo_like(96, 128)


def cost(codec: Codec, pixels: Pixels, data: bytes) -> float:
    """The Lagrangian that an encoder minimises, in bits per pixel."""
    header = container.read_header(data)
    lagrangian = float(lambda_of_rate(rate_of_quality(header.quality_hundredths)))
    mse = 255**2 * 10 ** (-psnr_db(pixels, codec.decode(data)) / 10)
    return header.bpp + lagrangian * mse


def archive() -> Model:
    """What is refined."""
    return load_model(find_model(None, None, "archive").model_id)


def refined_shares(codec: Codec, pixels: Pixels) -> list[float]:
    """What effort 5 costs of what effort 2 does, at three qualities."""
    shares = []
    for quality in (20, 45, 70):
        plain, refined = (
            cost(codec, pixels, codec.encode(pixels, quality=quality, effort=effort))
            for effort in (2, 5)
        )
        shares.append(refined / plain)
    return shares


# -- efforts -----------------------------------------------------------------


@pytest.mark.parametrize("quality", [20, 70])
def test_no_effort_costs_more_than_the_one_before(codec: Codec, quality: int) -> None:
    costs = [
        cost(codec, PHOTO, codec.encode(PHOTO, quality=quality, effort=effort))
        for effort in (1, 2, 5, 7)
    ]
    word = 32 / PHOTO[:, :, 0].size  # streams grow in words, which no encoder can foresee
    for before, after in pairwise(costs):
        assert after <= before + word
    assert costs[-1] < costs[0]


def test_what_lies_beyond_white_costs_refinement_nothing(codec: Codec) -> None:
    bright = (PHOTO.astype(int) * 3 // 2 + 70).clip(0, 255).astype(np.uint8)
    assert 0.3 < (bright == 255).mean() < 0.6
    shares = refined_shares(codec, bright)
    assert np.mean(shares) < 0.93  # 0.94 where decoders' clamping is not seen


def test_few_iterations_save_bits_already(codec: Codec) -> None:
    shares = refined_shares(codec, PHOTO)
    assert max(shares) < 0.98
    assert np.mean(shares) < 0.97


@pytest.mark.parametrize("fast", [False, True])
def test_a_search_in_bfloat16_finds_as_much(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    monkeypatch.setattr("caezip.torch_networks.bfloat16_is_fast", lambda: fast)
    precisions = []

    def note(module: torch.nn.Module, inputs: object, output: object) -> None:
        if torch.is_grad_enabled() and isinstance(output, torch.Tensor):
            precisions.append(output.dtype)

    with torch.nn.modules.module.register_module_forward_hook(note):
        codec = Codec()
        plain, refined = (
            cost(codec, PHOTO, codec.encode(PHOTO, quality=45, effort=effort)) for effort in (2, 5)
        )
    assert refined < 0.97 * plain
    assert (torch.bfloat16 in precisions) == fast


def test_a_search_is_as_precise_as_was_asked_for() -> None:
    for precision, expected in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        networks = TorchNetworks(archive(), precision, "cpu")
        with networks.searching():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected


def test_kernels_that_are_bfloat16_before_the_search_change_no_gradient() -> None:
    networks = TorchNetworks(archive(), "bfloat16", "cpu")
    latent = torch.randn(1, 320, 4, 6, generator=torch.Generator().manual_seed(0))

    def gradient(network: CodecNetwork) -> torch.Tensor:
        moved = latent.clone().requires_grad_()
        with networks.searching():
            picture = network.synthesis(moved, networks.rate(0.5))
        (found,) = torch.autograd.grad(picture.float().square().sum(), moved)
        return found

    assert networks.network.synthesis.content.weight.dtype == torch.float32
    assert networks.searched.synthesis.content.weight.dtype == torch.bfloat16
    assert torch.equal(gradient(networks.network), gradient(networks.searched))


def test_a_refined_stream_is_an_ordinary_one(codec: Codec) -> None:
    from safetensors.numpy import load

    data = codec.encode(PHOTO, quality=60, effort=3)
    (latents,) = codec.decode_latents(data)
    (read,) = reference_decoder.decode(data, load(archive().entry.file.read_bytes()))
    assert isinstance(read, reference_decoder.Integers)
    assert np.array_equal(latents.hyper_latent, read.z)
    assert np.array_equal(latents.residual, read.r)
    assert latents.filter_coefficients.tolist() == read.filter
    assert any(read.filter)


def test_refinement_moves_both_latents(codec: Codec) -> None:
    (plain,), (refined,) = (
        codec.decode_latents(codec.encode(PHOTO, quality=40, effort=effort)) for effort in (2, 7)
    )
    assert not np.array_equal(plain.hyper_latent, refined.hyper_latent)
    assert not np.array_equal(plain.residual, refined.residual)


def test_refinement_is_repeatable_and_leaves_the_random_state_alone(codec: Codec) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    files = [codec.encode(PHOTO, quality=40, effort=3) for _ in range(2)]
    assert files[0] == files[1]
    assert torch.equal(torch.rand(3), expected)


def test_refinement_reports_each_iteration(codec: Codec) -> None:
    seen: list[tuple[int, int]] = []
    codec.encode(PHOTO, effort=3, report=lambda done, total: seen.append((done, total)))
    assert seen == [(i, len(seen)) for i in range(1, len(seen) + 1)]
    codec.encode(PHOTO, effort=2, report=lambda done, total: pytest.fail("nothing to report"))


@pytest.mark.usefixtures("small_tiles")
def test_the_progress_of_tiles_is_that_of_the_image(codec: Codec) -> None:
    seen: list[tuple[int, int]] = []
    codec.encode(PHOTO, effort=3, report=lambda done, total: seen.append((done, total)))
    total = 4 * EFFORT_ITERATIONS[3]
    assert seen == [(done, total) for done in range(1, total + 1)]


def test_refinement_takes_gray_and_odd_sizes(codec: Codec) -> None:
    for picture in (gray_of(photo_like(33, 70)), photo_like(1, 19)):
        data = codec.encode(picture, quality=50, effort=3)
        assert codec.decode(data).shape == picture.shape


@pytest.mark.parametrize("effort", [0, 10, -1, 2.0, True, "3", None])
def test_efforts_outside_1_to_9_are_refused(codec: Codec, effort: object) -> None:
    with pytest.raises(ParameterError, match=r"effort: found .*, allowed are integers from 1 to 9"):
        codec.encode(PHOTO, effort=effort)  # type: ignore[arg-type]  # the point of the test


# -- the dead zone -----------------------------------------------------------


def bits(symbol: int, index: int) -> float:
    scale = SCALE_MIN * (SCALE_MAX / SCALE_MIN) ** (index / (SCALE_COUNT - 1))
    low, high = ((abs(symbol) + side) / (scale * math.sqrt(2)) for side in (-0.5, 0.5))
    return -math.log2(max((math.erfc(low) - math.erfc(high)) / 2, 1e-300))


@given(
    value=st.floats(-20, 20, width=32),
    index=st.integers(1, SCALE_COUNT - 1),
    worth=st.floats(0.5, 100, width=32),
)
def test_the_dead_zone_never_costs_more_than_rounding(
    value: float, index: int, worth: float
) -> None:
    residual = np.full(1, value, np.float32)
    plain = int(quantise(residual).item())
    worths = np.full(1, worth, np.float32)
    chosen = int(quantise_with_dead_zone(residual, np.full(1, index, np.uint8), worths).item())
    assert chosen in (plain, plain - int(np.sign(plain)))
    if abs(plain) <= 15:
        error = (value - chosen) ** 2 - (value - plain) ** 2
        spent = bits(chosen, index) - bits(plain, index)
        assert worth * error + spent <= 1e-3


def test_the_dead_zone_is_wider_where_symbols_are_rare() -> None:
    residual = np.full(SCALE_COUNT - 1, 0.65, np.float32)
    indexes = np.arange(1, SCALE_COUNT, dtype=np.uint8)
    chosen = quantise_with_dead_zone(residual, indexes, np.full(residual.shape, 16, np.float32))
    assert chosen[0] == 0
    assert chosen[-1] == 1
    assert (np.diff(chosen) >= 0).all()


@given(hnp.arrays(np.float32, (12,), elements=st.floats(-1e6, 1e6, width=32)))
def test_symbols_are_integers_that_the_format_can_hold(residual: NDArray[np.float32]) -> None:
    indexes = np.full(residual.shape, 40, np.uint8)
    worth = np.full(residual.shape, 16, np.float32)
    for symbols in (quantise(residual), quantise_with_dead_zone(residual, indexes, worth)):
        assert symbols.dtype == np.int32
        assert np.abs(symbols).max() <= 32767


@pytest.mark.parametrize("worth", [None, 16.0])
def test_what_is_not_coded_is_zero(worth: float | None) -> None:
    class Predictor:
        """Codes channel 1 only, with means of 0."""

        first_mean = np.zeros((2, 3, 4), np.float32)
        # cells with an odd sum of row and column in pass one, the others in pass two
        first = Coded(12 + np.array([1, 3, 4, 6, 9, 11]), np.full(6, 40, np.uint8))

        def first_cells(self, grid: tuple[int, int]) -> NDArray[np.bool_]:
            return checkerboard(2, *grid)

        def second_mean(self, first_steps: NDArray[np.float32]) -> NDArray[np.float32]:
            seen.append(first_steps)
            return self.first_mean

        def second(self, first_symbols: NDArray[np.int32]) -> Coded:
            assert first_symbols.tolist() == [5] * 6
            return Coded(12 + np.array([0, 2, 5, 7, 8, 10]), np.full(6, 30, np.uint8))

    seen: list[NDArray[np.float32]] = []
    scaled = np.full((2, 3, 4), 5.2, np.float32)
    prices = None if worth is None else np.full(2, worth, np.float32)
    coded = code_latent(Predictor(), scaled, prices)  # type: ignore[arg-type]  # a stand-in
    board = checkerboard(2, 3, 4)
    assert np.array_equal(coded.symbols(), np.stack([np.zeros((3, 4)), np.full((3, 4), 5)]))
    assert coded.indexes().tolist() == [[[0] * 4] * 3, np.where(board[1], 40, 30).tolist()]
    # pass two sees what pass one decoded, and nothing of its own
    assert np.array_equal(seen[0], np.where(board, coded.symbols(), 0))


def test_every_channel_has_its_own_price() -> None:
    class Predictor:
        """Codes all of three channels, of two cells, in pass one; with means of 0."""

        first_mean = np.zeros((3, 1, 2), np.float32)
        first = Coded(np.array([0, 1, 3, 4]), np.full(4, 25, np.uint8))

        def first_cells(self, grid: tuple[int, int]) -> NDArray[np.bool_]:
            return checkerboard(3, *grid)

        def second_mean(self, first_steps: NDArray[np.float32]) -> NDArray[np.float32]:
            return self.first_mean

        def second(self, first_symbols: NDArray[np.int32]) -> Coded:
            return Coded(np.array([2, 5]), np.full(2, 25, np.uint8))

    scaled = np.full((3, 1, 2), 0.6, np.float32)
    worth = np.array([1e6, 1e-6, 1e6], np.float32)
    coded = code_latent(Predictor(), scaled, worth)  # type: ignore[arg-type]  # a stand-in
    assert coded.symbols().tolist() == [[[1, 1]], [[0, 0]], [[1, 1]]]


def test_a_step_is_worth_the_error_it_makes_in_the_picture(codec: Codec) -> None:
    # of weights without measured energies
    model = load_model(find_model(None, None, "fastdecode").model_id)
    assert model.measured_energy is None
    network = model.build_network()
    for hundredths in (100, 5000, 10_000):
        rate = rate_of_quality(hundredths)
        inverse_gain = network.latent_inverse_gain(torch.tensor([rate]))[0, :, 0, 0]
        worth = bits_per_squared_step(
            model.error_energy, inverse_gain.numpy(), lambda_of_rate(rate), "psnr"
        )
        # one step in one cell, through the linear part alone
        step = torch.zeros(1, len(worth), 1, 1)
        step[0, 3] = inverse_gain[3]
        picture = network.synthesis.content(step) - network.synthesis.content(0 * step)
        error = 255**2 * float(picture.square().sum()) / 3  # summed over the cell's pixels
        expected = PRICE_FACTOR * lambda_of_rate(rate) * error
        assert float(worth[3]) == pytest.approx(expected, rel=1e-4)
    other = bits_per_squared_step(model.error_energy, inverse_gain.numpy(), 0.1, "ssim")
    assert float(other.min()) == float(other.max()) == 24


# -- flat tiles --------------------------------------------------------------


@pytest.mark.parametrize("quality", [1, 75, 100])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 13, 77)])
def test_an_image_of_one_colour_is_exact_and_tiny(
    codec: Codec, quality: int, colour: tuple[int, int, int]
) -> None:
    picture = np.full((300, 411, 3), colour, np.uint8)
    data = codec.encode(picture, quality=quality)
    assert len(data) <= 35
    assert np.array_equal(codec.decode(data), picture)
    (latents,) = codec.decode_latents(data)
    assert latents.residual.size == latents.hyper_latent.size == 0


def test_a_gray_image_of_one_level_stays_gray(codec: Codec) -> None:
    picture = np.full((7, 5), 91, np.uint8)
    data = codec.encode(picture)
    assert np.array_equal(codec.decode(data), picture)
    assert codec.decode(data).flags.writeable


def test_one_differing_pixel_is_not_flat(codec: Codec) -> None:
    picture = np.full((64, 64, 3), 100, np.uint8)
    picture[40, 41] = (200, 30, 90)
    (stream,) = container.read(codec.encode(picture, quality=100)).tiles
    assert stream is not None
    assert len(stream) >= 8


@pytest.mark.parametrize(("pixel_format", "payload"), [("gray8", b"abc"), ("rgb8", b"a")])
def test_a_flat_tile_of_the_wrong_length_is_refused(
    codec: Codec, pixel_format: str, payload: bytes
) -> None:
    from caezip import CorruptError

    data = container.write(
        model_id=find_model(None).model_id,
        width=8,
        height=8,
        quality_hundredths=5000,
        pixel_format=pixel_format,
        tiles=(payload,),
    )
    for read in (codec.decode, codec.decode_latents):
        with pytest.raises(CorruptError, match=r"tile stream: found \d bytes"):
            read(data)


# -- tunings -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("effort", "tune"), [(1, "psnr"), (2, "psnr"), (3, "archive"), (9, "archive")]
)
def test_by_default_only_efforts_that_refine_take_larger_weights(effort: int, tune: str) -> None:
    assert weights_for(effort, "psnr") == find_model(None, None, tune)
    for other in ("archive", "ssim", "fastdecode"):
        assert weights_for(effort, other) == find_model(None, None, other)


def test_a_stream_names_the_weights_that_its_effort_took(codec: Codec) -> None:
    for effort, tune in ((2, "psnr"), (3, "archive")):
        header = container.read_header(codec.encode(PHOTO, quality=40, effort=effort))
        assert header.model_id == find_model(None, None, tune).model_id


def test_a_tuning_picks_its_weights_and_the_stream_names_them(tmp_path: Path) -> None:
    entry = find_model(None)
    for name in "abcd":
        shutil.copy(str(entry.file), tmp_path / f"{name}.safetensors")
    models = [
        {
            "model_id": number,
            "name": name,
            "file": f"{name}.safetensors",
            "sha256": entry.sha256,
            "tune": tune,
            "details": {},
        }
        for number, name, tune in [
            (7, "a", "psnr"),
            (8, "b", "ssim"),
            (9, "c", "psnr"),
            (6, "d", "fastdecode"),
        ]
    ]
    manifest = {"manifest_version": 1, "models": models}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    codec = Codec(weights_folder=tmp_path)
    for tune, expected in (("psnr", 9), ("ssim", 8), ("fastdecode", 6)):
        data = codec.encode(PHOTO, tune=tune)
        assert container.read_header(data).model_id == expected
        assert codec.decode(data).shape == PHOTO.shape
    # there are none for "archive"
    assert container.read_header(codec.encode(PHOTO, effort=3)).model_id == 9

    manifest["models"] = models[:1]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UnknownModelError, match=r"no weights for 'ssim'.*found are: psnr"):
        Codec(weights_folder=tmp_path).encode(PHOTO, tune="ssim")


@pytest.mark.parametrize("tune", ["", "mse", "SSIM", None, 3])
def test_unknown_tunings_are_refused(codec: Codec, tune: object) -> None:
    with pytest.raises(ParameterError, match=r"tune: found .*, allowed are \('psnr', 'archive', "):
        codec.encode(PHOTO, tune=tune)  # type: ignore[arg-type]  # the point of the test
