"""A small run's results.json and pictures, to make HTML reports of."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from PIL import Image

from caezip_bench.comparisons import CodedPicture, Comparison
from caezip_bench.curves import CurvePoint
from caezip_bench.published import PublishedCurve

METRICS = ("psnr_db", "psnr_y_db", "ssim", "ms_ssim", "ssimulacra2")
TITLES = ("PSNR", "PSNR-Y", "SSIM", "MS-SSIM", "SSIMULACRA 2")
ORIGINAL = 100  # gray value of the original picture
ERRORS = {"caezip": 3, "caezip-ssim": 5, "jpeg420": 40}  # by which the coded ones are lighter
BD_RATES = {"caezip": -50.5, "caezip-ssim": -40.25, "webp": -30.0}
MEASURED = {
    "psnr_db": 30.125,
    "psnr_y_db": 31.5,
    "ssim": None,
    "ms_ssim": 0.98765,
    "ssimulacra2": -12.25,
}
IMAGES = ["one.png", "two.png", "three.png", "four.png"]


def flat_webp(value: int, width: int = 96, height: int = 64) -> bytes:
    """A gray picture as lossless WebP."""
    buffer = io.BytesIO()
    pixels = np.full((height, width, 3), value, np.uint8)
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def sample_document() -> dict[str, Any]:
    """As `bench/RESULTS.md` has it: three lossy codecs against jpeg420, and png."""
    codecs = [*BD_RATES, "jpeg420"]
    return {
        "schema": "caezip-bench",
        "schema_version": 3,
        "created_utc": "2026-01-02T03:04:05+00:00",
        "machine": {
            "system": "Linux",
            "architecture": "x86_64",
            "processor": "a processor",
            "cpu_count": 2,
            "python": "3.11.7",
        },
        "versions": {"caezip": "1.2.3", "absent": None},
        "definitions": {"bpp": "bits of the whole file per pixel"},
        "jobs": 1,
        "codecs": [
            *(
                {"name": name, "settings": f"as {name} does", "lossless": False, "qualities": [1.0]}
                for name in codecs
            ),
            {"name": "png", "settings": "optimize", "lossless": True, "qualities": [None]},
        ],
        "missing": [{"name": "avif444", "reason": "no library"}],
        "metrics": [
            {
                "name": name,
                "title": title,
                "unit": "" if name == "ssimulacra2" else "dB",
                "curve": "-10 log10(1 - mean)" if "ssim" in name else "the mean",
            }
            for name, title in zip(METRICS, TITLES, strict=True)
        ],
        "images": IMAGES,
        "skipped": [{"image": "torn.png", "reason": "cannot be read"}],
        "failures": [
            {"image": "two.png", "codec": "webp", "quality": 20.0, "reason": "ValueError: no"}
        ],
        "measurements": [
            _measurement(image, codec, speed)
            for image in IMAGES
            for codec, speed in zip(codecs, (2.0, 2.0, 1.0, 40.0), strict=True)
        ],
        "compared_images": IMAGES,
        "averages": [
            *(_average(codec, step) for codec in codecs for step in range(4)),
            {"codec": "png", "quality": None, "images": 4, "bpp": 12.5, "metrics": {}},
        ],
        "bd_rates": [_bd_rate(codec, metric) for metric in METRICS for codec in BD_RATES],
        "notes": ["avif444 is missing: no library"],
    }


def _measurement(image: str, codec: str, speed_mpx: float) -> dict[str, Any]:
    """``speed_mpx`` megapixels per second are encoded, twice as many decoded."""
    return {
        "image": image,
        "width": 1000,
        "height": 500,
        "codec": codec,
        "quality": 1.0,
        "encode_s": 0.5 / speed_mpx,
        "decode_s": 0.25 / speed_mpx,
    }


def _average(codec: str, step: int) -> dict[str, Any]:
    bpp = 0.1 * 2**step * (1 + BD_RATES.get(codec, 0) / 100)
    values = (28 + 3 * step, 29 + 3 * step, 0.7, 0.9, 20 + 15 * step)
    means = dict(zip(METRICS, values, strict=True))
    metrics = {
        name: {
            "images": 4,
            "bpp": bpp,
            "mean": mean,
            "curve_value": -10 * math.log10(1 - mean) + 2 * step if mean < 1 else mean,
        }
        for name, mean in means.items()
    }
    quality = 20.0 * (step + 1)
    return {"codec": codec, "quality": quality, "images": 4, "bpp": bpp, "metrics": metrics}


def _bd_rate(codec: str, metric: str) -> dict[str, Any]:
    percent = BD_RATES[codec]
    return {
        "codec": codec,
        "anchor": "jpeg420",
        "metric": metric,
        "rate_percent": percent,
        "reason": None,
        "rate_low_percent": percent - 2,
        "rate_high_percent": percent + 2,
        "quality_gain": 3.25,
        "low": 28.0,
        "high": 37.0,
        "overlap_test": 0.9,
        "overlap_anchor": 0.95,
        "warnings": [],
    }


def sample_comparisons() -> list[Comparison]:
    """Two images at two sizes; jpeg420 is left out of the smaller."""
    return [
        Comparison(
            image=image,
            width=1920,
            height=1280,
            shown_width=96,
            shown_height=64,
            target_bpp=target_bpp,
            original=flat_webp(ORIGINAL),
            coded=tuple(
                CodedPicture(
                    codec=codec,
                    quality=33.0,
                    size_bytes=12345,
                    bpp=target_bpp * 1.01,
                    metrics=MEASURED,
                    webp=flat_webp(ORIGINAL + error),
                )
                for codec, error in ERRORS.items()
                if codec != "jpeg420" or target_bpp > 0.2
            ),
            left_out=() if target_bpp > 0.2 else ("jpeg420: its nearest is 0.300 bpp",),
        )
        for image in ("one.png", "three.png")
        for target_bpp in (0.15, 0.5)
    ]


def sample_published() -> list[PublishedCurve]:
    """One curve that is drawn at first, and one that is not."""
    points = [CurvePoint(float(n), 0.05 * 2**n, 28.0 + 3 * n) for n in range(1, 4)]
    return [
        PublishedCurve(name, "learned", "a paper", "means over images", {"psnr_db": points})
        for name in ("VTM", "somebody's")
    ]
