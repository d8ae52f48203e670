"""Statistics over seeds: interquartile mean, stratified bootstrap intervals, probability of improvement.

The definitions are those of Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(NeurIPS 2021, arXiv 2108.13264). Scores are arrays of shape (runs, tasks); a single task may be given as (runs,).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
LEVEL = 0.95
RESAMPLES = 2000
# with fewer seeds a percentile interval is no evidence: three differences have one sign by chance in one case of four
FEWEST_SEEDS = 5


@dataclass(frozen=True)
class Interval:
    """An estimate and where the true value may well lie."""

    value: float
    # equal to `value` where nothing can be said
    low: float
    high: float
    # seeds, or pairs of them, that it rests on
    count: int


@dataclass(frozen=True)
class Difference(Interval):
    """What one group is ahead of another by."""

    # by seed: the same seeds in both groups
    paired: bool

    @property
    def verdict(self) -> str:
        """Return `higher`, `lower`, `no difference shown` or `too few seeds`."""
        if self.count < FEWEST_SEEDS:
            return "too few seeds"
        if self.low > 0:
            return "higher"
        return "lower" if self.high < 0 else "no difference shown"


def as_scores(values: Sequence[float] | Scores) -> Scores:
    """Return scores of shape (runs, tasks).

    Raises:
        ValueError: there are none.
    """
    scores = np.asarray(values, dtype=float)
    if scores.size == 0:
        raise ValueError("no scores")
    return scores[:, None] if scores.ndim == 1 else scores


def interquartile_mean(values: Sequence[float] | Scores) -> float:
    """Return the mean of what is left of all scores, runs and tasks alike, without the lowest and highest quarter.

    A quarter of n scores is n // 4 of them: with three seeds of one task it is the plain mean.
    """
    return float(_interquartile_means(as_scores(values)))


def _means(draws: Scores) -> Scores:
    """Means of many draws at once: (..., runs, tasks) to (...)."""
    return np.asarray(draws.mean(axis=(-2, -1)))


def _interquartile_means(draws: Scores) -> Scores:
    flat = np.sort(draws.reshape(*draws.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return np.asarray(flat[..., cut : flat.shape[-1] - cut].mean(axis=-1))


def bootstrap(
    values: Sequence[float] | Scores,
    statistic: Callable[[Scores], Scores] = _means,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return a statistic with its percentile interval: runs are drawn anew with replacement, each task by itself.

    Args:
        statistic: of many draws at once, shape (..., runs, tasks) to (...); the mean.
    """
    scores = as_scores(values)
    runs, tasks = scores.shape
    estimate = float(statistic(scores))
    if runs == 1:
        return Interval(estimate, estimate, estimate, 1)
    draws = np.random.default_rng(seed).integers(runs, size=(resamples, runs, tasks))
    found = statistic(scores[draws, np.arange(tasks)])
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), runs)


def interquartile_interval(values: Sequence[float] | Scores) -> Interval:
    """Return the interquartile mean with its interval."""
    return bootstrap(values, _interquartile_means)


def band(curves: Scores, *, level: float = LEVEL, resamples: int = 500, seed: int = 0) -> tuple[Scores, Scores, Scores]:
    """Return the mean curve of several seeds, and the lower and upper end of its bootstrap interval at each step.

    Args:
        curves: shape (runs, steps).
    """
    runs = curves.shape[0]
    draws = np.random.default_rng(seed).integers(runs, size=(resamples, runs))
    # how often each run was drawn: one product of matrices in place of many copies
    weights = np.stack([np.bincount(draw, minlength=runs) for draw in draws]) / runs
    low, high = np.quantile(weights @ curves, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return curves.mean(axis=0), low, high


def probability_of_improvement(ours: Sequence[float] | Scores, theirs: Sequence[float] | Scores) -> float:
    """Return how probable it is that a run of ours scores higher than one of theirs, on a task drawn at random.

    A tie counts half: the Mann-Whitney U statistic of each task over the number of pairs, averaged over tasks.
    """
    x, y = as_scores(ours), as_scores(theirs)
    higher = (x[:, None, :] > y[None, :, :]).mean(axis=(0, 1))
    equal = (x[:, None, :] == y[None, :, :]).mean(axis=(0, 1))
    return float((higher + equal / 2).mean())


def difference(ours: Mapping[int, float], theirs: Mapping[int, float], *, seed: int = 0) -> Difference:
    """Return the mean difference of two groups' scores by seed, ours less theirs.

    Where all seeds of one group are in the other, and are two or more, they are compared in pairs; otherwise the
    groups are drawn from independently.

    Raises:
        ValueError: a group is empty.
    """
    if not ours or not theirs:
        raise ValueError("no scores")
    common = sorted(ours.keys() & theirs.keys())
    if len(common) >= max(2, min(len(ours), len(theirs))):
        found = bootstrap([ours[one] - theirs[one] for one in common], seed=seed)
        return Difference(found.value, found.low, found.high, found.count, paired=True)
    x, y = np.array(list(ours.values())), np.array(list(theirs.values()))
    random = np.random.default_rng(seed)
    draws = [random.choice(side, (RESAMPLES, len(side))).mean(axis=1) for side in (x, y)]
    low, high = np.quantile(draws[0] - draws[1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = float(x.mean() - y.mean())
    return Difference(value, float(low), float(high), min(len(x), len(y)), paired=False)


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95% interval of a share that was seen in `count` independent trials (Wilson 1927).

    For a greedy accuracy over held-out prompts: what other prompts of the same kind might have given.
    """
    z = 1.959964
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)
