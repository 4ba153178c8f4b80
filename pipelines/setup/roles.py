"""Which table is the log and which the catalogue, and which of the log's columns is what.

A column's part follows from what it is called, what its values are, and whether they are found again in a key of
another table. Nothing depends on the names of files, on their order or on that of columns, but for ties.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from features.errors import ConfigError, ContractError, listed
from pipelines.setup.catalogue import dependent_columns
from pipelines.setup.files import Table
from pipelines.setup.profile import Column, plain_ids
from pipelines.setup.words import WORDS, affinity, event_level

__all__ = ["Log", "Pick", "choose_log", "choose_users"]

_NEAR = 0.75  # of a score, how near a second column must come to be named beside
_LINKED = 0.3  # of a column's ids, the least that a key of another table must know
_KEY = 0.95
_MOST_TYPES = 40
_MOST_STARS = 21
_FEW_USERS = 10
_FIT = 0.7
_RIVAL = 0.85  # of the best score, what makes a table about other items a rival
_ANNOTATED = 0.3  # of the log's rows, the most that notes beside it have

Score = Callable[[Column], float]


@dataclass(frozen=True, slots=True)
class Pick:
    """A column that was chosen, why, and which other one could be meant."""

    column: str
    why: str
    other: str | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A column whose ids are found in the key of another table.

    Attributes:
        table: The other table.
        key: Its key.
        share: Share of the column's different ids that the key has.
    """

    table: Table
    key: str
    share: float


@dataclass(frozen=True, slots=True)
class Log:
    """A table read as a log.

    Attributes:
        table: The table.
        picks: Its columns by our names.
        catalogue: Where its items are looked up; None where the log tells of them itself.
        score: How well it fits.
        doubts: What could be meant otherwise.
    """

    table: Table
    picks: Mapping[str, Pick]
    catalogue: Link | None
    score: float
    doubts: Sequence[str] = field(default=())


def choose_log(tables: Sequence[Table], *, events: Table | None = None, items: Table | None = None) -> Log:
    """Find the log among tables, and the catalogue that it belongs to.

    Args:
        tables: All tables, those that were named too.
        events: The table that is the log, if somebody named it.
        items: The table that is the catalogue, if somebody named it.

    Raises:
        ContractError: No table is a log, or it has no times, or no catalogue; says what each table lacks.
        ConfigError: Two tables could be the log.
    """
    keys = _keys([items] if items is not None else tables)
    possible = [table for table in ([events] if events is not None else tables) if table is not items]
    readings = [_reading(table, keys) for table in possible]
    logs = [log for log in readings if isinstance(log, Log)]
    if not logs:
        readings = [_reading(table, keys, named=False) for table in possible]
        logs = [log for log in readings if isinstance(log, Log)]
    if not logs:
        raise ContractError(_no_log([lack for lack in readings if isinstance(lack, _Lacking)]))
    linked = [log for log in logs if log.catalogue is not None]
    joint = [log for log in logs if dependent_columns(log.table, log.picks["item_id"].column)]
    usable = linked or joint
    if not usable:
        raise ContractError(_no_catalogue(logs))
    best = max(usable, key=lambda log: (round(log.score, 6), log.table.n_rows))
    rivals = [log for log in usable if log is not best and _vies(log, best) and not _annotates(log, best)]
    if rivals:
        names = sorted([best.table.name, *(log.table.name for log in rivals)])
        raise ConfigError(
            f"init: {len(names)} tables could be the log: {listed(names)}; each has users, items and times. Name the "
            f"one to learn from, --events {best.table.name} for instance, or put their rows into one table with a "
            "column that says what happened."
        )
    return best


def choose_users(log: Log, tables: Sequence[Table]) -> tuple[Table, Pick] | None:
    """The table with one row a user, and its key; None where there is none."""
    user = log.table.columns[log.picks["user_id"].column]
    catalogue = log.catalogue.table if log.catalogue else None
    matches = []
    for key_of, column in _keys(tables):
        if key_of in (log.table, catalogue) or affinity(column.label, "item") > affinity(column.label, "user"):
            continue
        common = _common(user, key_of, column.name)
        named = column.label == user.label or affinity(column.label, "user") > 0
        if not (named or (affinity(column.label, "id") == 1 and common >= _KEY * user.n_distinct)):
            continue
        share = max(common / max(user.n_distinct, 1), common / max(key_of.n_rows, 1))
        if share >= 0.5:  # noqa: PLR2004
            why = f"a row a user; {common:,} of its {key_of.n_rows:,} are in the rows of the log that were looked at"
            matches.append((share, key_of.name, key_of, Pick(column.name, why)))
    if not matches:
        return None
    _, _, table, pick = max(matches, key=lambda some: some[:2])
    return table, pick


