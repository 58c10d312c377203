"""What is made of measured seconds: medians, ratios within rounds, tables and JSON."""

from __future__ import annotations

import json

import pytest

from caezip_bench.cost import (
    ColdCall,
    CostFailure,
    CostOptions,
    CostResult,
    Sample,
    cost_json,
    cost_table_text,
)
from caezip_bench.cost.report import cost_rows
from caezip_bench.cost.result import Series, Spread, describe_machine, spread


def test_the_median_and_its_spread() -> None:
    assert spread([3.0, 1.0, 10.0]) == Spread(median=3.0, low=1.0, high=10.0, count=3)
    assert spread([2.0, 4.0]) == Spread(median=3.0, low=2.0, high=4.0, count=2)


def _sample(
    codec: str, number: int, encode_s: float, decode_s: float, series: Series = "throughput"
) -> Sample:
    return Sample(series, number, codec, 2, 50.0, 2000, 1000, 125_000, encode_s, decode_s, 2**28)


@pytest.fixture
def result() -> CostResult:
    result = CostResult(CostOptions(), describe_machine(), {"mine": "fast", "jpeg2000": "slow"})
    result.photographs = ["a.png", "b.png"]
    result.baseline_bytes = {("mine", 2): 2**25}
    result.cold = [ColdCall("caezip --help", (0.3, 0.1, 0.2))]
    result.failures = [CostFailure("webp", 2, "starting", "broken")]
    result.notes = ["something"]
    # the second round met a busy machine: both took twice as long
    for number, factor in enumerate((1, 2, 1)):
        result.samples += [
            _sample("jpeg2000", number, factor * 1.0, factor * 0.5),
            _sample("mine", number, factor * 0.2, factor * 0.1),
        ]
    result.samples += [_sample("mine", 0, 0.4, 0.2, "scaling")]
    return result


def test_rows_have_medians_and_ratios_within_rounds(result: CostResult) -> None:
    mine, other = cost_rows(result, "throughput")
    assert (mine.codec, other.codec) == ("mine", "jpeg2000")  # the order of the settings
    assert mine.encode_mpx_per_s.median == pytest.approx(10)
    assert mine.encode_mpx_per_s.low == pytest.approx(5)
    assert mine.encode_mpx_per_s.count == 3
    assert mine.decode_mpx_per_s.median == pytest.approx(20)
    assert mine.bpp == 0.5
    # neither is what the busy round would make of it
    assert mine.decode_ratios["jpeg2000"].low == pytest.approx(5)
    assert mine.decode_ratios["jpeg2000"].high == pytest.approx(5)
    assert other.decode_ratios["jpeg2000"].median == 1
    assert mine.encode_ratios == {}  # no AVIF was run
    assert mine.baseline_bytes == 2**25
    assert other.baseline_bytes is None


def test_other_series_and_cores_are_not_compared(result: CostResult) -> None:
    (row,) = cost_rows(result, "scaling")
    assert row.encode_mpx_per_s.median == pytest.approx(5)
    assert row.decode_ratios == {}


def test_the_tables(result: CostResult) -> None:
    text = cost_table_text(result)
    lines = text.splitlines()
    assert lines[0] == "Cost at 2 Mpx:"
    assert [cell.strip() for cell in lines[4].split("|")[1:-1]] == [
        "mine",
        "2",
        "50",
        "0.50",
        "10 (5 to 10)",
        "20 (10 to 20)",
        "n/a",
        "5.00",
        "n/a",
        "256",
    ]
    assert "Encoding on 2 cores, Mpx/s, by the size of the picture:" in lines
    assert "| caezip --help | 0.20 (0.10 to 0.30) |" in lines
    assert "- Failed: webp on 2 cores, starting: broken." in lines
    assert "- mine: fast." in lines
    assert "- Note: something." in lines
    assert any("in each round (rounds: 3)" in line for line in lines)


def test_a_single_sample_has_no_spread(result: CostResult) -> None:
    result.samples = [_sample("mine", 0, 0.2, 0.1)]
    cells = [cell.strip() for cell in cost_table_text(result).splitlines()[4].split("|")]
    assert cells[5:7] == ["10", "20"]


def test_nothing_measured_makes_no_table(result: CostResult) -> None:
    result.samples.clear()
    result.cold.clear()
    text = cost_table_text(result)
    assert "|" not in text
    assert "- Failed: webp" in text


def test_the_json_has_everything(result: CostResult) -> None:
    document = json.loads(cost_json(result))
    assert document["schema"] == "caezip-bench-cost"
    assert document["schema_version"] == 1
    assert document["throughput"][0]["encode_mpx_per_s"]["count"] == 3
    assert document["throughput"][0]["decode_ratios"]["jpeg2000"]["median"] == pytest.approx(5)
    assert document["scaling"][0]["width"] == 2000
    assert len(document["samples"]) == 7
    assert document["samples"][0]["encode_s"] == 1.0
    assert document["cold"][0]["median"] == 0.2
    assert document["failures"][0]["reason"] == "broken"
    assert {"processor", "memory_bytes", "usable_cores", "platform"} <= document["machine"].keys()
    assert "weights_folder" not in document["options"]
