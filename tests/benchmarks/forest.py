"""What reading texts is worth, as the README shows it: a forest plot and a table, from the results file.

    python tests/benchmarks/forest.py        # writes notebooks/images/worth-of-text.svg and the README's table

Each row is the full system's NDCG@10 minus that of the same ranker without text, paired on the same requests, with its
95 % interval: the mean over the seeds that were run. Nothing is computed here, and nothing is left out by its result.
"""

import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from scoreboard import RESULTS, Results

__all__ = ["ROWS", "Row", "fill_readme", "markdown", "picture", "rows_of"]

_ROOT = Path(__file__).resolve().parents[2]
_FILE = Path(__file__).resolve().parent / "results" / RESULTS
PICTURE = _ROOT / "notebooks" / "images" / "worth-of-text.svg"
README = _ROOT / "README.md"
MARKERS = ("<!-- worth of text -->\n", "<!-- /worth of text -->")

ROWS = (
    ("wikispeedia", "all", "Clicks in shown lists, with a query", "Wikispeedia"),
    ("online-retail", "cold item", "Gift shop: items that are new", "Online Retail"),
    ("ifdb", "cold item", "Interactive fiction: works that are new", "IFDB"),
    ("ifdb", "all", "Interactive fiction: everything", "IFDB"),
    ("online-retail", "all", "Gift shop: everything", "Online Retail"),
    ("complete-journey", "all", "Groceries: everything", "Complete Journey"),
)
"""Data set, slice, what it is in words, and the data set's name for people; from where text matters to where not."""


@dataclass(frozen=True, slots=True)
class Row:
    """What text is worth on a slice of a data set.

    Attributes:
        words: What is ranked, for people.
        title: Name of the data set.
        full: NDCG@10 of the full system.
        without: NDCG@10 of the ranker without text.
        difference: Paired difference, and the ends of its 95 % interval.
    """

    words: str
    title: str
    full: float
    without: float
    difference: tuple[float, float, float]

    @property
    def text(self) -> str:
        """The difference with its interval."""
        return "{:+.4f} [{:+.4f}, {:+.4f}]".format(*self.difference)


def rows_of(results: Results) -> list[Row]:
    """The rows of data sets that have been scored, as their last configuration came out."""
    latest = {series.data: series.over_seeds() for series in results.series if not series.validation}
    rows = []
    for data, part, words, title in ROWS:
        if data not in latest:
            continue
        figures = latest[data]
        gap = figures[f"full system over behaviour-only ranker, {part}, ndcg@10"]
        full, without = (figures[f"{of}, {part}, ndcg@10"]["mean"] for of in ("full system", "behaviour-only ranker"))
        assert full is not None
        assert without is not None
        rows.append(Row(words, title, full, without, tuple(gap[key] or 0.0 for key in ("mean", "low", "high"))))  # type: ignore[arg-type]
    return rows


def markdown(rows: list[Row]) -> str:
    """The README's table."""
    head = "| what is ranked | full system | without text | difference [95 %] |\n|---|---|---|---|\n"
    lines = (f"| {row.words} | {row.full:.3f} | {row.without:.3f} | {row.text} |\n" for row in rows)
    return head + "".join(lines)


def picture(rows: list[Row]) -> str:
    """The forest plot, an SVG whose texts are texts."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "nightrank", "font.family": "sans-serif"}):
        figure = Figure(figsize=(9.6, 0.52 * len(rows) + 1.2), layout="constrained")
        axes = figure.subplots()
        for height, row in enumerate(reversed(rows)):
            mean, low, high = row.difference
            colour = "#15803d" if low > 0 else "#64748b"
            axes.plot([low, high], [height, height], color=colour, linewidth=3, solid_capstyle="round")
            axes.plot([mean], [height], marker="o", markersize=8, color=colour)
            axes.annotate(row.text, (high, height), xytext=(8, -4), textcoords="offset points", fontsize=10)
        axes.axvline(0, color="#0f172a", linewidth=1)
        axes.set_yticks(range(len(rows)), [f"{row.words}\n({row.title})" for row in reversed(rows)])
        axes.set_xlim(min(-0.01, *(row.difference[1] for row in rows)), 1.6 * max(row.difference[2] for row in rows))
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel("NDCG@10 of the full system minus that of the same ranker without text")
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"[ \t]+\n", "\n", file.getvalue())


def fill_readme(text: str, rows: list[Row]) -> str:
    """The README with the table between its markers."""
    before, _, rest = text.partition(MARKERS[0])
    _, closing, after = rest.partition(MARKERS[1])
    return before + MARKERS[0] + markdown(rows) + closing + after


def main() -> int:
    """Write the picture and the table."""
    rows = rows_of(Results.read(_FILE))
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(picture(rows), encoding="utf-8")
    README.write_text(fill_readme(README.read_text(encoding="utf-8"), rows), encoding="utf-8")
    sys.stdout.write(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
