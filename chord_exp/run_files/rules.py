"""Verdicts over the metrics of a run: named rules, each with what it saw, where, and what to do about it.

A rule is a function of a run's history; it says nothing about a metric that the run does not log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chord_exp.run_files import history as h
from chord_exp.run_files.history import History, Series

BAD, WARNING = "bad", "warning"
# steps in a row without any spread of rewards
FLAT_STEPS = 10
# of rollout tokens, in nats, as a mean over so many steps: below this the rollouts of a group are all alike
LOW_ENTROPY = 0.02
ENTROPY_STEPS = 8
# entropy against that of the first steps
HIGH_ENTROPY_RATIO = 3.0
# of prompts or responses
CUT_SHARE = 0.1
# against the median of the steps before
SPIKE_RATIO = 10.0
SPIKE_WINDOW = 50
# rollouts are of the weights that are trained: at the first step nothing may differ
FIRST_PPO_KL = 0.01
CLIP_SHARE = 0.3
# what the held-out accuracy lost against its best while rewards rose
FORGOTTEN = 0.05
REWARD_COLLAPSE = 0.5
FEWEST_TO_MEAN = 5


@dataclass(frozen=True)
class Finding:
    """What a rule saw."""

    rule: str
    # BAD: the result cannot be trusted or was not reached; WARNING: look at it
    severity: str
    # one sentence, with the numbers
    what: str
    # what to do
    remedy: str
    metric: str
    # where it was seen first: step of the run and line of metrics.jsonl
    step: int
    line: int


Rule = Callable[[History], "Finding | None"]
RULES: dict[str, Rule] = {}
# rules that speak of the end, and so only of a run that has come to its planned one
OF_THE_END = {"not_evaluated"}


def rule(name: str) -> Callable[[Rule], Rule]:
    """Enter a function under a name."""

    def enter(look: Rule) -> Rule:
        RULES[name] = look
        return look

    return enter


def findings(history: History, *, succeeded: bool) -> list[Finding]:
    """Return what all rules say, the grave first.

    Args:
        succeeded: the run came to its planned end; what is missing at the end of another is no news.
    """
    asked = (look for name, look in RULES.items() if succeeded or name not in OF_THE_END)
    found = [finding for look in asked if (finding := look(history)) is not None]
    return sorted(found, key=lambda finding: finding.severity != BAD)


def _first(
    name: str, severity: str, metric: str, series: Series, where: npt.NDArray[np.bool_], what: str, remedy: str
) -> Finding | None:
    """Return a finding at the first point where `where` holds; `{value}` and `{count}` in the text are filled in."""
    if not where.any():
        return None
    index = int(where.argmax())
    text = what.format(value=series.value[index], count=int(where.sum()), of=len(series), step=int(series.at[index]))
    return Finding(name, severity, text, remedy, metric, int(series.at[index]), int(series.line[index]))


def _runs_of(where: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield begin and length of each stretch of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], where, [False]]).astype(int)))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        yield int(begin), int(end - begin)


@rule("non_finite")
def non_finite(history: History) -> Finding | None:
    """A loss or gradient that is no number."""
    for metric in h.TRAINED:
        series = history[metric]
        found = _first(
            "non_finite",
            BAD,
            metric,
            series,
            ~np.isfinite(series.value),
            f"{metric} was no finite number at {{count}} of {{of}} steps, first at step {{step}}",
            "look for damaged expert rows and rewards, or lower lr or mu_peak",
        )
        if found:
            return found
    return None


@rule("first_step_kl")
def first_step_kl(history: History) -> Finding | None:
    """Rollouts that are not of the weights that learn from them: two engines that disagree."""
    series = history[h.PPO_KL]
    first = np.zeros(len(series), dtype=bool)
    first[:1] = np.abs(series.value[:1]) > FIRST_PPO_KL
    return _first(
        "first_step_kl",
        BAD,
        h.PPO_KL,
        series,
        first,
        f"ppo_kl is {{value:.3g}} at the first step, where nothing has been trained yet (at most {FIRST_PPO_KL})",
        "rollout engine and trainer disagree on the same tokens: look at precision, temperature and the chat template",
    )


@rule("reward_zero")
def reward_zero(history: History) -> Finding | None:
    """Nothing was ever rewarded."""
    series = history[h.REWARD]
    if len(series) < 2 or series.value.any():
        return None
    return _first(
        "reward_zero",
        BAD,
        h.REWARD,
        series,
        series.value == 0,
        "every rollout of {of} steps had reward 0: GRPO learnt nothing",
        "read what the model answered (buffer/*.jsonl under checkpoints/), how it is judged (data.workflow), and look "
        "for cut prompts and responses",
    )


@rule("mu_zero")
def mu_zero(history: History) -> Finding | None:
    """The expert rows never counted, where there are any."""
    series = history[h.MU]
    if len(series) < 2 or series.value.any() or not len(history[h.SFT_LOSS]):
        return None
    return _first(
        "mu_zero",
        BAD,
        h.MU,
        series,
        series.value == 0,
        "μ was 0 at all {of} steps: the expert rows taught nothing",
        "set mu_peak, or mu_warmup_steps below the number of steps; for GRPO alone use variant=grpo",
    )


@rule("flat_rewards")
def flat_rewards(history: History) -> Finding | None:
    """No spread of rewards within any prompt group for many steps, or ever: GRPO has nothing to learn from."""
    series, reward = history[h.GROUP_STD_MAX], history[h.REWARD]
    if len(reward) and not reward.value.any():
        return None  # reward_zero says so
    enough = min(FLAT_STEPS, max(2, len(series)))
    stretches = [(begin, length) for begin, length in _runs_of(series.value == 0) if length >= enough]
    if not stretches:
        return None
    begin, length = max(stretches, key=lambda stretch: stretch[1])
    inside = np.isin(reward.at, series.at[begin : begin + length])
    level = f" (mean reward {reward.value[inside].mean():.2f})" if inside.any() else ""
    return Finding(
        "flat_rewards",
        WARNING,
        f"no prompt group had any spread of rewards for {length} steps in a row, from step {series.at[begin]}{level}",
        "raise model.temperature or repeat_times, or give prompts that the model solves sometimes",
        h.GROUP_STD_MAX,
        int(series.at[begin]),
        int(series.line[begin]),
    )


@rule("reward_collapse")
def reward_collapse(history: History) -> Finding | None:
    """The reward fell to a small part of what it had been."""
    series = history[h.REWARD].finite()
    fifth = len(series) // 5
    # fewer steps say little: rewards are noisy
    if fifth < FEWEST_TO_MEAN:
        return None
    level = h.smoothed(series, fifth)
    best = int(level.argmax())
    end = float(series.value[-fifth:].mean())
    if level[best] <= 0 or end >= REWARD_COLLAPSE * level[best]:
        return None
    return Finding(
        "reward_collapse",
        BAD,
        f"rollout reward fell from {level[best]:.2f} about step {series.at[best]} to {end:.2f} at the end",
        "lower lr, or mu_peak if it fell while μ was high",
        h.REWARD,
        int(series.at[best]),
        int(series.line[best]),
    )


@rule("low_entropy")
def low_entropy(history: History) -> Finding | None:
    """The policy hardly explores any more."""
    series = history[h.ENTROPY].finite()
    level = h.smoothed(series, ENTROPY_STEPS)
    return _first(
        "low_entropy",
        WARNING,
        h.ENTROPY,
        series,
        level < LOW_ENTROPY,
        f"entropy, the mean of {ENTROPY_STEPS} steps, is below {LOW_ENTROPY} at {{count}} of {{of}} steps, first at "
        "step {step} ({value:.3g} there)",
        "rollouts of a group become alike: raise model.temperature, lower lr, or end earlier",
    )


@rule("high_entropy")
def high_entropy(history: History) -> Finding | None:
    """The policy falls apart."""
    series = history[h.ENTROPY].finite()
    if len(series) < 5 or (start := float(np.median(series.value[:5]))) <= 0:
        return None
    return _first(
        "high_entropy",
        WARNING,
        h.ENTROPY,
        series,
        series.value > max(HIGH_ENTROPY_RATIO * start, 0.5),
        f"entropy rose from {start:.2g} to more than {HIGH_ENTROPY_RATIO:g} times that at {{count}} of {{of}} steps, "
        "first at step {step} ({value:.2g})",
        "lower lr or mu_peak: the model is losing its shape",
    )


@rule("gradient_spikes")
def gradient_spikes(history: History) -> Finding | None:
    """Gradients far above what is usual in this run."""
    series = history[h.GRAD_NORM].finite()
    if len(series) < 10:
        return None
    spikes = np.zeros(len(series), dtype=bool)
    # a median is at least the lowest value: only what is far above that is looked at
    for index in np.flatnonzero(series.value > SPIKE_RATIO * max(series.value.min(), 1e-8)):
        if index >= 5:
            usual = np.median(series.value[max(0, index - SPIKE_WINDOW) : index])
            spikes[index] = series.value[index] > SPIKE_RATIO * max(usual, 1e-8)
    return _first(
        "gradient_spikes",
        WARNING,
        h.GRAD_NORM,
        series,
        spikes,
        f"the gradient norm was more than {SPIKE_RATIO:g} times its median at {{count}} of {{of}} steps, first at step "
        "{step} ({value:.3g})",
        "look at the rows of that step; lower lr if it goes on",
    )


@rule("clipped")
def clipped(history: History) -> Finding | None:
    """Much of the policy gradient is clipped away."""
    series = history[h.CLIP_SHARE].finite()
    return _first(
        "clipped",
        WARNING,
        h.CLIP_SHARE,
        series,
        series.value > CLIP_SHARE,
        f"more than {CLIP_SHARE:.0%} of rollout tokens were clipped at {{count}} of {{of}} steps, first at {{step}}",
        "rollouts are older than the weights, or lr is too high: lower lr or the synchroniser's interval",
    )


@rule("cut_responses")
def cut_responses(history: History) -> Finding | None:
    """Responses that end at the limit and not by themselves."""
    series = history[h.CUT_RESPONSES].finite()
    return _first(
        "cut_responses",
        WARNING,
        h.CUT_RESPONSES,
        series,
        series.value > CUT_SHARE,
        f"more than {CUT_SHARE:.0%} of responses were cut at the limit at {{count}} of {{of}} steps, first at step "
        "{step} ({value:.0%})",
        "raise model.max_response_tokens: a cut response has no answer to reward",
    )


@rule("cut_prompts")
def cut_prompts(history: History) -> Finding | None:
    """Rollouts whose prompt was over the limit."""
    series = history[h.CUT_PROMPTS].finite()
    cut, rollouts = series.value.sum(), history[h.SAMPLES].finite().value.sum()
    share = f" of {rollouts:.0f}" if rollouts else ""
    return _first(
        "cut_prompts",
        BAD if rollouts and cut > CUT_SHARE * rollouts else WARNING,
        h.CUT_PROMPTS,
        series,
        series.value > 0,
        f"{cut:.0f}{share} rollouts had their prompt cut and taught nothing, first at step {{step}}",
        "raise model.max_prompt_tokens",
    )


@rule("lost_evaluations")
def lost_evaluations(history: History) -> Finding | None:
    """Rollouts that are missing in an accuracy."""
    series = history[h.EVAL_LOST].finite()
    return _first(
        "lost_evaluations",
        BAD,
        h.EVAL_LOST,
        series,
        series.value > 0,
        f"{series.value.sum():.0f} rollouts of evaluations failed and are not in the held-out accuracy, first at step "
        "{step}",
        "look at logs/explorer_runner_*.log",
    )


@rule("not_evaluated")
def not_evaluated(history: History) -> Finding | None:
    """The last accuracy is not of the last weights."""
    series = history[h.ACCURACY]
    if not len(series) or series.at[-1] >= history.steps:
        return None
    return Finding(
        "not_evaluated",
        WARNING,
        f"the last held-out accuracy is of step {series.at[-1]}, and step {history.steps} was trained",
        "resume the run, or compare at an equal step",
        h.ACCURACY,
        int(series.at[-1]),
        int(series.line[-1]),
    )


@rule("forgotten")
def forgotten(history: History) -> Finding | None:
    """Held-out accuracy fell while rewards on the training prompts rose: prompts are learnt by heart."""
    series, reward = history[h.ACCURACY].finite(), history[h.REWARD].finite()
    if len(series) < 3 or len(reward) < 10:
        return None
    best = series.best(higher=True)
    lost = float(series.value[best] - series.value[-1])
    before = reward.value[reward.at <= series.at[best]][-10:]
    if lost < FORGOTTEN or not len(before) or reward.value[-10:].mean() <= before.mean():
        return None
    return Finding(
        "forgotten",
        WARNING,
        f"held-out accuracy fell by {100 * lost:.1f} points from its best at step {series.at[best]} while rollout "
        "reward rose",
        "more RL prompts or fewer steps; take the checkpoint of the best step",
        h.ACCURACY,
        int(series.at[best]),
        int(series.line[best]),
    )
