"""Several runs side by side: groups of equal settings, their scores, and which differences hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chord_exp.report import history as h
from chord_exp.report import statistics
from chord_exp.report.history import Series
from chord_exp.report.measures import is_higher_better, objective
from chord_exp.report.runs import Run

# noisy metrics are scored by the mean of their last values, accuracy by its last value
LAST = {h.ACCURACY: 1}
LAST_NOISY = 8


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
class Cost:
    """What it took a run to reach a score."""

    steps: int
    seconds: float | None
    # trained tokens
    tokens: float | None


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seeds alone."""

    label: str
    # settings that differ between the groups
    settings: dict[str, str]
    runs: list[Run]


@dataclass(frozen=True)
class GroupScores:
    """What the seeds of a group reached. Only runs that succeeded count."""

    group: Group
    # by seed
    final: dict[int, float]
    best: dict[int, float]
    # None: no run of the group has succeeded
    final_mean: statistics.Interval | None
    final_iqm: statistics.Interval | None
    best_mean: statistics.Interval | None
    # against the first group; None for itself
    difference: statistics.Difference | None
    improvement: float | None


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
    found: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        found.setdefault(tuple(run.settings.get(key, "-") for key in keys), []).append(run)
    made = []
    for values, members in found.items():
        settings = dict(zip(keys, values, strict=True))
        # a run alone among many is known by its settings; runs that differ in nothing known by their variant
        label = " ".join(f"{key}={value}" for key, value in settings.items()) if len(keys) <= 4 else members[0].label
        made.append(Group(label or members[0].label, settings, members))
    return made


def compare(found: Sequence[Group], metric: str = "") -> list[GroupScores]:
    """Score groups and compare each with the first."""
    metric = metric or objective(run.history for group in found for run in group.runs)
    scored: list[GroupScores] = []
    for group in found:
        ended = [run for run in group.runs if run.succeeded]
        final = _by_seed([(run.seed, final_score(run, metric)) for run in ended])
        best = _by_seed([(run.seed, best_score(run, metric)) for run in ended])
        reference = scored[0].final if scored else {}
        scored.append(
            GroupScores(
                group,
                final,
                best,
                statistics.bootstrap(list(final.values())) if final else None,
                statistics.interquartile_interval(list(final.values())) if final else None,
                statistics.bootstrap(list(best.values())) if best else None,
                statistics.difference(final, reference) if final and reference else None,
                _improvement(final, reference, metric) if final and reference else None,
            )
        )
    return scored


def _by_seed(scores: list[tuple[int, Score | None]]) -> dict[int, float]:
    """Seeds are the unit: a seed that was run twice counts once, by its mean."""
    values: dict[int, list[float]] = {}
    for seed, score in scores:
        if score is not None:
            values.setdefault(seed, []).append(score.value)
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


def cost_to_reach(run: Run, metric: str, target: float) -> Cost | None:
    """Return what a run spent until it first reached a score; None if it never did."""
    series = run.history[metric].finite()
    reached = series.value >= target if is_higher_better(metric) else series.value <= target
    if not reached.any():
        return None
    at = int(series.at[int(reached.argmax())])
    clock, tokens = run.history.clock, run.history[h.TOKENS].finite()
    return Cost(at, _seconds_until(clock, at), float(tokens.value[tokens.at <= at].sum()) if len(tokens) else None)


def _seconds_until(clock: Series, at: int) -> float | None:
    before = clock.value[clock.at <= at]
    return float(before[-1] - clock.value[0]) if len(before) else None


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
