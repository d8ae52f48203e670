"""The folder of a run: one run at a time, and a record that does not say "running" for ever."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from chord_exp.errors import ConfigError
from chord_exp.launch import attempt, folder
from chord_exp.launch.folder import open_folder
from chord_exp.launch.launch_spec import LaunchSpec, Stage
from chord_exp.launch.run import run_experiment
from chord_exp.run_files.record import RunRecord

SPEC = LaunchSpec(
    name="run",
    project="chord",
    variant="mu",
    seed=1,
    engine="local",
    ray_address="local",
    resume=False,
    yaml=yaml.safe_dump({"name": "run"}),
    stages=(Stage("", 3),),
    check_losses_finite=True,
)


def test_a_run_for_gpus_without_their_packages_names_the_command(tmp_path: Path, monkeypatch) -> None:
    """A module that stands for a package, such as our stub of vLLM, is not taken for it."""
    monkeypatch.setitem(sys.modules, "made_up", ModuleType("made_up"))
    monkeypatch.setattr(attempt, "GPU_PACKAGES", ("made_up", "verl"))
    with pytest.raises(ConfigError, match="made_up not installed") as refused:
        run_experiment(replace(SPEC, engine="verl"), tmp_path / "run")
    assert "make setup-gpu" in str(refused.value) and not (tmp_path / "run").exists()


def test_of_runs_that_start_at_one_moment_one_gets_the_folder(tmp_path: Path) -> None:
    begin, opened, refused = threading.Barrier(8), [], []

    def start() -> None:
        begin.wait()
        try:
            opened.append(open_folder(SPEC, tmp_path / "run"))
        except ConfigError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1 and len(refused) == 7
    record, lock = opened[0]
    assert RunRecord.load(tmp_path / "run" / "run.json") == record
    lock.close()


def test_a_run_is_not_resumed_while_it_goes_on_on_whatever_machine(tmp_path: Path) -> None:
    _, lock = open_folder(SPEC, tmp_path)
    with pytest.raises(ConfigError, match=r"still going on \(process \d+ on "):
        open_folder(replace(SPEC, resume=True), tmp_path)
    lock.close()
    again, lock = open_folder(replace(SPEC, resume=True), tmp_path)
    assert again.attempt == 2
    lock.close()


def test_a_folder_that_cannot_be_begun_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_end_last_line", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(ConfigError, match="cannot write"):
        open_folder(SPEC, tmp_path)
    monkeypatch.undo()
    _, lock = open_folder(SPEC, tmp_path)
    lock.close()


def test_a_run_whose_watcher_was_killed_is_not_running_for_ever(tmp_path: Path) -> None:
    record, lock = open_folder(SPEC, tmp_path)
    assert RunRecord.load(tmp_path / "run.json").status == "running"
    lock.close()  # as the system does when the last process of the run dies
    found = RunRecord.load(tmp_path / "run.json")
    assert found.status == "failed" and "watched" in found.error.what
    assert found.run_id == record.run_id
