"""The columns of the families `user`, `item` and `pair` in straightforward pandas: group, merge, keep the past, sum.

    python features_pandas.py EVENTS ROWS OUT by-day|at-once

Two ways: `by-day` takes one as-of day after the other and groups the past before it, as is straightforward;
`at-once` merges the distinct questions of all days with the daily counts of their key, as the SQL does. Needs nothing
but pandas, NumPy and pyarrow; prints the seconds it took, imports aside.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

WINDOWS = {"1d": 1, "7d": 7, "28d": 28, "90d": 90}
HALF_LIVES_DAYS = (7, 30, 90)
KINDS = ("cart", "click", "purchase")
COUNTED = ("events", *(f"events_{kind}" for kind in KINDS))
OF_PAIRS = ("met", "gap", "gaps", "again")
PRIOR_EVENTS = 5.0
MICROSECONDS = 86_400_000_000

SumsBefore = Callable[[pd.DataFrame, pd.DataFrame, list[str], tuple[str, ...]], pd.DataFrame]


def sums_at_once(rows: pd.DataFrame, daily: pd.DataFrame, keys: list[str], sums: tuple[str, ...]) -> pd.DataFrame:
    """Sums, first, last and number of days of each distinct question, from days before its as-of."""
    both = rows[[*keys, "as_of_day"]].drop_duplicates().merge(daily, on=keys)
    both = both[both["day"] < both["as_of_day"]]
    return aggregated(both, both["as_of_day"], [*keys, "as_of_day"], sums)


def sums_by_day(rows: pd.DataFrame, daily: pd.DataFrame, keys: list[str], sums: tuple[str, ...]) -> pd.DataFrame:
    """The same of every key that has a past, one as-of day after the other."""
    parts = []
    for day in sorted(rows["as_of_day"].unique()):
        past = aggregated(daily[daily["day"] < day].copy(), day, keys, sums).assign(as_of_day=day)
        parts.append(rows.loc[rows["as_of_day"] == day, [*keys, "as_of_day"]].drop_duplicates().merge(past))
    return pd.concat(parts, ignore_index=True)


def aggregated(past: pd.DataFrame, as_of: pd.Series | int, by: list[str], sums: tuple[str, ...]) -> pd.DataFrame:
    """One row a group: each sum over all days, and counts over each window; items' engagements decayed as well."""
    wanted = {"first_day": ("day", "min"), "last_day": ("day", "max"), "active": ("day", "size")}
    for name in sums:
        wanted[f"{name}_all"] = (name, "sum")
    windowed = [(name, window) for name in sums if name in COUNTED for window in WINDOWS]
    if "met" in sums:
        windowed.append(("met", "28d"))
        for days in HALF_LIVES_DAYS:
            past[f"decayed_{days}d"] = past["events"] * np.exp2((past["day"] + 1 - as_of) / days)
            wanted[f"decayed_{days}d"] = (f"decayed_{days}d", "sum")
    for name, window in windowed:
        past[f"{name}_{window}"] = past[name].where(past["day"] >= as_of - WINDOWS[window], 0)
        wanted[f"{name}_{window}"] = (f"{name}_{window}", "sum")
    return past.groupby(by, as_index=False).agg(**wanted)


def of_pairs(daily: pd.DataFrame) -> pd.DataFrame:
    """By item and day: users who met it, days since these users' time before, how many came back, and first did so."""
    ordered = daily[["user_id", "item_id", "day"]].sort_values(["user_id", "item_id", "day"])
    pair = ordered.groupby(["user_id", "item_id"])["day"]
    nth = pair.cumcount()
    ordered = ordered.assign(met=nth == 0, gap=pair.diff().fillna(0), gaps=nth > 0, again=nth == 1)
    return ordered.groupby(["item_id", "day"], as_index=False)[list(OF_PAIRS)].sum()


def user_items(rows: pd.DataFrame, daily: pd.DataFrame) -> pd.DataFrame:
    """Distinct items that each user knew."""
    met = daily.groupby(["user_id", "item_id"], as_index=False)["day"].min()
    both = rows[["user_id", "as_of_day"]].drop_duplicates().merge(met, on="user_id")
    both = both[both["day"] < both["as_of_day"]]
    return both.groupby(["user_id", "as_of_day"], as_index=False).agg(u_items=("item_id", "size"))


