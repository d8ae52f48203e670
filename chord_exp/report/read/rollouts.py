"""Answers of the model to the same prompts over time, from the rows that Trinity keeps of its experience buffer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from chord_exp.run_files.names import CHECKPOINTS

PATTERN = f"{CHECKPOINTS}/*/*/buffer/*.jsonl"
# prompts and answers of each that are shown; characters of a text
PROMPTS, ANSWERS, LONGEST = 4, 4, 600
# of a file: more is not read
MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Rollout:
    """One answer."""

    # explorer step
    step: int
    answer: str
    reward: float
    # line of its file
    line: int


def same_prompts(run_dir: Path) -> tuple[Path, dict[str, list[Rollout]]] | None:
    """Return the prompts that were answered at the most different steps, each with answers spread over time.

    Returns:
        The file, and rollouts by prompt, the first of a step; None where a run has kept none.
    """
    for file in sorted(run_dir.glob(PATTERN)):
        found = _by_prompt(file)
        if found:
            often = sorted(found, key=lambda prompt: (-len(found[prompt]), next(iter(found[prompt]))))
            return file, {prompt: _spread(list(found[prompt].values())) for prompt in often[:PROMPTS]}
    return None


def response_lengths(run_dir: Path) -> tuple[list[int], list[float]]:
    """Return explorer steps and the mean length of their responses in tokens; expert rows are in no such file."""
    sums: dict[int, tuple[int, int]] = {}
    for _, row in itertools.chain.from_iterable(map(_rows, sorted(run_dir.glob(PATTERN)))):
        try:
            step, length = int(row["eid"]["batch"]), int(row["response_length"])
        except (ValueError, KeyError, TypeError):
            continue
        count, total = sums.get(step, (0, 0))
        sums[step] = (count + 1, total + length)
    steps = sorted(sums)
    return steps, [sums[step][1] / sums[step][0] for step in steps]


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a file with their line numbers; what a crash cut short is passed over."""
    read = 0
    with open(file, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            read += len(line)
            if read > MOST_BYTES:
                return
            try:
                row = orjson.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield number, row


def _by_prompt(file: Path) -> dict[str, dict[int, Rollout]]:
    found: dict[str, dict[int, Rollout]] = {}
    for number, row in _rows(file):
        try:
            step, reward = int(row["eid"]["batch"]), float(row["reward"])
            prompt, answer = str(row["prompt_text"]), str(row["response_text"])
        except (ValueError, KeyError, TypeError):
            continue  # a row of another kind
        found.setdefault(_cut(prompt), {}).setdefault(step, Rollout(step, _cut(answer), reward, number))
    return found


def _spread(rollouts: list[Rollout]) -> list[Rollout]:
    ordered = sorted(rollouts, key=lambda rollout: rollout.step)
    last = len(ordered) - 1
    return [ordered[index] for index in dict.fromkeys(round(last * i / (ANSWERS - 1)) for i in range(ANSWERS))]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
