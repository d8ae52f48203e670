"""A tuned sweep on simulated machines: a real study, real folders, trials that are only numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_machines import FakeMachines, classify_by_code
from launching import fake_launch
from optuna.trial import TrialState
from tuning import settings

from chord_exp.errors import ConfigError
from chord_exp.run_files import metrics
from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.progress import SweepProgress
from chord_exp.sweep.scheduling.backend import Exit
from chord_exp.sweep.scheduling.resources import Footprint, Node
from chord_exp.sweep.scheduling.scheduler import Limits, Scheduler
from chord_exp.sweep.scheduling.trial import Trial, TrialRequest
from chord_exp.sweep.tune.best import counts
from chord_exp.sweep.tune.settings import TuneSettings
from chord_exp.sweep.tune.space import Dimension, grid
from chord_exp.sweep.tune.study import Journal
from chord_exp.sweep.tune.tuner import Tuner

PEAK = Dimension("mu_peak", low=0.0, high=1.0)
STEPS = 9


def worth(mu_peak: float) -> float:
    """The accuracy that a trial reaches; best at 0.3."""
    return 1 - abs(mu_peak - 0.3)


class Sweep:
    """One sweep folder with the objects of the process that drives it; `again` is another process."""

    def __init__(self, path: Path, tuning: TuneSettings, space: list[Dimension] | None = None, total: int = 0) -> None:
        self.folder, self.tuning, self.space = SweepFolder(path), tuning, space or [PEAK]
        self.total = total or tuning.n_trials or 0
        self.said: list[str] = []
        self.exits: Callable[[Trial], Exit] = lambda trial: Exit(0)
        self.refuses: Callable[[dict], bool] = lambda values: False
        self.curve: Callable[[Trial], list[float]] = self.rising
        path.mkdir(exist_ok=True)
        self.again()

    def again(self) -> None:
        self.journal = Journal(
            self.folder.path, self.tuning, STEPS, {"space": [axis.describe() for axis in self.space]}
        )
        self.backend = FakeMachines([Node("n", cpus=2)], self.run, lambda trial: self.exits(trial))
        self.scheduler = Scheduler(self.backend, Limits(retries=0), classify=classify_by_code)
        self.tuner = Tuner(
            self.journal,
            self.space,
            self.tuning,
            self.total,
            self.request,
            self.folder,
            self.scheduler,
            SweepProgress(followed=[target.key for target in self.tuning.targets]),
            self.said.append,
        )

    def request(self, number: int, values: dict) -> TrialRequest:
        if self.refuses(values):
            raise ConfigError("the point cannot be", "mu_peak")
        overrides = tuple(f"{key}={value}" for key, value in values.items())
        run_dir = self.folder.path / f"{number}_x"
        return TrialRequest(number, "x", run_dir, Footprint(cpus=1), fake_launch(overrides, STEPS))

    @staticmethod
    def value(trial: Trial) -> float:
        return float(dict(word.split("=") for word in trial.overrides)["mu_peak"])

    def rising(self, trial: Trial) -> list[float]:
        return [worth(self.value(trial)) * step / STEPS for step in range(1, STEPS + 1)]

    def run(self, trial: Trial) -> float:
        """Write all metrics at once; takes an hour of simulated time."""
        rows = [{"step": step, "source": "explorer", metrics.ACCURACY: value} for step, value in self.rows(trial)]
        (trial.run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return 3600.0

    def rows(self, trial: Trial) -> list[tuple[int, float]]:
        return list(enumerate(self.curve(trial), start=1))

    def finish(self, polls: int = 10_000) -> None:
        """Drive to the end, or die after so many polls."""
        trials = self.folder.trials()
        self.tuner.reconcile(trials)
        self.scheduler.adopt(trials)
        for _ in range(polls):
            more = self.tuner.each(self.scheduler.poll())
            if self.scheduler.idle and not more:
                return
            self.backend.wait(1)

    @property
    def states(self) -> dict[str, int]:
        return counts([trial.state.name for trial in self.journal.trials()])

    @property
    def best(self) -> float:
        return self.journal.study.best_value


def test_every_point_is_tried_once_and_the_best_is_the_best_of_the_metrics(tmp_path):
    sweep = Sweep(tmp_path / "s", settings(n_trials=12, pruner="none"))
    sweep.finish()
    assert sweep.states == {"COMPLETE": 12}
    logged = [metrics.read(path) for path in sweep.folder.path.glob("*/metrics.jsonl")]
    assert sweep.best == max(row[metrics.ACCURACY] for rows in logged for row in rows)
    assert [trial.number for trial in sweep.folder.trials()] == list(range(12))


def test_the_sampler_learns_from_results(tmp_path):
    tried = {}
    for sampler in ("tpe", "random"):
        sweep = Sweep(tmp_path / sampler, settings(n_trials=40, pruner="none", sampler=sampler))
        sweep.finish()
        late = sweep.folder.trials()[20:]
        tried[sampler] = sum(worth(sweep.value(trial)) for trial in late) / len(late)
    assert tried["tpe"] > tried["random"] + 0.1


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_each_sampler_fills_its_trials(tmp_path, sampler):
    space = [PEAK, Dimension("lr", low=1e-6, high=1e-3, log=True), Dimension("n", low=1, high=9, whole=True)]
    sweep = Sweep(tmp_path / "s", settings(n_trials=8, pruner="none", sampler=sampler), space)
    sweep.finish()
    assert sweep.states == {"COMPLETE": 8}
    assert len({tuple(trial.overrides) for trial in sweep.folder.trials()}) == 8


@pytest.mark.parametrize("pruner", ["asha", "hyperband", "median"])
def test_each_pruner_stops_unpromising_trials_and_never_the_best(tmp_path, pruner):
    tuning = settings(n_trials=20, pruner=pruner, min_steps=1, n_startup_trials=2, sampler="random")
    sweep = Sweep(tmp_path / "s", tuning)
    sweep.finish()
    states = sweep.states
    assert states["PRUNED"] > 0 and states["COMPLETE"] > 0 and set(states) == {"PRUNED", "COMPLETE"}
    pruned = [trial.name for trial in sweep.folder.trials() if trial.state == "pruned"]
    assert len(pruned) == states["PRUNED"] == sum("not promising" in line for line in sweep.said)
    if pruner != "hyperband":  # whose brackets compare few trials each
        assert sweep.best == pytest.approx(max(worth(sweep.value(trial)) for trial in sweep.folder.trials()))


def test_failures_and_refused_points_are_recorded_and_do_not_end_the_sweep(tmp_path):
    sweep = Sweep(tmp_path / "s", settings(n_trials=20, pruner="none", sampler="random"))
    sweep.exits = lambda trial: Exit(1 if sweep.value(trial) < 0.2 else 0)
    sweep.refuses = lambda values: float(values["mu_peak"]) > 0.8
    sweep.finish()
    noted = [trial.user_attrs for trial in sweep.journal.trials() if trial.state == TrialState.FAIL]
    refused = [note for note in noted if "the point cannot be" in note.get("refused", "")]
    failed = [note for note in noted if note.get("error") == "exit code 1"]
    assert refused and failed and len(refused) + len(failed) == len(noted)
    assert sweep.states["COMPLETE"] + len(noted) == 20
    assert len(sweep.folder.trials()) == 20 - len(refused), "a refused point has no folder"


def test_a_space_of_refused_points_ends_soon_with_the_reason(tmp_path):
    sweep = Sweep(tmp_path / "s", settings(n_trials=50))
    sweep.refuses = lambda values: True
    with pytest.raises(ConfigError, match=r"every point so far was refused; mu_peak=.*: the point cannot be"):
        sweep.finish()
    assert sweep.states == {"FAIL": 5}


def test_a_trial_that_never_logs_its_objective_is_a_failure(tmp_path):
    sweep = Sweep(tmp_path / "s", settings(n_trials=3))
    sweep.curve = lambda trial: []
    sweep.finish()
    assert sweep.states == {"FAIL": 3}
    assert "never logged eval/eval/accuracy" in sweep.journal.trials()[0].user_attrs["error"]


def test_several_objectives_give_a_front(tmp_path):
    tuning = settings(n_trials=10, pruner="none", objectives=["accuracy", "minimize cost"])
    sweep = Sweep(tmp_path / "s", tuning)

    def run(trial: Trial) -> float:
        value = sweep.value(trial)
        row = {"step": 1, "source": "explorer", metrics.ACCURACY: value, "cost": value**2}
        (trial.run_dir / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        return 1.0

    sweep.backend._seconds = run
    sweep.finish()
    # more accuracy costs more everywhere: no point beats another
    assert len(sweep.journal.study.best_trials) == 10


def test_a_grid_is_tried_whole_in_order_and_goes_on_where_it_was(tmp_path):
    space = [Dimension("mu_peak", choices=("0.1", "0.3", "0.5", "0.9"))]
    sweep = Sweep(tmp_path / "s", settings(sampler="grid", n_trials=None, pruner="none"), space, total=4)
    for point in grid(space):
        sweep.journal.study.enqueue_trial(point)
    sweep.finish(polls=3)
    sweep.again()
    sweep.finish()
    assert [trial.overrides for trial in sweep.folder.trials()] == [
        [f"mu_peak={x}"] for x in ("0.1", "0.3", "0.5", "0.9")
    ]
    assert sweep.journal.study.best_params == {"mu_peak": "0.3"}


@pytest.mark.parametrize("polls", range(1, 9))
def test_a_sweep_that_dies_at_any_poll_is_gone_on_with(tmp_path, polls):
    sweep = Sweep(tmp_path / "s", settings(n_trials=6, pruner="asha", min_steps=1))
    sweep.finish(polls=polls)
    ended = {trial.number: trial.attempt for trial in sweep.folder.trials() if trial.state in ("succeeded", "pruned")}
    sweep.again()
    # what ran has no process any more: its attempts end by a machine's fault, and are tried again
    sweep.scheduler.limits = Limits(retries=1)
    sweep.finish()
    assert "RUNNING" not in sweep.states and sum(sweep.states.values()) == 6, sweep.states
    again = {trial.number: trial.attempt for trial in sweep.folder.trials()}
    assert all(again[number] == attempt for number, attempt in ended.items()), "a finished trial is not run again"
    assert len(again) == 6


def test_a_point_whose_folder_was_never_made_is_tried_under_another_number(tmp_path):
    sweep = Sweep(tmp_path / "s", settings(n_trials=3, pruner="none"))
    lost = sweep.journal.study.ask()
    value = PEAK.suggest(lost)
    half = sweep.journal.study.ask()  # killed before anything was suggested
    sweep.again()
    sweep.finish()
    assert sweep.states == {"FAIL": 2, "COMPLETE": 3}
    assert sweep.journal.trials()[lost.number].user_attrs == {"lost": True}
    assert sweep.journal.trials()[half.number].user_attrs == {"lost": True}
    assert [f"mu_peak={value}"] in [trial.overrides for trial in sweep.folder.trials()]


def test_a_journal_line_that_a_kill_cut_short_is_dropped(tmp_path):
    sweep = Sweep(tmp_path / "s", settings(n_trials=2, pruner="none"))
    sweep.finish()
    with open(tmp_path / "s" / "optuna.journal", "ab") as stream:
        stream.write(b'{"op_code": 4, "wor')
    sweep.total = 3
    sweep.again()
    sweep.finish()
    assert sweep.states == {"COMPLETE": 3}


def test_a_resumed_random_sweep_does_not_draw_its_first_points_again(tmp_path):
    sweep = Sweep(tmp_path / "s", settings(n_trials=8, pruner="none", sampler="random"), total=4)
    sweep.finish()
    sweep.total = 8
    sweep.again()
    sweep.finish()
    assert len({tuple(trial.overrides) for trial in sweep.folder.trials()}) == 8


def test_the_same_seed_tries_the_same_points(tmp_path):
    tried = []
    for name in ("a", "b"):
        sweep = Sweep(tmp_path / name, settings(n_trials=6, pruner="none"))
        sweep.finish()
        tried.append([trial.overrides for trial in sweep.folder.trials()])
    assert tried[0] == tried[1]


def test_a_journal_of_another_space_is_refused(tmp_path):
    sweep = Sweep(tmp_path / "s", settings())
    sweep.space = [replace(PEAK, high=0.5)]
    with pytest.raises(ConfigError, match=r"other space: .*0 to 1.* and not .*0 to 0.5"):
        sweep.again()


def test_what_another_sweep_gives_back_is_used_though_nothing_waits_here(tmp_path):
    sweep = Sweep(tmp_path / "s", settings(n_trials=2, pruner="none"))
    sweep.backend.external_footprints = [Footprint(cpus=2)]
    sweep.tuner._footprint = Footprint(cpus=1)
    sweep.scheduler._count(0.0)
    for _ in range(3):
        assert sweep.tuner.each(sweep.scheduler.poll()) and not sweep.folder.trials()
        sweep.backend.wait(1)
    sweep.backend.external_footprints = []
    sweep.finish(polls=100)
    assert sweep.states == {"COMPLETE": 2}


def test_points_are_asked_for_only_when_they_can_start(tmp_path):
    """Two fit at once; a third would be chosen without knowing the results of the first two."""
    sweep = Sweep(tmp_path / "s", settings(n_trials=9, pruner="none"))
    most = []

    def request(number: int, values: dict) -> TrialRequest:
        most.append(len(sweep.scheduler.active) + sweep.scheduler.queued)
        return sweep.request(number, values)

    sweep.tuner._request = request
    sweep.finish()
    assert max(most) <= 1
