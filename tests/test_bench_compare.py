"""What moved between two runs: made-up documents with known sizes."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from caezip.errors import ParameterError
from caezip_bench.compare import compare, comparison_text, read_results

IMAGES = ("a.png", "b.png", "c.png")


def document(codecs: dict[str, float], images: tuple[str, ...] = IMAGES) -> dict[str, Any]:
    """Results in which a codec's files are ``codecs[name]`` times as large as another's."""
    rows: list[dict[str, Any]] = []
    for image in images:
        for codec, factor in codecs.items():
            for quality in (10.0, 30.0, 50.0, 70.0, 90.0):
                bpp = factor * 2 ** (quality / 20) / 10 * (1 + len(rows) % 2 / 100)
                rows.append(
                    {
                        "image": image,
                        "codec": codec,
                        "quality": quality,
                        "bpp": bpp,
                        "psnr_db": 30 + 6 * math.log2(bpp / factor),
                    }
                )
    return {
        "schema": "caezip-bench",
        "schema_version": 3,
        "codecs": [{"name": name, "lossless": False} for name in codecs],
        "metrics": [{"name": "psnr_db"}],
        "sha256": {image: f"of {image}" for image in images},
        "failures": [],
        "measurements": rows,
    }


def test_the_same_run_has_not_moved() -> None:
    old = document({"caezip": 1.0, "webp": 2.0})
    result = compare(old, copy.deepcopy(old))
    assert [item.rate.rate_percent for item in result.movements] == pytest.approx([0, 0], abs=1e-9)
    assert [item.images for item in result.movements] == [3, 3]
    assert result.regressions == result.notes == ()


def test_growth_past_the_threshold_is_a_regression() -> None:
    old, new = document({"caezip": 1.0, "webp": 2.0}), document({"caezip": 1.02, "webp": 1.9})
    result = compare(old, new)
    growth = {item.codec: item.rate.rate_percent for item in result.movements}
    assert growth == pytest.approx({"caezip": 2.0, "webp": -5.0}, abs=1e-6)
    assert result.regressions == ("caezip: files grew by 2.00% at equal PSNR, allowed is 1%",)
    assert "- Regression: caezip: files grew by 2.00%" in comparison_text(result)
    assert compare(old, new, threshold_percent=2.5).regressions == ()


def test_the_image_that_grew_most_is_named() -> None:
    old = document({"caezip": 1.0})
    new = copy.deepcopy(old)
    for row in new["measurements"]:
        if row["image"] == "b.png":
            row["bpp"] *= 1.1
    (item,) = compare(old, new).movements
    assert item.worst_image == "b.png"
    assert item.worst_percent == pytest.approx(10, abs=1e-6)


def test_only_images_with_the_same_bytes_are_compared() -> None:
    old, new = document({"caezip": 1.0}), document({"caezip": 1.0})
    new["sha256"]["b.png"] = "another picture"
    result = compare(old, new)
    assert [item.images for item in result.movements] == [2]
    assert result.notes == ("not compared, since only one run has them: b.png",)
    new["sha256"] = dict.fromkeys(IMAGES, "other")
    with pytest.raises(ParameterError, match="found no image that both runs have"):
        compare(old, new)


def test_lost_codecs_and_new_failures_are_regressions() -> None:
    old, new = document({"caezip": 1.0, "webp": 2.0}), document({"caezip": 1.0})
    new["failures"] = [{"codec": "caezip", "image": "c.png", "quality": 10.0, "reason": "boom"}]
    assert compare(old, new).regressions == (
        "webp: was in the earlier run and is missing",
        "caezip: fails on c.png: boom",
    )


def test_a_codec_without_a_common_range_is_a_regression() -> None:
    old, new = document({"caezip": 1.0}), document({"caezip": 1.0})
    for row in new["measurements"]:
        row["psnr_db"] += 100
    (regression,) = compare(old, new).regressions
    assert regression.startswith("caezip: PSNR cannot be compared: no common range")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "is not JSON"),
        ("[]", "schema_version: found None, allowed is 3"),
        ('{"schema": "caezip-bench", "schema_version": 2}', "schema_version: found 2"),
        ('{"schema": "other", "schema_version": 3}', "schema_version: found None"),
        ('{"schema": "caezip-bench", "schema_version": 3}', "found no measurements, sha256"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "old.json"
    path.write_text(content)
    with pytest.raises(ParameterError, match=message):
        read_results(path)


def test_results_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(document({"caezip": 1.0})))
    assert read_results(path) == document({"caezip": 1.0})
