"""Statistics over seeds: interquartile mean, stratified bootstrap intervals, probability of improvement.

The definitions are those of Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(NeurIPS 2021, arXiv 2108.13264). Scores are arrays of shape (runs, tasks); a single task may be given as (runs,).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
LEVEL = 0.95
# draws of a bootstrap: at least, at most, and numbers that all of them together may take
FEWEST_DRAWS, MOST_DRAWS, ALL_NUMBERS = 2000, 20_000, 2_000_000
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


def _means(draws: Scores) -> Scores:
    """Means of many draws at once: (..., runs, tasks) to (...)."""
    return np.asarray(draws.mean(axis=(-2, -1)))


def _interquartile_means(draws: Scores) -> Scores:
    flat = np.sort(draws.reshape(*draws.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return np.asarray(flat[..., cut : flat.shape[-1] - cut].mean(axis=-1))


@cache
def tail(count: int, level: float = LEVEL) -> float:
    """Return which part of bootstrap draws lies beyond each end of an interval of `count` observations.

    Plain percentiles are those of a normal distribution of known spread, and too narrow for few observations: of five
    they hold the mean in 85% of cases, not 95%. Here they are the expanded percentiles of Hesterberg ("What Teachers
    Should Know About the Bootstrap", 2015, arXiv 1411.5279), by Student's t: 92% with five, 95% from ten on.
    """
    if count < 2:
        return 0.0
    return NormalDist().cdf(-math.sqrt(count / (count - 1)) * student_t((1 + level) / 2, count - 1))


def student_t(probability: float, degrees: int) -> float:
    """Return the quantile of Student's t distribution at a probability of 0.5 or more, for whole degrees of freedom."""
    low, high = 0.0, 1e4
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 + _within(middle, degrees)) / 2 < probability else (low, middle)
    return low


def _within(t: float, degrees: int) -> float:
    """Return the probability that |T| < t (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(degrees))
    odd = degrees % 2
    term = total = math.cos(angle) if odd else 1.0
    for k in range(2 + odd, degrees - 1, 2):
        term *= (k - 1) / k * math.cos(angle) ** 2
        total += term
    if degrees == 1:
        return 2 * angle / math.pi
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


def bootstrap(
    values: Sequence[float] | Scores,
    statistic: Callable[[Scores], Scores] = _means,
    *,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Return a statistic with its percentile interval: runs are drawn anew with replacement, each task by itself.

    See `tail` for the percentiles.

    Args:
        statistic: of many draws at once, shape (..., runs, tasks) to (...); the mean.
    """
    scores = as_scores(values)
    runs, tasks = scores.shape
    estimate = float(statistic(scores))
    if runs == 1:
        return Interval(estimate, estimate, estimate, 1)
    draws = np.random.default_rng(seed).integers(runs, size=(_draws(scores.size), runs, tasks))
    found = statistic(scores[draws, np.arange(tasks)])
    low, high = np.quantile(found, [tail(runs, level), 1 - tail(runs, level)])
    return Interval(estimate, float(low), float(high), runs)


def _draws(numbers: int) -> int:
    """Return how often so many numbers are drawn anew."""
    return max(FEWEST_DRAWS, min(MOST_DRAWS, ALL_NUMBERS // numbers))


def interquartile_interval(values: Sequence[float] | Scores) -> Interval:
    """Return the mean of what is left of all scores without the lowest and highest quarter, with its interval.

    Runs and tasks alike; a quarter of n scores is n // 4 of them: with three seeds of one task it is the plain mean.
    """
    return bootstrap(values, _interquartile_means)


def band(curves: Scores, *, resamples: int = 1000, seed: int = 0) -> tuple[Scores, Scores, Scores]:
    """Return the mean curve of several seeds, and the lower and upper end of its bootstrap interval at each step.

    Args:
        curves: shape (runs, steps).
    """
    runs = curves.shape[0]
    draws = np.random.default_rng(seed).integers(runs, size=(resamples, runs))
    # how often each run was drawn: one product of matrices in place of many copies
    weights = np.stack([np.bincount(draw, minlength=runs) for draw in draws]) / runs
    low, high = np.quantile(weights @ curves, [tail(runs), 1 - tail(runs)], axis=0)
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
    draws = [random.choice(side, (MOST_DRAWS, len(side))).mean(axis=1) for side in (x, y)]
    fewer = min(len(x), len(y))
    low, high = np.quantile(draws[0] - draws[1], [tail(fewer), 1 - tail(fewer)])
    return Difference(float(x.mean() - y.mean()), float(low), float(high), fewer, paired=False)


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95% interval of a share that was seen in `count` independent trials (Wilson 1927).

    For a greedy accuracy over held-out prompts: what other prompts of the same kind might have given.
    """
    z = 1.959964
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)
