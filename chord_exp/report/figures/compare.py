"""Several runs side by side: groups of equal settings, their scores, and which differences hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from chord_exp.report.figures.budget import Spent, budget
from chord_exp.report.figures.measures import is_higher_better
from chord_exp.report.read.runs import Run
from chord_exp.report.read.settings import StudyPlan
from chord_exp.run_files import history as h
from chord_exp.run_files.history import Series
from chord_exp.utils import statistics

# noisy metrics are scored by the mean of their last values, accuracy by its last value
LAST = {h.ACCURACY: 1}
LAST_NOISY = 8
# keys whose values are names of methods, and say enough without them
NAMES = ("method", "variant")


@dataclass(frozen=True)
class Score:
    """A figure of a run and where it stands."""

    value: float
    # step of the run, and line of metrics.jsonl
    at: int
    line: int
    # values it is the mean of, this line's and those before
    of: int = 1


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seeds alone."""

    label: str
    # settings that differ between the groups
    settings: dict[str, str]
    runs: list[Run]
    # how its settings were chosen, where there was a choice
    note: str = ""


@dataclass(frozen=True)
class GroupScores:
    """What the seeds of a group reached. Only runs that succeeded count."""

    group: Group
    # by seed
    final: dict[int, float]
    best: dict[int, float]
    # on the test set, at the step that was best on the evaluation set; empty without a test set
    tested: dict[int, float]
    # what it is judged by: tested where there is a test set, otherwise final; against the reference, None for itself
    difference: statistics.Difference | None
    improvement: float | None

    @property
    def judged(self) -> dict[int, float]:
        """By seed, what the group is judged by."""
        return self.tested or self.final

    @property
    def has_ended(self) -> bool:
        """Whether a run of the group has succeeded."""
        return bool(self.final)


def final_score(run: Run, metric: str) -> Score | None:
    """Return where a run came to: the last accuracy, or the mean of the last values of a noisy metric."""
    series = run.history[metric].finite()
    if not len(series):
        return None
    count = min(LAST.get(metric, LAST_NOISY), len(series))
    return Score(float(series.value[-count:].mean()), int(series.at[-1]), int(series.line[-1]), count)


def best_score(run: Run, metric: str) -> Score | None:
    """Return the best value of a run. It was chosen by the very rows it is measured on, so it flatters."""
    series = run.history[metric].finite()
    if not len(series):
        return None
    index = series.best(higher=is_higher_better(metric))
    return Score(float(series.value[index]), int(series.at[index]), int(series.line[index]))


def chosen_score(run: Run) -> Score | None:
    """Return a run's accuracy on the test set at the step that was best on the evaluation set.

    The untrained model, at step 0, is no step of the run. Of equals the first counts.
    """
    evaluated, tested = run.history[h.ACCURACY].finite(), run.history[h.TEST_ACCURACY].finite()
    evaluated = evaluated.take((evaluated.at > 0) & np.isin(evaluated.at, tested.at))
    if not len(evaluated):
        return None
    step = evaluated.at[evaluated.best(higher=True)]
    index = int(np.searchsorted(tested.at, step, side="right")) - 1
    return Score(float(tested.value[index]), int(step), int(tested.line[index]))


def differing(runs: Sequence[Run]) -> list[str]:
    """Return the settings in which runs differ: those given by hand, where these tell all of them apart."""
    keys = sorted({key for run in runs for key in run.settings})
    differ = [key for key in keys if len({run.settings.get(key, "") for run in runs}) > 1]
    by_hand = [key for key in differ if any(key in run.overrides for run in runs)]

    def kinds(chosen: list[str]) -> int:
        return len({tuple(run.settings.get(key, "") for key in chosen) for run in runs})

    return by_hand if kinds(by_hand) == kinds(differ) else differ


def groups(runs: Sequence[Run]) -> list[Group]:
    """Return groups of runs of equal settings, in the order of their first runs."""
    keys = differing(runs)
    made = []
    for values, members in _partition(runs, keys).items():
        settings = dict(zip(keys, values, strict=True))
        # a run alone among many is known by its settings; runs that differ in nothing known by their variant
        label = " ".join(f"{key}={value}" for key, value in settings.items()) if len(keys) <= 4 else members[0].label
        made.append(Group(label or members[0].label, settings, members))
    return made


