"""The names by which rows of prepared data ask for a Trinity workflow or reward. Standard library only.

Trinity's registries take a short name of their own, or the dotted path of a class.
"""

from __future__ import annotations

PACKAGE = "chord_exp."
"""What a dotted path of ours starts with: a machine that trains such rows needs this package."""

BOXED_WORKFLOW = "math_boxed_workflow"
SIMPLE_WORKFLOW = "simple_workflow"
CONVERSATION_WORKFLOW = "chord_exp.plugins.workflows.ConversationWorkflow"
JUDGE_WORKFLOW = "chord_exp.plugins.workflows.JudgeWorkflow"

BOXED_REWARD = "math_boxed_reward"
ACCURACY_REWARD = "accuracy_reward"
TOOL_CALL_REWARD = "chord_exp.plugins.rewards.ToolCallReward"
CHRF_REWARD = "chord_exp.plugins.rewards.ChrfReward"
BLEU_REWARD = "chord_exp.plugins.rewards.BleuReward"

_UPSTREAM = {name: f"async_{name}" for name in (SIMPLE_WORKFLOW, "math_workflow", BOXED_WORKFLOW)}
_OURS = {
    CONVERSATION_WORKFLOW: "chord_exp.plugins.workflows.ConversationEvaluation",
    JUDGE_WORKFLOW: "chord_exp.plugins.workflows.JudgeEvaluation",
}
_TWINS = {**_UPSTREAM, **_OURS}

EVAL_TWINS = {**_TWINS, **{twin: name for name, twin in _TWINS.items()}}
"""Another class with the same way of asking, for evaluation. Trinity 0.6 reuses a runner's workflow for the next task
of the same class, but with the sampling arguments of its first task: after a greedy evaluation, rollouts would be
greedy too, all of a group alike, and GRPO would learn nothing. A class of its own has arguments of its own."""
