"""Which columns of a catalogue are texts, which the category, which the price, and which text tells most."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from features.errors import ContractError
from pipelines.setup.files import Table
from pipelines.setup.profile import Column, plain_ids
from pipelines.setup.words import affinity

__all__ = ["Catalogue", "TextField", "dependent_columns", "read_catalogue"]

_FIT = 0.7
_LONG_WORDS = 40
_SHORT_WORDS = 12  # of a title, at most
_READ_WORDS = 30
_DEPENDS = 0.6
_AGREES = 0.8
_OTHER_SCRIPT = r"[\p{L}--\p{Latin}]"


@dataclass(frozen=True, slots=True)
class TextField:
    """A text field of the catalogue: its column, how many words are read (None: all), and why."""

    column: str
    max_words: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What the columns of a catalogue are.

    Attributes:
        texts: Text fields, most telling first.
        columns: Further columns by our names, each with why.
        attributes: Columns that could be features: few values, or numbers.
        unread: Columns that are none of these, each with why.
        doubts: What could be meant otherwise.
        other_script: Share of the letters that are not Latin.
    """

    texts: Sequence[TextField]
    columns: Mapping[str, tuple[str, str]]
    attributes: Sequence[str]
    unread: Mapping[str, str]
    doubts: Sequence[str]
    other_script: float


def read_catalogue(columns: Mapping[str, Column], key: str, *, name: str) -> Catalogue:
    """Say what the columns of a catalogue are.

    Args:
        columns: The columns, by the rows seen.
        key: The one that holds the ids.
        name: How messages call the table.

    Raises:
        ContractError: None of them holds words.
    """
    rest = {label: column for label, column in columns.items() if label != key}
    prose = {label: column for label, column in rest.items() if column.is_prose and column.n_distinct > 1}
    ranks = {label: _rank(column) for label, column in prose.items()}
    chosen = sorted(
        (label for label in prose if ranks[label][0] > 0), key=lambda label: (ranks[label], label), reverse=True
    )
    if not chosen:
        raise ContractError(
            f"init: {name} has no text: none of its columns besides {key!r} holds words. The ranking reads what "
            "items are called; add a title or a description."
        )
    texts = [_field(prose[label], ranks[label][1]) for label in chosen]
    ours, doubts = _further(rest, prose, name)
    used = {key, *chosen, *(column for column, _ in ours.values())}
    left = [column for label, column in rest.items() if label not in used]
    attributes = [column.name for column in [*left, *(prose[label] for label in chosen[1:])] if _is_attribute(column)]
    unread = {column.name: _why_not(column) for column in left}
    return Catalogue(
        texts, ours, attributes, unread, [*_titles_doubt(chosen, ranks, name), *doubts], _script(prose, chosen)
    )


def dependent_columns(table: Table, item: str) -> list[str]:
    """Columns of a log whose values are texts that the item decides, as far as the rows seen say."""
    matches = []
    ids = plain_ids(table.sample[item]).alias("item")
    for name, column in table.columns.items():
        if name == item or not column.is_prose or column.n_distinct < 2:  # noqa: PLR2004
            continue
        pairs = pl.DataFrame([ids, column.values.cast(pl.String).alias("value")]).drop_nulls()
        if pairs.is_empty():
            continue
        counts = pairs.group_by("item", "value").len()
        agree = int(counts.group_by("item").agg(pl.col("len").max())["len"].sum()) / pairs.height
        usual = int(pairs["value"].value_counts()["count"].sort()[-1]) / pairs.height
        repeated = pairs.height > counts["item"].n_unique()
        if repeated and agree >= _AGREES and (agree - usual) / max(1 - usual, 1e-9) >= _DEPENDS:
            matches.append(name)
    return matches


def _rank(column: Column) -> tuple[float, str, float]:
    """How telling a text is (0: not read), why, and how different its values are."""
    name = column.label
    varied = column.distinct_share
    fits = {part: affinity(name, part) for part in ("title", "description", "creator", "category")}
    part = max(fits, key=lambda part: (fits[part], part == "title"))
    if fits["title"] >= _FIT and fits["title"] >= fits["creator"] and varied > 0.2:  # noqa: PLR2004
        return (4 + fits["title"] * varied, "the title", varied)
    if fits["description"] >= _FIT and fits["description"] >= fits["category"]:
        return (3 + fits["description"] / 10 + min(column.mean_words, 90) / 100, "a description", varied)
    many = math.log10(max(column.n_distinct, 1)) / 6  # of columns alike in kind the one with more values tells more
    if column.n_distinct < _FEW:
        return (0.0, "", varied)
    if fits[part] >= _FIT:
        weight = 0.6 if part == "creator" and column.n_distinct < 10 else _WEIGHTS[part]  # noqa: PLR2004
        return (weight + many, _SAYS[part], varied)
    if column.mean_words >= 1.5 and varied >= 0.02:  # noqa: PLR2004
        prose = column.mean_words >= 3 and varied > 0.5  # noqa: PLR2004
        weight = (2.2 if column.mean_words <= _SHORT_WORDS else 2.0) if prose else 0.6
        return (weight + many, "words, different ones for many items", varied)
    return (0.0, "", varied)


