"""Answers of the model to the same prompts over time, from the rows that Trinity keeps of its experience buffer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from chord_exp.run_files.evaluation import FOLDER, GREEDY, ITEMS
from chord_exp.run_files.names import CHECKPOINTS

PATTERN = f"{CHECKPOINTS}/*/*/buffer/*.jsonl"
# prompts and answers of each that are shown; characters of a text
PROMPTS, ANSWERS, LONGEST = 4, 4, 600
# of a file: more is not read
MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Rollout:
    """One answer."""

    # explorer step, or what the evaluation calls the model
    when: str
    answer: str
    reward: float
    # line of its file
    line: int


@dataclass(frozen=True)
class AnswersOverTime:
    """Answers of one file, by prompt, each in the order of time."""

    file: Path
    # what they are, in a few words
    what: str
    prompts: dict[str, list[Rollout]]


def answers_over_time(run_dir: Path) -> AnswersOverTime | None:
    """Return answers that show what was learnt: to the same prompts where any was asked more than once.

    Of an evaluation of several models they are its greedy answers, those first that changed their worth. Otherwise they
    are rollouts, of the prompts that were asked at the most steps; where none came twice, of prompts spread over time.
    """
    if (evaluated := _evaluated(run_dir / FOLDER / ITEMS)) is not None:
        return evaluated
    for file in sorted(run_dir.glob(PATTERN)):
        found = _by_prompt(file)
        if found:
            often = sorted(found, key=lambda prompt: (-len(found[prompt]), next(iter(found[prompt]))))
            if len(found[often[0]]) == 1:
                picked = [often[index] for index in _spread(len(often), PROMPTS * ANSWERS // 2)]
                what = "no prompt came twice: one answer of a step, as it was sampled"
            else:
                picked, what = often[:PROMPTS], "one answer of a step, as it was sampled"
            rollouts = {prompt: [found[prompt][step] for step in sorted(found[prompt])] for prompt in picked}
            chosen = {prompt: [all_[i] for i in _spread(len(all_), ANSWERS)] for prompt, all_ in rollouts.items()}
            return AnswersOverTime(file, what, chosen)
    return None


def _evaluated(file: Path) -> AnswersOverTime | None:
    found: dict[str, dict[str, Rollout]] = {}
    try:
        for number, row in _rows(file):
            if row["sampling"] == GREEDY:
                answer = row["response"] if isinstance(row["response"], str) else str(row["response"])
                rollout = Rollout(row["model"], _cut(answer), float(row["score"]), number)
                found.setdefault(_cut(row["prompt"]), {}).setdefault(row["model"], rollout)
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return None
    several = [prompt for prompt, answers in found.items() if len(answers) > 1]
    several.sort(key=lambda prompt: len({one.reward for one in found[prompt].values()}), reverse=True)
    if not several:
        return None
    return AnswersOverTime(
        file, "greedy answers", {prompt: list(found[prompt].values()) for prompt in several[:PROMPTS]}
    )


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
        found.setdefault(_cut(prompt), {}).setdefault(step, Rollout(str(step), _cut(answer), reward, number))
    return found


def _spread(count: int, most: int) -> list[int]:
    """Return at most so many places of a list, its first and last among them."""
    return list(dict.fromkeys(round((count - 1) * index / max(1, most - 1)) for index in range(most)))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
