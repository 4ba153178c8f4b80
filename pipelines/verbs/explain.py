"""Verbs `explain` and `why-moved`: why an item stands where it does on a user's list, and why it stands elsewhere now.

Everything is computed anew from the tables as they are, by the same chain as the night; what was published may differ
where events came late or were corrected, and is shown beside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from rich.table import Table

from encoders.data import FINE_TUNED
from features.assemble import Portion
from features.errors import ConfigError
from features.log.event_log import EventLog, batch_day, date_of
from features.requests.engaged import requests_tonight
from features.tables.text import item_texts
from pipelines.base import report
from pipelines.base.config import Config
from pipelines.base.family_words import family_words
from pipelines.registry.bundle import Bundle
from pipelines.registry.versions import working_config
from pipelines.training.chain import Chain
from ranker.explain import family_parts

__all__ = ["Ranked", "explain_item", "explain_list", "explanation_tables", "move_tables", "ranked_for", "why_moved"]

_NEAREST = 3
_BEHIND = 3
_TEXT_CHARACTERS = 60
Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ranked:
    """The candidates of one user on one day, as a version scores them.

    Attributes:
        version: Its name.
        bundle: The version.
        config: What it works by.
        chain: Log and models as of the day.
        when: The day.
        portion: The user's request, history and rows.
        rows: The rows with interest, by item.
        scores: One a row.
    """

    version: str
    bundle: Bundle
    config: Config
    chain: Chain
    when: date
    portion: Portion
    rows: pl.DataFrame
    scores: npt.NDArray[np.float64]

    @property
    def ranks(self) -> npt.NDArray[np.int64]:
        """(rows,) places by descending score from 1, ties by item code, as a night breaks them."""
        ranks = np.empty(len(self.scores), np.int64)
        ranks[np.lexsort((self.rows["item"].to_numpy(), -self.scores))] = np.arange(1, len(self.scores) + 1)
        return ranks

    @property
    def families(self) -> list[str]:
        """Family of each feature of the ranker."""
        return self.bundle.features.families(self.bundle.ranker.features)

    def row_of(self, item: int) -> int | None:
        """Row of an item code; None where the item is no candidate."""
        rows = np.flatnonzero(self.rows["item"].to_numpy() == item)
        return int(rows[0]) if len(rows) else None

    def parts(self, rows: pl.DataFrame) -> tuple[list[str], npt.NDArray[np.float64]]:
        """Families by name, and what each adds to the scores of some rows: (rows, families)."""
        return family_parts(self.bundle.ranker.contributions(rows), self.families)


def ranked_for(log: EventLog, config: Config, *, user: str, when: date, version: str, bundle: Bundle) -> Ranked:
    """Rank one user's candidates as of the cut-off that opens a day.

    Args:
        log: The log, read under the version's configuration.
        config: Today's configuration.
        user: The user's id, as text.
        when: The day.
        version: Name of the version.
        bundle: The version.

    Raises:
        ConfigError: The user has no event before the day, or no item is a candidate.
    """
    own, day = working_config(config, bundle), batch_day(when)
    before = log.before(day)
    code = _code(log.user_ids, user)
    if code is None or code not in before.active_users:
        raise ConfigError(
            f"--user: no event before {when} is of this user, and a night gives unknown users the fallback list. "
            "Name a user of the log, or a later --date."
        )
    chain = Chain(before, own, bundle.model, bundle.features.inventory, cut=bundle.cut)
    portion = chain.assembler.portion(requests_tonight(pl.Series([code], dtype=pl.UInt32), day))
    rows = chain.with_interest(portion)
    if rows.is_empty():
        raise ConfigError(f"--user: nothing is a candidate for this user on {when}, so there is no list to explain.")
    return Ranked(version, bundle, own, chain, when, portion, rows, bundle.ranker.predict(rows))


def explain_list(ranked: Ranked) -> Facts:
    """A user's list with the reasons of each item.

    Returns:
        date, version, candidates, and `items`: rank, item_id, text, score, and `families`, those that lifted it most
        above the average candidate, the largest first.
    """
    top = np.argsort(ranked.ranks)[: ranked.config.night.top]
    names, parts = ranked.parts(ranked.rows)
    relative = parts - parts.mean(axis=0)
    items = []
    for row in top.tolist():
        order = np.argsort(-relative[row], kind="stable")[:_BEHIND]
        families = [names[at] for at in order if relative[row, at] > 0]
        items.append({**_item(ranked, row), "families": families})
    return {**_facts(ranked), "items": items}


def explain_item(ranked: Ranked, item: str) -> Facts:
    """Why an item stands where it does.

    Returns:
        date, version, candidates, and of the item: item_id, text, score, rank, `families` (what each adds over the
        average candidate of this user; with `rest`, what the network's contributions leave, they add up to `above`,
        the score over the mean score), `nearest` (items of the user's history by text), and `change`: for an item below
        the list what it lacks to the last one that is shown; for one on it, the families without which it would not be.

    Raises:
        ConfigError: The catalogue has no such item, or it is no candidate.
    """
    row = _row(ranked, item)
    names, parts = ranked.parts(ranked.rows)
    relative = parts[row] - parts.mean(axis=0)
    above = float(ranked.scores[row] - ranked.scores.mean())
    order = np.argsort(-np.abs(relative), kind="stable")
    return {
        **_facts(ranked),
        **_item(ranked, row),
        "above": above,
        "families": [{"family": names[at], "part": float(relative[at])} for at in order if relative[at]],
        "rest": above - float(relative.sum()),
        "nearest": _nearest(ranked, row),
        "change": _change(ranked, row, names, parts),
    }


def _change(ranked: Ranked, row: int, names: Sequence[str], parts: npt.NDArray[np.float64]) -> Facts:
    """What would have to be otherwise for the item to come onto the list, or to fall from it."""
    top, ranks = ranked.config.night.top, ranked.ranks
    if ranks[row] > top:
        last = int(np.flatnonzero(ranks == top)[0])
        behind = parts[last] - parts[row]
        order = [at for at in np.argsort(-behind, kind="stable")[:_BEHIND] if behind[at] > 0]
        lacks = [{"family": names[at], "part": float(behind[at])} for at in order]
        return {"lacks": float(ranked.scores[last] - ranked.scores[row]), "to_rank": top, "behind_in": lacks}
    if len(ranks) <= top:
        return {"only_because_of": []}
    next_score = float(ranked.scores[int(np.flatnonzero(ranks == top + 1)[0])])
    relative = parts[row] - parts.mean(axis=0)
    needed = [at for at in np.argsort(-relative, kind="stable") if ranked.scores[row] - relative[at] < next_score]
    return {"margin": float(ranked.scores[row]) - next_score, "only_because_of": [names[at] for at in needed]}


def why_moved(first: Ranked, second: Ranked, item: str) -> Facts:
    """Why an item's score and rank for a user differ between two days.

    One thing is changed after the other, and the score is taken after each, so that the parts add up to the difference:
    the version; the columns of behaviour, with a remainder split by family; the user's history as text, against the
    candidates of the first day; and those who compete with it.

    Args:
        first: The user's candidates on the earlier day, by the version of then.
        second: The same on the later day, by the version of then.
        item: The item's id.

    Returns:
        `from` and `to` (date, version, rank, score), `difference`, `parts` (what, part), which add up to it, and
        `overtook` and `overtaken_by`: how many items of both days changed sides with it.

    Raises:
        ConfigError: The item is no candidate on one of the days.
    """
    then, now = _row(first, item), _row(second, item)
    by_second = first
    if second.bundle.digest != first.bundle.digest:
        log_then = first.chain.log
        user = str(log_then.user_ids[int(first.rows["user"][0])])
        by_second = ranked_for(
            log_then, second.config, user=user, when=first.when, version=second.version, bundle=second.bundle
        )
    same = by_second.row_of(int(first.rows["item"][then]))
    if same is None:
        raise ConfigError(f"--item: {second.version} has no such candidate on {first.when}. Compare within a version.")
    path = _path(by_second, same, second, now)
    scores = second.bundle.ranker.predict(path)
    parts = [{"what": "version", "part": float(by_second.scores[same] - first.scores[then])}]
    parts += _by_family(second, path[:2], float(scores[1] - by_second.scores[same]))
    parts.append({"what": "text", "part": float(scores[2] - scores[1])})
    parts.append({"what": "competitors", "part": float(second.scores[now] - scores[2])})
    return {
        "item_id": item,
        "from": _standing(first, then),
        "to": _standing(second, now),
        "difference": float(second.scores[now] - first.scores[then]),
        "parts": [part for part in parts if part["part"]],
        **_passed(first, then, second, now),
    }


def _path(first: Ranked, then: int, second: Ranked, now: int) -> pl.DataFrame:
    """Three rows of the item: of then; with the behaviour of now; with the texts of now against rivals of then."""
    interest = [*first.chain.interest.columns, FINE_TUNED]
    was, turned = first.rows[then], second.rows[now]
    behaviour = turned.with_columns(was.select(interest))
    keys = [name for name in second.portion.rows.columns if name in ("request", "user", "item", "as_of_day")]
    request = second.portion.rows.select(keys).head(1).drop("item")
    rivals = request.join(first.rows.select("item"), how="cross").select(keys).sort("item")
    against = second.chain.interest_of(Portion(second.portion.requests, second.portion.history, rivals))
    row = int(np.flatnonzero(rivals["item"].to_numpy() == int(turned["item"][0]))[0])
    text = turned.with_columns(against[row].select(interest))
    return pl.concat([was.select(turned.columns), behaviour, text])


def _by_family(ranked: Ranked, rows: pl.DataFrame, difference: float) -> list[Facts]:
    """The part of the behaviour columns, split by what each family contributes; the remainder beside."""
    names, parts = ranked.parts(rows)
    moved = parts[1] - parts[0]
    named: list[Facts] = [
        {"what": f"columns: {name}", "part": float(part)}
        for name, part in zip(names, moved, strict=True)
        if part and name != ranked.chain.interest.name
    ]
    named.sort(key=lambda part: -abs(part["part"]))
    rest = difference - sum(part["part"] for part in named)
    return [*named, {"what": "columns: together", "part": rest}]


def _passed(first: Ranked, then: int, second: Ranked, now: int) -> Facts:
    """How many items of both days went from above the item to below it, and the other way."""
    ranks = [
        ranked.rows.select("item").with_columns(pl.Series("above", ranked.ranks < ranked.ranks[row]))
        for ranked, row in ((first, then), (second, now))
    ]
    both = ranks[0].join(ranks[1], on="item", suffix="_now")
    return {
        "overtook": int((both["above"] & ~both["above_now"]).sum()),
        "overtaken_by": int((~both["above"] & both["above_now"]).sum()),
    }


def _code(ids: pl.Series, wanted: str) -> int | None:
    """Position of an id that is written as text."""
    position = ids.cast(pl.String).index_of(wanted)
    return None if position is None else int(position)


def _row(ranked: Ranked, item: str) -> int:
    """Row of an item among a user's candidates.

    Raises:
        ConfigError: There is none, with the reason.
    """
    code = _code(ranked.chain.log.items["item_id"], item)
    if code is None:
        raise ConfigError(
            "--item: the catalogue has no item of this id. Ids are written as the table of items has them."
        )
    row = ranked.row_of(code)
    if row is None:
        raise ConfigError(
            f"--item: this item is no candidate of this user on {ranked.when}: no generator proposes it, or "
            "candidates.blocked, candidates.already_bought, available_from or available_until leave it out. "
            "`nightrank evaluate` says what each generator finds; candidates.max_per_request makes lists longer."
        )
    return row


def _facts(ranked: Ranked) -> Facts:
    return {"date": str(ranked.when), "version": ranked.version, "candidates": ranked.rows.height}


def _standing(ranked: Ranked, row: int) -> Facts:
    return {**_facts(ranked), "rank": int(ranked.ranks[row]), "score": float(ranked.scores[row])}


def _item(ranked: Ranked, row: int) -> Facts:
    code = int(ranked.rows["item"][row])
    return {
        "rank": int(ranked.ranks[row]),
        "item_id": ranked.chain.log.items["item_id"][code],
        "text": _texts(ranked, [code])[0],
        "score": float(ranked.scores[row]),
    }


def _texts(ranked: Ranked, codes: Sequence[int]) -> list[str]:
    return item_texts(ranked.chain.log.items[codes], ranked.config.data.items.text).to_list()


def _nearest(ranked: Ranked, row: int) -> list[Facts]:
    """The items of the user's history whose texts are most like the item's, by the encoder as it came."""
    item = int(ranked.rows["item"][row])
    history = ranked.portion.history.filter(pl.col("item") != item)
    codes = history["item"].to_numpy().astype(np.int64)
    vectors = ranked.chain.zero_shot[np.append(codes, item)].astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1)
    cosine = vectors[:-1] @ vectors[-1] / np.maximum(norms[:-1] * norms[-1], 1.0)
    order = np.argsort(-cosine, kind="stable")[:_NEAREST]
    texts = _texts(ranked, codes[order].tolist()) if len(order) else []
    return [
        {
            "item_id": ranked.chain.log.items["item_id"][int(codes[at])],
            "text": text,
            "similarity": round(float(cosine[at]), 4),
            "last_on": str(date_of(int(history["last_day"][int(at)]))),
        }
        for at, text in zip(order, texts, strict=True)
    ]


def explanation_tables(facts: Facts) -> list[Table | str]:
    """What `explain_list` or `explain_item` found, for people."""
    if "items" in facts:
        table = Table(
            "rank", "item", "text", "score", "because", title=f"List of {facts['date']} by {facts['version']}"
        )
        for item in facts["items"]:
            why = "; ".join(dict.fromkeys(map(family_words, item["families"])))
            table.add_row(str(item["rank"]), _id(item), _text(item), f"{item['score']:.4f}", why)
        return [table]
    title = f"Rank {facts['rank']} of {facts['candidates']} on {facts['date']} by {facts['version']}"
    families = Table("what", "family", "over the average candidate", title=title)
    for family in facts["families"]:
        words = family_words(family["family"])
        less = words if family["part"] > 0 else f"less than others: {words}"
        families.add_row(less, family["family"], f"{family['part']:+.4f}")
    families.add_row("what the parts leave", "", f"{facts['rest']:+.4f}")
    families.add_row("score over the mean score", "", f"{facts['above']:+.4f}", end_section=True)
    nearest = Table("nearest of the history by text", "item", "similarity", "last on")
    for item in facts["nearest"]:
        nearest.add_row(_text(item), _id(item), f"{item['similarity']:.3f}", item["last_on"])
    return [_text(facts), families, nearest, _change_words(facts["change"])]


def _change_words(change: Facts) -> str:
    if "lacks" in change:
        where = ", ".join(f"{family_words(each['family'])} ({each['part']:.4f})" for each in change["behind_in"])
        to = f"to the last that is shown (rank {change['to_rank']})"
        return f"It lacks {change['lacks']:.4f} {to}, and most in: {where}."
    if not change["only_because_of"]:
        return "No family alone keeps it on the list: it would stay without any one of them."
    return "It would not be on the list without: " + "; ".join(map(family_words, change["only_because_of"])) + "."


def move_tables(facts: Facts) -> list[Table | str]:
    """What `why_moved` found, for people."""
    then, now = facts["from"], facts["to"]
    title = f"From rank {then['rank']} on {then['date']} to rank {now['rank']} on {now['date']}"
    table = Table("what changed", "part of the score", title=title)
    table.add_row(f"score on {then['date']} by {then['version']}", f"{then['score']:.4f}", end_section=True)
    for part in facts["parts"]:
        table.add_row(_part_words(part["what"]), f"{part['part']:+.4f}")
    table.add_section()
    table.add_row(f"score on {now['date']} by {now['version']}", f"{now['score']:.4f}")
    passed = f"It overtook {facts['overtook']} items and was overtaken by {facts['overtaken_by']}."
    return [table, passed]


def _part_words(what: str) -> str:
    name = what.removeprefix("columns: ")
    fixed = {
        "version": "another version",
        "text": "the texts of the user's history",
        "competitors": "the items that it competes with",
        "together": "several families at once",
    }
    return fixed.get(name) or f"{family_words(name)} ({name})"


def _id(item: Facts) -> Any:  # noqa: ANN401 - a rich text
    return report.plain(str(item["item_id"]))


def _text(item: Facts) -> Any:  # noqa: ANN401 - a rich text
    text = item["text"]
    return report.plain(text if len(text) <= _TEXT_CHARACTERS else f"{text[: _TEXT_CHARACTERS - 1]}…")
