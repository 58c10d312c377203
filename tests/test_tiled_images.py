"""Images of several tiles: no seams, regions, previews, and what is saved of damaged files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import caezip
from caezip import Codec, container, decoding, pipeline, tile_coder, transforms
from caezip.config import TUNES
from caezip.errors import CorruptError, ParameterError, TruncatedError
from caezip.image_io import Pixels
from caezip.picture import Picture, Samples
from commands import assert_refused, run, succeed
from images import gray_of, photo_like, psnr_db, sixteen_bits
from tiles import damage, tiles_of

HEIGHT, WIDTH, SIDE = 300, 420, 128
# what the squares of a hole are made of
DARK, LIGHT = 63, 189


@pytest.fixture(scope="module")
def picture() -> Pixels:
    return photo_like(HEIGHT, WIDTH)


@pytest.fixture
def small_tiles() -> Iterator[None]:
    with tiles_of(SIDE):
        yield


@pytest.fixture
def tiled(codec: Codec, picture: Pixels, small_tiles: None) -> bytes:
    data = codec.encode(picture, quality=60)
    assert container.read_header(data).tile_side == SIDE
    return data


def levels_apart(one: Samples, other: Samples) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


# -- tiles and windows -------------------------------------------------------


def test_small_images_are_one_tile_and_large_ones_are_not(codec: Codec) -> None:
    side = pipeline.LARGEST_SINGLE
    for width, expected in ((side, 0), (side + 1, 768)):
        wide = np.zeros((1, width, 3), np.uint8)
        wide[0, ::7] = 200
        data = codec.encode(wide)
        assert container.read_header(data).tile_side == expected
        assert codec.decode(data).shape == wide.shape


def test_tiles_leave_no_seams_and_cost_no_quality(codec: Codec) -> None:
    side, picture = 2 * SIDE, photo_like(2 * HEIGHT, 2 * WIDTH)

    def decoded(quality: int) -> Pixels:
        return codec.decode(codec.encode(picture, quality=quality))

    qualities = (40, 60, 80)  # of a single one, chance moves more than tiles do
    with tiles_of(side):
        apart = {quality: decoded(quality) for quality in qualities}
    whole = {quality: decoded(quality) for quality in qualities}
    losses_db = [psnr_db(picture, whole[q]) - psnr_db(picture, apart[q]) for q in qualities]
    assert np.mean(np.abs(losses_db)) < 0.05
    # the error beside a seam is what it is in the untiled picture
    error = {
        name: np.abs(pixels.astype(float) - picture).mean(axis=2)
        for name, pixels in (("whole", whole[60]), ("tiled", apart[60]))
    }
    for line in (slice(side - 1, side + 1), slice(2 * side - 1, 2 * side + 1)):
        for name, part in (("rows", np.s_[line, :]), ("columns", np.s_[:, line])):
            ratio = error["tiled"][part].mean() / error["whole"][part].mean()
            assert 0.9 < ratio < 1.1, (name, line)


@pytest.mark.parametrize("effort", [2, 3])
@pytest.mark.parametrize("tune", TUNES)
@pytest.mark.parametrize("quality", [40, 80])
def test_tiles_draw_no_lines_in_a_sky(quality: int, tune: str, effort: int) -> None:
    """Where nothing is coded, pixels are what means say, and a level is seen."""
    size = 3 * SIDE
    rows, columns = np.linspace(0, 1, size)[:, None, None], np.linspace(0, 1, size)[:, None]
    blue, white = np.array([110, 155, 215]), np.array([130, 170, 220])
    noise = np.random.default_rng(0).normal(0, 0.7, (size, size, 3))
    sky = (blue + (white - blue) * rows + 5 * columns + noise).round().astype(np.uint8)
    codec = Codec()
    with tiles_of(SIDE):
        data = codec.encode(sky, quality=quality, tune=tune, effort=effort)
        decoded = codec.decode(data)
    assert caezip.info(data).tiles_continue
    error = (decoded.astype(float) - sky).mean(axis=2)
    lines = [
        profile[line - 1 : line + 1].mean()
        - np.concatenate([profile[line - 9 : line - 5], profile[line + 5 : line + 9]]).mean()
        for profile in (error.mean(axis=0), error.mean(axis=1))
        for line in (SIDE, 2 * SIDE)
    ]
    # with means that ended where tiles do: 1.3 to 2.2 levels, with "ssim" 0.6 to 0.9
    assert np.sqrt(np.mean(np.square(lines))) < 0.7


@pytest.mark.parametrize("side", [64, 192])
def test_windows_are_decoded_as_the_whole_would_be(
    codec: Codec, picture: Pixels, monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    data = codec.encode(picture, quality=60)
    whole = codec.decode(data)
    monkeypatch.setattr(decoding, "WINDOW_SIDE", side)
    assert levels_apart(codec.decode(data), whole) <= 1


def test_no_network_sees_more_than_a_tile_and_its_surroundings(
    picture: Pixels, small_tiles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory does not grow with the image."""
    codec = Codec(threads=1, engine="torch")
    areas: list[int] = []

    def watch(transform: type[torch.nn.Module]) -> None:
        original = transform.forward

        def forward(self: Any, x: torch.Tensor, *arguments: Any) -> Any:
            areas.append(x.shape[2] * x.shape[3])
            return original(self, x, *arguments)

        monkeypatch.setattr(transform, "forward", forward)

    watch(transforms.AnalysisTransform)
    data = codec.encode(picture, quality=60)
    assert 0 < max(areas) <= (SIDE + 2 * 64) ** 2
    areas.clear()
    watch(transforms.SynthesisTransform)
    codec.decode(data)
    assert 0 < max(areas) <= (SIDE // 16 + 2 * 4) ** 2


def test_a_decoder_without_its_neighbours_cells_would_leave_seams(
    codec: Codec, picture: Pixels, tiled: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = codec.decode(tiled)
    original = tile_coder.TileCoder.__init__

    def without_halo(self: tile_coder.TileCoder, *arguments: object) -> None:
        original(self, *arguments)  # type: ignore[arg-type]  # passed on as they came
        self.synthesis_halo = 0

    monkeypatch.setattr(tile_coder.TileCoder, "__init__", without_halo)
    assert levels_apart(codec.decode(tiled), decoded) > 1


def test_latents_come_tile_by_tile(codec: Codec, tiled: bytes) -> None:
    latents = codec.decode_latents(tiled)
    assert len(latents) == 3 * 4
    assert {latent.residual.shape[1:] for latent in latents} == {(8, 8), (8, 3), (3, 8), (3, 3)}


@pytest.mark.usefixtures("small_tiles")
def test_flat_tiles_are_their_colour_and_their_neighbours_see_no_step(codec: Codec) -> None:
    picture = photo_like(HEIGHT, WIDTH)
    picture[:SIDE, :SIDE] = [200, 90, 40]
    data = codec.encode(picture, quality=80)
    assert container.read(data).tiles[0] == bytes([200, 90, 40])
    decoded = codec.decode(data)
    assert (decoded[:SIDE, :SIDE] == [200, 90, 40]).all()
    assert psnr_db(picture[:SIDE, SIDE : SIDE + 8], decoded[:SIDE, SIDE : SIDE + 8]) > 25


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (3, 2600)])
def test_thin_images_come_back_in_their_size(codec: Codec, shape: tuple[int, int]) -> None:
    rows, columns = np.indices(shape)
    picture = ((rows + columns) % 200).astype(np.uint8)
    decoded = codec.decode(codec.encode(picture, quality=90))
    assert decoded.shape == shape
    assert psnr_db(picture, decoded) > 30


