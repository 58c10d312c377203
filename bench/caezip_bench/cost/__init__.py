"""What coding costs: speed and memory of codecs in turns, by picture size, and of cold calls.

`run_cost` measures; `cost_table_text` and `cost_json` present what it found.
"""

from __future__ import annotations

from caezip_bench.cost.report import cost_json, cost_table_text
from caezip_bench.cost.result import (
    DEFAULT_COST_PEERS,
    ColdCall,
    CostFailure,
    CostOptions,
    CostResult,
    Sample,
    thread_counts,
)
from caezip_bench.cost.runner import make_cost_peers, run_cost

COST_NAMES = ("cost.md", "cost.json")

__all__ = [
    "COST_NAMES",
    "DEFAULT_COST_PEERS",
    "ColdCall",
    "CostFailure",
    "CostOptions",
    "CostResult",
    "Sample",
    "cost_json",
    "cost_table_text",
    "make_cost_peers",
    "run_cost",
    "thread_counts",
]
