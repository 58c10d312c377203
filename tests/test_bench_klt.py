"""The linear codec: what goes in comes out, more quality costs more, damage is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from caezip.errors import CorruptError, ImageError, ParameterError
from caezip.image_io import Pixels
from caezip_bench.peers.klt import (
    COEFFICIENTS,
    HEADER,
    KltPeer,
    blocks_of,
    load_klt_model,
    pixels_of,
    quantised,
)
from caezip_bench.peers.klt_training import klt_command, laplacian_tables, learn_basis
from images import noise, photo_like, psnr_db, smooth

PEER = KltPeer()


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (7, 9), (1, 40), (33, 2), (64, 96), (50, 71)])
@pytest.mark.parametrize("quality", [0.0, 45.0, 100.0])
def test_images_come_back_in_their_shape(shape: tuple[int, int], quality: float) -> None:
    image = photo_like(*shape)
    decoded = PEER.decode(PEER.encode(image, quality))
    assert decoded.shape == image.shape
    assert decoded.dtype == np.uint8
    if quality == 100:  # half a level's step
        assert psnr_db(image, decoded) > 50


def test_better_quality_takes_more_bytes_and_has_less_error() -> None:
    image = photo_like(120, 152)
    sizes, psnrs = [], []
    for quality in PEER.qualities:
        data = PEER.encode(image, quality)
        sizes.append(len(data))
        psnrs.append(psnr_db(image, PEER.decode(data)))
    assert sizes == sorted(set(sizes))
    assert psnrs == sorted(set(psnrs))


def test_a_photograph_takes_far_fewer_bits_than_its_samples() -> None:
    image = photo_like(120, 152)
    assert len(PEER.encode(image, 45.0)) < image.size / 8
    assert len(PEER.encode(smooth(120, 152), 45.0)) < image.size / 50


@pytest.mark.parametrize("image", [noise(40, 56), np.full((24, 24, 3), 128, np.uint8)])
def test_extreme_images(image: Pixels) -> None:
    decoded = PEER.decode(PEER.encode(image, 80.0))
    assert psnr_db(image, decoded) > 45


def test_black_and_white_do_not_wrap_around() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 13:] = 255
    decoded = PEER.decode(PEER.encode(image, 40.0)).astype(int)
    assert decoded[:, :8].max() < 60
    assert decoded[:, 16:].min() > 195


def test_coding_the_decoded_picture_again_changes_it_little() -> None:
    # its coefficients lie where the decoder put them, off their cells' borders
    once = PEER.decode(PEER.encode(photo_like(64, 64), 60.0))
    assert psnr_db(once, PEER.decode(PEER.encode(once, 60.0))) > 45


def test_blocks_are_cut_and_joined_without_loss() -> None:
    image = noise(19, 30)
    blocks = blocks_of(image)
    assert blocks.shape == (COEFFICIENTS, 3, 4)
    np.testing.assert_array_equal(pixels_of(blocks, 19, 30), image)
    # channel, row, column of the block below the first
    assert blocks[64 + 8 * 1 + 5, 1, 0] == int(image[8 + 1, 5, 1]) - 128


def test_levels_have_a_dead_zone() -> None:
    scaled = np.array([0, 0.66, -0.66, 0.67, -0.67, 1.66, 1.67, -7.9], np.float32)
    assert quantised(scaled).tolist() == [0, 0, 0, 1, -1, 1, 2, -8]


def test_the_basis_is_orthonormal() -> None:
    basis = load_klt_model().basis
    assert basis.shape == (COEFFICIENTS, COEFFICIENTS)
    np.testing.assert_allclose(basis @ basis.T, np.eye(COEFFICIENTS), atol=1e-3)


def test_the_model_has_the_tables_that_its_training_makes() -> None:
    stored, made = load_klt_model().tables, laplacian_tables()
    assert stored.lengths.tolist() == made.lengths.tolist()
    assert stored.offsets.tolist() == made.offsets.tolist()
    # another machine's exponential may round differently
    np.testing.assert_allclose(stored.frequencies, made.frequencies, atol=2)


def test_a_basis_is_learnt_from_photographs(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    Image.fromarray(photo_like(160, 176, seed=1)).save(tmp_path / "one.png")
    Image.fromarray(photo_like(160, 136, seed=2)).save(tmp_path / "more" / "two.png")
    Image.fromarray(noise(20, 20)).save(tmp_path / "small.png")
    files = [tmp_path / "one.png", tmp_path / "more" / "two.png", tmp_path / "small.png"]
    basis = learn_basis(files).astype(np.float32)
    np.testing.assert_allclose(basis @ basis.T, np.eye(COEFFICIENTS), atol=5e-3)
    blocks = blocks_of(photo_like(160, 176, seed=1)).reshape(COEFFICIENTS, -1)
    energy = np.square(basis @ blocks).mean(axis=1)
    assert energy[:19].sum() > 0.9 * energy.sum()  # a tenth of the coefficients
    np.testing.assert_allclose(energy.sum(), np.square(blocks).mean(axis=1).sum(), rtol=1e-2)

    output = tmp_path / "model.npz"
    found = CliRunner().invoke(klt_command, [str(tmp_path), "-o", str(output)])
    assert found.exit_code == 0, found.output
    with np.load(output) as arrays:
        np.testing.assert_array_equal(np.abs(arrays["basis"]), np.abs(basis).astype(np.float16))
        assert arrays["frequencies"].dtype == np.uint16


def test_small_pictures_alone_teach_nothing(tmp_path: Path) -> None:
    Image.fromarray(noise(20, 20)).save(tmp_path / "small.png")
    with pytest.raises(ImageError, match="64 pixels"):
        learn_basis([tmp_path / "small.png"])


@pytest.mark.parametrize("quality", [None, -1.0, 101.0, 45.5, float("nan")])
def test_other_qualities_are_refused(quality: float | None) -> None:
    with pytest.raises(ParameterError, match="quality"):
        PEER.encode(smooth(16, 16), quality)


def test_sides_beyond_the_header_are_refused() -> None:
    with pytest.raises(ImageError, match="65536x1"):
        PEER.encode(np.zeros((1, 65536, 3), np.uint8), 45.0)


def test_damaged_headers_are_refused() -> None:
    data = PEER.encode(photo_like(40, 48), 45.0)
    for broken in (b"", data[: HEADER.size - 1], data[: HEADER.size + 4], data[:-1]):
        with pytest.raises(CorruptError):
            PEER.decode(broken)
    for header in (
        (0, 48, 45, 9, 1, 0),
        (65535, 65535, 45, 9, 1, 0),
        (40, 48, 101, 9, 1, 0),
        (40, 48, 45, 193, 1, 0),
    ):
        with pytest.raises(CorruptError, match="header"):
            PEER.decode(HEADER.pack(*header) + data[HEADER.size :])


def test_damaged_streams_give_another_picture_or_an_error() -> None:
    data = PEER.encode(photo_like(40, 48), 45.0)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(data)
        damaged[int(rng.integers(HEADER.size, len(data)))] ^= int(rng.integers(1, 256))
        try:
            assert PEER.decode(bytes(damaged)).shape == (40, 48, 3)
        except CorruptError:
            refused += 1
    assert refused > 0
