"""26 columns of the families `user`, `item` and `pair` in straightforward pandas: group, merge, keep the past, sum.

    python features_pandas.py EVENTS ROWS OUT by-day|at-once

Two ways: `by-day` takes one as-of day after the other and groups the past before it, as is straightforward;
`at-once` merges the distinct questions of all days with the daily counts of their key, as the SQL does. Needs nothing
but pandas and pyarrow; prints the seconds it took, imports aside.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

WINDOWS = {"7d": 7, "28d": 28, "90d": 90}


def known_at_once(asked: pd.DataFrame, daily: pd.DataFrame, keys: list[str], sums: tuple[str, ...]) -> pd.DataFrame:
    """Counts in windows, first, last and number of days of each distinct question, from days before its as-of."""
    both = asked[[*keys, "as_of_day"]].drop_duplicates().merge(daily, on=keys)
    both = both[both["day"] < both["as_of_day"]]
    return aggregated(both, both["as_of_day"], [*keys, "as_of_day"], sums)


def known_by_day(asked: pd.DataFrame, daily: pd.DataFrame, keys: list[str], sums: tuple[str, ...]) -> pd.DataFrame:
    """The same of every key that has a past, one as-of day after the other."""
    parts = []
    for day in sorted(asked["as_of_day"].unique()):
        past = aggregated(daily[daily["day"] < day].copy(), day, keys, sums).assign(as_of_day=day)
        parts.append(asked.loc[asked["as_of_day"] == day, [*keys, "as_of_day"]].drop_duplicates().merge(past))
    return pd.concat(parts, ignore_index=True)


def aggregated(past: pd.DataFrame, as_of: pd.Series | int, by: list[str], sums: tuple[str, ...]) -> pd.DataFrame:
    """One row a group."""
    wanted = {"first_day": ("day", "min"), "last_day": ("day", "max"), "active": ("day", "size")}
    for name in sums:
        wanted[f"{name}_all"] = (name, "sum")
        for window, days in WINDOWS.items():
            past[f"{name}_{window}"] = past[name].where(past["day"] >= as_of - days, 0)
            wanted[f"{name}_{window}"] = (f"{name}_{window}", "sum")
    return past.groupby(by, as_index=False).agg(**wanted)


def features(events: pd.DataFrame, rows: pd.DataFrame, known: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """The feature table."""
    events = events[events["event"].isin(["click", "cart", "purchase"])]
    events = events.assign(day=events["timestamp"].dt.floor("D").astype("int64") // 86_400_000_000)
    rows = rows.assign(as_of_day=rows["as_of"].astype("int64") // 86_400_000_000)
    daily = events.groupby(["user_id", "item_id", "day"], as_index=False).agg(n=("day", "size"))
    user_daily = daily.groupby(["user_id", "day"], as_index=False)["n"].sum()
    met = daily.groupby(["user_id", "item_id"], as_index=False)["day"].min()
    met = met.groupby(["item_id", "day"], as_index=False).agg(met=("user_id", "size"))
    item_daily = (
        daily.groupby(["item_id", "day"], as_index=False)["n"].sum().merge(met, on=["item_id", "day"], how="left")
    )
    item_daily["met"] = item_daily["met"].fillna(0)
    user = known(rows, user_daily, ["user_id"], ("n",)).add_prefix("u_")
    item = known(rows, item_daily, ["item_id"], ("n", "met")).add_prefix("i_")
    pair = known(rows, daily, ["user_id", "item_id"], ("n",)).add_prefix("p_")
    table = rows.merge(user, left_on=["user_id", "as_of_day"], right_on=["u_user_id", "u_as_of_day"], how="left")
    table = table.merge(item, left_on=["item_id", "as_of_day"], right_on=["i_item_id", "i_as_of_day"], how="left")
    on = ["user_id", "item_id", "as_of_day"]
    return written(table.merge(pair, left_on=on, right_on=[f"p_{name}" for name in on], how="left"))


def written(table: pd.DataFrame) -> pd.DataFrame:
    """The columns as they are called, undefined values as null."""
    day = table["as_of_day"]
    out = {}
    for name, letter in (("user", "u"), ("item", "i"), ("pair", "p")):
        for window in ("7d", "28d", "90d", "all"):
            out[f"{name}_events_{window}"] = table[f"{letter}_n_{window}"].fillna(0)
        out[f"{name}_days_since_last"] = day - table[f"{letter}_last_day"]
        out[f"{name}_days_since_first"] = day - table[f"{letter}_first_day"]
        out[f"{name}_active_days"] = table[f"{letter}_active"].fillna(0)
        gaps = (table[f"{letter}_active"] - 1).where(lambda gaps: gaps > 0)
        out[f"{name}_mean_gap_days"] = (table[f"{letter}_last_day"] - table[f"{letter}_first_day"]) / gaps
    out["user_events_per_active_day"] = table["u_n_all"] / table["u_active"]
    out["item_trend"] = (4 * out["item_events_7d"] + 1) / (out["item_events_28d"] + 1)
    out["item_users_28d"], out["item_users_all"] = table["i_met_28d"].fillna(0), table["i_met_all"].fillna(0)
    out["item_events_per_user"] = table["i_n_all"] / table["i_met_all"]
    out["pair_share_of_active_days"] = out["pair_active_days"] / table["u_active"]
    out["pair_days_since_last_per_gap"] = out["pair_days_since_last"] / out["pair_mean_gap_days"]
    unwanted = (
        "user_days_since_first",
        "item_active_days",
        "item_mean_gap_days",
        "pair_events_7d",
        "pair_mean_gap_days",
    )
    kept = {name: column.astype("float32") for name, column in out.items() if name not in unwanted}
    return pd.DataFrame({"row": range(len(table)), **kept})


def main() -> None:
    """Read, compute, write."""
    events, rows, out, way = sys.argv[1:]
    known = {"by-day": known_by_day, "at-once": known_at_once}[way]
    start = time.perf_counter()
    columns = ["user_id", "item_id", "event", "timestamp"]
    log = pd.concat([pd.read_parquet(path, columns=columns) for path in sorted(Path(events).glob("*.parquet"))])
    features(log, pd.read_parquet(rows), known).to_parquet(out, compression="zstd", index=False)
    sys.stdout.write(f"{time.perf_counter() - start}\n")


if __name__ == "__main__":
    main()
