"""What a prepared folder looks like, and how a Trinity configuration has to read it. Standard library only.

    OUT/sft/train.jsonl    {"messages": "<JSON text of [{role, content}, …]>", "tools": "<JSON text, or empty>"}
    OUT/rl/train.jsonl     {"prompt", "answer", "workflow", "reward", "conversation", "tools", "rubric"}
    OUT/eval/train.jsonl   the same, held out of both; the folder is absent when no row is
    OUT/test/train.jsonl   as eval/; nothing is chosen by it
    OUT/manifest.json      counts, hashes, ratios, lengths (manifest.py)
    OUT/rejects.jsonl      {"file", "line", "reason", "detail", "text"} of each row that could not be used

Each side is a folder with one file because Trinity calls `load_dataset(folder, split="train")`, which merges
whatever lies there. Every value is a string: an integer truth scores 0 in Trinity, and a nested column takes
its type from the first rows only. `workflow` and `reward` name who asks and who scores the row (scoring.py); in eval/
the workflow is the twin that evaluations need (plugin_names.EVAL_WORKFLOW_OF). `conversation` and `tools` are JSON text
where a row asks with more than the run's system prompt and `prompt`, `rubric` where a judge scores it; else empty.

A Trinity configuration reads it so (the keys that differ from Trinity's defaults):

    buffer.explorer_input.taskset (path OUT/rl) and eval_tasksets (path OUT/eval):
        split: train; default_workflow_type: math_boxed_workflow
        format: {prompt_key: prompt, response_key: answer, system_prompt: S, workflow_key: workflow,
                 reward_fn_key: reward}
    buffer.trainer_input.auxiliary_buffers.<name> (path OUT/sft):
        storage_type: file; schema_type: sft; split: train
        format: {prompt_type: messages, messages_key: messages, tools_key: tools, enable_thinking: T,
                 chat_template: C, enable_concatenated_multi_turn: M}

S is the system prompt that the rows were prepared with. It must be the same text on both sides: prepare
writes it into the SFT messages, because Trinity's reader of messages ignores `format.system_prompt`; the RL
side gets it from the configuration. Always emit it, the empty string included: unset, `math_boxed_workflow`
adds a system prompt of its own that the expert rows never saw.

M is true when a row teaches more than its last turn (the manifest's `multi_turn`). T and C equal
`model.enable_thinking` and `model.custom_chat_template`: Trinity copies them to the experience buffer but not to
the auxiliary buffers, and without them expert and rollout tokens differ.
"""

from __future__ import annotations

# raised when the same input gives other output, so that old folders are not taken for new ones
LAYOUT_VERSION = 4
# below it lie the folders that the user has not named, each named after its content
PREPARED_ROOT = "outputs/prepared"

SFT, RL, EVAL, TEST = "sft", "rl", "eval", "test"
SIDES = (SFT, RL, EVAL, TEST)
ROWS_FILE = "train.jsonl"
MANIFEST_FILE = "manifest.json"
REJECTS_FILE = "rejects.jsonl"
FAILED_ANSWERS_FILE = "failed_answers.jsonl"
# lengths in tokens, a file for each tokenizer
TOKEN_LENGTHS = "token_lengths"
CARD_FILE, ROWS_PLOT, LENGTHS_PLOT = "card.md", "card_rows.svg", "card_lengths.svg"
FILES = (MANIFEST_FILE, REJECTS_FILE, FAILED_ANSWERS_FILE, TOKEN_LENGTHS, CARD_FILE, ROWS_PLOT, LENGTHS_PLOT)
"""What lies beside the sides."""

MESSAGES_KEY = "messages"
PROMPT_KEY = "prompt"
ANSWER_KEY = "answer"
WORKFLOW_KEY = "workflow"
REWARD_KEY = "reward"
CONVERSATION_KEY = "conversation"
TOOLS_KEY = "tools"
RUBRIC_KEY = "rubric"
ROLLOUT_COLUMNS = (PROMPT_KEY, ANSWER_KEY, WORKFLOW_KEY, REWARD_KEY, CONVERSATION_KEY, TOOLS_KEY, RUBRIC_KEY)

SPLIT = "train"


def output_name(side: str) -> str:
    """A side's file as named in the manifest."""
    return f"{side}/{ROWS_FILE}"
