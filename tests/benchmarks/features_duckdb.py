"""The columns of the families `user`, `item` and `pair` as set-based SQL: daily tables, joins on distinct (key, day).

    python features_duckdb.py EVENTS ROWS OUT THREADS MEMORY_GB SPILL

Of items, which have many days, running sums (over rows, as integers: a third of the time of the default) are looked up
with ASOF joins: a fifth of the time of a join on the day's range with filtered sums, and half that of a grid of all
items and days with hash joins. Decayed
sums are running sums too, of ``n * 2^(day / half-life)``: exact, where ours steps in 1/65536ths of an event. Needs
nothing but DuckDB; prints the seconds it took, imports aside.
"""

import sys
import time

import duckdb

DAY = "(epoch_us({}) // 86400000000)::INTEGER"
KINDS = ("cart", "click", "purchase")
COUNTED = ("events", *(f"events_{kind}" for kind in KINDS))
WINDOWS = (1, 7, 28, 90)
HALF_LIVES_DAYS = (7, 30, 90)
OF_PAIRS = ("met", "gap", "gaps", "again")
PRIOR_EVENTS = 5.0


def each(line: str, names: tuple[str, ...] | tuple[int, ...] = COUNTED, between: str = ",\n    ") -> str:
    """A line for each name."""
    return between.join(line.format(name=name) for name in names)


def filtered(names: tuple[str, ...], windows: tuple[int, ...]) -> str:
    """Sums of each name over each window before the as-of day, and over all."""
    within = "coalesce(sum({name}) FILTER (day >= as_of_day - {days}), 0)::INTEGER AS {name}_{days}d"
    return each("sum({name})::INTEGER AS {name}_all", names) + "".join(
        f",\n    {within.format(name=name, days=days)}" for name in names for days in windows
    )


def outer(letter: str, prefix: str, names: tuple[str, ...], windows: tuple[int, ...]) -> str:
    """The counts as they are called, 0 where there are none."""
    ends = [*(f"{days}d" for days in windows), "all"]
    return each(
        f"coalesce({letter}.{{name}}, 0)::FLOAT AS {prefix}_{{name}}",
        tuple(f"{name}_{end}" for name in names for end in ends),
    )


ITEM_WINDOWS = tuple(
    f"r.{name} - coalesce(r{days}.{name}, 0) AS {name}_{days}d" for name in COUNTED for days in WINDOWS
)
GAP = "((({0}.last_day - {0}.first_day)::DOUBLE) / nullif({0}.active - 1, 0))"

