"""The metrics of a run by name, each value with the line of `metrics.jsonl` that it stands in."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from chord_exp.run_files import metrics

REWARD, ACCURACY, MU = metrics.REWARD, metrics.ACCURACY, metrics.MU
GROUP_STD_MEAN = "experience_pipeline/group_advantages/reward_std/mean"
GROUP_STD_MAX = metrics.GROUP_REWARD_STD_MAX
LOSS, GRPO_LOSS = "actor/loss", "actor/usual/pg_loss"
SFT_LOSS, SFT_PHI_LOSS = "actor/expert/sft_loss", "actor/expert/sft_phi_loss"
ENTROPY, GRAD_NORM = "actor/entropy", "actor/grad_norm"
PPO_KL, CLIP_SHARE = "actor/usual/ppo_kl", "actor/usual/pg_clipfrac"
CUT_PROMPTS, SAMPLES = metrics.TRUNCATED_PROMPTS, "experience_pipeline/experience_count"
CUT_RESPONSES, RESPONSE_LENGTH = "response_length/clip_ratio", "response_length/mean"
EVAL_LOST, EVAL_DONE = metrics.EVAL_LOST_ROLLOUTS, "eval/eval/finished_task_count"
TOKENS_PER_SECOND, TOKENS = "perf/tokens_per_second", "perf/total_num_tokens"
WALL_TIME = metrics.WALL_TIME
# where the time of a step goes, seconds
STEP_TIMES = {
    "time/read_experience": "waiting for rollouts",
    "time/train_step": "training",
    "time/sync_weight": "handing weights over",
    "time/save_checkpoint": "saving",
    "time/eval": "evaluating",
}
WANTED = frozenset(
    (
        REWARD,
        ACCURACY,
        MU,
        GROUP_STD_MEAN,
        GROUP_STD_MAX,
        LOSS,
        GRPO_LOSS,
        SFT_LOSS,
        SFT_PHI_LOSS,
        ENTROPY,
        GRAD_NORM,
        PPO_KL,
        CLIP_SHARE,
        CUT_PROMPTS,
        SAMPLES,
        CUT_RESPONSES,
        RESPONSE_LENGTH,
        EVAL_LOST,
        EVAL_DONE,
        TOKENS_PER_SECOND,
        TOKENS,
        *STEP_TIMES,
    )
)
# losses and gradients: the first one that is no number ends a run's use
TRAINED = (LOSS, GRPO_LOSS, SFT_LOSS, SFT_PHI_LOSS, GRAD_NORM)


@dataclass(frozen=True)
class Series:
    """One metric; all arrays of one length, in the order of `at`. Where a resume repeated a step, its last value."""

    # steps since the run's start, the stages before counted in
    at: npt.NDArray[np.int64]
    # as logged, NaN and infinities too
    value: npt.NDArray[np.float64]
    # of metrics.jsonl, the first is 1
    line: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.at)

    def finite(self) -> Series:
        """Return it without values that are no numbers."""
        return self.take(np.isfinite(self.value))

    def take(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Series:
        """Return some of its points."""
        return Series(self.at[which], self.value[which], self.line[which])

    def best(self, *, higher: bool) -> int:
        """Return the index of the best value, the first of equals; there must be a finite one."""
        values = np.where(np.isfinite(self.value), self.value, -np.inf if higher else np.inf)
        return int(values.argmax() if higher else values.argmin())


EMPTY = Series(np.array([], dtype=np.int64), np.array([], dtype=float), np.array([], dtype=np.int64))


@dataclass(frozen=True)
class History:
    """What a run logged."""

    series: dict[str, Series]
    # seconds since the epoch of the last row of each step
    clock: Series
    # names of Trinity's stages and where each begins, in steps; one with an empty name for most runs
    stages: dict[str, int]

    def __getitem__(self, metric: str) -> Series:
        return self.series.get(metric, EMPTY)

    @property
    def steps(self) -> int:
        """The last step that was trained."""
        trained = self[LOSS] if len(self[LOSS]) else self[GRAD_NORM]
        return int(trained.at[-1]) if len(trained) else 0


def numbered(path: Path) -> Iterator[tuple[int, metrics.Row]]:
    """Yield the rows of a metrics file with their line numbers; nothing if there is no file."""
    try:
        with open(path, "rb") as stream:
            for number, line in enumerate(stream, start=1):
                row = metrics.parse(line)
                if row is not None:
                    yield number, row
    except FileNotFoundError:
        return


def history(rows: Iterable[tuple[int, metrics.Row]]) -> History:
    """Gather numbered rows by metric."""
    found: dict[str, dict[tuple[str, int], tuple[float, int]]] = {key: {} for key in WANTED}
    clock: dict[tuple[str, int], tuple[float, int]] = {}
    last_steps: dict[str, int] = {}
    for number, row in rows:
        place = (row.get("stage", ""), row["step"])
        last_steps[place[0]] = max(last_steps.get(place[0], 0), place[1])
        for key in WANTED & row.keys():
            # "NaN" and "Infinity" are read by float
            found[key][place] = (float(row[key]), number)
        if WALL_TIME in row:
            clock[place] = (row[WALL_TIME], number)
    stages, begin = {}, 0
    for stage, last in last_steps.items():
        stages[stage] = begin
        begin += last
    series = {key: _series(points, stages) for key, points in found.items() if points}
    return History(series, _series(clock, stages), stages or {"": 0})


def _series(points: dict[tuple[str, int], tuple[float, int]], stages: dict[str, int]) -> Series:
    at = np.fromiter((stages[stage] + step for stage, step in points), np.int64, len(points))
    value = np.fromiter((value for value, _ in points.values()), np.float64, len(points))
    line = np.fromiter((line for _, line in points.values()), np.int64, len(points))
    order = np.argsort(at, kind="stable")
    return Series(at[order], value[order], line[order])


def thinned(series: Series, most: int) -> Series:
    """Return at most about `most` points of a series, none of them made up: the lowest and highest of each stretch.

    The first and the last point stay.
    """
    count = len(series)
    if count <= most:
        return series
    edges = np.linspace(0, count, max(2, most // 2) + 1).astype(int)
    kept = {0, count - 1}
    for begin, end in itertools.pairwise(edges.tolist()):
        stretch = series.value[begin:end]
        if np.isfinite(stretch).any():
            kept |= {begin + int(np.nanargmin(stretch)), begin + int(np.nanargmax(stretch))}
    return series.take(np.array(sorted(kept), dtype=np.int64))


def smoothed(series: Series, width: int) -> npt.NDArray[np.float64]:
    """Return the mean of the `width` values about each point; fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(series.value)])
    index = np.arange(len(series))
    low = np.maximum(index - width // 2, 0)
    high = np.minimum(index + (width + 1) // 2, len(series))
    return np.asarray((sums[high] - sums[low]) / (high - low))
