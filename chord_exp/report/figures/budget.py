"""What a run has spent by each of its steps: rows, tokens, floating-point operations, seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chord_exp.report.read.planned import BatchRows, batch_rows
from chord_exp.report.read.runs import Run
from chord_exp.run_files import history as h

# floating-point operations a parameter and token (Kaplan et al. 2020, arXiv 2001.08361, section 2.1): a forward pass
# takes 2, training 6 with its backward pass
FORWARD, TRAINING = 2, 6
PARAMETERS = "model.parameters_b"


@dataclass(frozen=True)
class Spent:
    """What was spent until a step; NaN for what nobody wrote down."""

    steps: float
    # rows that were trained on: rollouts and expert rows
    samples: float
    # tokens that were trained on
    tokens: float
    # training, and making the rollouts
    flops: float
    seconds: float


FIELDS = ("steps", "samples", "tokens", "flops", "seconds")


@dataclass(frozen=True)
class Budget:
    """The columns of `Spent` at each step, as arrays of one length; the first step is 0."""

    columns: npt.NDArray[np.float64]

    def until(self, step: float) -> Spent:
        """Return what was spent until a step, between two of them in proportion."""
        return Spent(*(float(np.interp(step, self.columns[0], column)) for column in self.columns))

    @property
    def total(self) -> Spent:
        """What was spent in all."""
        return Spent(*(float(column[-1]) for column in self.columns))


def budget(run: Run) -> Budget:
    """Return what a run spent.

    Floating-point operations are an estimate: 6 a parameter and trained token, and 2 a token of a rollout for making
    it; which tokens are rollouts' is taken from their part of a batch's rows.
    """
    trained = run.history[h.TOKENS]
    at = np.concatenate([[0], trained.at])
    rows, stages = batch_rows(run.config), run.history.stages
    names, begins = list(stages), np.array(list(stages.values()))
    # a stage's steps are those behind its begin
    stage = np.searchsorted(begins, trained.at, side="left") - 1
    of_stage = [rows.get(name) for name in names]
    samples = _by_stage(stage, [_total(one) for one in of_stage])
    made = _by_stage(stage, [one.rollouts / _total(one) if one else np.nan for one in of_stage])
    try:
        parameters = 1e9 * float(run.composed.get(PARAMETERS, "nan"))
    except ValueError:
        parameters = np.nan
    flops = trained.value * parameters * (TRAINING + FORWARD * made)
    columns = [at, *(np.concatenate([[0.0], np.cumsum(step)]) for step in (samples, trained.value, flops))]
    return Budget(np.stack([*columns, _seconds(run.history.clock, at)]).astype(float))


def _total(rows: BatchRows | None) -> float:
    return rows.rollouts + rows.experts if rows else np.nan


def _by_stage(stage: npt.NDArray[np.int64], values: Sequence[float]) -> npt.NDArray[np.float64]:
    return np.asarray(values, dtype=float)[stage] if len(stage) else np.array([])


def _seconds(clock: h.Series, at: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Seconds from the first row that was written to the last of each step."""
    if not len(clock):
        return np.full(len(at), np.nan)
    # the first weights may be evaluated after the last step, as SFT's are
    known = np.minimum.accumulate(clock.value[::-1])[::-1]
    index = np.maximum(np.searchsorted(clock.at, at, side="right") - 1, 0)
    return np.asarray(known[index] - known[0])


def mean_spent(spent: Sequence[Spent]) -> Spent:
    """Return the mean of several runs."""
    return Spent(*np.mean([[getattr(one, name) for name in FIELDS] for one in spent], axis=0).tolist())