SCRIPT = f"""
CREATE TEMP TABLE daily AS
  SELECT user_id, item_id, {DAY.format('"timestamp"')} AS day, count(*)::INTEGER AS events,
    {each("count(*) FILTER (event = '{name}')::INTEGER AS events_{name}", KINDS)}
  FROM read_parquet($events) WHERE event IN ({each("'{name}'", KINDS, ", ")}) GROUP BY ALL;

CREATE TEMP TABLE asked AS
  SELECT file_row_number AS "row", user_id, item_id, {DAY.format("as_of")} AS as_of_day
  FROM read_parquet($rows, file_row_number = true);

CREATE TEMP TABLE met AS SELECT user_id, item_id, min(day) AS day FROM daily GROUP BY ALL;

CREATE TEMP TABLE asked_users AS SELECT DISTINCT user_id, as_of_day FROM asked;

CREATE TEMP TABLE user_features AS
  SELECT user_id, as_of_day, {filtered(COUNTED, WINDOWS)},
    count(*) AS active, min(day) AS first_day, max(day) AS last_day
  FROM asked_users JOIN (
    SELECT user_id, day, {each("sum({name})::INTEGER AS {name}")}
    FROM daily SEMI JOIN asked_users USING (user_id) GROUP BY ALL) USING (user_id)
  WHERE day < as_of_day GROUP BY ALL;

CREATE TEMP TABLE user_items AS
  SELECT user_id, as_of_day, count(*) AS items FROM asked_users JOIN met USING (user_id)
  WHERE day < as_of_day GROUP BY ALL;

CREATE TEMP TABLE gaps AS
  SELECT item_id, day, sum(gap)::INTEGER AS gap, count(*)::INTEGER AS gaps, count(*) FILTER (nth = 2)::INTEGER AS again
  FROM (
    SELECT item_id, day, day - lag(day) OVER days AS gap, row_number() OVER days AS nth
    FROM daily SEMI JOIN (SELECT user_id, item_id FROM daily GROUP BY ALL HAVING count(*) > 1) USING (user_id, item_id)
    WINDOW days AS (PARTITION BY user_id, item_id ORDER BY day))
  WHERE nth > 1 GROUP BY ALL;

CREATE TEMP TABLE item_daily AS
  SELECT d.*, {each("coalesce({name}, 0)::INTEGER AS {name}", OF_PAIRS)}
  FROM (SELECT item_id, day, {each("sum({name})::INTEGER AS {name}")} FROM daily GROUP BY ALL) d
    LEFT JOIN (SELECT item_id, day, count(*)::INTEGER AS met FROM met GROUP BY ALL) USING (item_id, day)
    LEFT JOIN gaps USING (item_id, day);

CREATE TEMP TABLE running AS
  SELECT item_id, day, min(day) OVER days AS first_day,
    {each("(sum({name}) OVER days)::INTEGER AS {name}", (*COUNTED, *OF_PAIRS))},
    {each("sum(events * pow(2, (day - start) / {name}.0)) OVER days AS decayed_{name}d", HALF_LIVES_DAYS)}
  FROM item_daily, (SELECT min(day) AS start FROM daily)
  WINDOW days AS (PARTITION BY item_id ORDER BY day ROWS UNBOUNDED PRECEDING);

CREATE TEMP TABLE item_features AS
  SELECT a.item_id, a.as_of_day, r.first_day, r.day AS last_day, r.met, r.met - coalesce(r28.met, 0) AS met_28d,
    r.again, r.gap / nullif(r.gaps, 0)::DOUBLE AS mean_gap,
    {each("r.decayed_{name}d * pow(2, (start + 1 - a.as_of_day) / {name}.0) AS decayed_{name}d", HALF_LIVES_DAYS)},
    {each("r.{name} AS {name}_all")},
    {each("{name}", ITEM_WINDOWS)}
  FROM (
    SELECT DISTINCT item_id, as_of_day, {each("as_of_day - {name} AS d{name}", WINDOWS, ", ")} FROM asked) a
  ASOF JOIN running r ON a.item_id = r.item_id AND a.as_of_day > r.day
  {each("ASOF LEFT JOIN running r{name} ON a.item_id = r{name}.item_id AND a.d{name} > r{name}.day", WINDOWS, " ")},
  (SELECT min(day) AS start FROM daily);

CREATE TEMP TABLE everything AS
  SELECT as_of_day, sum(events)::DOUBLE AS events
  FROM (SELECT DISTINCT as_of_day FROM asked), (SELECT day, sum(events) AS events FROM daily GROUP BY ALL)
  WHERE day < as_of_day GROUP BY ALL;

CREATE TEMP TABLE pair_features AS
  SELECT user_id, item_id, as_of_day, {filtered(("events",), WINDOWS[1:])},
    count(*) AS active, min(day) AS first_day, max(day) AS last_day
  FROM (SELECT DISTINCT user_id, item_id, as_of_day FROM asked) JOIN daily USING (user_id, item_id)
  WHERE day < as_of_day GROUP BY ALL;

COPY (
  SELECT "row",
    {outer("u", "user", COUNTED, WINDOWS)},
    (as_of_day - u.last_day)::FLOAT AS user_days_since_last,
    (as_of_day - u.first_day)::FLOAT AS user_days_since_first,
    coalesce(u.active, 0)::FLOAT AS user_active_days,
    (u.events_all::DOUBLE / u.active)::FLOAT AS user_events_per_active_day,
    {GAP.format("u")}::FLOAT AS user_mean_gap_days,
    ((as_of_day - u.last_day) / nullif({GAP.format("u")}, 0))::FLOAT AS user_days_since_last_per_gap,
    coalesce(m.items, 0)::FLOAT AS user_items_all,
    (u.events_all::DOUBLE / m.items)::FLOAT AS user_events_per_item,
    {outer("i", "item", COUNTED, WINDOWS)},
    {each("coalesce(i.decayed_{name}d, 0)::FLOAT AS item_decayed_{name}d", HALF_LIVES_DAYS)},
    ((coalesce(i.events_7d, 0) * 4 + 1)::DOUBLE / (coalesce(i.events_28d, 0) + 1))::FLOAT AS item_trend,
    (as_of_day - i.first_day)::FLOAT AS item_days_since_first,
    (as_of_day - i.last_day)::FLOAT AS item_days_since_last,
    coalesce(i.met_28d, 0)::FLOAT AS item_users_28d,
    coalesce(i.met, 0)::FLOAT AS item_users_all,
    (i.events_all::DOUBLE / i.met)::FLOAT AS item_events_per_user,
    (i.again::DOUBLE / i.met)::FLOAT AS item_repeat_share,
    i.mean_gap::FLOAT AS item_mean_gap_days,
    {outer("p", "pair", ("events",), WINDOWS[1:])},
    coalesce(p.active, 0)::FLOAT AS pair_active_days,
    (as_of_day - p.last_day)::FLOAT AS pair_days_since_last,
    (as_of_day - p.first_day)::FLOAT AS pair_days_since_first,
    (coalesce(p.active, 0)::DOUBLE / u.active)::FLOAT AS pair_share_of_active_days,
    ((as_of_day - p.last_day) / nullif({GAP.format("p")}, 0))::FLOAT AS pair_days_since_last_per_gap,
    ((as_of_day - p.last_day) / ((p.last_day - p.first_day + i.mean_gap) / p.active))::FLOAT AS pair_due,
    (coalesce(p.events_all, 0)::DOUBLE / u.events_all)::FLOAT AS pair_share,
    ln((coalesce(p.events_all, 0) * e.events / greatest(coalesce(i.events_all, 0), 1) + {PRIOR_EVENTS})
      / (coalesce(u.events_all, 0) + {PRIOR_EVENTS}))::FLOAT AS pair_lift
  FROM asked
  LEFT JOIN user_features u USING (user_id, as_of_day)
  LEFT JOIN user_items m USING (user_id, as_of_day)
  LEFT JOIN item_features i USING (item_id, as_of_day)
  LEFT JOIN pair_features p USING (user_id, item_id, as_of_day)
  LEFT JOIN everything e USING (as_of_day)
) TO $out (FORMAT parquet, COMPRESSION zstd);
"""


def main() -> None:
    """Run the script."""
    events, rows, out, threads, memory, spill = sys.argv[1:]
    start = time.perf_counter()
    settings = {"threads": threads, "memory_limit": f"{memory}GB", "temp_directory": spill}
    connection = duckdb.connect(config={**settings, "preserve_insertion_order": "false"})
    script = SCRIPT
    for name, path in {"events": f"{events}/*.parquet", "rows": rows, "out": out}.items():
        script = script.replace(f"${name}", f"'{path}'")
    connection.execute(script)
    sys.stdout.write(f"{time.perf_counter() - start}\n")


if __name__ == "__main__":
    main()
