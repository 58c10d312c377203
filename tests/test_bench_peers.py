"""caezip's and Pillow's codecs: which there are, what they say they do, and that they do it."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from caezip.errors import (
    MissingDependencyError,
    ParameterError,
    UnknownModelError,
    WeightsError,
)
from caezip.image_io import Pixels
from caezip_bench.peers import (
    DEFAULT_PEERS,
    PEERS,
    AvifPeer,
    CaezipPeer,
    PeerOptions,
    avif_version,
    describe_peers,
    make_default_peers,
    make_peers,
)
from images import photo_like, psnr_db

needs_avif = pytest.mark.skipif(avif_version() is None, reason="this Pillow comes without AVIF")
PILLOW_PEERS = ["jpeg420", "jpeg444", "webp", "jpeg2000"]
AVIF_PEERS = ["avif444", "avif420", "avif444-s8", "avif420-s8", "avif444-1tile"]
JXL_PEERS = ["jxl-e7", "jxl-e3"]
DEFAULT_PROGRAMS = ["cjxl-e7", "avifenc-s4", "cwebp-m6", "mozjpeg"]
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


@pytest.fixture
def no_jxl(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without pillow-jxl-plugin."""
    installed = metadata.version

    def version(name: str) -> str:
        if name == "pillow-jxl-plugin":
            raise metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(metadata, "version", version)


@pytest.fixture
def no_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))


def _available(name: str) -> Any:
    """The peer, if what it needs is here; the test is skipped if not."""
    try:
        (peer,) = make_peers([name], PeerOptions())
    except MissingDependencyError as error:
        pytest.skip(str(error))
    return peer


# -- caezip's settings -------------------------------------------------------