@dataclass(frozen=True, slots=True)
class _Lacking:
    """What keeps a table from being a log."""

    table: Table
    user: str | None
    item: str | None
    time: str | None


def _keys(tables: Iterable[Table]) -> list[tuple[Table, Column]]:
    """Columns that tell the rows of their table apart."""
    return [
        (table, column)
        for table in tables
        for column in table.columns.values()
        if column.may_be_id and column.distinct_share >= _KEY and column.filled_share >= _KEY
    ]


def _reading(table: Table, keys: Sequence[tuple[Table, Column]], *, named: bool = True) -> Log | _Lacking:
    """A table read as a log, or what it lacks for that; the user's column may be `named` for nothing else only."""
    columns = table.columns
    links = {name: _link(column, table, keys) for name, column in columns.items() if column.may_be_id}
    ids = [columns[name] for name in links if columns[name].n_distinct < columns[name].values.len()]
    items = _scored(ids, lambda column: _item_score(column, links[column.name]))
    users = _scored(ids, lambda column: _user_score(column, named=named))
    times = _scored(columns.values(), _time_score)
    pairs = [
        (user_score + item_score, user, item)
        for user, user_score in users.items()
        for item, item_score in items.items()
        if user != item
    ]
    if not pairs or not times:
        lone = max(users, key=users.__getitem__, default=None), max(items, key=items.__getitem__, default=None)
        user, item = max(pairs, key=lambda pair: pair[0])[1:] if pairs else lone
        return _Lacking(table, user, item, next(iter(times), None))
    score, user, item = max(pairs, key=lambda pair: pair[0])
    time = max(times, key=times.__getitem__)
    picks = {
        "user_id": _pick(columns[user], users, taken=(item,)),
        "item_id": _pick(columns[item], items, taken=(user,), link=links[item]),
        "timestamp": _pick(columns[time], times, is_time=True),
    }
    rest = {name: column for name, column in columns.items() if name not in {user, item, time}}
    if (other := picks["timestamp"].other) and columns[time].times.clocks and not columns[other].times.clocks:  # type: ignore[union-attr]
        picks["timestamp"] = replace(picks["timestamp"], other=None)  # the day of the same
    picks |= _further(rest)
    doubts = [
        f"{table.name}: {pick.column!r} was taken as {ours}, but {pick.other!r} could be it as well"
        for ours, pick in picks.items()
        if pick.other is not None
    ]
    return Log(table, picks, links[item], score + times[time] / 4, doubts)


def _scored(columns: Iterable[Column], score: Score) -> dict[str, float]:
    scores = {column.name: score(column) for column in columns}
    return {name: matches for name, matches in scores.items() if matches > 0}


def _pick(
    column: Column,
    scores: Mapping[str, float],
    *,
    taken: Sequence[str] = (),
    link: Link | None = None,
    is_time: bool = False,
) -> Pick:
    others = {name: score for name, score in scores.items() if name not in {column.name, *taken}}
    second = max(others, key=others.__getitem__, default=None)
    near = second is not None and others[second] >= _NEAR * scores[column.name]
    return Pick(column.name, _why(column, link, is_time=is_time), second if near else None)


def _why(column: Column, link: Link | None, *, is_time: bool) -> str:
    if column.times is not None and is_time:
        return f"{column.times.first:%Y-%m-%d} to {column.times.last:%Y-%m-%d} in the rows looked at"
    words = f"{column.n_distinct:,} different in the {column.values.len():,} rows looked at"
    return f"{words}; {link.share:.0%} of them are in {link.table.name}: {link.key}" if link else words


