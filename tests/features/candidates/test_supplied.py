from dataclasses import replace
from datetime import date

import polars as pl
import pytest

from features.candidates.supplied import supplied_candidates
from features.candidates.union import SOURCES, CandidateGenerators, histories
from features.config import CandidatesConfig
from features.errors import ContractError
from features.log.event_log import date_of
from features.requests.engaged import requests_tonight

ONLY = CandidatesConfig(**{source: 0 for source in SOURCES if source != "supplied"})


def always(log):
    closed = log.items.with_columns(available_from=None, available_until=None)
    return replace(log, items=closed, supplied=None, offers=None, users=None)


def proposed(log, table, day, config=ONLY):
    requests = requests_tonight(pl.int_range(log.user_ids.len(), dtype=pl.UInt32, eager=True), day)
    generators = CandidateGenerators(log.with_tables(supplied=supplied_candidates(table, log)), config)
    found = generators.propose(requests, histories(log, requests, config))
    named = found.join(requests, on="request").join(log.items.select("item", "item_id"), on="item")
    users = log.user_ids.to_frame("user_id").with_row_index("user")
    return named.join(users, on="user").sort("user_id", "supplied_rank").select("user_id", "item_id").rows()


def test_rows_come_in_their_order_or_by_their_score(shop):
    log = always(shop(0).log())
    table = pl.DataFrame({"user_id": ["u01", "u01", "u03"], "item_id": ["i07", "i02", "i05"]})
    in_order = [("u01", "i07"), ("u01", "i02"), ("u03", "i05")]
    assert proposed(log, table, log.first_day + 5) == in_order
    scored = table.with_columns(score=pl.Series([1, 2, 3]))
    assert proposed(log, scored, log.first_day + 5) == [("u01", "i02"), ("u01", "i07"), ("u03", "i05")]
    assert proposed(log, table, log.first_day + 5, ONLY.model_copy(update={"supplied": 1})) == [
        in_order[0],
        in_order[2],
    ]


def test_a_list_holds_from_its_day_until_the_users_next(shop):
    log = always(shop(0).log())
    first = log.first_day + 10
    table = pl.DataFrame(
        {
            "user_id": ["u01", "u01", "u02"],
            "item_id": ["i01", "i02", "i03"],
            "day": [date_of(first), date_of(first + 2), date_of(first)],
        }
    )
    assert proposed(log, table, first - 1) == []
    assert proposed(log, table, first) == proposed(log, table, first + 1) == [("u01", "i01"), ("u02", "i03")]
    assert proposed(log, table, first + 2) == [("u01", "i02"), ("u02", "i03")]


def test_every_fault_is_told_at_once_with_counts(shop):
    log = shop(0).log()
    table = pl.DataFrame(
        {
            "user_id": ["u01", "u01", "u02", "u02", "nobody", "u03", "u03", None],
            "item_id": ["i01", "i01", "i02", "i02", "i03", "gone", "lost", "i04"],
            "score": [1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        }
    )
    with pytest.raises(ContractError) as told:
        supplied_candidates(table, log)
    message = str(told.value)
    assert "rows break row_unique 2 (first at row 2)" in message
    assert "rows break user_id_present 1 (first at row 7)" in message
    assert "1 rows repeat an earlier one" in message
    assert "1 of 8 rows name unknown users (first at row 4)" in message
    assert "2 of 8 rows name unknown items (first at row 5)" in message


def test_some_scores_are_not_enough(shop):
    table = pl.DataFrame({"user_id": ["u01", "u02"], "item_id": ["i01", "i02"], "score": [1.0, None]})
    with pytest.raises(ContractError, match="1 rows have no score"):
        supplied_candidates(table, shop(0).log())


def test_the_wrong_key_is_told(shop):
    log = shop(0).log()
    with pytest.raises(ContractError, match="user_id"):
        supplied_candidates(pl.DataFrame({"request_id": ["u01"], "item_id": ["i01"]}), log)
    with pytest.raises(
        ContractError, match=r"unknown users \(first at row 0; they are Int64 here and String in the log"
    ):
        supplied_candidates(pl.DataFrame({"user_id": [1], "item_id": ["i01"]}), log)


def test_days_are_dates(shop):
    table = pl.DataFrame({"user_id": ["u01"], "item_id": ["i01"], "day": [date(2024, 3, 30)]})
    coded = supplied_candidates(table, shop(0).log())
    assert coded["day"].to_list() == [(date(2024, 3, 30) - date(1970, 1, 1)).days]
    assert coded.schema["day"] == pl.Int32


def test_days_of_a_csv_are_read(shop):
    table = pl.DataFrame({"user_id": ["u01"], "item_id": ["i01"], "day": [date(2024, 3, 30)]})
    log = shop(0).log()
    assert supplied_candidates(table.cast({"day": pl.String}), log).equals(supplied_candidates(table, log))
