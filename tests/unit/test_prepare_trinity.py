"""What prepare writes, read by the real readers: datasets, Trinity's readers, workflow and reward."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prepare_samples import free_text, pair, prepare, rows, write_lines

import chord_exp.tiny
from chord_exp.engine import vllm_stub
from chord_exp.trinity_config.plugin_names import BOXED_WORKFLOW
from chord_exp.trinity_config.rows import (
    ANSWER_KEY,
    MESSAGES_KEY,
    PROMPT_KEY,
    REWARD_KEY,
    ROLLOUT_COLUMNS,
    SPLIT,
    TOOLS_KEY,
    WORKFLOW_KEY,
)

MODEL = str(Path(chord_exp.tiny.__file__).parent / "model")
SYSTEM_PROMPT = "Box it."
ODD_PROMPTS = [
    "2024-01-01",
    "[1, 2]",
    '{"a": 1}',
    "null",
    "7",
    "line\nbreak\u2028\u0085\x1f",
    "\U0001f600 多少",
    "<image>?",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trinity")
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "And \\boxed?"},
        {"role": "assistant", "content": "It is a \\boxed{3}"},
    ]
    odd = [{"question": prompt, "answer": f"\\boxed{{{number}}}"} for number, prompt in enumerate(ODD_PROMPTS)]
    numbers = [pair(n, reply=f"{n}+{n}={2 * n} \\boxed{{{2 * n}}}") for n in range(60)]
    write_lines(folder / "raw" / "a.jsonl", [*numbers, *odd, *map(free_text, range(9)), {"messages": chat}])
    return prepare(folder / "raw", folder / "out", eval_rows=8, system_prompt=SYSTEM_PROMPT)


@pytest.fixture(scope="module")
def trinity_config():
    """Trinity's configuration module, importable where vLLM is absent."""
    vllm_stub.install()
    import trinity.common.config as config

    return config


@pytest.fixture(scope="module", autouse=True)
def datasets_cache(tmp_path_factory):
    import datasets

    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("cache")
    yield
    datasets.config.HF_DATASETS_CACHE = before


def test_datasets_loads_each_side_as_strings_row_for_row(made):
    import datasets

    columns = {"sft": {MESSAGES_KEY, TOOLS_KEY}, "rl": set(ROLLOUT_COLUMNS), "eval": set(ROLLOUT_COLUMNS)}
    for side in columns:
        loaded = datasets.load_dataset(str(made.folder / side), split=SPLIT)
        assert {name: feature.dtype for name, feature in loaded.features.items()} == dict.fromkeys(
            columns[side], "string"
        )
        assert loaded.to_list() == rows(made.folder, side)


def test_a_prompt_that_would_load_as_a_timestamp_stays_on_the_sft_side(tmp_path):
    import datasets

    dates = ["2024-01-02", "2024-01-02 10:20", "2024-01-02T10:20:30Z", "2024-01-02T10:20:30.5+08:00"]
    records = [{"prompt": date, "response": f"\\boxed{{{number}}}"} for number, date in enumerate(dates)]
    write_lines(tmp_path / "raw" / "a.jsonl", [*records, pair(1), pair(2)])
    made = prepare(tmp_path / "raw", tmp_path / "out")
    assert made.content["sft_only"] == {"prompt_is_a_date": 4}
    loaded = datasets.load_dataset(str(made.folder / "sft"), split=SPLIT)
    assert {json.loads(row[MESSAGES_KEY])[0]["content"] for row in loaded} >= set(dates)


def expert_reader(config, made):
    from trinity.buffer.reader.file_reader import ExperienceFileReader
    from trinity.common.constants import PromptType

    storage = config.StorageConfig(
        name="sft",
        path=str(made.folder / "sft"),
        schema_type="sft",
        split=SPLIT,
        tokenizer_path=MODEL,
        batch_size=made.expert_rows,
        enable_progress_bar=False,
        format=config.FormatConfig(prompt_type=PromptType.MESSAGES, messages_key=MESSAGES_KEY),
    )
    return ExperienceFileReader(storage)


