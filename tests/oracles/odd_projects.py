"""Small projects as people's programs write them, drawn at random, with what is right of each.

A project is one true shop (`TRUTH`) written in some way: types of ids, forms of times, file formats, layouts of
folders, and perhaps a fault. `Odd.write` lays it out; `Odd.meant` says how `nightrank check` must end, from the truth
and the choices alone.
"""

import gzip
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import yaml
from hypothesis import strategies as st

__all__ = ["SECRET", "Meant", "Odd", "odd_projects"]

SECRET = "Geheimnis"
"""Stands in every title, and must stand in no message."""

N_USERS, N_ITEMS, N_DAYS, FIRST = 14, 18, 60, date(2024, 7, 20)
KINDS = ("view", "click", "purchase")


def _truth() -> pl.DataFrame:
    """The shop's events: user and item numbers, kind, day, hour (9 to 17: clocks change at none of these)."""
    random_numbers = random.Random(7)
    rows = [
        (user, random_numbers.randrange(N_ITEMS), random_numbers.choice(KINDS), day, random_numbers.randrange(9, 18))
        for user in range(N_USERS)
        for day in range(N_DAYS)
        if random_numbers.random() < 0.5
    ]
    rows += [(0, 0, "purchase", 0, 9), (0, 0, "purchase", N_DAYS - 1, 17)]
    frame = pl.DataFrame(rows, schema=["user", "item", "event", "day", "hour"], orient="row")
    return frame.unique(maintain_order=True).sort("day", "hour", "user", "item", "event").with_row_index("n")


TRUTH = _truth()


@dataclass(frozen=True)
class Meant:
    """How `check` must end.

    Attributes:
        code: The exit code.
        says: Words that the message must have, where it is refused.
        facts: What the result must say, where it is not.
    """

    code: int
    says: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


IDS: Mapping[str, Callable[[pl.Expr], pl.Expr]] = {
    "text": lambda n: pl.format("k{}", n),
    "text of other scripts": lambda n: pl.format("ключ-é-{}", n),
    "integers": lambda n: n.cast(pl.Int64),
    "small integers": lambda n: n.cast(pl.Int16),
    "unsigned": lambda n: n.cast(pl.UInt64),
    "digits": lambda n: n.cast(pl.String),
    "floats": lambda n: n.cast(pl.Float64),
    "decimals": lambda n: n.cast(pl.Decimal(20, 0)),
    "categories": lambda n: pl.format("k{}", n).cast(pl.Categorical),
    "an enum": lambda n: pl.format("k{}", n).cast(pl.Enum([f"k{100 + n}" for n in range(50)])),
    "bytes": lambda n: pl.format("k{}", n).cast(pl.Binary),
    "large unsigned": lambda n: n.cast(pl.UInt64) + 2**63,
}
NUMBERS = ("integers", "small integers", "unsigned", "digits", "floats", "decimals")
"""Of `IDS`: those that mean the same id, so that files and tables may differ in them."""
FORMATS = ("parquet", "csv", "semicolons", "tsv", "CSV", "csv.gz", "byte order mark")
ENCODINGS = {"latin-1": "iconv -f WINDOWS-1252", "utf-16": "iconv -f UTF-16"}
ZONES = ("UTC", "Europe/Berlin", "America/Santiago", "Asia/Kathmandu", "Pacific/Apia")
TIMES: Mapping[str, str] = {
    "iso": "%Y-%m-%dT%H:%M:%S%:z",
    "postgres": "%Y-%m-%d %H:%M:%S+00",
    "bigquery": "%Y-%m-%d %H:%M:%S UTC",
    "basic": "%Y%m%dT%H%M%SZ",
    "hours alone": "%Y-%m-%dT%H+00:00",
}
UNREADABLE = {"american": "%m/%d/%Y %I:%M %p", "words": "%d %B %Y"}
CLOCKS = ("utc", "tokyo", "naive", "milliseconds", "dates", "seconds", "microseconds", *TIMES, *UNREADABLE, "no unit")
STORIES = ("whole", "weeks of silence", "an event of 2098", "one user", "one item", "gains logged late")
LAYOUTS = ("file", "days", "linked days", "nested", "glob of folders", "linked file")
FAULTS: Mapping[str, int] = {
    **dict.fromkeys(("none", "repeats", "no user", "unknown item", "no number", "stray files", "more columns"), 0),
    **dict.fromkeys(("column missing", "no rows", "all users null", "text field missing", "link to nowhere"), 10),
    **dict.fromkeys(("list as id", "fraction as id"), 10),
    **dict.fromkeys(("cut off", "zero bytes"), 12),
    **dict.fromkeys(("no file", "unknown key"), 2),
}


