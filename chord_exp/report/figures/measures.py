"""What a report draws: which metrics, under which heading, in the order that people know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from chord_exp.run_files import history as h
from chord_exp.run_files.metrics import HIGHER_IS_BETTER

SECTIONS = ("Train", "Evaluation", "Stability", "Performance")
# what runs are compared by: the first of these that any of them has
OBJECTIVES = (h.ACCURACY, h.REWARD, h.LOSS)
SHARES = (h.ACCURACY, h.TEST_ACCURACY)


@dataclass(frozen=True)
class Measure:
    """One chart."""

    title: str
    section: str
    # metrics, each with its name in the legend
    lines: tuple[tuple[str, str], ...]
    note: str = ""
    # a share: shown in percent, from 0
    share: bool = False
    # noisy from step to step: a mean over some steps is drawn thick
    noisy: bool = False
    # few points: each is drawn as a dot
    dots: bool = False
    # least height of the value axis
    span: float = 0.0


def _one(metric: str, title: str, section: str, note: str = "", **how: Any) -> Measure:
    return Measure(title, section, ((metric, title),), note, **how)


MEASURES = (
    _one(h.REWARD, "Rollout reward", "Train", noisy=True),
    _one(h.GRPO_LOSS, "GRPO loss", "Train", "hovers about 0; its size means little", noisy=True),
    _one(h.SFT_LOSS, "SFT loss", "Train", "falls, then levels out", noisy=True),
    _one(h.SFT_PHI_LOSS, "SFT loss, weighted by φ", "Train", noisy=True),
    _one(h.LOSS, "Loss", "Train", "the weighted sum: it falls with μ even when nothing is learnt", noisy=True),
    _one(h.MU, "μ, the weight of the SFT term", "Train"),
    _one(h.ACCURACY, "Held-out accuracy", "Evaluation", "greedy; the number to judge by", share=True, dots=True),
    _one(h.TEST_ACCURACY, "Test accuracy", "Evaluation", "nothing is chosen by it", share=True, dots=True),
    _one(h.ENTROPY, "Entropy", "Stability", "nats a token; near 0 all rollouts of a group are alike", noisy=True),
    _one(h.GRAD_NORM, "Gradient norm", "Stability", "before clipping", noisy=True),
    _one(h.GROUP_STD_MEAN, "Spread of rewards in a group", "Stability", "0: GRPO learns nothing", noisy=True),
    _one(h.CLIP_SHARE, "Clipped rollout tokens", "Stability", share=True, span=0.1),
    _one(
        h.PPO_KL,
        "KL to the rollouts' policy",
        "Stability",
        "about 0 at the first step, or two engines disagree",
        span=0.01,
    ),
    _one(h.CUT_RESPONSES, "Responses cut at the limit", "Stability", share=True, span=0.1),
    _one(h.RESPONSE_LENGTH, "Response length", "Stability", "tokens; expert rows count, too", noisy=True),
    _one(h.CUT_PROMPTS, "Rollouts with a cut prompt", "Stability", "a step", span=5.0),
    _one(h.TOKENS_PER_SECOND, "Tokens per second of training", "Performance", noisy=True),
    Measure("Where the time of a step goes", "Performance", tuple(h.STEP_TIMES.items()), "seconds"),
)
TITLES = {metric: measure.title for measure in MEASURES for metric, _ in measure.lines}


def objective(histories: Iterable[h.History]) -> str:
    """Return the metric that runs are compared by."""
    logged = {metric for one in histories for metric in OBJECTIVES if len(one[metric].finite())}
    return next((metric for metric in OBJECTIVES if metric in logged), OBJECTIVES[0])


def is_higher_better(metric: str) -> bool:
    """Return whether more of a metric is better."""
    return HIGHER_IS_BETTER.get(metric, True)


def shown_difference(value: float, metric: str) -> str:
    """Return a difference as people read it: of accuracies in points."""
    return f"{100 * value:+.1f} points" if metric in SHARES else f"{value:+.3g}"


def shown(value: float, metric: str) -> str:
    """Return a value as people read it."""
    if metric in SHARES:
        return f"{value:.1%}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
