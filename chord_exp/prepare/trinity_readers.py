"""`--check`: every prepared row through Trinity's own readers, with the tokenizer that will train on it; and
`--answer-check`: the rewards of training on the expert's own responses.

What Trinity does not notice when it reads, and breaks or wastes a training later, is reported with file and line.
Importing Trinity takes seconds, so it is done here only when asked for.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from chord_exp.errors import DataError
from chord_exp.prepare.answers.find import TOOL_CALL, Answer, find_answer
from chord_exp.prepare.answers.scoring import SCORING, Scoring, response_text
from chord_exp.prepare.rejects import clip
from chord_exp.trinity_config.plugin_names import ACCURACY_REWARD, BOXED_REWARD, BOXED_WORKFLOW, TOOL_CALL_REWARD
from chord_exp.trinity_config.rows import (
    ANSWER_KEY,
    EVAL,
    MESSAGES_KEY,
    PROMPT_KEY,
    REWARD_KEY,
    RL,
    ROWS_FILE,
    SFT,
    SPLIT,
    TOOLS_KEY,
    WORKFLOW_KEY,
)

UNREADABLE, TOO_LONG, NOTHING_TAUGHT = "does_not_format", "too_long", "nothing_to_train_on"
EMPTY_PROMPT, EMPTY_ANSWER, NEVER_SCORES = "empty_prompt", "empty_answer", "truth_never_scores"
UNKNOWN_ROLE = "unknown_role"
ROLES = ("system", "user", "assistant", "tool")
_SHOWN = 20

Progress = Callable[[int, int], None]
"""Told after each row: rows done, rows in all."""


@dataclass(frozen=True)
class Problem:
    """A row that would break or waste a training: its file below the folder, line from 1, reason, what it has."""

    file: str
    line: int
    reason: str
    detail: str


@dataclass(frozen=True)
class CheckReport:
    """Rows looked at by side, and every problem found."""

    rows: dict[str, int]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        return not self.problems

    def lines(self) -> list[str]:
        """For a reader: counts first, then the first problems."""
        counts = ", ".join(f"{side} {rows:,}" for side, rows in self.rows.items())
        if self.ok:
            return [f"checked with Trinity's readers: {counts}: no row would break training"]
        reasons = Counter(problem.reason for problem in self.problems)
        found = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common())
        shown = [f"  {one.file}:{one.line}: {one.reason}: {one.detail}" for one in self.problems[:_SHOWN]]
        more = len(self.problems) - len(shown)
        return [
            f"checked with Trinity's readers: {counts}: {len(self.problems):,} problems: {found}",
            *shown,
            *([f"  … and {more:,} more"] if more else []),
        ]


def check_prepared(
    out: Path,
    model: str,
    *,
    system_prompt: str,
    max_prompt_tokens: int,
    max_tokens: int,
    multi_turn: bool,
    enable_thinking: bool | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> CheckReport:
    """Read a prepared folder as a training would.

    Args:
        out: what `layout` describes.
        model: folder or hub id of the tokenizer.
        system_prompt: the run's; Trinity puts it before a plain prompt.
        max_prompt_tokens: tokens a prompt may have; a longer one is cut and its rollouts count for nothing.
        max_tokens: tokens an expert row may have; a longer one ends the trainer.
        multi_turn: whether every assistant turn is trained (the manifest's `multi_turn`).
        enable_thinking: the switch of the chat template, as in the run.

    Raises:
        DataError: a side that Trinity cannot load at all, or a tokenizer that does not load.
    """
    _make_importable()
    limits = SimpleNamespace(prompt=max_prompt_tokens, row=max_tokens)
    config = SimpleNamespace(
        model_path=model,
        trust_remote_code=trust_remote_code,
        chat_template=None,
        enable_thinking=enable_thinking,
    )
    rows: dict[str, int] = {}
    problems: list[Problem] = []
    with _own_datasets_cache():
        readers = {}
        for side in (SFT, RL, EVAL):
            if (out / side / ROWS_FILE).exists():
                make = _expert_reader if side == SFT else _task_reader
                readers[side] = _load(make, out / side, side, config, system_prompt, multi_turn)
        total = sum(len(reader) for reader in readers.values())
        done = 0
        for side, reader in readers.items():
            rows[side] = len(reader)
            file = f"{side}/{ROWS_FILE}"
            for line, sample in enumerate(reader.dataset.dataset, start=1):
                found = (
                    _expert_problem(reader.formatter, sample, limits)
                    if side == SFT
                    else _task_problem(reader.formatter, sample, config, limits)
                )
                if found is not None:
                    problems.append(Problem(file, line, found[0], clip(" ".join(found[1].split()))))
                done += 1
                if progress is not None:
                    progress(done, total)
    return CheckReport(rows, tuple(problems))


def score_experts(rows: Iterable[tuple[str, str, Scoring]]) -> Iterator[float]:
    """The reward of training for each (truth, response, scoring), in order.

    Raises:
        DataError: a scoring without a reward function, such as a judge model's.
    """
    _make_importable()
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


def _make_importable() -> None:
    from chord_exp.engine import vllm_standin

    vllm_standin.install()


@contextmanager
def _own_datasets_cache() -> Iterator[None]:
    """datasets keeps a copy of all it loads; this one goes away."""
    import datasets

    before = datasets.config.HF_DATASETS_CACHE
    with tempfile.TemporaryDirectory(prefix="chord_exp_check_") as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder)
        try:
            yield
        finally:
            datasets.config.HF_DATASETS_CACHE = before


def _load(make: Callable[..., Any], folder: Path, side: str, config: Any, system_prompt: str, multi_turn: bool) -> Any:
    try:
        return make(folder, side, config, system_prompt, multi_turn)
    except Exception as error:
        # datasets, tokenizers and Trinity raise what they like
        raise DataError(
            f"Trinity cannot read the {side} side: {_first_line(error)}",
            where=str(folder),
            fix="check the model's folder; else prepare again, and write nothing into this folder by hand",
        ) from error


def _expert_reader(folder: Path, side: str, config: Any, system_prompt: str, multi_turn: bool) -> Any:
    from trinity.buffer.reader.file_reader import ExperienceFileReader
    from trinity.common.config import FormatConfig, StorageConfig
    from trinity.common.constants import PromptType

    return ExperienceFileReader(
        StorageConfig(
            name=side,
            path=str(folder),
            schema_type="sft",
            split=SPLIT,
            tokenizer_path=config.model_path,
            batch_size=1,
            enable_progress_bar=False,
            format=FormatConfig(
                prompt_type=PromptType.MESSAGES,
                messages_key=MESSAGES_KEY,
                tools_key=TOOLS_KEY,
                enable_concatenated_multi_turn=multi_turn,
                enable_thinking=config.enable_thinking,
            ),
        )
    )


def _task_reader(folder: Path, side: str, config: Any, system_prompt: str, multi_turn: bool) -> Any:
    from trinity.buffer.reader.file_reader import TaskFileReader
    from trinity.common.config import FormatConfig, TasksetConfig

    taskset = TasksetConfig(
        name=side,
        path=str(folder),
        split=SPLIT,
        default_workflow_type=BOXED_WORKFLOW,
        batch_size=1,
        is_eval=side == EVAL,
        enable_progress_bar=False,
        format=FormatConfig(
            prompt_key=PROMPT_KEY,
            response_key=ANSWER_KEY,
            system_prompt=system_prompt,
            workflow_key=WORKFLOW_KEY,
            reward_fn_key=REWARD_KEY,
        ),
    )
    return TaskFileReader(taskset.to_storage_config())


def _expert_problem(formatter: Any, sample: dict[str, Any], limits: Any) -> tuple[str, str] | None:
    try:
        messages = json.loads(sample[MESSAGES_KEY])
        roles = [message["role"] for message in messages]
        unknown = [role for role in roles if role not in ROLES]
        if unknown:
            return UNKNOWN_ROLE, f"{unknown[0]!r}"
        last = messages[-1]
        if last["role"] != "assistant" or not (str(last.get("content") or "").strip() or last.get("tool_calls")):
            return EMPTY_ANSWER, "the last turn is not an assistant's, or says nothing"
        experience = formatter.format(sample)
    except Exception as error:
        # a chat template is a program and raises what it likes
        return UNREADABLE, _first_line(error)
    tokens = len(experience.tokens)
    if formatter.enable_concatenated_multi_turn and tokens >= formatter.processor_or_tokenizer.model_max_length:
        # this reader, and only this one, cuts without a word
        return TOO_LONG, f"cut at the tokenizer's model_max_length of {tokens} tokens"
    if tokens > limits.row:
        return TOO_LONG, f"{tokens} tokens, at most {limits.row}"
    if experience.prompt_length <= 0 or experience.prompt_length >= tokens or not experience.action_mask.any():
        return NOTHING_TAUGHT, f"{experience.prompt_length} prompt tokens of {tokens}"
    return None


def _task_problem(formatter: Any, sample: dict[str, Any], config: Any, limits: Any) -> tuple[str, str] | None:
    from chord_exp.plugins.workflows import prompt_tokens

    try:
        task = formatter.format(sample)
        # without a model, and without what a judge's constructor asks of the environment
        workflow = task.workflow.__new__(task.workflow)
        workflow.reset(task)
        messages = workflow.format_messages()
        if not any(str(message.get("content") or "").strip() for message in messages if message["role"] != "system"):
            return EMPTY_PROMPT, "nothing is asked"
        tokens = prompt_tokens(config, messages, sample.get(TOOLS_KEY) or "")
    except Exception as error:
        return UNREADABLE, _first_line(error)
    if tokens > limits.prompt:
        return TOO_LONG, f"{tokens} prompt tokens, at most {limits.prompt}"
    truth = sample.get(ANSWER_KEY)
    if not isinstance(truth, str) or not truth.strip():
        return EMPTY_ANSWER, "no truth to compare with"
    ideal = _ideal_response(truth, sample.get(REWARD_KEY) or "")
    if ideal is not None:
        score = next(score_experts([(truth, ideal, Scoring("", sample[REWARD_KEY]))]))
        if score < 1:
            return NEVER_SCORES, f"the reward gives {score:g} to the truth itself: {truth}"
    return None


def _ideal_response(truth: str, reward: str) -> str | None:
    """What a perfect model would write; None where that is the truth itself."""
    if reward in (BOXED_REWARD, ACCURACY_REWARD):
        return truth if "\\boxed" in truth else f"\\boxed{{{truth}}}"
    return f"<tool_call>{truth}</tool_call>" if reward == TOOL_CALL_REWARD else None


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def fails_its_reward(answer: Answer, last: Mapping[str, Any]) -> str:
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
