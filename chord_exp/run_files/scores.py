"""From answers to scores: means over prompts, their intervals, and what a model is ahead of the base model by.

A prompt is one cluster: the answers to it rise and fall together, so k answers to a prompt are no k observations
(Miller 2024, arXiv 2411.00640, section 2.2). Differences are taken prompt by prompt (section 2.4), which leaves out how
hard each prompt is.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from chord_exp.run_files.evaluation import Answers, Estimate, Lead
from chord_exp.utils.statistics import bootstrap, wilson_interval

Item = Mapping[str, Any]
# normal quantiles at 0.975 and 0.8: of a two-sided test at 5% that finds the difference in 80% of cases
SIGNIFICANCE, POWER = 1.959964, 0.841621
# prompts that must change, all one way, before a sign test falls below 5%: 2 * 0.5**6
FEWEST_CHANGED = 6


def answers_of(items: Sequence[Item], base: Sequence[Item] = ()) -> Answers:
    """Return what one model earned with one way of sampling.

    Args:
        items: its answers, one at the least.
        base: the base model's to the same prompts; none where this is the base model, or it was not asked.
    """
    means = by_prompt(items)
    lead = lead_of(means, by_prompt(base)) if base else None
    cut = sum(item["cut"] == "response_truncated" for item in items)
    return Answers(estimate(list(means.values())), len(items), cut, lead)


def by_prompt(items: Iterable[Item]) -> dict[str, float]:
    """Return the mean score of each prompt, whatever rows and answers it has."""
    scores: dict[str, list[float]] = defaultdict(list)
    for item in items:
        scores[item["prompt"]].append(item["score"])
    return {prompt: sum(found) / len(found) for prompt, found in scores.items()}


def estimate(means: Sequence[float]) -> Estimate:
    """Return the mean over prompts with its 95% interval.

    Of prompts that are each right or wrong the interval is Wilson's, which holds where all are; of others it comes from
    drawing prompts anew. Where all are alike, drawing shows no spread, and Wilson's is wide enough for any share.
    """
    value = float(np.mean(means))
    if set(means) <= {0.0, 1.0} or (len(set(means)) == 1 and 0 <= value <= 1):
        low, high = wilson_interval(value, len(means))
    else:
        found = bootstrap(means)
        low, high = found.low, found.high
    return Estimate(value, low, high, len(means))


def lead_of(ours: Mapping[str, float], base: Mapping[str, float]) -> Lead | None:
    """Return the mean difference over the prompts that both answered; None where there is none."""
    both = [prompt for prompt in ours if prompt in base]
    if not both:
        return None
    differences = [ours[prompt] - base[prompt] for prompt in both]
    found = bootstrap(differences)
    return Lead(found.value, found.low, found.high, len(both), detectable=detectable(differences))


def detectable(differences: Sequence[float]) -> float:
    """Return the smallest true difference that a test at 5% would find in 80% of evaluations of as many prompts.

    By the spread of the differences that were seen (Miller 2024, section 5), and never less than six prompts can show.
    """
    count = len(differences)
    spread = float(np.std(differences, ddof=1)) if count > 1 else 1.0
    return max((SIGNIFICANCE + POWER) * spread / math.sqrt(count), FEWEST_CHANGED / count)