def test_settings_name_the_newest_model_of_the_tune(manifest: Manifest) -> None:
    models = (2, "old", None), (3, "structure", "ssim"), (4, "new", "psnr")
    options = manifest(*models, (5, "small", "archive"))
    peers = make_peers(["caezip", "caezip-ssim", "caezip-e1", "caezip-e9"], options)
    assert [(peer.name, peer.settings) for peer in peers] == [
        ("caezip", "model 4 (new), engine openvino, effort 2, tuned for PSNR"),
        ("caezip-ssim", "model 3 (structure), engine openvino, effort 2, tuned for SSIM"),
        ("caezip-e1", "model 4 (new), engine openvino, effort 1, tuned for PSNR"),
        ("caezip-e9", "model 5 (small), engine openvino, effort 9, tuned for ARCHIVE"),
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
        ("caezip-fast", {"quality": 30.0, "effort": 2, "tune": "fastdecode"}),
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

    monkeypatch.setattr("caezip_bench.peers.own._codec", recorder)
    options = manifest((2, "a", "psnr"), (3, "b", "ssim"), (4, "c", "fastdecode"))
    (peer,) = make_peers([name], options)
    assert peer.encode(np.zeros((8, 8, 3), np.uint8), 30.0) == b"coded"
    assert asked == [expected]
    assert made == [(None, options.weights_folder)]


def test_efforts_share_one_loaded_codec(manifest: Manifest) -> None:
    options = manifest((2, "a", None))
    first, last = make_peers(["caezip-e1", "caezip-e9"], options)
    assert isinstance(first, CaezipPeer)
    assert isinstance(last, CaezipPeer)
    assert first._loaded() is last._loaded()


# -- which codecs there are --------------------------------------------------


def test_the_names_that_reports_and_commands_use() -> None:
    assert list(PEERS) == [
        *["caezip", "caezip-archive", "caezip-ssim", "caezip-fast"],
        *(f"caezip-e{effort}" for effort in range(1, 10)),
        *["jpeg420", "jpeg444", "webp"],
        *["avif444", "avif420", "avif444-s8", "avif420-s8", "avif444-1tile"],
        *["jpeg2000", "jxl-e7", "jxl-e3", "klt", "png"],
        *["cjxl-e7", "cjxl-e3", "avifenc-s4", "avifenc-s8", "cwebp-m6", "mozjpeg", "bpg", "vtm"],
        *["zoo-bmshj2018-factorized", "zoo-bmshj2018-hyperprior"],
        *["zoo-mbt2018-mean", "zoo-cheng2020-anchor"],
    ]
    assert list(DEFAULT_PEERS) == [
        *["caezip", "caezip-archive", "caezip-ssim", "caezip-fast"],
        *["jpeg420", "jpeg444", "webp"],
        *["avif444", "avif444-s8", "avif420-s8", "jpeg2000", "jxl-e7", "jxl-e3", "klt", "png"],
        *DEFAULT_PROGRAMS,
    ]


def test_every_codec_carries_the_name_it_is_registered_by(manifest: Manifest) -> None:
    options = manifest((2, "a", "psnr"), (3, "b", "ssim"))
    for name, available, _ in describe_peers(options):
        if available:
            (peer,) = make_peers([name], options)
            assert peer.name == name
            assert list(peer.qualities) == sorted(peer.qualities, key=lambda q: q or 0)


@needs_avif
@pytest.mark.usefixtures("no_programs")
def test_all_default_codecs_are_there_if_what_they_need_is(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "1.0")
    entries = (2, "a", "psnr"), (3, "b", "ssim"), (4, "c", "fastdecode"), (5, "d", "archive")
    peers, missing = make_default_peers(manifest(*entries))
    assert [peer.name for peer in peers] == [p for p in DEFAULT_PEERS if p not in DEFAULT_PROGRAMS]
    assert [peer.name for peer in missing] == DEFAULT_PROGRAMS
    assert missing[0].reason.startswith("cjxl is not on PATH")


@pytest.mark.usefixtures("no_avif", "no_jxl", "no_programs")
def test_what_is_missing_is_named_with_its_reason(manifest: Manifest) -> None:
    peers, missing = make_default_peers(manifest((2, "a", None)))
    names = ["caezip", "jpeg420", "jpeg444", "webp", "jpeg2000", "klt", "png"]
    assert [peer.name for peer in peers] == names
    reasons = {peer.name: peer.reason for peer in missing}
    assert list(reasons) == [name for name in DEFAULT_PEERS if name not in names]
    assert reasons["caezip-ssim"] == (
        "tune: no weights for 'ssim' in the folder given, found are: psnr"
    )
    assert reasons["avif444-s8"].startswith("this Pillow cannot write AVIF")
    assert reasons["jxl-e3"].endswith("pip install pillow-jxl-plugin")


@pytest.mark.usefixtures("no_avif", "no_programs")
def test_descriptions_have_settings_or_what_is_missing(manifest: Manifest) -> None:
    described = describe_peers(manifest((2, "a", None)))
    assert [name for name, _, _ in described] == list(PEERS)
    by_name = {name: (available, text) for name, available, text in described}
    assert by_name["jpeg444"] == (True, "Pillow, 4:4:4, optimize, progressive")
    assert by_name["caezip"][1].startswith("model 2 (a)")
    for name, reason in (("avif420", "this Pillow"), ("bpg", "bpgenc is not"), ("vtm", "Encoder")):
        available, text = by_name[name]
        assert not available
        assert text.startswith(reason)


def test_caezip_itself_is_never_left_out(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"^caezip: .*no weights for 'psnr'"):
        make_default_peers(manifest((3, "b", "ssim")))
    with pytest.raises(WeightsError, match="does not exist"):
        make_default_peers(PeerOptions(weights_folder=tmp_path / "absent"))


def test_missing_weights_are_an_error_if_asked_for(manifest: Manifest) -> None:
    with pytest.raises(UnknownModelError, match=r"^caezip-ssim: .*no weights for 'ssim'.*: psnr$"):
        make_peers(["caezip-ssim"], manifest((2, "a", None)))


@pytest.mark.usefixtures("no_avif", "no_jxl")
@pytest.mark.parametrize("name", [*AVIF_PEERS, *JXL_PEERS])
def test_a_missing_library_is_an_error_if_asked_for(name: str) -> None:
    with pytest.raises(MissingDependencyError, match=rf"^{name}: .*pip install"):
        make_peers([name], PeerOptions())


# -- Pillow's formats --------------------------------------------------------


@pytest.mark.parametrize("name", [*PILLOW_PEERS, *AVIF_PEERS, *JXL_PEERS])
def test_more_quality_takes_more_bits_and_loses_less(name: str) -> None:
    peer = _available(name)
    picture = photo_like(110, 170)
    qualities = peer.qualities[:: len(peer.qualities) // 3]
    coded = [peer.encode(picture, quality) for quality in qualities]
    sizes = [len(data) for data in coded]
    decoded = [peer.decode(data) for data in coded]
    assert all(pixels.shape == picture.shape for pixels in decoded)
    psnrs = [psnr_db(picture, pixels) for pixels in decoded]
    assert len(qualities) >= 3
    assert sizes == sorted(set(sizes))
    assert psnrs == sorted(psnrs)
    assert psnrs[0] + 3 < psnrs[-1]


@pytest.mark.parametrize("name", [*PILLOW_PEERS, *AVIF_PEERS, *JXL_PEERS])
def test_a_lossy_codec_needs_a_quality(name: str) -> None:
    with pytest.raises(ParameterError, match="found none"):
        _available(name).encode(photo_like(16, 16), None)


def test_png_gives_the_very_pixels_back() -> None:
    (peer,) = make_peers(["png"], PeerOptions())
    picture = photo_like(30, 40)
    assert peer.lossless
    assert np.array_equal(peer.decode(peer.encode(picture, None)), picture)


@pytest.mark.parametrize("name", [*PILLOW_PEERS, *AVIF_PEERS, *JXL_PEERS, "png"])
def test_a_codec_works_in_another_process(name: str) -> None:
    peer = _available(name)
    sent = pickle.loads(pickle.dumps(peer))  # noqa: S301  # just made
    picture, quality = photo_like(24, 32), peer.qualities[-1]
    assert sent.settings == peer.settings
    assert sent.encode(picture, quality) == peer.encode(picture, quality)


@pytest.mark.parametrize("pair", [("jpeg444", "jpeg420"), ("avif444", "avif420")])
def test_chroma_subsampling_is_what_the_name_says(pair: tuple[str, str]) -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2, 0] = 255
    stripes[:, 1::2, 2] = 255
    full, halved = (_available(name) for name in pair)
    kept = full.decode(full.encode(stripes, 95)).astype(int)
    blurred = halved.decode(halved.encode(stripes, 95)).astype(int)
    assert abs(kept - stripes).mean() < 20 < abs(blurred - stripes).mean()


@pytest.mark.parametrize("pair", [("jxl-e7", "jxl-e3"), ("avif444", "avif444-s8")])
def test_another_effort_is_another_file(pair: tuple[str, str]) -> None:
    picture = photo_like(64, 80)
    slow, fast = (_available(name) for name in pair)
    assert slow.encode(picture, 50) != fast.encode(picture, 50)


def test_jpeg_files_are_progressive_and_have_their_own_huffman_tables() -> None:
    picture = photo_like(64, 80)
    (peer,) = make_peers(["jpeg420"], PeerOptions())
    data = peer.encode(picture, 50)
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["progressive"]
    plain = io.BytesIO()
    Image.fromarray(picture).save(plain, "JPEG", quality=50, subsampling="4:2:0", progressive=True)
    assert len(data) <= len(plain.getvalue())


def test_jpeg_2000_takes_as_many_bits_as_it_is_told() -> None:
    picture = photo_like(120, 160)
    peer = _available("jpeg2000")
    for quality in (0.3, 2.5):
        bpp = 8 * len(peer.encode(picture, quality)) / (120 * 160)
        assert 0.9 * quality < bpp < 1.2 * quality


def test_jpeg_2000_uses_the_irreversible_wavelet_and_colours() -> None:
    data = _available("jpeg2000").encode(photo_like(64, 80), 1.0)
    start = data.index(b"\xff\x52")  # the marker COD: ISO/IEC 15444-1, A.6.1
    layers = int.from_bytes(data[start + 6 : start + 8], "big")
    component_transform, wavelet = data[start + 8], data[start + 13]
    assert (layers, component_transform, wavelet) == (1, 1, 0)


# -- AVIF --------------------------------------------------------------------


@needs_avif
def test_avif_says_its_library_and_settings() -> None:
    from PIL import features

    peers = make_peers(["avif444", "avif420-s8", "avif444-1tile"], PeerOptions())
    library = f"Pillow (libavif {features.version('avif')})"
    assert [peer.settings for peer in peers] == [
        f"{library}, 4:4:4, speed 4, automatic tiles, several threads",
        f"{library}, 4:2:0, speed 8, automatic tiles, several threads",
        f"{library}, 4:4:4, speed 4, one tile, one thread",
    ]


@needs_avif
def test_avif_is_what_pillow_saves_by_default_on_any_number_of_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from PIL import AvifImagePlugin

    monkeypatch.setattr(AvifImagePlugin, "DEFAULT_MAX_THREADS", 3)
    picture = photo_like(600, 700)  # more than libavif's smallest tile of 512×512
    default = io.BytesIO()
    Image.fromarray(picture).save(default, "AVIF", quality=30, subsampling="4:4:4", speed=9)
    for threads in (1, 2, 5):
        peer = AvifPeer("fast", "4:4:4", 9, threads=threads)
        assert peer.encode(picture, 30) == default.getvalue()
    smallest = AvifPeer("small", "4:4:4", 9, one_tile=True).encode(picture, 30)
    assert len(smallest) < len(default.getvalue())
