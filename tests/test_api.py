"""The package's promises: what it exports, and pictures of every size there and back."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import caezip
from caezip import Codec, Header, errors
from caezip.errors import BitstreamError, CaeError, ImageError, ParameterError, UnsupportedError
from caezip.image_io import Pixels
from images import gray_of, noise, photo_like, psnr_db, sixteen_bits, smooth

EXPORTS = [
    "BitstreamError",
    "CaeError",
    "CheckpointError",
    "Codec",
    "ConvolutionalAutoencoder",
    "CorruptError",
    "Header",
    "ImageError",
    "Latent",
    "Latents",
    "MissingDependencyError",
    "NotCaeError",
    "OutputError",
    "ParameterError",
    "Picture",
    "TargetError",
    "TrainingDataError",
    "TruncatedError",
    "UnknownModelError",
    "UnsupportedError",
    "WeightsError",
    "__version__",
    "decode",
    "encode",
    "info",
    "return_freed_memory",
]

PARENTS = {
    "ImageError": "CaeError",
    "BitstreamError": "CaeError",
    "NotCaeError": "BitstreamError",
    "TruncatedError": "BitstreamError",
    "CorruptError": "BitstreamError",
    "UnsupportedError": "BitstreamError",
    "WeightsError": "CaeError",
    "UnknownModelError": "WeightsError",
    "ParameterError": "CaeError",
    "TargetError": "CaeError",
    "OutputError": "CaeError",
    "TrainingDataError": "CaeError",
    "CheckpointError": "CaeError",
    "MissingDependencyError": "CaeError",
}


# -- names -------------------------------------------------------------------


def test_the_exports_are_these_and_no_others() -> None:
    assert sorted(caezip.__all__) == EXPORTS
    assert all(getattr(caezip, name) is not None for name in EXPORTS)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'encoder'"):
        caezip.encoder  # noqa: B018


def test_the_version_is_that_of_the_installed_package() -> None:
    assert caezip.__version__ == importlib.metadata.version("caezip")


def test_the_error_tree_is_as_documented() -> None:
    found = {
        name: kind.__bases__[0].__name__
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if kind is not CaeError
    }
    assert found == PARENTS
    assert all(getattr(caezip, name) is getattr(errors, name) for name in PARENTS)
    assert issubclass(errors.ParameterError, ValueError)
    assert issubclass(errors.MissingDependencyError, ImportError)


def test_quality_is_given_by_name_only() -> None:
    for encode in (caezip.encode, Codec.encode):
        assert (
            inspect.signature(encode).parameters["quality"].kind is inspect.Parameter.KEYWORD_ONLY
        )
        assert inspect.signature(encode).parameters["quality"].default == 75


# -- the three functions -----------------------------------------------------


def test_encode_info_and_decode_agree_on_an_rgb_image(photo: Pixels) -> None:
    data = caezip.encode(photo, quality=60.25)
    assert isinstance(data, bytes)
    header = caezip.info(data)
    assert isinstance(header, Header)
    assert (header.width, header.height) == (photo.shape[1], photo.shape[0])
    assert (header.quality, header.quality_hundredths) == (60.25, 6025)
    assert (header.pixel_format, header.format_version) == ("rgb8", 1)
    assert header.file_size_bytes == len(data)
    assert header.bpp == pytest.approx(8 * len(data) / (photo.shape[0] * photo.shape[1]))
    decoded = caezip.decode(data)
    assert decoded.shape == photo.shape
    assert decoded.dtype == np.uint8


def test_a_gray_image_stays_two_dimensional(photo: Pixels) -> None:
    gray = gray_of(photo)
    data = caezip.encode(gray)
    assert caezip.info(data).pixel_format == "gray8"
    decoded = caezip.decode(data)
    assert decoded.shape == gray.shape
    assert decoded.dtype == np.uint8


def test_encode_uses_quality_75_unless_told(photo: Pixels) -> None:
    data = caezip.encode(photo)
    assert caezip.info(data).quality == 75
    assert data == caezip.encode(photo, quality=75)


def test_the_functions_and_a_codec_write_and_read_the_same(codec: Codec, encoded: bytes) -> None:
    picture = noise(20, 30)
    assert caezip.info(caezip.encode(picture)).model_id == caezip.info(encoded).model_id
    decoded = caezip.decode(encoded)
    assert np.abs(decoded.astype(int) - codec.decode(encoded)).max() <= 1  # other thread counts


def test_encoding_twice_gives_the_same_bytes(codec: Codec, photo: Pixels) -> None:
    assert codec.encode(photo, quality=33) == codec.encode(photo.copy(), quality=33)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_any_bytes_like_object_is_read(codec: Codec, encoded: bytes, wrap: type) -> None:
    data = wrap(encoded)
    assert caezip.info(data) == caezip.info(encoded)
    assert np.array_equal(codec.decode(data), codec.decode(encoded))
    assert np.array_equal(
        codec.decode_latents(data)[0].residual, codec.decode_latents(encoded)[0].residual
    )


@pytest.mark.parametrize("data", ["a path", None, 7, [202, 69, 90]])
def test_what_is_not_bytes_is_refused(codec: Codec, data: bytes) -> None:
    for read in (caezip.info, caezip.decode, codec.decode_latents):
        with pytest.raises(ParameterError, match=f"data: found {type(data).__name__}"):
            read(data)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"\xcaEZ", b"\xcaEZ\x01", b"text" * 9])
def test_bytes_that_are_no_file_are_bitstream_errors(data: bytes) -> None:
    for read in (caezip.info, caezip.decode):
        with pytest.raises(BitstreamError):
            read(data)


# -- pictures ----------------------------------------------------------------


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([1, 2, 3, 4]),
    deep=st.booleans(),
    seed=st.integers(0, 9),
)
@example(height=1, width=1, channels=3, deep=False, seed=0)
@example(height=1, width=1, channels=1, deep=False, seed=0)
@example(height=1, width=40, channels=3, deep=False, seed=0)
@example(height=16, width=16, channels=3, deep=False, seed=0)
@example(height=17, width=15, channels=1, deep=False, seed=0)
@example(height=1, width=1, channels=4, deep=True, seed=0)
def test_every_size_and_kind_survives_a_round_trip(
    codec: Codec, height: int, width: int, channels: int, deep: bool, seed: int
) -> None:
    both = np.dstack([noise(height, width, seed), noise(height, width, seed + 1)])
    array = (sixteen_bits(both) if deep else both)[:, :, 4 - channels : 4]
    array = array[:, :, 0] if channels == 1 else array
    data = codec.encode(array, quality=1 + 11 * seed)
    header = caezip.info(data)
    assert (header.width, header.height) == (width, height)
    colours = "gray" if channels < 3 else "rgb"
    assert header.pixel_format == colours + ("16" if deep else "8")
    decoded = codec.decode(data)
    assert decoded.shape == array.shape
    assert decoded.dtype == array.dtype
    if channels in (2, 4):
        assert np.array_equal(decoded[:, :, -1], array[:, :, -1])


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 63), (128, 16), (3, 700), (601, 2)])
def test_sizes_around_the_grids_and_long_strips(codec: Codec, height: int, width: int) -> None:
    assert codec.decode(codec.encode(smooth(height, width))).shape == (height, width, 3)


@pytest.mark.parametrize("make", [smooth, photo_like, noise])
def test_quality_100_is_closer_than_quality_1_and_larger(
    codec: Codec, make: Callable[[int, int], Pixels]
) -> None:
    picture = make(96, 112)
    low, high = codec.encode(picture, quality=1), codec.encode(picture, quality=100)
    assert len(low) < len(high)
    assert psnr_db(picture, codec.decode(low)) < psnr_db(picture, codec.decode(high))


@pytest.mark.parametrize(("height", "width"), [(96, 112), (90, 105), (65, 49)])
def test_an_image_resembles_what_was_encoded(codec: Codec, height: int, width: int) -> None:
    picture = photo_like(height, width)
    assert psnr_db(picture, codec.decode(codec.encode(picture, quality=90))) > 25
    gray = gray_of(picture)
    assert psnr_db(gray, codec.decode(codec.encode(gray, quality=90))) > 25


def test_a_flat_image_takes_less_than_a_photo_and_comes_back_flat(codec: Codec) -> None:
    picture = np.full((128, 128, 3), (200, 120, 40), np.uint8)
    data = codec.encode(picture)
    assert len(data) < len(codec.encode(photo_like(128, 128)))
    assert psnr_db(picture, codec.decode(data)) > 30


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[::2, 1::3],
        lambda a: a[::-1, ::-1],
        lambda a: a.transpose(1, 0, 2),
        lambda a: np.asfortranarray(a),
        lambda a: a[:, :, ::-1],
        lambda a: a[:, :, 0],
        lambda a: np.broadcast_to(a[:1], a.shape),
    ],
)
def test_the_layout_in_memory_does_not_matter(
    codec: Codec, photo: Pixels, view: Callable[[Pixels], Pixels]
) -> None:
    picture = view(photo)
    assert codec.encode(picture) == codec.encode(np.array(picture, order="C"))


def test_read_only_arrays_are_encoded_and_never_written_to(codec: Codec, photo: Pixels) -> None:
    frozen = photo.copy()
    frozen.flags.writeable = False
    assert codec.encode(frozen) == codec.encode(photo)
    assert np.array_equal(frozen, photo)


def test_decoded_pixels_belong_to_the_caller(codec: Codec, encoded: bytes) -> None:
    first = codec.decode(encoded)
    expected = first.copy()
    first[:] = 0
    assert np.array_equal(codec.decode(encoded), expected)


def test_16_bits_say_more_than_their_8_bits(codec: Codec) -> None:
    samples = sixteen_bits(smooth(64, 64))
    samples = (samples // 64) + 30000  # all within 4 levels of 8 bits
    decoded = codec.decode(codec.encode(samples, quality=100)).astype(int)
    in_8_bits = np.rint(decoded / 257) * 257
    error = np.abs(decoded - samples).mean()
    assert error < 0.8 * np.abs(in_8_bits - samples).mean()
    assert error < 0.32 * 257


def test_a_pil_image_and_its_array_give_the_same_bytes(codec: Codec, photo: Pixels) -> None:
    assert codec.encode(Image.fromarray(photo)) == codec.encode(photo)
    gray = gray_of(photo)
    assert codec.encode(Image.fromarray(gray)) == codec.encode(gray)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (None, "found NoneType, allowed are a PIL image and a numpy array"),
        ([[0, 1]], "found list"),
        (np.zeros((4, 4, 3), np.float32), "found float32, allowed are uint8 and uint16"),
        (np.zeros((4, 4), np.int16), "found int16, allowed are uint8 and uint16"),
        (np.zeros((4, 4), np.uint32), "found uint32, allowed are uint8 and uint16"),
        (np.zeros((4, 4), np.bool_), "found bool, allowed are uint8 and uint16"),
        (np.zeros(4, np.uint8), r"found \[4\], allowed are \[H, W\] and \[H, W, 2\], "),
        (np.zeros((4, 4, 1), np.uint8), r"found \[4, 4, 1\]"),
        (np.zeros((4, 4, 5), np.uint8), r"found \[4, 4, 5\]"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"found \[1, 4, 4, 3\]"),
        (np.zeros((0, 4), np.uint8), "found 4x0, allowed are 1 to 32768"),
        (np.zeros((4, 0, 3), np.uint8), "found 0x4, allowed are 1 to 32768"),
        (np.zeros((1, 32769), np.uint8), "found 32769x1, allowed are 1 to 32768"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_reason(
    codec: Codec, picture: object, message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        codec.encode(picture)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "quality", [0, 0.999, 100.001, -1, float("nan"), float("inf"), "75", None, True, [75], 1j]
)
def test_qualities_outside_1_to_100_are_refused(codec: Codec, quality: float) -> None:
    with pytest.raises(ParameterError, match=r"quality: found .*, allowed is a number"):
        codec.encode(smooth(8, 8), quality=quality)


def test_numbers_of_numpy_are_as_good_as_pythons(codec: Codec) -> None:
    picture = smooth(40, 24)
    data = codec.encode(picture, quality=60)
    for quality in np.int64(60), np.uint8(60), np.float32(60):
        assert codec.encode(picture, quality=quality) == data  # type: ignore[arg-type]  # to mypy numpy's are no floats
    corner = tuple(np.array([3, 4, 5, 6]))  # of int64, as positions in arrays are
    assert (codec.decode(data, region=corner) == codec.decode(data, region=(3, 4, 5, 6))).all()


# -- Codec -------------------------------------------------------------------


def test_a_codec_limits_threads_during_its_calls_only(encoded: bytes) -> None:
    before = torch.get_num_threads()
    codec = Codec(threads=before + 1, device="cpu")
    codec.decode(encoded)
    codec.encode(smooth(8, 8))
    assert torch.get_num_threads() == before


def test_bfloat16_decodes_nearly_the_same_picture(codec: Codec, encoded: bytes) -> None:
    half = Codec(threads=1, precision="bfloat16")
    assert psnr_db(codec.decode(encoded), half.decode(encoded)) > 25
    again = half.encode(smooth(20, 20))
    assert codec.decode(again).shape == (20, 20, 3)


def test_images_larger_than_max_pixels_are_refused_before_decoding(encoded: bytes) -> None:
    for read in (Codec(max_pixels=7949).decode, Codec(max_pixels=7949).decode_latents):
        with pytest.raises(UnsupportedError, match="found 106x75 = 7950 pixels, allowed are 7949"):
            read(encoded)
    assert Codec(threads=1, max_pixels=7950).decode(encoded).shape == (75, 106, 3)
    assert Codec(threads=1, max_pixels=None).decode(encoded).shape == (75, 106, 3)


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, "2"])
def test_thread_counts_are_integers_from_one(threads: int) -> None:
    with pytest.raises(ParameterError, match=r"threads: found .*, allowed are integers from 1"):
        Codec(threads=threads)


@pytest.mark.parametrize("device", ["no such device", "", 3, None])
def test_devices_that_do_not_exist_are_refused(device: str) -> None:
    with pytest.raises(ParameterError, match=r"device: found .*, not usable here"):
        Codec(device=device)


def test_unknown_precisions_are_refused() -> None:
    with pytest.raises(ParameterError, match="precision: found 'float16', allowed are"):
        Codec(precision="float16")
