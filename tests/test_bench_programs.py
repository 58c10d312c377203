"""Codecs that are programs, played by small scripts: what they are told, and how they fail."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caezip.errors import MissingDependencyError, ParameterError
from caezip.image_io import Pixels
from caezip_bench.peers import Peer, PeerError, PeerOptions, make_peers
from caezip_bench.peers.vtm import CONFIG, ycbcr_of_rgb
from images import noise, photo_like

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="scripts are no programs there")

# copies the picture, and notes what it was told
COPY = """
source, target = sorted(files, key=lambda path: not path.exists())
shutil.copy(source, target)
Path(__file__).with_suffix(".told").write_text(json.dumps(told))
"""
SCRIPT = """#!{python} -IS
import json, shutil, sys, time
from pathlib import Path
told = sys.argv[1:]
if told and told[-1] in ("--version", "-version", "-h", "--help"):
    print("\\n{version}\\nand more")
    sys.exit(1)
files = [Path(word) for word in told if Path(word).stem in ("picture", "coded")]
{work}
"""
PROGRAMS = {
    "cjxl-e7": ("cjxl", "djxl"),
    "cjxl-e3": ("cjxl", "djxl"),
    "avifenc-s4": ("avifenc", "avifdec"),
    "avifenc-s8": ("avifenc", "avifdec"),
    "cwebp-m6": ("cwebp", "dwebp"),
    "mozjpeg": ("cjpeg", "djpeg"),
    "bpg": ("bpgenc", "bpgdec"),
    "vtm": ("EncoderAppStatic", "DecoderAppStatic"),
}
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts scripts on PATH, where there is nothing else; returns their folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CAEZIP_VTM_CONFIG", raising=False)

    def install(*programs: str, work: str = COPY, version: str = "mozjpeg version 4.1") -> Path:
        for program in programs:
            path = folder / program
            path.write_text(SCRIPT.format(python=sys.executable, version=version, work=work))
            path.chmod(0o755)
        return folder

    return install


def _peer(name: str) -> Peer:
    (peer,) = make_peers([name], PeerOptions(threads=3))
    return peer


def _told(script: Path) -> list[str]:
    """The words that it was told last, without the folders of what changes."""
    words: list[str] = json.loads(script.with_suffix(".told").read_text())
    return [Path(word).name if "caezip-bench-" in word else word for word in words]


def _with_vtm_config(folder: Path) -> str:
    path = folder.parent / "cfg" / CONFIG
    path.parent.mkdir()
    path.touch()
    return str(path)


# -- what they are told ------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "quality", "encode", "decode"),
    [
        ("cjxl-e7", 30.0, "picture.png coded.jxl -q 30 -e 7", "coded.jxl picture.png"),
        ("cjxl-e3", 92.5, "picture.png coded.jxl -q 92.5 -e 3", "coded.jxl picture.png"),
        (
            "avifenc-s4",
            60.0,
            "-s 4 -y 444 -q 60 -j 3 picture.png coded.avif",
            "-j 3 coded.avif picture.png",
        ),
        (
            "avifenc-s8",
            60.0,
            "-s 8 -y 444 -q 60 -j 3 picture.png coded.avif",
            "-j 3 coded.avif picture.png",
        ),
        (
            "cwebp-m6",
            75.0,
            "-quiet -m 6 -q 75 picture.png -o coded.webp",
            "-quiet coded.webp -o picture.png",
        ),
        (
            "mozjpeg",
            80.0,
            "-quality 80 -sample 2x2 -outfile coded.jpg picture.ppm",
            "-outfile picture.ppm coded.jpg",
        ),
        (
            "bpg",
            19.0,
            "-q 32 -f 444 -m 9 -o coded.bpg picture.png",
            "-o picture.png coded.bpg",
        ),
        (
            "vtm",
            26.0,
            "-c CONFIG -i picture.yuv -b coded.vvc -q 37 -o rebuilt.yuv --InputBitDepth=8 "
            "--InputChromaFormat=444 --ConformanceWindowMode=1 -fr 1 -f 1 -wdt 33 -hgt 21",
            "-b coded.vvc -o picture.yuv -d 8",
        ),
    ],
)
def test_programs_are_told_file_quality_and_settings(
    install: Install, name: str, quality: float, encode: str, decode: str
) -> None:
    encoder, decoder = PROGRAMS[name]
    folder = install(encoder, decoder)
    config = _with_vtm_config(folder)
    peer = _peer(name)
    picture = photo_like(21, 33)
    data = peer.encode(picture, quality)
    decoded = peer.decode(data)
    assert _told(folder / encoder) == encode.replace("CONFIG", config).split()
    assert _told(folder / decoder) == decode.split()
    assert decoded.shape == picture.shape
    assert np.abs(decoded.astype(int) - picture).max() <= (2 if name == "vtm" else 0)
    assert peer.settings.startswith(f"{encoder.removesuffix('Static')} (mozjpeg version 4.1), ")


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_works_in_another_process(install: Install, name: str) -> None:
    _with_vtm_config(install(*PROGRAMS[name]))
    peer = _peer(name)
    sent = pickle.loads(pickle.dumps(peer))  # noqa: S301  # just made
    picture = photo_like(8, 8)
    assert sent.settings == peer.settings
    assert sent.encode(picture, 30.0) == peer.encode(picture, 30.0)


def test_the_file_is_counted_as_it_is(install: Install) -> None:
    install("cjxl", work="files[1].write_bytes(b'four')")
    install("djxl")
    assert _peer("cjxl-e7").encode(noise(9, 9), 50.0) == b"four"


def test_a_picture_of_another_size_is_returned_as_it_is(install: Install, tmp_path: Path) -> None:
    other: Pixels = photo_like(5, 6)
    Image.fromarray(other).save(tmp_path / "other.png")
    install("cjxl")
    install("djxl", work=f"shutil.copy({str(tmp_path / 'other.png')!r}, files[1])")
    assert np.array_equal(_peer("cjxl-e7").decode(b"anything"), other)


def test_a_quality_is_needed(install: Install) -> None:
    install("cjxl", "djxl")
    with pytest.raises(ParameterError, match="found none"):
        _peer("cjxl-e7").encode(noise(9, 9), None)


# -- which are there ---------------------------------------------------------


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("absent", [0, 1])
def test_a_missing_program_is_named_and_where_to_get_it(
    install: Install, name: str, absent: int
) -> None:
    pair = PROGRAMS[name]
    _with_vtm_config(install(pair[1 - absent]))
    with pytest.raises(MissingDependencyError, match=rf"^{name}: .*{pair[absent]}.*not on PATH.*"):
        _peer(name)


def test_libjpeg_turbos_encoder_is_not_taken_for_mozjpegs(install: Install) -> None:
    install("cjpeg", "djpeg", version="libjpeg-turbo version 3.0.1 (build 20240101)")
    with pytest.raises(MissingDependencyError, match=r"^mozjpeg: .*not mozjpeg's.*libjpeg-turbo"):
        _peer("mozjpeg")


def test_an_avifenc_without_qualities_is_refused(install: Install) -> None:
    install("avifenc", "avifdec", version="Version: 0.11.1 (dav1d [dec]:1.0.0)")
    with pytest.raises(MissingDependencyError, match=r"^avifenc-s4: .*is 0\.11, which has no -q"):
        _peer("avifenc-s4")
    install("avifenc", "avifdec", version="Version: 1.3.0 (dav1d [dec]:1.0.0)")
    assert _peer("avifenc-s4").settings.startswith("avifenc (Version: 1.3.0")


def test_vtm_is_found_under_its_other_name(install: Install) -> None:
    folder = install("EncoderApp", "DecoderApp")
    _with_vtm_config(folder)
    peer = _peer("vtm")
    picture = photo_like(10, 12)
    assert peer.decode(peer.encode(picture, 26.0)).shape == picture.shape


def test_vtms_configuration_can_be_named(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = install("EncoderAppStatic", "DecoderAppStatic")
    with pytest.raises(MissingDependencyError, match=rf"^vtm: .*{CONFIG}.*CAEZIP_VTM_CONFIG"):
        _peer("vtm")
    named = tmp_path / "mine.cfg"
    monkeypatch.setenv("CAEZIP_VTM_CONFIG", str(named))
    with pytest.raises(MissingDependencyError, match=r"^vtm: found no .*mine\.cfg"):
        _peer("vtm")
    named.touch()
    _peer("vtm").encode(photo_like(8, 8), 26.0)
    assert str(named) in _told(folder / "EncoderAppStatic")


# -- how they fail -----------------------------------------------------------


def test_a_failing_program_is_quoted(install: Install) -> None:
    folder = install("cjxl", work="sys.exit('reading\\nno such colour space\\n\\n')")
    install("djxl", work="print('broken data'); sys.exit(3)")
    peer = _peer("cjxl-e7")
    with pytest.raises(PeerError, match=r"^cjxl failed with exit status 1: no such colour space$"):
        peer.encode(noise(9, 9), 50.0)
    with pytest.raises(PeerError, match=r"^djxl failed with exit status 3: broken data$"):
        peer.decode(b"anything")
    (folder / "djxl").unlink()
    with pytest.raises(OSError, match="djxl"):
        peer.decode(b"anything")


def test_a_program_that_writes_nothing_is_an_error(install: Install) -> None:
    install("cjxl", work="")
    install("djxl", work="sys.stderr.write('nothing to do')")
    peer = _peer("cjxl-e7")
    with pytest.raises(PeerError, match=r"^cjxl wrote no file: it said nothing$"):
        peer.encode(noise(9, 9), 50.0)
    with pytest.raises(PeerError, match=r"^djxl wrote no file: nothing to do$"):
        peer.decode(b"anything")


def test_a_program_that_hangs_is_stopped(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("cjxl", "djxl", work="time.sleep(60)")
    peer = _peer("cjxl-e7")
    monkeypatch.setattr(peer, "timeout_s", 0.3)
    with pytest.raises(PeerError, match=r"^cjxl took more than 0\.3 s and was stopped$"):
        peer.encode(noise(9, 9), 50.0)


def test_vtm_giving_another_number_of_samples_is_an_error(install: Install) -> None:
    _with_vtm_config(install("EncoderAppStatic"))
    install("DecoderAppStatic", work="files[1].write_bytes(b'short')")
    peer = _peer("vtm")
    with pytest.raises(PeerError, match=r"^DecoderAppStatic wrote 5 samples, expected 3 of 10x8$"):
        peer.decode(peer.encode(photo_like(8, 10), 26.0))


# -- VTM's colours -----------------------------------------------------------


def test_bt709_gives_its_reference_values() -> None:
    colours = np.array(
        [[[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8
    )
    expected = [[255, 128, 128], [0, 128, 128], [54, 99, 255], [182, 30, 12], [18, 255, 116]]
    assert ycbcr_of_rgb(colours)[0].tolist() == expected