# -- regions and previews ----------------------------------------------------

REGIONS = [
    (0, 0, WIDTH, HEIGHT),
    (0, 0, 1, 1),
    (120, 120, 20, 20),
    (419, 299, 1, 1),
    (5, 130, 400, 3),
]


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_is_that_part_of_the_whole(
    codec: Codec, tiled: bytes, region: tuple[int, int, int, int]
) -> None:
    left, top, width, height = region
    whole = codec.decode(tiled)
    part = codec.decode(tiled, region=region)
    assert part.shape == (height, width, 3)
    assert levels_apart(part, whole[top : top + height, left : left + width]) <= 1


def test_a_region_is_decoded_from_its_tiles_alone(codec: Codec, tiled: bytes) -> None:
    broken = damage(tiled, 3, 11)
    with pytest.raises(CorruptError, match=r"tile 3 \(pixels 384,0 36x128\)"):
        codec.decode(broken)
    part = codec.decode(broken, region=(0, 0, 100, 100))
    assert levels_apart(part, codec.decode(tiled)[:100, :100]) <= 1


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ((0, 0, 421, 300), "found 421x300 at 0,0, allowed are parts of the image, 420x300"),
        ((-1, 0, 5, 5), "found 5x5 at -1,0"),
        ((0, 0, 0, 5), "found 0x5 at 0,0"),
        ((0, 0, 5), "allowed are four integers"),
        ((0, 0, 5.0, 5), "allowed are four integers"),
    ],
)
def test_regions_outside_the_image_are_refused(
    codec: Codec, tiled: bytes, region: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ParameterError, match=f"region: .*{message}"):
        codec.decode(tiled, region=region)


