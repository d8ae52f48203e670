"""`--answer-check`: the rewards of training on the expert's own responses.

Importing Trinity takes seconds, so it is done here only when asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from chord_exp.errors import DataError
from chord_exp.prepare.answers.find import TOOL_CALL, Answer, find_answer
from chord_exp.prepare.answers.scoring import SCORING, Scoring, response_text
from chord_exp.prepare.rejects import clip


def score_experts(rows: Iterable[tuple[str, str, Scoring]]) -> Iterator[float]:
    """The reward of training for each (truth, response, scoring), in order.

    Raises:
        DataError: a scoring without a reward function, such as a judge model's.
    """
    from chord_exp.engine import vllm_standin

    # Trinity imports vLLM by the way
    vllm_standin.install()
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


def reward_mismatch(answer: Answer, last: Mapping[str, Any]) -> str:
    """Why the reward of training does not score an expert's own answer, one line; "" when it does.

    A response that states its answer without a box (`#### 42`, "the answer is 42") is scored with that answer boxed:
    the form is a matter of style, the value is what is checked.
    """
    response = response_text(last)
    scoring = SCORING[answer.kind]
    stated = response
    if answer.kind != TOOL_CALL and "\\boxed" not in response:
        own = find_answer(None, response)
        if not own.verifiable:
            return f"the response states no final answer, the record says {clip(answer.truth, 60)}"
        stated = own.truth if "\\boxed" in own.truth else f"\\boxed{{{own.truth}}}"
    (score,) = score_experts([(answer.truth, stated, scoring)])
    return "" if score >= 1 else f"{scoring.reward} gives {score:g} for the truth {clip(answer.truth, 60)}"
