"""Reading `metrics.jsonl`: one flat object a line, `{"step": 3, "source": "trainer", "actor/mu": 0.4}`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

Row = dict[str, Any]

# numbers that JSON cannot write, as the monitor writes them
NON_FINITE = ("NaN", "Infinity", "-Infinity")
ACCURACY = "eval/eval/accuracy/mean@1"
# on the test set, which nothing is chosen by
TEST_ACCURACY = "eval/test/accuracy/mean@1"
# what a checkpoint is worth: the first of these that was measured
HELD_OUT = (ACCURACY, "eval/eval/similarity/mean@1")
# rollouts of an evaluation that failed and so are not in its accuracy; the last word is engine.coordinator's
EVAL_LOST_ROLLOUTS = "eval/eval/lost_rollouts"
REWARD = "rollout/accuracy/mean"
MU = "actor/mu"
# when a row was written, seconds since the epoch
WALL_TIME = "wall_time"
# largest standard deviation of rewards within a prompt group
GROUP_REWARD_STD_MAX = "experience_pipeline/group_advantages/reward_std/max"
# rollouts of a training batch whose prompt was over the limit
TRUNCATED_PROMPTS = "sample/prompt_truncated"
# metrics that have a better direction: True, higher is better
HIGHER_IS_BETTER = {ACCURACY: True, REWARD: True, "actor/loss": False, "actor/expert/sft_loss": False}


def parse(line: str | bytes) -> Row | None:
    """Return one row; None for a line that a crash cut short."""
    try:
        row = orjson.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "step" in row else None


def read(path: Path) -> list[Row]:
    """Return all rows of a file, in the order written; none if it does not exist."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [row for line in text.splitlines() if (row := parse(line)) is not None]


class Tail:
    """Reads what has been appended to a metrics file since the last look."""

    def __init__(self, path: Path, *, from_end: bool = False) -> None:
        self.path = path
        # behind the last line that was read whole: a resumed run cuts off the rest of one that a crash cut short
        self._offset = path.stat().st_size if from_end and path.exists() else 0

    def new_rows(self) -> Iterator[Row]:
        """Yield the rows whose lines are complete; all of them again where the file was replaced by a shorter one."""
        try:
            with open(self.path, "rb") as stream:
                if os.fstat(stream.fileno()).st_size < self._offset:
                    self._offset = 0
                stream.seek(self._offset)
                data = stream.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            if (row := parse(line.decode(errors="replace"))) is not None:
                yield row


def series(rows: Iterable[Row], key: str) -> dict[int, float]:
    """Return a metric by step; where a step was repeated after a resume, the last value."""
    return {row["step"]: float(row[key]) for row in rows if key in row}


def held_out_scores(rows: Iterable[Row]) -> dict[int, float]:
    """Return the held-out score by step: greedy accuracy, or similarity where the rows are judged by that."""
    found = list(rows)
    scores = next((by_step for key in HELD_OUT if (by_step := series(found, key))), {})
    return {step: score for step, score in scores.items() if math.isfinite(score)}


def non_finite(rows: Iterable[Row]) -> tuple[str, int] | None:
    """Return the first metric of the trainer that is not a finite number, and its step."""
    for row in rows:
        if row.get("source") != "trainer":
            continue
        for key, value in row.items():
            if value in NON_FINITE or (isinstance(value, float) and not math.isfinite(value)):
                return key, row["step"]
    return None


def last_values(rows: Iterable[Row]) -> dict[str, float]:
    """Return the last finite value of every metric."""
    values: dict[str, float] = {}
    for row in rows:
        values.update({key: value for key, value in row.items() if isinstance(value, (int, float)) and key != "step"})
    return values


def best_values(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Return the best value of each metric that has a better direction, with its step."""
    best: dict[str, dict[str, float]] = {}
    for key, higher in HIGHER_IS_BETTER.items():
        by_step = {step: value for step, value in series(rows, key).items() if math.isfinite(value)}
        if by_step:
            step = (max if higher else min)(by_step, key=lambda step: by_step[step])
            best[key] = {"value": by_step[step], "step": step}
    return best
