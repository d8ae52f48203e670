"""The metrics of a run by name, each value with the line of `metrics.jsonl` that it stands in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from chord_exp.run_files import metrics

REWARD, ACCURACY, TEST_ACCURACY, MU = metrics.REWARD, metrics.ACCURACY, metrics.TEST_ACCURACY, metrics.MU
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
        TEST_ACCURACY,
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
    places: list[tuple[str, int]] = []
    lines: list[int] = []
    # of each metric, which rows have it, and its values there
    found: dict[str, tuple[list[int], list[float | str]]] = {key: ([], []) for key in (*WANTED, WALL_TIME)}
    wanted = found.keys()
    last_steps: dict[str, int] = {}
    for index, (number, row) in enumerate(rows):
        stage, step = row.get("stage", ""), row["step"]
        places.append((stage, step))
        lines.append(number)
        if step >= last_steps.get(stage, 0):
            last_steps[stage] = step
        for key in wanted & row.keys():
            where, values = found[key]
            where.append(index)
            values.append(row[key])
    stages, begin = {}, 0
    for stage, last in last_steps.items():
        stages[stage] = begin
        begin += last
    at = np.array([stages[stage] + step for stage, step in places], dtype=np.int64)
    # steps at which two stages meet are two
    stage_of = np.array([list(stages).index(stage) for stage, _ in places], dtype=np.int64)
    line = np.array(lines, dtype=np.int64)
    series = {}
    for key, (where, values) in found.items():
        if where:
            # "NaN" and "Infinity" become what they say
            series[key] = _series(at[where], stage_of[where], np.array(values, dtype=float), line[where])
    clock = series.pop(WALL_TIME, EMPTY)
    return History(series, clock, stages or {"": 0})


def _series(
    at: npt.NDArray[np.int64], stage: npt.NDArray[np.int64], value: npt.NDArray[np.float64], line: npt.NDArray[np.int64]
) -> Series:
    """Order by step; of a step that was repeated the last value stays."""
    order = np.lexsort((line, stage, at))
    at, stage = at[order], stage[order]
    last = np.append((at[1:] != at[:-1]) | (stage[1:] != stage[:-1]), True)
    kept = order[last]
    return Series(at[last], value[kept], line[kept])


def smoothed(series: Series, width: int) -> npt.NDArray[np.float64]:
    """Return the mean of the `width` values about each point; fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(series.value)])
    index = np.arange(len(series))
    low = np.maximum(index - width // 2, 0)
    high = np.minimum(index + (width + 1) // 2, len(series))
    return np.asarray((sums[high] - sums[low]) / (high - low))
