"""What `chord_exp.evaluate` left in a run's folder: scores of its checkpoints, and every answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import orjson

from chord_exp.run_files.evaluation import EVALUATION, FOLDER, GREEDY, ITEMS, Evaluation
from chord_exp.run_files.scores import by_prompt


@dataclass(frozen=True)
class PromptScores:
    """What a run's last checkpoint that was evaluated earned, greedily, by prompt."""

    # of the prepared data whose held-out prompts were asked
    data_digest: str
    scores: dict[str, float]


def read_evaluation(run_dir: Path) -> Evaluation | None:
    """Return a run's evaluation; None where there is none, or a damaged one."""
    try:
        return Evaluation.load(run_dir / EVALUATION)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def prompt_scores(run_dir: Path) -> PromptScores | None:
    """Return the scores of the last checkpoint by prompt; None where none was evaluated."""
    evaluation = read_evaluation(run_dir)
    last = max(evaluation.models, key=lambda model: model.step, default=None) if evaluation else None
    if evaluation is None or last is None or not last.step:
        return None
    try:
        items = [orjson.loads(line) for line in (run_dir / FOLDER / ITEMS).read_bytes().splitlines()]
    except (OSError, ValueError):
        return None
    wanted = [item for item in items if item["model"] == last.label and item["sampling"] == GREEDY]
    return PromptScores(evaluation.data_digest, by_prompt(wanted)) if wanted else None
