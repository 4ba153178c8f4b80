"""A night as an Airflow DAG, a task a step: a step that failed is cleared and run again alone.

Every task is `nightrank nightly --only STEP`. The date is the day on which the run begins, in the shop's time zone. A
task that ends with another code than 0 is tried again; 75 means that this helps.
"""

from datetime import timedelta

import pendulum
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

SHOP = "/srv/shop"
ZONE = "Europe/London"
DAY = "{{ data_interval_end.in_timezone('" + ZONE + "').to_date_string() }}"

with DAG(
    "nightrank",
    schedule="30 2 * * *",
    start_date=pendulum.datetime(2024, 1, 1, tz=ZONE),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 6, "retry_delay": timedelta(minutes=10)},
):
    steps = {
        name: BashOperator(
            task_id=name, cwd=SHOP, bash_command=f".venv/bin/nightrank nightly --date {DAY} --only {name}"
        )
        for name in ("check", "fold", "score", "sync", "realised", "train", "suggest")
    }
    steps["check"] >> steps["fold"] >> steps["score"] >> steps["sync"]
    steps["score"] >> steps["realised"]
    steps["score"] >> steps["train"] >> steps["suggest"]
