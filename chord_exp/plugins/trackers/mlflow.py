"""Metrics to MLflow."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from chord_exp.plugins.trackers.writer import TrackerWriter

# below the run's folder, where no server is named
FOLDER = "mlflow"
# longest value of a parameter that every store takes, characters; parameters in one request
_VALUE_LENGTH, _PARAMETERS = 500, 100
# what a metric's name may not hold: eval/eval/accuracy/mean@1
_FORBIDDEN = re.compile(r"[^\w\-./ ]")


class MlflowWriter(TrackerWriter):
    """One MLflow run at MLFLOW_TRACKING_URI, or in a database below `mlflow/` in the run's folder."""

    title = "MLflow"

    def _start(self) -> Any:
        from mlflow.entities import Param

        place = os.environ.get("MLFLOW_TRACKING_URI") if self._given["mode"] == "online" else None
        if not place:
            folder = self._folder / FOLDER
            folder.mkdir(parents=True, exist_ok=True)
            place = f"sqlite:///{folder / 'mlflow.db'}"
            with open(folder / "lock", "w") as lock:
                # the explorer's and the trainer's writer make one database, of which MLflow locks nothing
                fcntl.flock(lock, fcntl.LOCK_EX)
                experiment = self._connect(place)
        else:
            experiment = self._connect(place)
        tags = {"group": self._given["group"], "role": self._role, "stage": self._stage}
        tags |= {f"tag.{tag}": "true" for tag in self._given["tags"]}
        run = self._client.create_run(experiment, run_name=self._shown_name, tags=tags)
        config = list(_flat(self._given["config"]))
        for begin in range(0, len(config), _PARAMETERS):
            params = [Param(key, value[:_VALUE_LENGTH]) for key, value in config[begin : begin + _PARAMETERS]]
            self._client.log_batch(run.info.run_id, params=params)
        return run.info.run_id

    def _connect(self, place: str) -> str:
        """Open a store and return the id of the project's experiment in it."""
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=place)
        found = self._client.get_experiment_by_name(self._project)
        return str(found.experiment_id if found else self._client.create_experiment(self._project))

    def _log(self, run: Any, row: dict[str, Any]) -> None:
        from mlflow.entities import Metric

        step, now = row.pop("step"), int(1000 * time.time())
        metrics = [Metric(_FORBIDDEN.sub("_", key), float(value), now, step) for key, value in row.items()]
        self._client.log_batch(run, metrics=metrics)

    def _finish(self, run: Any) -> None:
        self._client.set_terminated(run)


def _flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and text of each leaf."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{_FORBIDDEN.sub('_', str(key))}", str(value)
