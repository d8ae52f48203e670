"""`--answer-check`: the rewards of training on the experts' own responses.

Importing Trinity takes seconds, so it is done here only when asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from chord_exp.errors import DataError
from chord_exp.prepare.answers.find import TOOL_CALL, Answer, find_answer
from chord_exp.prepare.answers.scoring import Scoring, response_text, scoring_of
from chord_exp.prepare.rejects import clip


def reward_mismatch(answer: Answer, last: Mapping[str, Any]) -> str:
    """Return why the reward of training does not score an expert's own answer, one line; "" when it does.

    Args:
        answer: a verifiable one.
        last: the assistant turn that gives it.
    """
    response, scoring = response_text(last), scoring_of(answer)
    assert scoring is not None
    (score,) = score_experts([(answer.truth, response, scoring)])
    if score >= 1:
        return ""
    if answer.kind != TOOL_CALL and not find_answer(None, response).verifiable:
        return f"the response states no final answer, the record says {clip(answer.truth, 60)}"
    return f"{scoring.reward} gives {score:g} for the truth {clip(answer.truth, 60)}"


def score_experts(rows: Iterable[tuple[str, str, Scoring]]) -> Iterator[float]:
    """Return the reward of training for each (truth, response, scoring), in order.

    Raises:
        DataError: a scoring without a reward function, such as a judge model's.
    """
    from chord_exp.engine import vllm_stub

    # Trinity imports vLLM by the way
    vllm_stub.install()
    from trinity.common.rewards import REWARD_FUNCTIONS

    made: dict[str, Any] = {}
    for truth, response, scoring in rows:
        if not scoring.reward:
            raise DataError(
                f"{scoring.workflow} scores by asking a model, not by a rule",
                fix="leave out --answer-check, or use another --free-text",
            )
        if scoring.reward not in made:
            made[scoring.reward] = REWARD_FUNCTIONS.get(scoring.reward)()
        try:
            yield float(sum(made[scoring.reward](response=response, truth=truth).values()))
        except Exception:
            # math_verify gives up by an exception; a workflow would lose the whole group by it
            yield 0.0
