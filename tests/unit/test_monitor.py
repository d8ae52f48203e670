"""What the run monitor writes."""

from __future__ import annotations

import fcntl
import json
import threading
import time
from pathlib import Path

import numpy
import pytest
import torch
from trinity.common.config import Config, MonitorConfig

from chord_exp.plugins.monitor import RunMonitor, metric_line
from chord_exp.run_files import metrics


def monitor(folder: Path, name: str = "run", **args: object) -> RunMonitor:
    config = Config(monitor=MonitorConfig(monitor_args={"metrics_path": str(folder / "metrics.jsonl"), **args}))
    return RunMonitor("project", "", name, "trainer", config)


def test_a_line_is_one_flat_object_that_reads_back() -> None:
    line = metric_line(
        3, "trainer", {"actor/mu": 0.4, "n": numpy.int64(7), "t": torch.tensor(0.5), "text": "x", "flag": True}
    )
    assert json.loads(line) == {"step": 3, "source": "trainer", "actor/mu": 0.4, "n": 7, "t": 0.5}
    assert line.endswith(b"\n")


def test_numbers_that_are_not_finite_stay_visible() -> None:
    line = metric_line(1, "trainer", {"a": float("nan"), "b": float("-inf")})
    row = metrics.parse(line.decode())
    assert (row["a"], row["b"]) == ("NaN", "-Infinity")
    assert metrics.non_finite([row]) == ("a", 1)


def test_every_line_is_on_disk_when_log_returns(tmp_path: Path) -> None:
    writer = monitor(tmp_path)
    for step in (1, 2):
        writer.log({"actor/mu": step / 10}, step)
        assert metrics.series(metrics.read(tmp_path / "metrics.jsonl"), "actor/mu")[step] == step / 10


def test_a_line_says_when_it_was_written(tmp_path: Path) -> None:
    before = time.time()
    monitor(tmp_path).log({"actor/mu": 0.5}, 1)
    (row,) = metrics.read(tmp_path / "metrics.jsonl")
    assert before - 0.001 <= row["wall_time"] <= time.time() + 0.001


def test_two_monitors_share_one_file(tmp_path: Path) -> None:
    first, second = monitor(tmp_path), monitor(tmp_path)
    first.log({"a": 1}, 1)
    second.log({"b": 2}, 1)
    first.log({"a": 3}, 2)
    assert len(metrics.read(tmp_path / "metrics.jsonl")) == 3


def test_a_row_is_appended_under_a_lock_since_nfs_appends_overwrite_each_other(tmp_path: Path) -> None:
    writer = monitor(tmp_path)
    with open(tmp_path / "metrics.jsonl", "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=writer.log, args=({"a": 1}, 1))
        thread.start()
        thread.join(0.2)
        assert metrics.read(tmp_path / "metrics.jsonl") == []
    thread.join()
    assert len(metrics.read(tmp_path / "metrics.jsonl")) == 1


def test_the_stage_of_a_staged_run_is_on_the_line(tmp_path: Path) -> None:
    monitor(tmp_path, "run/sft").log({"a": 1}, 1)
    assert metrics.read(tmp_path / "metrics.jsonl")[0]["stage"] == "sft"


def test_closing_twice_is_fine_and_logging_after_is_ignored(tmp_path: Path) -> None:
    writer = monitor(tmp_path)
    writer.close()
    writer.close()
    writer.log({"a": 1}, 1)
    assert metrics.read(tmp_path / "metrics.jsonl") == []


def test_a_full_disk_stops_the_run_instead_of_losing_its_record(tmp_path: Path) -> None:
    writer = monitor(tmp_path)
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    import os

    writer._file = os.open(full, os.O_WRONLY)
    with pytest.raises(OSError, match="No space"):
        writer.log({"a": 1}, 1)


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    writer = monitor(tmp_path, tensorboard_dir=str(tmp_path / "tb"))
    writer.log({"actor/mu": 0.4}, 1)
    writer.close()
    assert list(tmp_path.glob("tb/trainer/events.out.tfevents*"))


def test_a_tensorboard_that_cannot_write_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "tb").write_text("a file where the folder should be")
    writer = monitor(tmp_path, tensorboard_dir=str(tmp_path / "tb"))
    writer.log({"actor/mu": 0.4}, 1)
    writer.close()
    assert "TensorBoard did not start" in caplog.text
    assert len(metrics.read(tmp_path / "metrics.jsonl")) == 1
