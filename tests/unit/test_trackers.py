"""SwanLab, MLflow and Trackio by their real libraries, without a network: what is recorded, and that nothing waits.

Each is skipped where its library is not installed: all three are choices of a user, and no lock file has them.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from chord_exp.plugins.trackers import writer_class
from chord_exp.run_files.tracker_sync import sync_command

GIVEN = {
    "mode": "online",
    "group": "tiny/2026",
    "tags": ["mu", "tiny"],
    "config": {"mu_peak": 0.4, "model": {"name": "tiny", "path": "/models/tiny"}, "empty": {}},
}
ROWS = [{"actor/mu": 0.4, "eval/eval/accuracy/mean@1": 0.25}, {"actor/mu": 0.3}]


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key and no server of anybody's."""
    for name in list(os.environ):
        if name.startswith(("SWANLAB_", "MLFLOW_", "TRACKIO_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # a first database takes MLflow a minute on a busy machine
    monkeypatch.setattr("chord_exp.plugins.trackers.writer.CLOSE_SECONDS", 600)


def record(tracker: str, folder: Path, given: dict | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    writer = writer_class(tracker)(folder, "chord", "tiny-mu-run", "", "trainer", given or GIVEN)
    for step, row in enumerate(ROWS, start=1):
        writer.log(row, step)
    writer.close()
    assert not writer._thread.is_alive()


def test_mlflow_keeps_metrics_parameters_and_tags_in_the_run_s_folder(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    record("mlflow", tmp_path)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("chord").experiment_id])
    assert run.info.run_name == "tiny-mu-run-trainer" and run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "actor/mu")
    assert [(one.step, one.value) for one in history] == [(1, 0.4), (2, 0.3)]
    assert run.data.metrics["eval/eval/accuracy/mean_1"] == 0.25
    assert run.data.params == {
        "mu_peak": "0.4",
        "model.name": "tiny",
        "model.path": "/models/tiny",
        "empty": "{}",
    }
    assert run.data.tags["group"] == "tiny/2026" and run.data.tags["tag.mu"] == "true"


def test_mlflow_goes_to_the_server_that_is_named_unless_it_is_to_stay_offline(tmp_path, monkeypatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/shared.db")
    record("mlflow", tmp_path / "run")
    assert not (tmp_path / "run" / "mlflow").exists()
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/shared.db")
    assert client.get_experiment_by_name("chord") is not None
    record("mlflow", tmp_path / "run", {**GIVEN, "mode": "offline"})
    assert (tmp_path / "run" / "mlflow" / "mlflow.db").exists()


def test_swanlab_without_a_key_is_kept_for_its_sync(tmp_path: Path) -> None:
    pytest.importorskip("swanlab")
    record("swanlab", tmp_path)
    (run,) = tmp_path.glob("swanlab/run-*")
    content = b"".join(file.read_bytes() for file in run.rglob("*") if file.is_file())
    for text in (b"actor/mu", b"tiny-mu-run-trainer", b"tiny/2026"):
        assert text in content
    assert sync_command(tmp_path) == f"swanlab sync {tmp_path}/swanlab/run-*"
    command = [sys.executable, "-m", "swanlab", "sync", "--help"]
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_trackio_keeps_metrics_in_its_own_database(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    # it reads TRACKIO_DIR when it is imported
    script = (
        "import sys; sys.path[:0] = [p for p in sys.argv[2].split(':')]; from pathlib import Path;"
        "import json; from chord_exp.plugins.trackers import writer_class;"
        "given, rows = json.loads(sys.argv[3]), json.loads(sys.argv[4]);"
        "w = writer_class('trackio')(Path(sys.argv[1]), 'chord', 'tiny-mu-run', '', 'trainer', given);"
        "[w.log(row, step) for step, row in enumerate(rows, start=1)]; w.close()"
    )
    words = [sys.executable, "-c", script, str(tmp_path), ":".join(sys.path), json.dumps(GIVEN), json.dumps(ROWS)]
    done = subprocess.run(
        words, env={**os.environ, "TRACKIO_DIR": str(tmp_path / "db")}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (database,) = (tmp_path / "db").glob("chord*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    assert [(name, step) for name, step, _ in rows] == [("tiny-mu-run-trainer", 1), ("tiny-mu-run-trainer", 2)]
    assert json.loads(rows[0][2])["actor/mu"] == 0.4


@pytest.mark.parametrize("tracker", ["swanlab", "mlflow", "trackio"])
def test_a_library_that_is_not_there_is_one_warning(tmp_path, monkeypatch, caplog, tracker) -> None:
    monkeypatch.setitem(sys.modules, tracker, None)
    record(tracker, tmp_path)
    assert caplog.text.count("stopped recording trainer") == 1