def _link(column: Column, table: Table, keys: Sequence[tuple[Table, Column]]) -> Link | None:
    """The key that knows the ids of a column best."""
    matches = []
    for other, key in keys:
        if other is table:
            continue
        share = _common(column, other, key.name) / max(column.n_distinct, 1)
        if share < _LINKED:
            continue
        prose = sum(inner.is_prose and inner.name != key.name for inner in other.columns.values())
        same = bool(key.label) and key.label == column.label
        named = affinity(key.label, "item") - affinity(key.label, "user")
        matches.append((share + same + named + 0.5 * min(prose, 3), other.name, Link(other, key.name, share)))
    return max(matches, key=lambda some: some[:2])[2] if matches else None


def _common(column: Column, table: Table, key: str) -> int:
    """How many different ids of a column a key has."""
    ids = plain_ids(table.read([key])[key])
    return int(column.ids.is_in(ids.implode()).sum())


def _item_score(column: Column, link: Link | None) -> float:
    name = column.label
    score = 3 * affinity(name, "item") + 0.3 * affinity(name, "id") - 3 * affinity(name, "user") - _otherwise(column)
    if link is None:
        return score if affinity(name, "item") else 0.0
    prose = sum(inner.is_prose and inner.name != link.key for inner in link.table.columns.values())
    same = link.key == column.label
    return score + 2 * link.share + 0.5 * same + (1 if prose else -1)


def _user_score(column: Column, *, named: bool) -> float:
    name = column.label
    if not name or not (named or _says_something(column)):  # then by who returns
        return (1.0 if column.kind == "text" else 0.5) - 0.5 * (column.n_distinct < _FEW_USERS) - _otherwise(column)
    return 3 * affinity(name, "user") + 0.3 * affinity(name, "id") - 3 * affinity(name, "item") - _otherwise(column)


def _says_something(column: Column) -> bool:
    """Whether a name says what a column is, other than that it holds ids; of few values it never says users."""
    return column.n_distinct < _FEW_USERS or any(affinity(column.label, part) for part in WORDS if part != "id")


def _otherwise(column: Column) -> float:
    """How much speaks for a column being neither a user nor an item."""
    name = column.label
    others = max(affinity(name, part) for part in ("order", "creator", "category", "price", "money", "quantity"))
    timely = column.times is not None and (column.kind != "integer" or affinity(name, "time") > 0)
    few = column.n_distinct < 3  # noqa: PLR2004
    return 2 * others + 4 * timely + few + 1.5 * (column.mean_words > 1.5)  # noqa: PLR2004


def _time_score(column: Column) -> float:
    if column.times is None or column.n_distinct < 2:  # noqa: PLR2004
        return 0.0
    fits = affinity(column.label, "time")
    written = {"clock": 1.5, "text": 1.5}.get(column.kind, 0.2 if fits or not column.label else 0.0)
    later = 3 * affinity(column.label, "otherwise")
    return max(3 * fits + written + 0.5 * column.times.clocks - later, 0.05) if fits or written else 0.0


def _further(rest: Mapping[str, Column]) -> dict[str, Pick]:
    """What else a log may tell, of the columns that are left."""
    picks: dict[str, Pick] = {}
    for ours, score in _FURTHER.items():
        free = [column for name, column in rest.items() if name not in {pick.column for pick in picks.values()}]
        scores = _scored(free, score)
        if scores:
            best = max(scores, key=scores.__getitem__)
            picks[ours] = _pick(rest[best], scores)
    if "rating" in picks and "event" in picks and rest[picks["event"].column].kind != "text":
        del picks["event"]  # a yes or no beside a rating says less than the rating
    return picks


def _event_score(column: Column) -> float:
    if column.kind not in {"text", "integer", "truth"} or not 1 <= column.n_distinct <= _MOST_TYPES:
        return 0.0
    rest = max(affinity(column.label, part) for part in ("category", "creator", "item", "user", "rating", "position"))
    named = affinity(column.label, "event")
    if column.kind != "text":
        return float(event_level(column.label) is not None and column.n_distinct == 2 and not rest)  # noqa: PLR2004
    kinds = column.texts.value_counts()
    graded = sum(int(count) for kind, count in kinds.rows() if event_level(kind) is not None) / max(
        len(column.texts), 1
    )
    if graded < _LINKED and not (named >= _FIT and column.n_distinct > 1):
        return 0.0
    return max(3 * graded + 2 * named - 2 * rest, 0.0)


