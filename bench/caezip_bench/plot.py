"""The rate-distortion plot: every metric over bits per pixel, as PNG and SVG."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from caezip_bench.metrics import METRICS
from caezip_bench.peers import Peer
from caezip_bench.published import NOTABLE, NOTE, PublishedCurve
from caezip_bench.summary import Summary, curve

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

TICKS_BPP = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
MARKERS = "osv^DPX<>"
PANELS_A_ROW = 3
# dark and light ones in turn, two caezips first
COLOURS = (
    *("#d9480f", "#a61e77", "#495057", "#868e96", "#1c7ed6", "#2b8a3e", "#7048e8", "#4dabf7"),
    *("#e67700", "#66a80f", "#8d5524", "#0b7285", "#f783ac", "#212529"),
)
DASHES = ((6, 2), (3, 2), (1, 1), (6, 2, 1, 2), (8, 3, 1, 2, 1, 2))


def plot_images(
    summary: Summary, peers: Sequence[Peer], published: Sequence[PublishedCurve], title: str
) -> tuple[bytes, bytes]:
    """The averaged curves as ``(PNG, SVG)``.

    Lossless codecs stand in the legend with their bpp; the `NOTABLE` of the ``published``
    curves are dashed.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [m for m in summary.metrics if any(curve(summary.averages, p.name, m) for p in peers)]
    shown = shown or [summary.metrics[0]]
    columns = min(PANELS_A_ROW, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(6.4 * columns, 5.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)  # no pyplot: it would want a display's backend
    figure.suptitle(title)
    drawn = [curve for curve in published if curve.name in NOTABLE]
    labelled: dict[str, Artist] = {}
    for place, metric in enumerate(shown, start=1):
        axes = figure.add_subplot(rows, columns, place)
        _draw(axes, summary, peers, drawn, metric)
        handles, labels = axes.get_legend_handles_labels()
        labelled |= {
            label: labelled.get(label, handle)
            for label, handle in zip(labels, handles, strict=True)
        }
    if labelled:
        figure.legend(
            list(labelled.values()),
            list(labelled),
            loc="lower right" if rows * columns > len(shown) else "outside right center",
            fontsize=8,
        )
    images = []
    # a fixed salt and no date: the same results give the same SVG
    with matplotlib.rc_context({"svg.hashsalt": "caezip"}):
        for kind, metadata in (("png", None), ("svg", {"Date": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
            images.append(buffer.getvalue())
    return images[0], images[1]


def _draw(
    axes: Axes,
    summary: Summary,
    peers: Sequence[Peer],
    published: Sequence[PublishedCurve],
    metric: str,
) -> None:
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
            [point.value for point in points],
            marker=MARKERS[index % len(MARKERS)],
            markersize=4.5,
            linewidth=2.4 if own else 1.3,
            zorder=3 if own else 2,
            color=COLOURS[index % len(COLOURS)],
            label=peer.name,
        )
    for index, known in enumerate(published):
        if metric in known.points:
            bpp = [point.bpp for point in known.points[metric]]
            values = [point.value for point in known.points[metric]]
            label = f"{known.name} ({NOTE})"
            dashes = (0, DASHES[index % len(DASHES)])
            axes.plot(bpp, values, ls=dashes, linewidth=1, color="0.4", zorder=1, label=label)
    axes.set_xscale("log")
    if rates_bpp:
        low_bpp, high_bpp = min(rates_bpp) / 1.15, max(rates_bpp) * 1.15
        ticks_bpp = [tick for tick in TICKS_BPP if low_bpp <= tick <= high_bpp]
        axes.set_xlim(low_bpp, high_bpp)
        axes.set_xticks(ticks_bpp, [f"{tick:g}" for tick in ticks_bpp])
    axes.minorticks_off()
    axes.set_xlabel("bits per pixel, whole file (log scale)")
    axes.set_ylabel(METRICS[metric].axis_title)
    axes.grid(alpha=0.3)