def test_trinity_tokenises_every_expert_row_and_trains_the_whole_response(made, trinity_config):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    experiences = expert_reader(trinity_config, made)._read_sync()
    assert len(experiences) == made.expert_rows == len(rows(made.folder, "sft"))
    for experience, row in zip(experiences, rows(made.folder, "sft"), strict=True):
        turns = json.loads(row["messages"])
        assert experience.messages == turns
        prompt = tokenizer.decode(experience.tokens[: experience.prompt_length])
        response = tokenizer.decode(experience.tokens[experience.prompt_length :], skip_special_tokens=True)
        assert turns[-1]["content"].strip() in response and turns[-2]["content"].strip() in prompt
        assert turns[0]["role"] == "system" and turns[0]["content"] in prompt


def test_expert_rows_and_rollout_prompts_start_with_the_same_tokens(made, trinity_config):
    # The workflow adds the run's system prompt to a rollout; the expert row holds it.
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    task = task_reader(trinity_config, made, "rl")._read_sync()[0]
    workflow = task.workflow(task=task, model=FakeModel())
    rollout = tokenizer.apply_chat_template(workflow.format_messages(), add_generation_prompt=True, tokenize=False)
    question = task.raw_task[PROMPT_KEY]
    for experience in expert_reader(trinity_config, made)._read_sync():
        if len(experience.messages) == 3:
            expert = tokenizer.decode(experience.tokens[: experience.prompt_length])
            assert expert == rollout.replace(question, experience.messages[1]["content"])


class FakeModel:
    """Stands for Trinity's ModelWrapper: a workflow is only asked for its messages."""

    model_path = MODEL


def task_reader(config, made, side):
    from trinity.buffer.reader.file_reader import TaskFileReader

    storage = config.TasksetConfig(
        name=side,
        path=str(made.folder / side),
        split=SPLIT,
        default_workflow_type="simple_workflow",
        batch_size=4,
        is_eval=side == "eval",
        enable_progress_bar=False,
        format=config.FormatConfig(
            prompt_key=PROMPT_KEY,
            response_key=ANSWER_KEY,
            system_prompt=SYSTEM_PROMPT,
            workflow_key=WORKFLOW_KEY,
            reward_fn_key=REWARD_KEY,
        ),
    )
    return TaskFileReader(storage.to_storage_config())


@pytest.mark.parametrize("side", ["rl", "eval"])
def test_trinity_reads_every_task_and_its_reward_tells_right_from_wrong(made, trinity_config, side):
    reader = task_reader(trinity_config, made, side)
    tasks = [task for _ in range(len(reader) // 4) for task in reader._read_sync()]
    assert len(tasks) >= len(reader) - 3 and len(reader) == len(rows(made.folder, side))
    for task in tasks:
        workflow = task.workflow(task=task, model=FakeModel())
        assert workflow.format_messages() == [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": task.raw_task[PROMPT_KEY]},
        ]
        assert workflow.reward_fn(response=f"so \\boxed{{{workflow.truth}}}", truth=workflow.truth)["accuracy"] == 1.0
        assert workflow.reward_fn(response="so \\boxed{12345}", truth=workflow.truth)["accuracy"] == 0.0


def test_the_experts_own_answers_score_under_the_reward(tmp_path):
    from trinity.common.rewards.math_reward import MathBoxedRewardFn

    records = [pair(n, reply=f"{n}+{n}={2 * n} \\boxed{{{2 * n}}}") for n in range(30)]
    write_lines(tmp_path / "raw" / "a.jsonl", records)
    replies = {record["prompt"]: record["response"] for record in records}
    prepare(tmp_path / "raw", tmp_path / "out", eval_rows=5)
    for row in rows(tmp_path / "out", "rl") + rows(tmp_path / "out", "eval"):
        assert MathBoxedRewardFn()(response=replies[row["prompt"]], truth=row["answer"])["accuracy"] == 1.0


def test_an_empty_system_prompt_adds_nothing_to_a_rollout_where_an_unset_one_would(trinity_config):
    from trinity.common.workflows import WORKFLOWS, Task

    def roles(system_prompt):
        format_args = trinity_config.FormatConfig(
            prompt_key=PROMPT_KEY, response_key=ANSWER_KEY, system_prompt=system_prompt
        )
        workflow = WORKFLOWS.get(BOXED_WORKFLOW)
        task = Task(workflow=workflow, format_args=format_args, raw_task={PROMPT_KEY: "1+1?", ANSWER_KEY: "2"})
        return [message["role"] for message in workflow(task=task, model=FakeModel()).format_messages()]

    assert roles("") == ["user"]
    assert roles(None) == ["system", "user"]