@dataclass(frozen=True)
class Odd:
    """One way to write the shop.

    Attributes:
        ids: Of `IDS`: how the log writes users and items.
        ids_of_items: The same for the catalogue; where it is of `NUMBERS` like `ids`, it may differ.
        ids_later: The same for the later half of the log.
        clock: Of `CLOCKS`: how times are written.
        zone: Of the data and the calendar.
        format_of_items: Of `FORMATS` or `ENCODINGS`.
        format_of_events: Of `FORMATS`.
        story: Of `STORIES`: what happened in the shop.
        layout: Of `LAYOUTS`: where the log's files lie.
        names: A folder's name above all.
        fault: Of `FAULTS`.
    """

    ids: str = "text"
    ids_of_items: str = "text"
    ids_later: str = "text"
    clock: str = "utc"
    zone: str = "UTC"
    format_of_items: str = "parquet"
    format_of_events: str = "parquet"
    story: str = "whole"
    layout: str = "file"
    names: str = "shop"
    fault: str = "none"

    def meant(self) -> Meant:
        """How `check` must end."""
        if self.format_of_items in ENCODINGS and self.fault in {"none", "stray files"} and not self._clock_refused:
            return Meant(10, ("items", ENCODINGS[self.format_of_items]))
        if FAULTS[self.fault]:
            return Meant(FAULTS[self.fault], _SAYS[self.fault])
        if self.format_of_items in ENCODINGS:
            return Meant(10, ("items",))
        if self._clock_refused:
            return Meant(10, ("events", "timestamp", "times" if self.clock == "no unit" else "written like"))
        aside = {"no user": {"user_id_present": 2}, "unknown item": {"item_not_in_items": 2}}.get(self.fault, {})
        repeats = 3 if self.fault == "repeats" else 0
        near = self.truth.filter(pl.col("day") < N_DAYS)
        return Meant(
            0,
            facts={
                "users": near["user"].n_unique(),
                "items": N_ITEMS,
                "first_event": self._at(*near.row(0)[4:]).isoformat(),
                "last_event": self._at(*near.row(-1)[4:]).isoformat(),
                "rules": aside,
                "good": self._distinct,
                "duplicates": self.truth.height - self._distinct + repeats,
            },
        )

    @cached_property
    def truth(self) -> pl.DataFrame:
        """The shop's events, as the story goes."""
        day = pl.col("day")
        if self.story == "weeks of silence":
            return TRUTH.filter(~day.is_between(22, 36))
        if self.story == "an event of 2098":
            return pl.concat([TRUTH, TRUTH.tail(1).with_columns(day + 27_000, pl.col("n") + 50_000)])
        if self.story == "one user":
            return TRUTH.filter(pl.col("user") == 0)
        if self.story == "one item":
            return TRUTH.with_columns(item=pl.lit(0, pl.Int64))
        if self.story == "gains logged late":
            return TRUTH.filter((pl.col("event") == "view") | (day > 54))
        return TRUTH

    @property
    def _clock_refused(self) -> bool:
        return self.clock in UNREADABLE or self.clock == "no unit"

    @property
    def _distinct(self) -> int:
        """Events that differ once they are written: dates alone tell fewer apart."""
        keys = ["user", "item", "event", "day"] if self.clock == "dates" else ["n"]
        return self.truth.select(keys).unique().height

    def _at(self, day: int, hour: int) -> datetime:
        """The instant of an event as it is read; of a date alone, when its day opens."""
        local = datetime.combine(FIRST + timedelta(days=day), datetime.min.time(), ZoneInfo(self.zone))
        return (local if self.clock == "dates" else local.replace(hour=hour)).astimezone(UTC)

    @cached_property
    def _events(self) -> pl.DataFrame:
        instants = [replace(self, clock="utc")._at(day, hour) for day, hour in self.truth.select("day", "hour").rows()]
        frame = self.truth.with_columns(pl.Series("at", instants, dtype=pl.Datetime("us", "UTC")))
        number, others = pl.col("n") + 100_000, frame.head(2)
        if self.fault == "no user":
            frame = pl.concat([frame, others.with_columns(number, user=pl.lit(None, pl.Int64))])
        if self.fault == "all users null":
            frame = frame.with_columns(user=pl.lit(None, pl.Int64))
        if self.fault == "unknown item":
            frame = pl.concat([frame, others.with_columns(number, item=pl.lit(49, pl.Int64))])
        return pl.concat([frame, frame.head(3)]) if self.fault == "repeats" else frame

    def _written(self, frame: pl.DataFrame, ids: str) -> pl.DataFrame:
        """Events as the log has them."""
        as_ids = {name: IDS[ids](pl.col(key) + 100) for name, key in (("user_id", "user"), ("item_id", "item"))}
        written = frame.select(**as_ids, event="event", timestamp=self._time(), n=pl.col("n").cast(pl.Float64) / 7)
        if self.clock != "dates":
            written = written.with_columns(event_id=pl.format("e{}", frame["n"]))
        if self.fault == "more columns":
            written = written.with_columns(pl.lit("\x1b[31m[red]").alias("\x1b[31m[bold]"))
        return written.rename({"n": "value"})

    def _time(self) -> pl.Expr:
        at = pl.col("at")
        local = at.dt.convert_time_zone(self.zone)
        forms: dict[str, pl.Expr] = {
            "utc": at,
            "tokyo": at.dt.convert_time_zone("Asia/Tokyo"),
            "naive": local.dt.replace_time_zone(None),
            "milliseconds": at.dt.cast_time_unit("ms"),
            "dates": local.dt.date(),
            "seconds": at.dt.epoch("s"),
            "microseconds": at.dt.epoch("us"),
            "no unit": at.dt.epoch("s"),
        }
        return forms[self.clock] if self.clock in forms else at.dt.strftime((TIMES | UNREADABLE)[self.clock])

    def write(self, folder: Path) -> Path:
        """Lay the project out below a folder; returns its configuration."""
        home = folder / self.names
        (home / "log").mkdir(parents=True)
        number = pl.int_range(N_ITEMS) + 100
        prices = (pl.int_range(N_ITEMS) + 1.5).cast(pl.Float64)
        missing = pl.when(pl.int_range(N_ITEMS) % 3 == 0).then(float("nan")).otherwise(prices)
        items = pl.select(
            item_id=IDS[self.ids_of_items](number),
            title=pl.format('{} № {}: 19" mug, größe; "the best"', pl.lit(SECRET), number),
            price=missing if self.fault == "no number" else prices,
        )
        if self.fault == "text field missing":
            items = items.rename({"title": "name"})
        name = _save(items, home / "catalogue", self.format_of_items)
        if self.fault == "no file":
            (home / name).unlink()
        self._write_log(home)
        path = home / "nightrank.yaml"
        path.write_text(yaml.safe_dump(self._configuration(name), allow_unicode=True), encoding="utf-8")
        return path

    def _write_log(self, home: Path) -> None:
        days = self._events.with_columns(part=pl.col("day").clip(0, N_DAYS - 1) // 20)
        for (part,), rows in days.partition_by("part", as_dict=True, maintain_order=True).items():
            written = self._written(rows, self.ids if part == 0 else self.ids_later)
            file = self._project_folder(home, int(part))
            file.parent.mkdir(parents=True, exist_ok=True)
            _save(self._spoiled(written, int(part)), file, self.format_of_events)
        files = sorted(path for path in home.rglob("part*") if path.is_file())
        self._link(home, files)
        if self.fault == "cut off":
            content = files[-1].read_bytes()
            files[-1].write_bytes(content[: len(content) // 2])
        if self.fault == "zero bytes":
            files[-1].write_bytes(b"")
        if self.fault == "link to nowhere":
            (home / "log" / "gone.parquet").symlink_to(home / "nothing.parquet")
        if self.fault == "stray files":
            for name in ("_SUCCESS", ".hidden.parquet", "notes.txt"):
                (home / "log" / name).write_bytes(b"x")

    def _spoiled(self, written: pl.DataFrame, part: int) -> pl.DataFrame:
        if self.fault == "column missing":
            return written.drop("timestamp")
        if self.fault == "no rows" and part == 1:
            return written.clear()
        if self.fault == "list as id" and part == 1:
            return written.with_columns(user_id=pl.concat_list("event"))
        if self.fault == "fraction as id" and part == 1:
            return written.with_columns(user_id=pl.int_range(pl.len()) + 0.5)
        return written

    def _project_folder(self, home: Path, part: int) -> Path:
        if self.layout in {"days", "linked days", "glob of folders"}:
            where = "archive" if self.layout == "linked days" and part == 0 else "log"
            return home / where / f"month={part}" / "part"
        if self.layout == "nested":
            return home / "log" / f"a {part}" / "b#%" / "part"
        return home / ("archive" if self.layout == "linked file" else "log") / f"part {part}"

    def _link(self, home: Path, files: list[Path]) -> None:
        if self.layout == "linked days":
            (home / "log" / "month=0").symlink_to(home / "archive" / "month=0")
        if self.layout == "linked file":
            for file in files:
                (home / "log" / file.name).symlink_to(file)

    def _configuration(self, items: str) -> dict[str, Any]:
        log: dict[str, Any] = {"path": "log/month=*" if self.layout == "glob of folders" else "log"}
        if self.clock in {"seconds", "microseconds"}:
            log["times"] = {"seconds": "s", "microseconds": "us"}[self.clock]
        facts = {
            "data": {"items": {"path": items, "text": ["title"]}, "events": log, "timezone": self.zone},
            "calendar": {"timezone": self.zone},
            "labels": {"gains": {"click": 1, "purchase": 3}},
            "timeline": {"test_days": 7, "valid_days": 7, "ranker_days": 14, "blocks": 1, "min_history_days": 7},
            "output": "out put",
        }
        return facts | ({"lables": {}} if self.fault == "unknown key" else {})


_SAYS: Mapping[str, tuple[str, ...]] = {
    "column missing": ("events", "timestamp", "data.events.columns"),
    "no rows": ("events", "no rows", "--allow-empty"),
    "all users null": ("events", "user_id_present", "data.quarantine.max_share", "lie in"),
    "list as id": ("events", "user_id"),
    "fraction as id": ("events", "user_id", "no whole numbers"),
    "link to nowhere": ("events", "leads nowhere"),
    "cut off": ("events", "Fetch it again"),
    "zero bytes": ("events", "zero bytes", "Fetch it again"),
    "no file": ("data.items.path",),
    "unknown key": ("lables", "labels"),
    "text field missing": ("items", "title"),
}


def _save(frame: pl.DataFrame, path: Path, form: str) -> str:
    """Write a table; returns the file's name."""
    if form == "parquet":
        frame.write_parquet(path.with_name(f"{path.name}.parquet"))
        return f"{path.name}.parquet"
    texts = frame.with_columns(pl.col(pl.Binary, pl.Categorical, pl.Enum).cast(pl.String))
    separator = {"semicolons": ";", "tsv": "\t"}.get(form, ",")
    text = texts.write_csv(separator=separator, line_terminator="\r\n" if form == "byte order mark" else "\n")
    content = text.encode(form, "replace") if form in ENCODINGS else text.encode()
    if form == "byte order mark":
        content = b"\xef\xbb\xbf" + content
    suffix = {"semicolons": "csv", "byte order mark": "csv"}.get(form, "csv" if form in ENCODINGS else form)
    content = gzip.compress(content) if suffix == "csv.gz" else content
    path.with_name(f"{path.name}.{suffix}").write_bytes(content)
    return f"{path.name}.{suffix}"


@st.composite
def odd_projects(draw: st.DrawFn, *, faults: bool = True) -> Odd:
    """Ways to write the shop; with `faults`, some that must be refused."""
    ids = draw(st.sampled_from(sorted(IDS)))
    others = st.sampled_from(NUMBERS) if ids in NUMBERS else st.just(ids)
    clocks = CLOCKS if faults else tuple(clock for clock in CLOCKS if clock not in {*UNREADABLE, "no unit"})
    fault = draw(st.sampled_from(sorted(name for name, code in FAULTS.items() if faults or not code)))
    plain = fault in {"cut off", "zero bytes", "no rows", "list as id", "fraction as id", "link to nowhere"}
    return Odd(
        ids=ids,
        ids_of_items=draw(others),
        ids_later=draw(others),
        clock=draw(st.sampled_from(clocks)) if fault in {"none", "stray files"} else "utc",
        zone=draw(st.sampled_from(ZONES)),
        format_of_items=draw(st.sampled_from((*FORMATS, *ENCODINGS) if fault == "none" else FORMATS)),
        format_of_events="parquet" if plain else draw(st.sampled_from(FORMATS)),
        story=draw(st.sampled_from(STORIES)) if fault in {"none", "stray files", "more columns"} else "whole",
        layout="file" if plain else draw(st.sampled_from(LAYOUTS)),
        names=draw(st.sampled_from(("shop", "my shop", "größe#1", "50% off", "a=b", "log[1]", "what?"))),
        fault=fault,
    )
