"""The names by which a configuration or a prepared row asks Trinity for a class. Standard library only.

Trinity's registries take a short name of their own, or the dotted path of a class: those of ours stand here and nowhere
else.
"""

from __future__ import annotations

# What a dotted path of ours starts with: a machine that trains with such names needs this package.
PACKAGE = "chord_exp."

CHORD_ALGORITHM = "chord_exp.plugins.algorithm.CHORDAlgorithm"
GRPO_ALGORITHM = "chord_exp.plugins.algorithm.PlainGRPOAlgorithm"

CHORD_LOSS = "chord_exp.plugins.loss.ExactCHORDLoss"
GRPO_LOSS = "chord_exp.plugins.loss.ExactGRPOLoss"
SFT_LOSS = "chord_exp.plugins.loss.ExactSFTLoss"

MIX_SAMPLE_STRATEGY = "chord_exp.plugins.sample_strategy.TokenCountMixSampleStrategy"
SAMPLE_STRATEGY = "chord_exp.plugins.sample_strategy.TokenCountSampleStrategy"

RUN_MONITOR = "chord_exp.plugins.monitor.RunMonitor"

BOXED_WORKFLOW = "math_boxed_workflow"
SIMPLE_WORKFLOW = "simple_workflow"
CONVERSATION_WORKFLOW = "chord_exp.plugins.workflows.ConversationWorkflow"
JUDGE_WORKFLOW = "chord_exp.plugins.workflows.JudgeWorkflow"

BOXED_REWARD = "math_boxed_reward"
ACCURACY_REWARD = "accuracy_reward"
FINAL_ANSWER_REWARD = "chord_exp.plugins.rewards.FinalAnswerReward"
TOOL_CALL_REWARD = "chord_exp.plugins.rewards.ToolCallReward"
CHRF_REWARD = "chord_exp.plugins.rewards.ChrfReward"
BLEU_REWARD = "chord_exp.plugins.rewards.BleuReward"

_UPSTREAM = {name: f"async_{name}" for name in (SIMPLE_WORKFLOW, "math_workflow", BOXED_WORKFLOW)}
_OURS = {
    CONVERSATION_WORKFLOW: "chord_exp.plugins.workflows.ConversationEvaluation",
    JUDGE_WORKFLOW: "chord_exp.plugins.workflows.JudgeEvaluation",
}
_PAIRS = {**_UPSTREAM, **_OURS}

# Another class with the same way of asking, for evaluation. Trinity 0.6 reuses a runner's workflow for the next task of
# the same class, but with the sampling arguments of its first task: after a greedy evaluation, rollouts would be greedy
# too, all of a group alike, and GRPO would learn nothing. A class of its own has arguments of its own.
EVAL_WORKFLOW_OF = {**_PAIRS, **{evaluation: name for name, evaluation in _PAIRS.items()}}
