"""hydra/sweeper=optuna from the command line: with fake trials killed and chained, and once with real training."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_tune
import optuna
import pytest
from command_line import refused
from optuna.storages.journal import JournalFileBackend
from running import SMALL, TIMEOUT

from chord_exp.launch.cluster.private_ray import Head
from chord_exp.run_files import metrics
from chord_exp.sweep.backends import worker
from chord_exp.sweep.folder import SweepFolder


def start(place: Path, *words: str, seconds: float = 0.02, hopeless: float = 1) -> subprocess.Popen[str]:
    """Start a command line with fake trials, in a folder."""
    return subprocess.Popen(
        [sys.executable, fake_tune.__file__, *words],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "FAKE_STEP_SECONDS": str(seconds), "FAKE_HOPELESS_FACTOR": str(hopeless)},
    )


def finish(place: Path, *words: str, **pace: float) -> tuple[int, str]:
    """The same to the end; returns the exit code and what was printed."""
    process = start(place, *words, **pace)
    output, _ = process.communicate(timeout=TIMEOUT)
    return process.returncode, output


def study_of(folder: Path) -> optuna.Study:
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    return optuna.load_study(study_name="sweep", storage=storage)


def states_of(folder: Path) -> list[str]:
    return [trial.state.name for trial in study_of(folder).trials]


def best_logged(folder: Path) -> tuple[str, float]:
    """Name of the trial folder with the best held-out accuracy after step 0, and that accuracy."""
    found = {
        path.parent.name: max(
            row[metrics.ACCURACY] for row in metrics.read(path) if row.get(metrics.ACCURACY) and row["step"]
        )
        for path in folder.glob("*/metrics.jsonl")
    }
    name = max(found, key=lambda name: found[name])
    return name, found[name]


def test_the_experiments_tune_one_after_the_other_and_each_starts_from_the_best_before(tmp_path: Path) -> None:
    common = ["-m", "hydra/sweeper=optuna", "total_steps=4", "hydra.sweeper.min_steps=1", "hydra.sweeper.n_trials=3"]
    chain = {}
    for name in ("tune_batch_lr", "tune_mu", "tune_ratio"):
        code, output = finish(tmp_path, *common, f"experiment={name}")
        assert code == 0, output
        (folder,) = (tmp_path / "multirun" / name).iterdir()
        chain[name] = json.loads((folder / "best.json").read_text())
        assert "starts from" in output
    assert chain["tune_batch_lr"]["start"] is None
    first, second = chain["tune_batch_lr"]["best"][0]["params"], chain["tune_mu"]["best"][0]["params"]
    assert set(first) == {"batch_size", "lr"}
    assert chain["tune_mu"]["start"]["overrides"] == first
    assert chain["tune_ratio"]["start"]["overrides"] == {**first, **second}
    # what the trials really got
    (folder,) = (tmp_path / "multirun" / "tune_ratio").iterdir()
    for trial in SweepFolder(folder).trials():
        given = dict(word.split("=", 1) for word in trial.overrides)
        assert {**first, **second}.items() <= given.items() and "expert_data_ratio" in given
        assert "experiment" in given and trial.label.startswith("expert_data_ratio")


def test_a_tuned_sweep_stops_unpromising_trials_and_finds_the_best_of_the_metrics(tmp_path: Path) -> None:
    words = ["mu_peak=interval(0.0,1.0)", "total_steps=12", "hydra.sweeper.min_steps=1", "hydra.sweeper.n_trials=8"]
    code, output = finish(tmp_path, "-m", "hydra/sweeper=optuna", *words, "hydra.sweep.dir=s", seconds=0.1, hopeless=20)
    assert code == 0, output
    states = states_of(tmp_path / "s")
    assert len(states) == 8 and "PRUNED" in states and set(states) == {"PRUNED", "COMPLETE"}
    name, value = best_logged(tmp_path / "s")
    study = study_of(tmp_path / "s")
    assert name.startswith(f"{study.best_trial.number}_") and study.best_value == value
    assert f"best: {name}" in output and "not promising" in output
    # a sweep that is done stays done
    code, output = finish(tmp_path, "resume", "s")
    assert code == 0 and states_of(tmp_path / "s") == states, output


def test_a_sweeper_killed_at_any_moment_is_resumed_without_loss_or_repetition(tmp_path: Path) -> None:
    words = ["mu_peak=interval(0.0,1.0)", "total_steps=6", "hydra.sweeper.pruner=none", "hydra.sweeper.n_trials=6"]
    folder, moments = tmp_path / "s", random.Random(3)
    process = start(tmp_path, "-m", "hydra/sweeper=optuna", *words, f"hydra.sweep.dir={folder}", seconds=0.15)
    while not (folder / "sweep.json").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    ended: dict[int, int] = {}
    for _ in range(3):
        time.sleep(moments.uniform(0.5, 2.5))
        process.kill()
        process.communicate()
        for trial in SweepFolder(folder).trials():
            if trial.state == "succeeded":
                ended[trial.number] = trial.attempt
        process = start(tmp_path, "resume", str(folder), seconds=0.15)
        assert process.poll() is None
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    states = states_of(folder)
    assert "RUNNING" not in states and states.count("COMPLETE") == 6, states
    trials = SweepFolder(folder).trials()
    assert len(trials) == 6 and all(trial.state == "succeeded" for trial in trials)
    for trial in trials:
        steps = [row["step"] for row in metrics.read(trial.run_dir / "metrics.jsonl")]
        assert steps == [1, 2, 3, 4, 5, 6], f"{trial.name}: every step once"
        assert ended.get(trial.number, trial.attempt) == trial.attempt
        assert not worker.is_alive(trial.run_dir)
    assert json.loads((folder / "best.json").read_text())["finished"] is True


def test_a_tuned_sweep_on_ray_is_killed_and_resumed_while_its_jobs_go_on(tmp_path: Path, head: Head) -> None:
    words = ["mu_peak=interval(0.0,1.0)", "total_steps=20", "hydra.sweeper.min_steps=2", "hydra.sweeper.n_trials=6"]
    words += ["hydra/launcher=ray", f"hydra.launcher.address={head.address}", "hydra.launcher.max_concurrent=3"]
    folder = SweepFolder(tmp_path / "s")
    process = start(tmp_path, "-m", "hydra/sweeper=optuna", *words, f"hydra.sweep.dir={folder.path}", seconds=0.3)
    while sum(len(metrics.read(path)) > 2 for path in folder.path.glob("*/metrics.jsonl")) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.communicate()
    cut_off = [trial for trial in folder.trials() if trial.state == "running"]
    assert cut_off
    code, output = finish(tmp_path, "resume", str(folder.path), seconds=0.3)
    assert code == 0, output
    states = states_of(folder.path)
    assert len(states) == 6 and set(states) <= {"COMPLETE", "PRUNED"} and "COMPLETE" in states
    for trial in folder.trials():
        steps = [row["step"] for row in metrics.read(trial.run_dir / "metrics.jsonl")]
        assert steps == list(range(1, len(steps) + 1)) and trial.attempt == 1, f"{trial.name}: every step once"
        assert not worker.is_alive(trial.run_dir)
    name, value = best_logged(folder.path)
    assert f"best: {name}" in output and study_of(folder.path).best_value == value


def test_ctrl_c_stops_a_tuned_sweep_and_the_same_command_goes_on_with_it(tmp_path: Path) -> None:
    words = ["-m", "hydra/sweeper=optuna", "mu_peak=interval(0.0,1.0)", "total_steps=10", "hydra.sweeper.n_trials=3"]
    words += ["hydra.sweep.dir=s", "hydra.sweeper.pruner=none"]
    process = start(tmp_path, *words, seconds=0.2)
    while not list(tmp_path.glob("s/*/metrics.jsonl")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130, output
    assert "go on with" in output and "unfinished" in output
    assert json.loads((tmp_path / "s" / "best.json").read_text())["finished"] is False
    code, output = finish(tmp_path, *words)
    assert code == 0 and states_of(tmp_path / "s") == ["COMPLETE"] * 3, output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hydra/sweeper=optuna"], "there is nothing to tune"),
        (["hydra/sweeper=optuna", "mu_peka=interval(0,1)"], "did you mean 'mu_peak'"),
        (["experiment=tune_mu", "hydra.sweeper.start_from=nowhere"], "no best.json"),
        (["experiment=tune_mu", "hydra.sweeper.objectives=[accuracy,loss]"], "one objective only"),
        (["experiment=tune_mu", "hydra.sweeper.sampler=grid"], "an interval has no grid"),
        (["experiment=tune_mu", "hydra.launcher.memory_per_trial=9999"], "can never start: it takes 1 CPU, 9999.0 GiB"),
        (["experiment=tune_mu", "hydra/launcher=ray", "hydra.launcher.address=http://127.0.0.1:9"], "no Ray cluster"),
    ],
)
def test_what_cannot_be_tuned_is_one_line_exit_2_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refused(capsys, ["-m", *words])
    assert not (tmp_path / "multirun").exists()


@pytest.mark.slow
def test_real_trials_are_tuned_with_early_stopping_and_end_in_a_table_and_a_study(tmp_path: Path) -> None:
    words = [*SMALL, "total_steps=3", "data.eval_interval=1", "mu_peak=interval(0.1,0.9)", "monitor=wandb_offline"]
    words += ["hydra.sweeper.n_trials=2", "hydra.sweeper.min_steps=1", "hydra.sweep.dir=tune/first"]
    process = subprocess.run(
        [sys.executable, "-m", "chord_exp", "-m", "hydra/sweeper=optuna", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "WANDB_API_KEY": ""},
    )
    folder = tmp_path / "tune" / "first"
    assert process.returncode == 0, process.stdout + process.stderr
    states = states_of(folder)
    assert len(states) == 2 and set(states) <= {"COMPLETE", "PRUNED"}
    study = study_of(folder)
    complete = {trial.number for trial in study.trials if trial.state.name == "COMPLETE"}
    for trial in SweepFolder(folder).trials():
        if trial.number in complete:
            logged = metrics.series(metrics.read(trial.run_dir / "metrics.jsonl"), metrics.ACCURACY)
            assert study.trials[trial.number].value == max(value for step, value in logged.items() if step)
    assert study.best_value == max(study.trials[number].value for number in complete)
    result = json.loads((folder / "best.json").read_text())
    assert result["best"][0]["values"] == [study.best_value]
    assert "held-out accuracy" in process.stdout and f"wandb sync {folder}/*/wandb/offline-run-*" in process.stdout
    from wandb_reader import run_of

    grouped = {run_of(file).run_group for file in folder.glob("*/wandb/offline-run-*/*.wandb")}
    assert grouped == {"tune/first"}
