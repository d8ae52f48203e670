"""Rewards that Trinity loads by dotted path: final answers, tool calls, and similarity to a reference text.

A reward here is Trinity's `RewardFn`: called with `response` and `truth`, it returns named parts whose sum is the
reward, here one part in [0, 1].
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from trinity.common.rewards.reward_fn import RewardFn

from chord_exp.plugins.final_answer import final_value
from chord_exp.plugins.tool_calls import calls_in, tool_call_truth


class FinalAnswerReward(RewardFn):
    """1 when the final answer of a response has the value of the truth, in any form that experts write: a percentage or
    a thousands separator in the box, `#### 42`, "the answer is 42", a choice in parentheses.

    Trinity's own `math_boxed_reward` compares the text of the box, and math_verify reads no percentages.
    """

    def __init__(self, **kwargs: Any) -> None:
        pass

    def __call__(self, response: str = "", truth: str | None = None, **kwargs: Any) -> dict[str, float]:
        """Compare with the truth: a number, a fraction or a letter, in a box or without."""
        wanted = final_value(truth or "")
        return {"accuracy": float(bool(wanted) and final_value(response or "") == wanted)}


class ToolCallReward(RewardFn):
    """1 when a response makes exactly the calls of the truth, in any order; arguments equal as JSON, key order apart.

    Trinity's own tool call workflow scores only the last `<tool_call>`, and 0 without reasoning tags.
    """

    def __init__(self, **kwargs: Any) -> None:
        pass

    def __call__(self, response: str = "", truth: str | None = None, **kwargs: Any) -> dict[str, float]:
        """Compare with the truth, which `tool_call_truth` has written."""
        made = tool_call_truth(calls_in(response or ""))
        return {"accuracy": float(bool(made) and made == truth)}


class _Similarity(RewardFn):
    """Similarity of the reply, its reasoning left out, to the reference."""

    def __init__(self, **kwargs: Any) -> None:
        pass

    def __call__(self, response: str = "", truth: str | None = None, **kwargs: Any) -> dict[str, float]:
        """Return the score of sacrebleu, 0 to 100, as 0 to 1; an empty reply or reference scores 0."""
        reply = (response or "").rpartition("</think>")[2].strip()
        if not reply or not truth:
            return {"similarity": 0.0}
        return {"similarity": min(1.0, max(0.0, self.score(reply, truth) / 100))}

    def score(self, reply: str, reference: str) -> float:
        """Return the similarity from 0 to 100."""
        raise NotImplementedError


class ChrfReward(_Similarity):
    """Character n-gram F-score (chrF, sacrebleu's defaults): needs no words, so it suits Chinese too."""

    def score(self, reply: str, reference: str) -> float:
        """Return the chrF of one sentence."""
        return float(_chrf().sentence_score(reply, [reference]).score)


class BleuReward(_Similarity):
    """Sentence BLEU with effective order (sacrebleu); tokenised as Chinese where the reference holds Chinese."""

    def score(self, reply: str, reference: str) -> float:
        """Return the BLEU of one sentence."""
        chinese = any("\u4e00" <= character <= "\u9fff" for character in reference)
        return float(_bleu("zh" if chinese else "13a").sentence_score(reply, [reference]).score)


@lru_cache(maxsize=1)
def _chrf() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()


@lru_cache(maxsize=2)
def _bleu(tokenizer: str) -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize=tokenizer, effective_order=True)
