"""The rate-distortion plot: PSNR and MS-SSIM over bits per pixel."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from caezip_bench.codecs import Peer
from caezip_bench.summary import METRICS, Metric, Summary, curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXIS_TITLES: dict[Metric, str] = {
    "psnr_db": "PSNR of RGB (dB)",
    "ms_ssim_db": "MS-SSIM (dB, -10 log₁₀(1 - MS-SSIM))",
}
TICKS_BPP = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
MARKERS = "osv^DPX"


def plot_png(summary: Summary, peers: Sequence[Peer], title: str) -> bytes:
    """The averaged curves as a PNG image; lossless codecs stand in the legend with their bpp."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [m for m in METRICS if any(curve(summary.averages, p.name, m) for p in peers)]
    shown = shown or ["psnr_db"]
    figure = Figure(figsize=(6.4 * len(shown), 5.2), layout="constrained")
    FigureCanvasAgg(figure)  # no pyplot: it would want a display's backend
    figure.suptitle(title)
    for place, metric in enumerate(shown, start=1):
        _draw(figure.add_subplot(1, len(shown), place), summary, peers, metric)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def _draw(axes: Axes, summary: Summary, peers: Sequence[Peer], metric: Metric) -> None:
    rates_bpp = []
    for index, peer in enumerate(peers):
        points = sorted(curve(summary.averages, peer.name, metric), key=lambda p: p.quality)
        for average in summary.of_codec(peer.name) if peer.lossless else []:
            axes.plot([], [], " ", label=f"{peer.name}: lossless at {average.bpp:.2f} bpp")
        if not points:
            continue
        rates_bpp += [point.bpp for point in points]
        own = peer.name.startswith("caezip")
        axes.plot(
            [point.bpp for point in points],
            [point.value_db for point in points],
            marker=MARKERS[index % len(MARKERS)],
            markersize=4.5,
            linewidth=2.4 if own else 1.3,
            zorder=3 if own else 2,
            color=f"C{index % 10}",
            label=peer.name,
        )
    axes.set_xscale("log")
    if rates_bpp:
        low_bpp, high_bpp = min(rates_bpp) / 1.15, max(rates_bpp) * 1.15
        ticks_bpp = [tick for tick in TICKS_BPP if low_bpp <= tick <= high_bpp]
        axes.set_xlim(low_bpp, high_bpp)
        axes.set_xticks(ticks_bpp, [f"{tick:g}" for tick in ticks_bpp])
    axes.minorticks_off()
    axes.set_xlabel("bits per pixel, whole file (log scale)")
    axes.set_ylabel(AXIS_TITLES[metric])
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper left", fontsize=9)
