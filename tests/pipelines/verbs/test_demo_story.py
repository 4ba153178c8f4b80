import polars as pl
import pytest

from pipelines.base import report
from pipelines.verbs.demo_story import (
    COLUMNS,
    LINES,
    NewItem,
    data_line,
    learned_line,
    story,
    users_with_news,
)

SYSTEMS = (
    *("full system", "behaviour-only ranker", "fine-tuned text", "zero-shot text"),
    *("popularity", "popularity, 14 days", "personal frequency", "ItemKNN"),
)
EVALUATION = {
    "window": ["2017-12-03", "2017-12-30"],
    "requests": 4654,
    "systems": [
        {
            "system": name,
            "slice": part,
            "metric": "ndcg@10",
            "mean": (9 - number) / 100,
            "low": (8 - number) / 100,
            "high": (10 - number) / 100,
        }
        for number, name in enumerate(SYSTEMS)
        for part in ("all", "new-to-user")
    ],
}
DATA = {
    "tables": {"events": {"rows": 1_234_567, "duplicates": 890, "quarantined": 12, "rules": {"not_in_the_future": 12}}},
    "users": 1200,
    "items": 41_000,
}


@pytest.fixture
def rankings() -> pl.DataFrame:
    lists = {"ann": ["old", "rare"], "bob": ["new", "other"], "cat": ["new", "bare"], "dan": ["new", "only dan's"]}
    rows = [
        {"user_id": user, "rank": rank, "item_id": item, "reasons": [] if item == "bare" else ["ease"]}
        for user, items in lists.items()
        for rank, item in enumerate(items, start=1)
    ]
    return pl.DataFrame(rows, schema_overrides={"reasons": pl.List(pl.String)})


HAD = pl.DataFrame(
    {"user_id": ["ann", "ann", "bob", "bob", "cat", "cat", "dan"], "item_id": ["old", "a", "b", "c", "other", "d", "e"]}
)


def test_items_that_few_are_shown_come_first_of_users_who_had_as_much_as_most(rankings: pl.DataFrame) -> None:
    news = users_with_news(rankings, HAD, most=3)
    # ann never had "rare", bob never "other"; cat's other item has no reason; dan had less than the median user.
    assert news.rows() == [("ann", 2, "rare", ["ease"]), ("bob", 2, "other", ["ease"]), ("cat", 1, "new", ["ease"])]


def test_no_item_is_shown_twice_and_users_are_as_many_as_were_asked_for(rankings: pl.DataFrame) -> None:
    both = rankings.filter(pl.col("item_id") != "other")
    assert users_with_news(both, HAD, most=3)["user_id"].to_list() == ["ann", "bob"]  # cat's is bob's
    assert users_with_news(both, HAD, most=1)["user_id"].to_list() == ["ann"]


def test_the_data_are_told_with_what_was_set_aside() -> None:
    line = data_line(DATA)
    assert "1,234,567 events of 1,200 users with 41,000 items" in line
    assert "890 repeat another row, 12 break a rule (12 not_in_the_future)" in line


def test_what_was_learned_is_told_of_items_that_are_new_to_the_user() -> None:
    assert "from 0.0600 to 0.0700 by fine-tuning" in learned_line(EVALUATION)
    assert "0.0800 without text and 0.0900 with it" in learned_line(EVALUATION)
    assert learned_line({"systems": []}) == "nothing that is new to a user was judged."


def test_the_last_screen_fits_whatever_the_texts_are(capsys: pytest.CaptureFixture[str]) -> None:
    long = NewItem("u" * 12, ("text " * 40,) * 3, 20, "title " * 40, ("similar_users", "ease", "offers", "x" * 200))
    screen = story(
        data=DATA,
        evaluation=EVALUATION,
        users=[long] * 3,
        second_night="209 users acted on 2017-12-31, 209 of them have another list; 30 texts were new, 30 encoded.",
        blocked_night="the night of 2018-01-01 does not go live: catalogue: 13,942 items on sale; 27,885 on the night "
        "of 2018-01-01. What was live stays live. Mend the input and run it again.",
        folder="nightrank-demo",
        cost="Took 470 s, at most 5.26 GiB.",
    )
    report.show(*screen, width=COLUMNS)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS
    assert any("13,942 items on sale" in line for line in lines)
    assert lines[-1] == "Took 470 s, at most 5.26 GiB."