_FEW = 3
_WEIGHTS = {"creator": 1.2, "category": 1.0, "title": 1.1, "description": 1.1}
_SAYS = {"creator": "who made it", "category": "what kind it is", "title": "a name", "description": "a description"}


def _words(mean: float) -> str:
    return "1 word" if f"{mean:.0f}" == "1" else f"{mean:.0f} words"


def _field(column: Column, why: str) -> TextField:
    long = column.long_words > _LONG_WORDS
    filled = "" if column.filled_share > 0.995 else f"; {column.filled_share:.0%} have it"  # noqa: PLR2004
    return TextField(
        column.name, _READ_WORDS if long else None, f"{why}, {_words(column.mean_words)} on average{filled}"
    )


def _further(
    rest: Mapping[str, Column], prose: Mapping[str, Column], name: str
) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Category, price and when an item is on sale; and which other columns could be meant."""
    matches: dict[str, tuple[str, str]] = {}
    doubts = []
    kinds = {label: _category_score(column) for label, column in prose.items()}
    kinds = {label: score for label, score in kinds.items() if score > 0}
    if kinds:
        best = max(sorted(kinds), key=kinds.__getitem__)
        matches["category"] = (best, f"{rest[best].n_distinct:,} different values")
        others = sorted(label for label, score in kinds.items() if label != best and score >= 0.9 * kinds[best])
        doubts += [f"{name}: {best!r} was taken as category, but {other!r} could be it as well" for other in others]
    prices = {label: affinity(column.label, "price") for label, column in rest.items() if _is_amount(column)}
    prices = {label: fit for label, fit in prices.items() if fit >= _FIT}
    if prices:
        best = max(sorted(prices), key=prices.__getitem__)
        matches["price"] = (best, "a number, named for a price")
    for ours in ("available_from", "available_until"):
        fits = [
            label for label, column in rest.items() if affinity(column.label, ours) == 1 and column.times is not None
        ]
        if fits and rest[fits[0]].kind == "clock":
            matches[ours] = (fits[0], "a time, named for when an item is on sale")
    return matches, doubts


def _category_score(column: Column) -> float:
    """How well a column serves as category: by its name, and by how many items share a value."""
    fit = affinity(column.label, "category") if column.label else 0.3 * (column.mean_words < 4)  # noqa: PLR2004
    if fit < 0.3 or column.distinct_share > 0.5:  # noqa: PLR2004
        return 0.0
    name = column.label.lower()
    return fit + 0.2 * any(word in name for word in _CORE) - 0.1 * any(word in name for word in ("sub", "type"))


_CORE = (
    "product_type",
    "product_group",
    "producttype",
    "productgroup",
    "categ",
    "kategor",
    "genre",
    "genero",
    "warengruppe",
    "类目",
    "类别",
    "分类",
    "カテゴリ",
    "ジャンル",
    "категор",
)
"""What says category more plainly than a department or a topic does."""


def _is_amount(column: Column) -> bool:
    return column.kind in {"integer", "number"} and column.least >= 0


def _is_attribute(column: Column) -> bool:
    if column.kind == "number" or (column.kind == "integer" and not affinity(column.label, "id") and not column.times):
        return True
    few = column.distinct_share <= 0.2 and 1 < column.n_distinct <= 1000  # noqa: PLR2004
    return few and column.kind in {"text", "integer", "truth"} and column.times is None


def _why_not(column: Column) -> str:
    if column.kind == "empty":
        return "empty"
    if column.times is not None:
        return "times"
    if column.kind != "text":
        return {"list": "lists", "truth": "yes or no"}.get(column.kind, "numbers")
    if column.texts.head(100).str.contains(r"^-?[\d.]+,\d+$").mean() == 1:
        return "numbers with a decimal comma; written as 12.50 they could be a price or a feature"
    if not column.is_prose:
        return "numbers, codes, addresses or structures"
    return "the same for all" if column.n_distinct < 2 else "few values; an attribute"  # noqa: PLR2004


def _titles_doubt(chosen: Sequence[str], ranks: Mapping[str, tuple[float, str, float]], name: str) -> list[str]:
    titles = [label for label in chosen if ranks[label][1] == "the title"]
    return [f"{name}: {other!r} could be the title too; {titles[0]!r} is read first" for other in titles[1:]]


def _script(prose: Mapping[str, Column], chosen: Sequence[str]) -> float:
    """Share of the letters of the texts that are not Latin."""
    texts = pl.concat([prose[label].texts.head(500) for label in chosen[:3]])
    letters = int(texts.str.count_matches(r"\p{L}").sum())
    return int(texts.str.count_matches(_OTHER_SCRIPT).sum()) / max(letters, 1)