def methods(runs: Sequence[Run], plan: StudyPlan) -> list[Group]:
    """Return the methods of a study, in the order of their first runs.

    Where a method was run with several settings, those count whose runs reached most on the evaluation set, in the
    mean over seeds, each at its best step.
    """
    made = []
    for values, members in _partition(runs, plan.by).items():
        candidates = groups(members)
        chosen = max(candidates, key=_evaluated)
        note = (
            f"of {len(candidates)} settings best on the evaluation set: {chosen.label}" if len(candidates) > 1 else ""
        )
        pairs = zip(plan.by, values, strict=True)
        label = " ".join(value if key in NAMES else f"{key}={value}" for key, value in pairs)
        made.append(Group(label, dict(zip(plan.by, values, strict=True)), chosen.runs, note))
    return made


def _partition(runs: Sequence[Run], keys: Sequence[str]) -> dict[tuple[str, ...], list[Run]]:
    found: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        # a group of options is no setting, and known by its override
        values = tuple(run.settings.get(key, run.overrides.get(key, "-")) for key in keys)
        found.setdefault(values, []).append(run)
    return found


def _evaluated(group: Group) -> float:
    scores = [score for run in group.runs if run.succeeded and (score := best_score(run, h.ACCURACY)) is not None]
    return sum(score.value for score in scores) / len(scores) if scores else -np.inf


def compare(found: Sequence[Group], metric: str, reference: int = 0) -> list[GroupScores]:
    """Score groups and compare each with the one at place `reference`."""
    measured = []
    for group in found:
        ended = [run for run in group.runs if run.succeeded]
        columns = (
            [final_score(run, metric) for run in ended],
            [best_score(run, metric) for run in ended],
            [chosen_score(run) for run in ended],
        )
        final, best, tested = (_by_seed(ended, column) for column in columns)
        measured.append(GroupScores(group, final, best, tested, None, None))
    # all by the same rows
    if not all(one.tested for one in measured if one.has_ended):
        measured = [replace(one, tested={}) for one in measured]
    theirs = measured[reference].judged
    return [
        one
        if index == reference or not one.judged or not theirs
        else replace(
            one,
            difference=statistics.difference(one.judged, theirs),
            improvement=_improvement(one.judged, theirs, metric),
        )
        for index, one in enumerate(measured)
    ]


def _by_seed(runs: Sequence[Run], scores: Sequence[Score | None]) -> dict[int, float]:
    """Seeds are the unit: a seed that was run twice counts once, by its mean."""
    values: dict[int, list[float]] = {}
    for run, score in zip(runs, scores, strict=True):
        if score is not None:
            values.setdefault(run.seed, []).append(score.value)
    return {seed: sum(of_seed) / len(of_seed) for seed, of_seed in values.items()}


def _improvement(ours: dict[int, float], theirs: dict[int, float], metric: str) -> float:
    higher = statistics.probability_of_improvement(list(ours.values()), list(theirs.values()))
    return higher if is_higher_better(metric) else 1 - higher


def common_target(runs: Sequence[Run], metric: str) -> float | None:
    """Return a score that half of the runs reached, rounded to what all of these have."""
    best = [score.value for run in runs if (score := best_score(run, metric)) is not None]
    if len(best) < 2:
        return None
    higher = is_higher_better(metric)
    middle = float(np.quantile(best, 0.5))
    return (np.floor if higher else np.ceil)(middle * 100) / 100


def cost_to_reach(run: Run, metric: str, target: float) -> Spent | None:
    """Return what a run spent until it first reached a score; None if it never did."""
    series = run.history[metric].finite()
    reached = series.value >= target if is_higher_better(metric) else series.value <= target
    return budget(run).until(float(series.at[reached.argmax()])) if reached.any() else None


def common_curves(series: Sequence[Series], most: int, smooth: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the steps at which every seed has a value, thinned, and the values there, shape (seeds, steps).

    Args:
        smooth: steps that each seed's values are averaged over first.
    """
    whole = [one.finite() for one in series]
    whole = [one for one in whole if len(one)]
    if len(whole) < 2:
        return None
    steps = whole[0].at
    for one in whole[1:]:
        steps = np.intersect1d(steps, one.at)
    if len(steps) < 2:
        return None
    if len(steps) > most:
        steps = steps[np.unique(np.linspace(0, len(steps) - 1, most).astype(int))]
    # of a step with two values, as where two stages meet, the later
    curves = [h.smoothed(one, smooth)[np.searchsorted(one.at, steps, side="right") - 1] for one in whole]
    return steps, np.stack(curves)