def features(events: pd.DataFrame, rows: pd.DataFrame, sums_before: SumsBefore) -> pd.DataFrame:
    """The feature table."""
    events = events[events["event"].isin(KINDS)]
    events = events.assign(day=events["timestamp"].dt.floor("D").astype("int64") // MICROSECONDS, events=1)
    events = events.assign(**{f"events_{kind}": (events["event"] == kind).astype("int64") for kind in KINDS})
    rows = rows.assign(as_of_day=rows["as_of"].astype("int64") // MICROSECONDS)
    counts = list(COUNTED)
    daily = events.groupby(["user_id", "item_id", "day"], as_index=False)[counts].sum()
    user_daily = daily.groupby(["user_id", "day"], as_index=False)[counts].sum()
    item_daily = daily.groupby(["item_id", "day"], as_index=False)[counts].sum()
    item_daily = item_daily.merge(of_pairs(daily), on=["item_id", "day"])
    user = sums_before(rows, user_daily, ["user_id"], COUNTED).add_prefix("u_")
    item = sums_before(rows, item_daily, ["item_id"], (*COUNTED, *OF_PAIRS)).add_prefix("i_")
    pair = sums_before(rows, daily, ["user_id", "item_id"], ("events",)).add_prefix("p_")
    everything = daily.groupby("day")["events"].sum().cumsum()
    before = np.searchsorted(everything.index, rows["as_of_day"]) - 1
    table = rows.assign(everything=np.where(before < 0, 0, everything.to_numpy()[before]))
    table = table.merge(user, left_on=["user_id", "as_of_day"], right_on=["u_user_id", "u_as_of_day"], how="left")
    table = table.merge(user_items(rows, daily), on=["user_id", "as_of_day"], how="left")
    table = table.merge(item, left_on=["item_id", "as_of_day"], right_on=["i_item_id", "i_as_of_day"], how="left")
    on = ["user_id", "item_id", "as_of_day"]
    return written(table.merge(pair, left_on=on, right_on=[f"p_{name}" for name in on], how="left"))


def written(table: pd.DataFrame) -> pd.DataFrame:
    """The columns as they are called, undefined values as null."""
    day = table["as_of_day"]
    out, gap = {}, {}
    for name, letter in (("user", "u"), ("item", "i"), ("pair", "p")):
        for counted in COUNTED if letter != "p" else ("events",):
            for window in (*WINDOWS, "all"):
                out[f"{name}_{counted}_{window}"] = table[f"{letter}_{counted}_{window}"].fillna(0)
        out[f"{name}_days_since_last"] = day - table[f"{letter}_last_day"]
        out[f"{name}_days_since_first"] = day - table[f"{letter}_first_day"]
        gaps = (table[f"{letter}_active"] - 1).where(lambda gaps: gaps > 0)
        gap[letter] = (table[f"{letter}_last_day"] - table[f"{letter}_first_day"]) / gaps
    for name, letter in (("user", "u"), ("pair", "p")):
        out[f"{name}_active_days"] = table[f"{letter}_active"].fillna(0)
        out[f"{name}_days_since_last_per_gap"] = out[f"{name}_days_since_last"] / gap[letter]
    out["user_events_per_active_day"] = table["u_events_all"] / table["u_active"]
    out["user_mean_gap_days"] = gap["u"]
    out["user_items_all"] = table["u_items"].fillna(0)
    out["user_events_per_item"] = table["u_events_all"] / table["u_items"]
    for days in HALF_LIVES_DAYS:
        out[f"item_decayed_{days}d"] = table[f"i_decayed_{days}d"].fillna(0)
    out["item_trend"] = (4 * out["item_events_7d"] + 1) / (out["item_events_28d"] + 1)
    out["item_users_28d"], out["item_users_all"] = table["i_met_28d"].fillna(0), table["i_met_all"].fillna(0)
    out["item_events_per_user"] = table["i_events_all"] / table["i_met_all"]
    out["item_repeat_share"] = table["i_again_all"] / table["i_met_all"]
    out["item_mean_gap_days"] = table["i_gap_all"] / table["i_gaps_all"].where(lambda gaps: gaps > 0)
    out["pair_share_of_active_days"] = out["pair_active_days"] / table["u_active"]
    expected = (table["p_last_day"] - table["p_first_day"] + out["item_mean_gap_days"]) / table["p_active"]
    out["pair_due"] = out["pair_days_since_last"] / expected
    out["pair_share"] = out["pair_events_all"] / table["u_events_all"]
    inverse = table["everything"] / out["item_events_all"].clip(lower=1)
    smoothed = out["pair_events_all"] * inverse + PRIOR_EVENTS
    out["pair_lift"] = np.log(smoothed / (out["user_events_all"] + PRIOR_EVENTS))
    kept = {name: column.astype("float32") for name, column in out.items() if name != "pair_events_1d"}
    return pd.DataFrame({"row": range(len(table)), **kept})


def main() -> None:
    """Read, compute, write."""
    events, rows, out, way = sys.argv[1:]
    sums_before = {"by-day": sums_by_day, "at-once": sums_at_once}[way]
    start = time.perf_counter()
    columns = ["user_id", "item_id", "event", "timestamp"]
    log = pd.concat([pd.read_parquet(path, columns=columns) for path in sorted(Path(events).glob("*.parquet"))])
    features(log, pd.read_parquet(rows), sums_before).to_parquet(out, compression="zstd", index=False)
    sys.stdout.write(f"{time.perf_counter() - start}\n")


if __name__ == "__main__":
    main()
