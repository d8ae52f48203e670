"""Groups compared over prompts: what other prompts of the kind might have shown, beside what other seeds might have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chord_exp.report.figures.compare import Group
from chord_exp.report.read.evaluations import PromptScores, prompt_scores
from chord_exp.run_files.evaluation import Estimate, Lead
from chord_exp.run_files.scores import estimate, lead_of


@dataclass(frozen=True)
class OverPrompts:
    """The last checkpoints of a group's runs on the same held-out prompts."""

    label: str
    # runs that were evaluated
    runs: int
    score: Estimate
    # prompt by prompt against the reference; None for itself, and where that was not evaluated
    lead: Lead | None


def over_prompts(groups: Sequence[Group], reference: int) -> list[OverPrompts]:
    """Return the groups whose runs were evaluated on the same prompts; a prompt's score is the mean of its runs."""
    found = [[one for run in group.runs if (one := prompt_scores(run.path)) is not None] for group in groups]
    digests = [one.data_digest for one in (*found[reference], *(one for members in found for one in members))]
    same = [[one for one in members if one.data_digest == digests[0]] for members in found]
    theirs = _mean_of_runs(same[reference]) if same[reference] else {}
    made = []
    for index, (group, members) in enumerate(zip(groups, same, strict=True)):
        if members:
            ours = _mean_of_runs(members)
            lead = lead_of(ours, theirs) if theirs and index != reference else None
            made.append(OverPrompts(group.label, len(members), estimate(list(ours.values())), lead))
    return made


def _mean_of_runs(runs: Sequence[PromptScores]) -> dict[str, float]:
    prompts = [prompt for prompt in runs[0].scores if all(prompt in run.scores for run in runs)]
    return {prompt: sum(run.scores[prompt] for run in runs) / len(runs) for prompt in prompts}
