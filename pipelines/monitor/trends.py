"""A page of trends: one HTML file that loads nothing, in light and in dark, without a script."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.resources import files

import numpy as np

from pipelines.monitor.drift import Drift
from pipelines.monitor.estimate import Estimate
from pipelines.monitor.realised import ALL, BIASED, FALLBACK, Realised
from pipelines.night.measures import Measures

__all__ = ["trends_page"]

_COLOURS = {"#010101": "--ink", "#020202": "--grid", "#030303": "--line", "#040404": "--second"}
"""What pictures are drawn in, and the colour of the page's style that then stands for each."""
_INK, _GRID, *_LINES = _COLOURS


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture of the page: its heading, what it shows in words, and its SVG."""

    title: str
    words: str
    svg: str


def trends_page(
    nights: Sequence[Realised],
    drifts: Sequence[Drift],
    measures: Sequence[Measures],
    estimate: Estimate | None,
    *,
    metric: str,
) -> str:
    """The page.

    Args:
        nights: What became of each night, oldest first; the last is the live one.
        drifts: The verdicts on the live night.
        measures: What was measured of the nights, oldest first.
        estimate: Of the live night's NDCG.
        metric: How NDCG is called.
    """
    from jinja2 import Environment

    template = files("pipelines.monitor").joinpath("trends.html").read_text(encoding="utf-8")
    closed = [night for night in nights if ALL in night.slices]
    return (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            day=nights[-1].day,
            caution=f"NDCG of published nights is {BIASED}",
            estimate=estimate,
            pictures=[
                *(_outcomes(closed, metric, nights[-1].day, estimate) if closed else []),
                *(_measured(measures) if measures else []),
            ],
            drifts=drifts,
            nights=[_row(night) for night in reversed(nights)],
            metric=metric,
        )
    )


def _row(night: Realised) -> dict[str, str]:
    """A night of the table, as text."""
    of = night.slices.get(ALL)
    return {
        "day": str(night.day),
        "version": night.version,
        "mean": night.state if of is None else f"{of.mean:.4f}",
        "interval": "-" if of is None or of.low is None else f"{of.low:.4f} to {of.high:.4f}",
        "users": "-" if of is None else f"{of.users:,}",
    }


def _outcomes(closed: Sequence[Realised], metric: str, live: date, estimate: Estimate | None) -> list[_Picture]:
    """What became of the nights whose labels have closed, and what was estimated of the live one."""
    days, every = [night.day for night in closed], [night.slices[ALL] for night in closed]
    means = [of.mean for of in every]
    limits = [(of.mean if of.low is None else of.low, of.mean if of.high is None else of.high) for of in every]
    fallback = [night.slices[FALLBACK].users if FALLBACK in night.slices else 0 for night in closed]
    shares = [n / of.users for n, of in zip(fallback, every, strict=True)]
    words = f"Mean {metric} of each night over the users who acted, with its 95 % interval; {means[-1]:.4f} at last."
    drawn = _svg(days, {"realised": means}, band=limits, estimated=None if estimate is None else (live, estimate))
    users = "How many users acted on each day."
    no_list = f"Share of them that had no list of their own and saw the fallback list; {shares[-1]:.1%} at last."
    return [
        _Picture(f"Realised {metric}", words, drawn),
        _Picture("Users who acted", users, _svg(days, {"users": [of.users for of in every]})),
        _Picture("Fallback among those who acted", no_list, _svg(days, {"share": shares})),
    ]


def _measured(measures: Sequence[Measures]) -> list[_Picture]:
    """What was measured of the nights when they were ranked."""
    days = [date.fromisoformat(night.day) for night in measures]
    counts = {
        "users": [float(night.inputs.users) for night in measures],
        "items on sale": [float(night.inputs.on_sale) for night in measures],
    }
    shares = {
        "without a list": [1 - night.lists.lists / max(night.inputs.users, 1) for night in measures],
        "without history": [night.inputs.strangers / max(night.inputs.users, 1) for night in measures],
    }
    events = {"events": [float(sum(of_kind[-1] for of_kind in night.inputs.by_day.values())) for night in measures]}
    return [
        _Picture("Users and items", "Users that were ranked, and items on sale.", _svg(days, counts)),
        _Picture("Users without lists or history", "Shares of the users that were ranked.", _svg(days, shares)),
        _Picture("Events of the eve", "Events of all types on the day before each night.", _svg(days, events)),
    ]


def _svg(
    days: Sequence[date],
    series: Mapping[str, Sequence[float]],
    *,
    band: Sequence[tuple[float, float]] = (),
    estimated: tuple[date, Estimate] | None = None,
) -> str:
    """Lines over days, from 0 up, in colours of the page's style; the same figures make the same bytes."""
    import matplotlib as mpl
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "/".join(series), "font.family": "sans-serif"}):
        figure = Figure(figsize=(9, 2.8), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        where = np.array(days, "datetime64[D]")
        if band:
            low, high = np.array(band).T
            axes.fill_between(where, low, high, color=_LINES[0], alpha=0.2, linewidth=0)
        for (name, values), colour in zip(series.items(), _LINES, strict=False):
            axes.plot(where, np.array(values), color=colour, marker="o", markersize=3, label=name)
        if estimated is not None:
            live, of = np.array([estimated[0]], "datetime64[D]"), estimated[1]
            ends = [[of.value - of.low], [of.high - of.value]]
            axes.errorbar(live, [of.value], yerr=ends, color=_LINES[1], marker="D", capsize=4, label="estimated")
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        axes.margins(y=0.1)
        axes.set_ylim(0, axes.get_ylim()[1] if any(map(any, series.values())) else 1)
        axes.grid(color=_GRID)
        axes.tick_params(colors=_INK)
        for spine in axes.spines.values():
            spine.set_color(_GRID)
        if len(series) > 1 or estimated is not None:
            axes.legend(frameon=False, labelcolor=_INK)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    for drawn, styled in _COLOURS.items():
        svg = svg.replace(drawn, f"var({styled})")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg[svg.index("<svg") :]
