"""The codecs that can be compared: which there are, what they say they do, and that they do it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from caezip.errors import MissingDependencyError, UnknownModelError, WeightsError
from caezip.image_io import Pixels
from caezip_bench import peers
from caezip_bench.peers import (
    DEFAULT_PEERS,
    PEERS,
    AvifPeer,
    PeerOptions,
    avif_version,
    make_default_peers,
    make_peers,
)
from images import photo_like, psnr_db

needs_avif = pytest.mark.skipif(avif_version() is None, reason="this Pillow comes without AVIF")
Manifest = Callable[..., PeerOptions]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Makes options whose manifest lists ``(model_id, name, tune)``; there are no weights."""

    def write(*models: tuple[int, str, str | None]) -> PeerOptions:
        entries = [
            {"model_id": model_id, "name": name, "file": "none", "sha256": "", "details": {}}
            | ({} if tune is None else {"tune": tune})
            for model_id, name, tune in models
        ]
        document = {"manifest_version": 1, "models": entries}
        (tmp_path / "manifest.json").write_text(json.dumps(document))
        return PeerOptions(weights_folder=tmp_path)

    return write


@pytest.fixture
def no_avif(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Pillow that has never heard of AVIF, as before 11.3."""
    from PIL import features

    monkeypatch.delitem(features.modules, "avif", raising=False)


# -- caezip's settings -------------------------------------------------------


def test_settings_name_the_newest_model_of_the_tune(manifest: Manifest) -> None:
    options = manifest((2, "old", None), (3, "structure", "ssim"), (4, "new", "psnr"))
    peers = make_peers(["caezip", "caezip-ssim", "caezip-e1", "caezip-e9"], options)
    assert [(peer.name, peer.settings) for peer in peers] == [
        ("caezip", "model 4 (new), float32, effort 2, tuned for PSNR"),
        ("caezip-ssim", "model 3 (structure), float32, effort 2, tuned for SSIM"),
        ("caezip-e1", "model 4 (new), float32, effort 1, tuned for PSNR"),
        ("caezip-e9", "model 4 (new), float32, effort 9, tuned for PSNR"),
    ]


def test_every_effort_has_a_codec_and_the_plain_one_the_default_effort(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from caezip.tile_coder import EFFORT_ITERATIONS

    assert {name for name in PEERS if name.startswith("caezip-e")} == {
        f"caezip-e{effort}" for effort in EFFORT_ITERATIONS
    }
    monkeypatch.setattr("caezip.tile_coder.DEFAULT_EFFORT", 7)
    (peer,) = make_peers(["caezip"], manifest((2, "new", None)))
    assert "effort 7" in peer.settings


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("caezip", {"quality": 30.0, "effort": 2, "tune": "psnr"}),
        ("caezip-ssim", {"quality": 30.0, "effort": 2, "tune": "ssim"}),
        ("caezip-e6", {"quality": 30.0, "effort": 6, "tune": "psnr"}),
    ],
)
def test_caezip_encodes_as_its_settings_say(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, name: str, expected: dict[str, Any]
) -> None:
    asked: list[dict[str, Any]] = []
    made: list[tuple[int | None, Path | None]] = []

    class Recorder:
        def encode(self, pixels: Pixels, **settings: Any) -> bytes:
            asked.append(settings)
            return b"coded"

    def recorder(threads: int | None, weights_folder: Path | None) -> Recorder:
        made.append((threads, weights_folder))
        return Recorder()

    monkeypatch.setattr(codecs, "_codec", recorder)
    options = manifest((2, "a", "psnr"), (3, "b", "ssim"))
    (peer,) = make_peers([name], options)
    assert peer.encode(np.zeros((8, 8, 3), np.uint8), 30.0) == b"coded"
    assert asked == [expected]
    assert made == [(None, options.weights_folder)]


def test_efforts_share_one_loaded_codec(manifest: Manifest) -> None:
    options = manifest((2, "a", None))
    first, last = make_peers(["caezip-e1", "caezip-e9"], options)
    assert isinstance(first, codecs.CaezipPeer)
    assert isinstance(last, codecs.CaezipPeer)
    assert first._loaded() is last._loaded()


# -- which codecs there are --------------------------------------------------


@needs_avif
def test_all_default_codecs_are_there_if_their_weights_are(manifest: Manifest) -> None:
    peers, notes = make_default_peers(manifest((2, "a", "psnr"), (3, "b", "ssim")))
    assert [peer.name for peer in peers] == list(DEFAULT_PEERS)
    assert not any("-e" in name for name in DEFAULT_PEERS)
    assert notes == []


@pytest.mark.usefixtures("no_avif")
def test_what_is_missing_is_left_out_by_default_with_its_reason(manifest: Manifest) -> None:
    peers, notes = make_default_peers(manifest((2, "a", None)))
    assert [peer.name for peer in peers] == ["caezip", "jpeg420", "jpeg444", "webp", "png"]
    assert len(notes) == 2
    assert notes[0] == (
        "caezip-ssim is left out: tune: no weights for 'ssim' in the folder given, found are: psnr"
    )
    assert notes[1].startswith("avif444 is left out: this Pillow cannot write AVIF")


def test_caezip_itself_is_never_left_out(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"^caezip: .*no weights for 'psnr'"):
        make_default_peers(manifest((3, "b", "ssim")))
    with pytest.raises(WeightsError, match="does not exist"):
        make_default_peers(PeerOptions(weights_folder=tmp_path / "absent"))


def test_missing_weights_are_an_error_if_asked_for(manifest: Manifest) -> None:
    with pytest.raises(UnknownModelError, match=r"^caezip-ssim: .*no weights for 'ssim'.*: psnr$"):
        make_peers(["caezip-ssim"], manifest((2, "a", None)))


@pytest.mark.usefixtures("no_avif")
@pytest.mark.parametrize("name", ["avif444", "avif420"])
def test_a_missing_library_is_an_error_if_asked_for(name: str) -> None:
    with pytest.raises(MissingDependencyError, match=rf"^{name}: .*AVIF.*pip install"):
        make_peers([name], PeerOptions())


# -- AVIF --------------------------------------------------------------------


@needs_avif
def test_avif_says_its_library_and_settings() -> None:
    from PIL import features

    full, halved = make_peers(["avif444", "avif420"], PeerOptions())
    library = f"Pillow (libavif {features.version('avif')})"
    assert full.settings == f"{library}, 4:4:4, speed 4, one tile, one thread"
    assert halved.settings == f"{library}, 4:2:0, speed 4, one tile, one thread"


@needs_avif
@pytest.mark.parametrize("name", ["avif444", "avif420"])
def test_more_quality_of_avif_takes_more_bits_and_loses_less(name: str) -> None:
    (peer,) = make_peers([name], PeerOptions())
    picture = photo_like(48, 64)
    coded = [peer.encode(picture, quality) for quality in peer.qualities]
    sizes = [len(data) for data in coded]
    assert all(data[4:12] == b"ftypavif" for data in coded)
    assert sizes == sorted(set(sizes))
    assert psnr_db(picture, peer.decode(coded[0])) + 8 < psnr_db(picture, peer.decode(coded[-1]))


@needs_avif
def test_chroma_subsampling_of_avif_is_what_the_name_says() -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2, 0] = 255
    stripes[:, 1::2, 2] = 255
    full, halved = make_peers(["avif444", "avif420"], PeerOptions())
    kept = full.decode(full.encode(stripes, 95)).astype(int)
    blurred = halved.decode(halved.encode(stripes, 95)).astype(int)
    assert abs(kept - stripes).mean() < 20 < abs(blurred - stripes).mean()


@needs_avif
def test_avif_files_are_in_one_tile_and_the_same_on_any_number_of_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from PIL import AvifImagePlugin

    picture = photo_like(600, 700)  # more than libavif's smallest tile of 512x512
    peer = AvifPeer("fast", "4:4:4", speed=6)
    coded = []
    for threads in (1, 4):
        monkeypatch.setattr(AvifImagePlugin, "DEFAULT_MAX_THREADS", threads)
        coded.append(peer.encode(picture, 30))
    assert coded[0] == coded[1]
    tiled = io.BytesIO()
    options = peer.save_options(30) | {"autotiling": True}
    Image.fromarray(picture).save(tiled, format="AVIF", **options)
    assert len(coded[0]) < len(tiled.getvalue())


@needs_avif
def test_a_slower_avif_is_another_file() -> None:
    picture = photo_like(64, 80)
    slow, fast = AvifPeer("slow", "4:4:4", speed=4), AvifPeer("fast", "4:4:4", speed=10)
    assert slow.encode(picture, 50) != fast.encode(picture, 50)
