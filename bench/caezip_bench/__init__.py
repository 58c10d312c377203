"""Benchmarks of caezip against other image codecs: what ``caezip bench DIR`` runs.

Each image is coded into a real file, read back and measured: bits per pixel of
the whole file and the metrics of `caezip_bench.metrics`. `run` measures, `summarize`
averages and computes BD-rates; `caezip_bench.report`, `caezip_bench.plot` and
`caezip_bench.html_report` present them. `caezip_bench.efforts` measures what caezip's
efforts gain and take, `caezip_bench.cost` speed and memory.

A further codec is one small class and one line in `caezip_bench.peers.PEERS`; a further
metric is one function and one line in `caezip_bench.metrics.METRICS`.
"""

from __future__ import annotations

from caezip_bench.peers import PEERS, Peer, PeerOptions, make_peers
from caezip_bench.runner import RunResult, find_images, run
from caezip_bench.summary import Summary, summarize

__all__ = [
    "PEERS",
    "Peer",
    "PeerOptions",
    "RunResult",
    "Summary",
    "find_images",
    "make_peers",
    "run",
    "summarize",
]