def _named(word: str, holds: Callable[[Column], bool]) -> Score:
    """How well a column's name fits a word, where it does and the column holds what such a one would."""

    def score(column: Column) -> float:
        fits = affinity(column.label, word)
        return fits if fits >= _FIT and holds(column) else 0.0

    return score


def _holds_stars(column: Column) -> bool:
    return column.kind in {"integer", "number"} and 2 <= column.n_distinct <= _MOST_STARS  # noqa: PLR2004


def _holds_ranks(column: Column) -> bool:
    return column.kind == "integer" and column.least >= 1


def _holds_prose(column: Column) -> bool:
    return column.is_prose


def _request_score(column: Column) -> float:
    fits = affinity(column.label, "request")
    return fits + affinity(column.label, "id") if column.may_be_id and fits >= _FIT and column.n_distinct > 1 else 0.0


def _money_score(column: Column) -> float:
    if column.kind not in {"integer", "number"} or column.times is not None:
        return 0.0
    name = column.label
    if affinity(name, "quantity") >= _FIT or affinity(name, "rating") >= _FIT or affinity(name, "id") >= _FIT:
        return 0.0
    return max(affinity(name, "money"), 0.8 * affinity(name, "price"))


def _event_id_score(column: Column) -> float:
    named = affinity(column.label, "event") >= _FIT and affinity(column.label, "id") >= _FIT
    return 1.0 if named and column.may_be_id and column.distinct_share == 1.0 == column.filled_share else 0.0


def _exact(name: str) -> Score:
    return lambda column: float(column.label.lower() == name and column.kind != "empty")


_FURTHER: dict[str, Score] = {
    "labelled": lambda column: float(column.kind == "labelled"),
    "event_id": _event_id_score,
    "extracted_at": _exact("extracted_at"),
    "propensity": _exact("propensity"),
    "request_id": _request_score,
    "position": _named("position", _holds_ranks),
    "event": _event_score,
    "rating": _named("rating", _holds_stars),
    "value": _money_score,
    "query": _named("query", _holds_prose),
    "text": _named("comment", _holds_prose),
}


def _vies(log: Log, best: Log) -> bool:
    """Whether a table tells of the same items as the best, or fits as well."""
    theirs, own = (some.catalogue.table if some.catalogue else None for some in (log, best))
    return theirs is own or log.score >= _RIVAL * best.score


def _annotates(log: Log, best: Log) -> bool:
    """Whether a table holds notes beside the log (tags, reviews): few, with a text, and nothing on what happened."""
    parts = log.picks.keys()
    few = log.table.n_rows <= _ANNOTATED * best.table.n_rows
    return few and "text" in parts and not parts & {"event", "rating", "value", "labelled"}


def _no_log(lacking: Sequence[_Lacking]) -> str:
    """Why no table is a log; those that come nearest first."""
    complete = [lack for lack in lacking if lack.user and lack.item]
    if complete:
        lines = "; ".join(f"{lack.table.name} (users {lack.user!r}, items {lack.item!r})" for lack in complete[:3])
        return (
            f"init: no times: {lines} has users and items, but no column that says when. A log needs the time of each "
            "row (a date, ISO 8601 text, or a number that counts from 1970): export it too."
        )
    lines = "; ".join(
        f"{lack.table.name} lacks {' and '.join(part for part in _PARTS if getattr(lack, part) is None)}"
        for lack in lacking[:5]
    )
    return (
        f"init: no log: no table has users, items and times in one row ({lines}). A log has a row for each thing that "
        "somebody did with an item: who, which item, when. Put it into the folder, or name it with --events."
    )


_PARTS = ("user", "item", "time")


def _no_catalogue(logs: Sequence[Log]) -> str:
    best = max(logs, key=lambda log: log.score)
    return (
        f"init: no catalogue: {best.table.name} is a log, and no other table has a key that knows the ids in "
        f"{best.picks['item_id'].column!r}, nor does the log itself tell what its items are called. Put a table with a "
        "row an item and its texts into the folder, or name it with --items."
    )
