"""What an evaluation found: `evaluation.json`, beside the answers themselves as JSON lines."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chord_exp.utils.files import write_atomically

EVALUATION = "evaluation.json"
# the folder of the evaluation's own process, and in it every answer
FOLDER, ITEMS = "evaluation", "items.jsonl"
GREEDY, SAMPLED = "greedy", "sampled"


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts with its 95% interval; every prompt is one cluster, however many answers it has."""

    value: float
    low: float
    high: float
    prompts: int


@dataclass(frozen=True)
class Lead(Estimate):
    """What a model is ahead of the base model by, prompt by prompt."""

    # the smallest true difference that so many prompts would show in four of five evaluations
    detectable: float

    @property
    def verdict(self) -> str:
        """Return `better`, `worse` or `no difference shown`."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "no difference shown"


@dataclass(frozen=True)
class Answers:
    """What a model earned with one way of sampling: greedy (pass@1) or sampled (mean@k)."""

    score: Estimate
    # answers that were scored
    count: int
    # of those, answers that the limit of tokens cut
    cut: int
    # None for the base model itself, and where it was not asked
    lead: Lead | None = None


@dataclass(frozen=True)
class ModelScore:
    """One model of an evaluation."""

    # base, step 80, or the name of a folder
    label: str
    # updates after which its weights were saved, all stages counted; 0 for a model that is no checkpoint of a run
    step: int
    # folder of its weights, or hub id
    weights: str
    # by way of sampling
    answers: dict[str, Answers]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluation.json` holds."""

    # ISO 8601, UTC
    created: str
    # prepared folder, its digest, and which of its held-out sides was asked: eval or test
    data: str
    data_digest: str
    side: str
    # answers a prompt of the sampled part, k, and their temperature
    samples: int
    temperature: float
    # local, real_cpu or verl (vLLM)
    engine: str
    models: list[ModelScore]
    # answers that never came, and are in no score
    lost: int = 0
    versions: dict[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write it whole or not at all."""
        write_atomically(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read what `save` wrote.

        Raises:
            OSError, ValueError, TypeError, KeyError: there is none, or it is damaged.
        """
        values = json.loads(path.read_text(encoding="utf-8"))
        values["models"] = [_model(one) for one in values["models"]]
        return cls(**values)


def _model(values: dict[str, Any]) -> ModelScore:
    answers = {}
    for sampling, one in values.pop("answers").items():
        score, lead = Estimate(**one.pop("score")), one.pop("lead")
        answers[sampling] = Answers(score, lead=Lead(**lead) if lead else None, **one)
    return ModelScore(answers=answers, **values)