def means(picture: Samples, reduction: int) -> Samples:
    """Of whole squares of ``reduction`` pixels."""
    height, width = (side // reduction for side in picture.shape[:2])
    squares = picture[: height * reduction, : width * reduction].astype(float)
    squares = squares.reshape(height, reduction, width, reduction, *picture.shape[2:])
    out: Samples = squares.mean((1, 3))
    return out


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize(("tune", "most"), [("archive", 1), ("psnr", 3)])
def test_a_preview_is_the_means_of_the_whole(
    codec: Codec,
    picture: Pixels,
    small_tiles: None,
    reduction: int,
    gray: bool,
    tune: str,
    most: int,
) -> None:
    data = codec.encode(gray_of(picture) if gray else picture, quality=60, tune=tune)
    preview = codec.decode(data, reduction=reduction)
    whole = codec.decode(data)
    expected = means(whole, reduction)
    assert preview.shape[:2] == (-(-HEIGHT // reduction), -(-WIDTH // reduction))
    inside = preview[: expected.shape[0], : expected.shape[1]]
    if reduction == 2:
        apart = np.abs(inside - expected)
        # what is beyond black and white is cut off before or after the mean
        clipped = means((whole == 0) | (whole == 255), reduction) > 0
        # both are rounded; what a lean decoder does here takes an engine, whose levels are others
        assert apart[~clipped].max() <= most
        assert clipped.mean() < 0.01
        assert apart.mean() < 0.25 + 0.05 * most
    assert psnr_db(inside, expected) > 34


def test_a_region_of_a_preview_is_its_part(codec: Codec, tiled: bytes) -> None:
    preview = codec.decode(tiled, reduction=4)
    part = codec.decode(tiled, reduction=4, region=(130, 61, 70, 33))
    assert levels_apart(part, preview[15:24, 32:50]) <= 1


@pytest.mark.parametrize("reduction", [0, 3, 16, -2, 2.0, True])
def test_other_reductions_are_refused(codec: Codec, tiled: bytes, reduction: int) -> None:
    with pytest.raises(ParameterError, match=r"reduction: found .*, allowed are \(1, 2, 4, 8\)"):
        codec.decode(tiled, reduction=reduction)


def test_a_preview_of_alpha_is_its_means(codec: Codec, picture: Pixels, small_tiles: None) -> None:
    alpha = sixteen_bits(gray_of(picture))
    data = codec.encode(Picture(sixteen_bits(picture), alpha))
    decoded = codec.decode_picture(data, reduction=2)
    assert decoded.alpha is not None
    assert np.abs(decoded.alpha - means(alpha, 2)).max() <= 0.5


def test_the_command_decodes_previews_and_regions(tmp_path: Path, tiled: bytes) -> None:
    (tmp_path / "a.cae").write_bytes(tiled)
    succeed("decode", tmp_path / "a.cae", "-o", tmp_path / "half.png", "--scale", "1/2")
    succeed("decode", tmp_path / "a.cae", "-o", tmp_path / "part.png", "--region", "10,20,30,40")
    with Image.open(tmp_path / "half.png") as half, Image.open(tmp_path / "part.png") as part:
        assert half.size == (210, 150)
        assert part.size == (30, 40)


# -- verify and salvage ------------------------------------------------------


def test_verify_passes_whole_files_and_names_damaged_tiles(codec: Codec, tiled: bytes) -> None:
    assert codec.verify(tiled) == container.read_header(tiled)
    with pytest.raises(CorruptError, match=r"tile 5 \(pixels 128,128 128x128\)"):
        codec.verify(damage(tiled, 5))
    with pytest.raises(TruncatedError):
        codec.verify(tiled[:-1])


def test_the_verify_command_has_an_exit_code_per_class(tmp_path: Path, tiled: bytes) -> None:
    (tmp_path / "good.cae").write_bytes(tiled)
    done = succeed("verify", tmp_path / "good.cae")
    assert done.stderr == f"{tmp_path / 'good.cae'}: 420x300, {len(tiled)} bytes, whole\n"
    for data, code in (
        (b"GIF89a", 8),
        (tiled[:-9], 9),
        (damage(tiled, 2), 10),
        (tiled[:3] + b"\x09" + tiled[4:], 11),
    ):
        (tmp_path / "bad.cae").write_bytes(data)
        assert_refused(run("verify", tmp_path / "bad.cae"), code, tmp_path / "bad.cae")
    assert_refused(run("verify", tmp_path / "missing.cae"), 4, "No such file")
    both = run("verify", tmp_path / "bad.cae", tmp_path / "good.cae")
    assert both.exit_code == 11
    assert "good.cae: 420x300" in both.stderr


@pytest.mark.parametrize("number", [0, 5, 11])
def test_salvage_keeps_all_tiles_but_the_damaged_one(
    codec: Codec, tiled: bytes, number: int
) -> None:
    whole = codec.decode(tiled)
    saved, lost = codec.salvage(damage(tiled, number))
    assert len(lost) == 1
    assert lost[0].startswith(f"tile {number} (pixels")
    top, left = number // 4 * SIDE, number % 4 * SIDE
    hole = np.zeros((HEIGHT, WIDTH), bool)
    hole[top : top + SIDE, left : left + SIDE] = True
    assert set(np.unique(saved.samples[hole])) == {DARK, LIGHT}
    apart = np.abs(saved.samples.astype(int) - whole.astype(int)).max(axis=2)
    halo = np.zeros_like(hole)
    halo[max(0, top - 64) : top + SIDE + 64, max(0, left - 64) : left + SIDE + 64] = True
    assert apart[~halo].max() <= 1
    assert apart[halo & ~hole].mean() < 2


def test_salvage_of_a_truncated_file_keeps_what_came(codec: Codec, tiled: bytes) -> None:
    saved, lost = codec.salvage(tiled[: len(tiled) // 2])
    assert 0 < len(lost) < 12
    assert saved.samples.shape == (HEIGHT, WIDTH, 3)
    assert levels_apart(saved.samples[:64, :200], codec.decode(tiled)[:64, :200]) <= 1


def test_salvage_of_nothing_raises(codec: Codec, picture: Pixels) -> None:
    data = codec.encode(picture[:50, :50], quality=60)
    with pytest.raises(CorruptError, match=r"none of 1 is whole; .*checksum does not match"):
        codec.salvage(damage(data, 0))


def test_salvage_drops_damaged_alpha_and_metadata_and_says_so(
    codec: Codec, picture: Pixels, small_tiles: None
) -> None:
    metadata = container.Metadata(xmp=b"<x:xmpmeta/>")
    data = codec.encode(Picture(picture, gray_of(picture), metadata))
    broken = bytearray(data)
    broken[data.index(b"<x:xmpmeta/>")] ^= 1
    broken[data.index(b"IDAT") + 9] ^= 1
    saved, lost = codec.salvage(bytes(broken))
    assert (saved.alpha, saved.metadata.xmp) == (None, None)
    assert [line.split(" at ")[0] for line in lost] == ["section 0x83", "section 0x04"]
    assert np.array_equal(saved.samples, codec.decode_picture(data).samples)


def test_the_salvage_option_writes_the_picture_and_exits_with_the_damage(
    tmp_path: Path, tiled: bytes
) -> None:
    (tmp_path / "a.cae").write_bytes(damage(tiled, 5))
    assert_refused(run("decode", tmp_path / "a.cae"), 10, "tile 5 (pixels 128,128 128x128)")
    done = run("decode", tmp_path / "a.cae", "--salvage")
    assert done.exit_code == 10
    assert "lost: tile 5 (pixels 128,128 128x128)" in done.stderr
    with Image.open(tmp_path / "a.png") as saved:
        assert saved.size == (WIDTH, HEIGHT)
    (tmp_path / "b.cae").write_bytes(tiled)
    succeed("decode", tmp_path / "b.cae", "--salvage")


def test_larger_pictures_than_allowed_are_refused_on_both_sides(
    tmp_path: Path, tiled: bytes, picture: Pixels
) -> None:
    Image.fromarray(picture).save(tmp_path / "a.png")
    (tmp_path / "b.cae").write_bytes(tiled)
    limit = HEIGHT * WIDTH - 1
    for command, name, code in (
        ("encode", "a.png", 3),
        ("decode", "b.cae", 11),
        ("verify", "b.cae", 11),
    ):
        done = run(command, tmp_path / name, "--max-pixels", limit)
        assert_refused(done, code, tmp_path / name, f"{limit}")
        rest = [] if command == "verify" else ["--force"]
        succeed(command, tmp_path / name, "--max-pixels", limit + 1, *rest)
