"""Runs the DAG train_daily for two days, and the first once more; for test_train_daily.py, in Airflow's environment."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "infra" / "airflow"))
DAYS = [datetime(2026, 3, day, 2, tzinfo=timezone.utc) for day in (2, 3)]


def main() -> None:
    """A line for each run."""
    from train_daily import train_daily

    dag = train_daily()
    for day in [*DAYS, DAYS[0]]:
        run = dag.test(logical_date=day)
        told = [each.xcom_pull(task_ids="notify") for each in run.get_task_instances() if each.task_id == "notify"]
        print(f"{day:%F} {run.state}: {told[0]}", flush=True)


if __name__ == "__main__":
    main()
