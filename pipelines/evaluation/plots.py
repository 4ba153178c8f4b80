"""Plots of an evaluation, as PNG."""

import io

import polars as pl

from features.candidates.recall import TOGETHER

__all__ = ["recall_plot"]

_PANEL_SLICES = ("all", "new-to-user")
_MARKERS = "osD^vP<X>*"


def recall_plot(table: pl.DataFrame, *, cut: int) -> bytes:
    """Recall@k by the number of candidates k: a line a generator, one for all together, a panel a slice.

    Args:
        table: `features.candidates.recall.recall_by_source`. A generator that finds no positive has no line, and a
            slice without a positive an empty panel.
        cut: `candidates.max_per_request`: marked.

    Returns:
        A PNG; the same table gives the same bytes.
    """
    from matplotlib.figure import Figure  # which draws a PNG by Agg, without the state of pyplot

    drawn = table.filter((pl.col("recall") > 0).any().over("source"))
    sources = drawn["source"].unique(maintain_order=True).to_list()
    cutoffs = table["k"].unique().sort().to_list()
    figure = Figure(figsize=(12, 5.2), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(_PANEL_SLICES), sharey=True)
    for panel, name in zip(panels, _PANEL_SLICES, strict=True):
        of_slice = table.filter(pl.col("slice") == name)
        for number, source in enumerate(sources):
            line = of_slice.filter(pl.col("source") == source).drop_nulls().sort("k")
            colour, width = ("black", 2.5) if source == TOGETHER else (f"C{number}", 1.5)
            style = {"marker": _MARKERS[number % len(_MARKERS)], "markersize": 5, "color": colour, "linewidth": width}
            panel.plot(line["k"].to_list(), line["recall"].to_list(), label=source, **style)
        panel.axvline(cut, color="grey", linestyle="--", linewidth=1, label=f"cut at {cut}")
        panel.set_xscale("log")
        panel.set_xticks(cutoffs, [str(k) for k in cutoffs], rotation=45)
        panel.minorticks_off()
        panel.set_title(f"{name} ({max(of_slice['requests'].to_list(), default=0):,} requests)")
        panel.set_xlabel("candidates k")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("recall@k")
    panels[0].set_ylim(bottom=0)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    figure.suptitle("Share of what turned out true among the k best candidates")
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
