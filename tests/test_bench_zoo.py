"""CompressAI's models as codecs, with small random weights instead of the zoo's."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from caezip.errors import MissingDependencyError
from caezip_bench.peers import Peer, PeerOptions, make_peers
from caezip_bench.peers import zoo as zoo_peers
from images import photo_like

pytestmark = pytest.mark.usefixtures("training")  # imports compressai, which warns
CHANNELS = {
    "bmshj2018-factorized": (6, 8),
    "bmshj2018-hyperprior": (6, 8),
    "mbt2018-mean": (6, 8),
    "cheng2020-anchor": (8,),
}


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, where weights are looked for."""
    monkeypatch.setenv("CAEZIP_ZOO_WEIGHTS", str(tmp_path))
    return tmp_path


def _write_weights(folder: Path, architecture: str, quality: int) -> None:
    torch.manual_seed(quality)
    network = zoo_peers._zoo_classes()[architecture](*CHANNELS[architecture])
    network.g_a[-1].weight.data.mul_(100)  # untrained, its latents would all be zero
    network.update(force=True)
    stem = zoo_peers.FILE_STEMS[architecture]
    torch.save(network.state_dict(), folder / f"{stem}-{quality}-0123abcd.pth.tar")


def _peer(architecture: str) -> Peer:
    (peer,) = make_peers([f"zoo-{architecture}"], PeerOptions())
    return peer


@pytest.mark.parametrize("architecture", CHANNELS)
def test_a_file_is_decoded_by_another_process(weights: Path, architecture: str) -> None:
    _write_weights(weights, architecture, 2)
    peer = _peer(architecture)
    picture = photo_like(50, 70)
    data = peer.encode(picture, 2.0)
    zoo_peers._network.cache_clear()
    decoded = pickle.loads(pickle.dumps(peer)).decode(data)  # noqa: S301  # just made
    assert decoded.shape == picture.shape
    assert decoded.dtype == np.uint8
    network = zoo_peers._network(architecture, next(weights.iterdir()))
    padded = np.pad(picture, ((0, 14), (0, 58), (0, 0)), mode="edge").astype(np.float32) / 255
    with torch.inference_mode():
        coded = network.compress(torch.from_numpy(padded).permute(2, 0, 1)[None])
        rebuilt = network.decompress(coded["strings"], coded["shape"])["x_hat"][0, :, :50, :70]
    expected = np.rint(rebuilt.permute(1, 2, 0).numpy() * 255)
    assert len(np.unique(expected)) > 3  # else there would be nothing to compare
    assert np.array_equal(decoded, expected)


def test_the_file_has_size_and_quality_for_the_decoder(weights: Path) -> None:
    _write_weights(weights, "bmshj2018-hyperprior", 3)
    data = _peer("bmshj2018-hyperprior").encode(photo_like(50, 70), 3.0)
    width, height, quality, size = struct.unpack_from("<HHBI", data)
    assert (width, height, quality) == (70, 50, 3)
    assert 9 < 9 + size < len(data)


def test_qualities_are_those_whose_weights_are_there(weights: Path) -> None:
    for quality in (8, 1, 4):
        _write_weights(weights, "mbt2018-mean", quality)
    (weights / "mbt2018-mean-ms-ssim-2-5bf9c0b6.pth.tar").touch()
    (weights / "mbt2018-mean-3-notahash.pth.tar").touch()
    peer = _peer("mbt2018-mean")
    assert peer.qualities == (1.0, 4.0, 8.0)
    assert peer.settings == (
        "CompressAI, float32, tuned for MSE, weights mbt2018-mean-1-0123abcd.pth.tar, "
        "mbt2018-mean-4-0123abcd.pth.tar, mbt2018-mean-8-0123abcd.pth.tar"
    )


@pytest.mark.parametrize("architecture", CHANNELS)
def test_missing_weights_say_what_to_do(weights: Path, architecture: str) -> None:
    with pytest.raises(
        MissingDependencyError,
        match=rf"^zoo-{architecture}: no weights .* in .*image_models\['{architecture}'\].*"
        "CAEZIP_ZOO_WEIGHTS",
    ):
        _peer(architecture)


def test_weights_are_found_where_torch_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CAEZIP_ZOO_WEIGHTS", raising=False)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    _write_weights(tmp_path / "checkpoints", "bmshj2018-factorized", 5)
    assert _peer("bmshj2018-factorized").qualities == (5.0,)


def test_a_compressai_that_does_not_import_is_a_missing_dependency(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_weights(weights, "bmshj2018-factorized", 1)

    def broken() -> None:
        raise ImportError("no module named torchvision")

    monkeypatch.setattr(zoo_peers, "_zoo_classes", broken)
    with pytest.raises(MissingDependencyError, match=r"^zoo-bmshj2018-factorized: .*torchvision"):
        _peer("bmshj2018-factorized")
