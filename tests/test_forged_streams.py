"""Streams with valid checksums that no encoder wrote: an error or a picture, never a crash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import caezip
import forged_streams
from caezip import Codec, container
from caezip.errors import CorruptError

COUNT = 240


def test_forged_streams_end_in_an_error_or_in_bounded_integers() -> None:
    script = Path(forged_streams.__file__)
    done = subprocess.run(
        [sys.executable, str(script), str(COUNT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    outcomes = done.stdout.split()
    assert len(outcomes) == COUNT
    assert set(outcomes) == {"refused", "decoded"}


@pytest.mark.parametrize("number", range(8))
def test_a_codec_survives_forged_streams(codec: Codec, encoded: bytes, number: int) -> None:
    data = container.write(
        model_id=caezip.info(encoded).model_id,
        width=70,
        height=33,
        quality_hundredths=10000,
        pixel_format="rgb8",
        tiles=(forged_streams.forged(number),),
    )
    message = ""
    try:
        assert codec.decode(data).shape == (33, 70, 3)
    except CorruptError as error:
        message = str(error)
    assert message == "" or "symbol: found one beyond the allowed" in message


def test_a_valid_stream_cut_to_any_length_is_refused_or_decodes(
    codec: Codec, encoded: bytes
) -> None:
    parsed = container.read(encoded)
    (stream,) = parsed.tiles
    assert stream is not None
    for length in [*range(13), *range(16, len(stream), 4 * (1 + len(stream) // 40))]:
        data = container.write(
            model_id=parsed.header.model_id,
            width=parsed.header.width,
            height=parsed.header.height,
            quality_hundredths=parsed.header.quality_hundredths,
            pixel_format=parsed.header.pixel_format,
            tiles=(stream[:length],),
        )
        try:
            (latents,) = codec.decode_latents(data)
        except CorruptError:
            continue
        if length == 3:  # it is a colour then
            assert latents.residual.size == 0
            continue
        assert length >= 8
        assert length % 4 == 0
        assert np.abs(latents.residual).max() <= 32767
