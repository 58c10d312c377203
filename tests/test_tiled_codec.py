"""Images of several tiles: regions, seams, flat tiles, previews, and what is left of damage."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caezip
from caezip import Codec, container
from caezip.container import Metadata
from caezip.errors import BitstreamError, CorruptError, ParameterError
from caezip.image_io import Pixels, png_of_alpha
from caezip.picture import Picture
from images import gray_of, noise, photo_like, psnr_db, sixteen_bits, smooth
from tiles import damage, tiles_of

pytestmark = pytest.mark.usefixtures("small_tiles")
PHOTO = photo_like(150, 200)  # 4 columns and 3 rows of tiles, the last ones cut off
FLAT = 9  # the number of a tile that is flat in WITH_FLAT_TILE
WITH_FLAT_TILE = PHOTO.copy()
WITH_FLAT_TILE[128:150, 64:128] = (30, 144, 255)


@pytest.fixture(scope="module")
def tiled(codec: Codec) -> bytes:
    with tiles_of(64):
        return codec.encode(WITH_FLAT_TILE, quality=70)


# -- whole images ------------------------------------------------------------


def test_the_header_and_the_latents_tell_of_the_tiles(codec: Codec, tiled: bytes) -> None:
    assert caezip.info(tiled).tile_side == 64
    latents = codec.decode_latents(tiled)
    assert len(latents) == 12
    assert latents[0].residual.shape[1:] == (4, 4)
    assert latents[3].residual.shape[1:] == (4, 1)
    assert latents[11].residual.shape[1:] == (2, 1)
    assert latents[FLAT].residual.size == latents[FLAT].hyper_latent.size == 0


@pytest.mark.parametrize(
    ("height", "width", "tiles"), [(64, 64, 1), (65, 64, 2), (64, 129, 3), (1, 300, 5), (66, 66, 4)]
)
def test_images_larger_than_a_tile_have_several(
    codec: Codec, height: int, width: int, tiles: int
) -> None:
    for picture in (smooth(height, width), gray_of(smooth(height, width))):
        data = codec.encode(picture)
        assert len(container.read(data).tiles) == tiles
        assert codec.decode(data).shape == picture.shape


@pytest.mark.parametrize("tune", ["psnr", "fastdecode"])
def test_tiles_are_the_same_whether_they_are_analysed_together_or_alone(
    codec: Codec, tune: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = codec.encode(PHOTO, quality=70, tune=tune)
    monkeypatch.setattr("caezip.encoding.LARGEST_WINDOW", 1)
    assert codec.encode(PHOTO, quality=70, tune=tune) == together


@pytest.mark.parametrize("convert", [lambda a: a, gray_of])
def test_a_flat_tile_among_others_is_exact(codec: Codec, convert: type) -> None:
    picture = convert(WITH_FLAT_TILE)
    decoded = codec.decode(codec.encode(picture, quality=70))
    assert np.array_equal(decoded[128:150, 64:128], picture[128:150, 64:128])
    assert psnr_db(picture, decoded) > 25


def test_an_image_of_one_colour_needs_no_network(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = codec.encode(np.full((40, 64), 77, np.uint8))
    monkeypatch.setattr(Codec, "_tile_coder", lambda *_: pytest.fail("a network was loaded"))
    assert (Codec().decode(data) == 77).all()
    assert (Codec().decode(data, region=(1, 2, 30, 30), reduction=2) == 77).all()


def test_an_image_of_flat_tiles_is_exact(codec: Codec) -> None:
    board = np.kron(np.array([[0, 255], [70, 9]], np.uint8), np.ones((64, 64), np.uint8))
    data = codec.encode(board)
    assert np.array_equal(codec.decode(data), board)
    assert len(data) < 4 * 7 + 40


# -- regions -----------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=12)
def test_a_region_equals_that_part_of_the_whole(
    codec: Codec, tiled: bytes, data: st.DataObject
) -> None:
    left, top = data.draw(st.integers(0, 199)), data.draw(st.integers(0, 149))
    width = data.draw(st.integers(1, 200 - left))
    height = data.draw(st.integers(1, 150 - top))
    whole = codec.decode(tiled)
    found = codec.decode(tiled, region=(left, top, width, height)).astype(int)
    expected = whole[top : top + height, left : left + width]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("deep", [False, True])
def test_a_region_of_alpha_is_that_part(codec: Codec, deep: bool) -> None:
    convert = sixteen_bits if deep else np.asarray
    array = convert(np.dstack([smooth(70, 90), gray_of(noise(70, 90))]))
    data = codec.encode(array)
    found = codec.decode_picture(data, region=(60, 50, 20, 17))
    assert found.alpha is not None
    assert np.array_equal(found.alpha, array[50:67, 60:80, 3])
    assert found.samples.dtype == array.dtype
    assert found.samples.shape == (17, 20, 3)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ((0, 0, 201, 150), "found 201x150 at 0,0, allowed are parts of the image, 200x150"),
        ((0, 1, 200, 150), "found 200x150 at 0,1"),
        ((-1, 0, 5, 5), "found 5x5 at -1,0"),
        ((0, 0, 0, 5), "found 0x5"),
        ((5, 5, 3, -2), "found 3x-2"),
        ((1, 2, 3), r"found \(1, 2, 3\), allowed are four integers: left, top, width, height"),
        ((1, 2, 3, 4.0), "allowed are four integers"),
        ((True, 2, 3, 4), "allowed are four integers"),
        ("0123", "allowed are four integers"),
        (7, "found 7, allowed are four integers"),
        ({1: 2}, "allowed are four integers"),
    ],
)
def test_what_is_no_part_of_the_image_is_refused(
    codec: Codec, tiled: bytes, region: tuple[int, ...], message: str
) -> None:
    for decode in (codec.decode, codec.decode_picture):
        with pytest.raises(ParameterError, match=f"region: .*{message}"):
            decode(tiled, region=region)


def test_a_preview_of_alpha_reaches_past_the_edges_as_its_samples_do(codec: Codec) -> None:
    alpha = gray_of(noise(65, 90))
    found = codec.decode(codec.encode(np.dstack([smooth(65, 90), alpha])), reduction=4)
    assert found.shape == (17, 23, 4)
    # what is missing of the last squares is like what is there
    last = np.pad(alpha, ((0, 3), (0, 2)), mode="edge")[64:68, 88:92]
    assert abs(found[16, 22, 3] - last.mean()) <= 0.5


# -- damaged files -----------------------------------------------------------


@pytest.mark.parametrize("numbers", [(0,), (5,), (11,), (0, 1, 2), tuple(range(11))])
def test_salvage_marks_what_is_lost_and_keeps_the_rest(
    codec: Codec, tiled: bytes, numbers: tuple[int, ...]
) -> None:
    picture, lost = codec.salvage(damage(tiled, *numbers))
    assert [line.split(":")[0].split(" (")[0] for line in lost] == [f"tile {n}" for n in numbers]
    difference = np.abs(picture.samples - codec.decode(tiled).astype(int))
    holes = {divmod(number, 4) for number in numbers}
    for row, column in itertools.product(range(3), range(4)):
        place = slice(64 * row, 64 * row + 64), slice(64 * column, 64 * column + 64)
        if (row, column) in holes:
            assert set(np.unique(picture.samples[place])) == {63, 189}
        elif any(abs(row - y) <= 1 and abs(column - x) <= 1 for y, x in holes):
            assert difference[place].mean() < 12  # beside a hole it may differ
        else:
            assert difference[place].max() <= 1


def test_salvage_leaves_damaged_alpha_and_metadata_out(codec: Codec) -> None:
    alpha, metadata = gray_of(noise(20, 30)), Metadata(b"profile", b"exif", b"xmp")
    data = codec.encode(Picture(smooth(20, 30), alpha, metadata))
    for part, kept in (
        (b"exif", Metadata(b"profile", None, b"xmp")),
        (png_of_alpha(alpha), metadata),
    ):
        altered = bytearray(data)
        altered[data.index(part) + len(part) // 2] ^= 1
        with pytest.raises(CorruptError, match=r"section 0x\w\w at offset \d+: its checksum"):
            codec.decode(bytes(altered))
        picture, lost = codec.salvage(bytes(altered))
        assert len(lost) == 1
        assert picture.metadata == kept
        assert (picture.alpha is None) == (part != b"exif")
        assert np.array_equal(picture.samples, codec.decode_picture(data).samples)


def test_what_cannot_be_salvaged_is_refused(codec: Codec, tiled: bytes) -> None:
    with pytest.raises(CorruptError, match="tiles: none of 12 is whole"):
        codec.salvage(damage(tiled, *range(12)))
    for length in (0, 3, 10, 20, 30):
        with pytest.raises(BitstreamError):
            codec.salvage(tiled[:length])


# -- alpha -------------------------------------------------------------------


def with_alpha(codec: Codec, alpha: bytes, dtype: type = np.uint8) -> bytes:
    parsed = container.read(codec.encode(np.full((6, 5), 9, dtype)))
    (tile,) = parsed.tiles
    assert tile is not None
    return container.write(
        model_id=parsed.header.model_id,
        width=5,
        height=6,
        quality_hundredths=7500,
        pixel_format=parsed.header.pixel_format,
        tiles=[tile],
        alpha=alpha,
    )


def forged_alphas() -> list[bytes]:
    """PNGs that are no alpha channel of 5x6 with 8 bits."""
    right = png_of_alpha(np.zeros((6, 5), np.uint8))
    small: Pixels = np.zeros((5, 6), np.uint8)
    return [
        png_of_alpha(small),
        png_of_alpha(np.zeros((6, 5), np.uint16)),
        png_of_alpha(np.zeros((6, 5, 3), np.uint8)),
        right[:-30],
        right[:20],
        b"",
        b"no PNG",
    ]


@pytest.mark.parametrize("number", range(7))
def test_alpha_that_does_not_fit_is_refused(codec: Codec, number: int) -> None:
    data = with_alpha(codec, forged_alphas()[number])
    for read in (codec.decode, codec.decode_picture, codec.verify):
        with pytest.raises(CorruptError, match="ALPHA section: "):
            read(data)
    picture, lost = codec.salvage(data)
    assert picture.alpha is None
    assert (picture.samples == 9).all()
    assert len(lost) == 1
    assert lost[0].startswith("ALPHA section: ")


# -- verify ------------------------------------------------------------------


def test_verify_finds_damage_anywhere(codec: Codec, tiled: bytes) -> None:
    assert codec.verify(tiled) == caezip.info(tiled)
    for place in range(0, len(tiled), 1 + len(tiled) // 60):
        altered = tiled[:place] + bytes([tiled[place] ^ 0x40]) + tiled[place + 1 :]
        for damaged in (altered, tiled[:place], tiled + tiled[:place] if place else b""):
            with pytest.raises(BitstreamError):
                codec.verify(damaged)


def test_verify_reads_the_streams_themselves(codec: Codec) -> None:
    data = container.write(
        model_id=caezip.info(codec.encode(noise(2, 2))).model_id,
        width=40,
        height=40,
        quality_hundredths=5000,
        pixel_format="rgb8",
        tiles=[bytes(10)],
    )
    with pytest.raises(CorruptError, match=r"tile 0 \(pixels 0,0 40x40\): tile stream: found 10"):
        codec.verify(data)


@pytest.mark.parametrize("row", [7, 24, 47])
def test_rows_of_one_colour_do_not_make_a_flat_tile(codec: Codec, row: int) -> None:
    picture = np.full((48, 40, 3), (9, 80, 200), np.uint8)
    flat = codec.encode(picture, quality=95)
    assert np.array_equal(codec.decode(flat), picture)
    picture[row, 30:34] = (250, 3, 9)
    data = codec.encode(picture, quality=95)
    assert len(data) > len(flat)
    assert codec.decode(data)[row, 32, 0] > 60
