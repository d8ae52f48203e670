"""How rows that name their workflow and reward meet the run's configuration, and Trinity's own runner."""

from __future__ import annotations

from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace

import orjson
import pytest
from composing import FACTS, FOLDERS, compose_spec, to_trinity
from prepared_kinds import conversations, free_texts, rows_of, tool_model

from chord_exp.actions import export
from chord_exp.engine import vllm_stub
from chord_exp.errors import ConfigError
from chord_exp.trinity_config.plugin_names import CHRF_REWARD, JUDGE_WORKFLOW
from chord_exp.trinity_config.rows import REWARD_KEY, TOOLS_KEY, WORKFLOW_KEY
from chord_exp.utils.split_settings import JUDGE

vllm_stub.install()


def tasksets(overrides, facts=FACTS):
    reader = to_trinity(compose_spec(overrides), facts, FOLDERS)["buffer"]["explorer_input"]
    return [reader["taskset"], reader["eval_tasksets"][0]]


def test_the_columns_that_the_configuration_names_are_those_that_prepare_writes():
    from chord_exp.trinity_config import rows

    assert (WORKFLOW_KEY, REWARD_KEY, TOOLS_KEY) == (rows.WORKFLOW_KEY, rows.REWARD_KEY, rows.TOOLS_KEY)


def test_a_workflow_or_reward_set_for_the_run_is_that_of_every_row_and_else_each_row_names_its_own():
    for taskset in tasksets([]):
        assert (taskset["format"]["workflow_key"], taskset["format"]["reward_fn_key"]) == ("workflow", "reward")
        assert taskset["default_reward_fn_type"] is None
    for taskset in tasksets(["data.reward=math_reward"]):
        assert (taskset["format"]["workflow_key"], taskset["format"]["reward_fn_key"]) == ("workflow", "")
        assert taskset["default_reward_fn_type"] == "math_reward"
    rollout, evaluation = tasksets(["data.workflow=math_workflow"])
    assert rollout["format"]["workflow_key"] == evaluation["format"]["workflow_key"] == ""
    assert (rollout["default_workflow_type"], evaluation["default_workflow_type"]) == (
        "math_workflow",
        "async_math_workflow",
    )


def test_trinity_lets_a_row_win_over_the_default_and_an_empty_or_missing_value_fall_back():
    from trinity.buffer.schema.formatter import TaskFormatter
    from trinity.common.config import FormatConfig, StorageConfig
    from trinity.common.rewards import REWARD_FUNCTIONS

    keys = FormatConfig(workflow_key="workflow", reward_fn_key="reward")
    storage = StorageConfig(
        name="rl", format=keys, default_workflow_type="math_boxed_workflow", default_reward_fn_type="math_reward"
    )
    formatter = TaskFormatter(storage)

    def chosen(**row):
        task = formatter.format(row)
        return task.workflow.__name__, task.reward_fn

    named = chosen(workflow="simple_workflow", reward="accuracy_reward")
    assert named == ("SimpleWorkflow", REWARD_FUNCTIONS.get("accuracy_reward"))
    default = ("MathBoxedWorkflow", REWARD_FUNCTIONS.get("math_reward"))
    assert chosen(workflow="", reward="") == chosen() == default


def test_multi_turn_of_the_data_reaches_the_reader_of_expert_rows():
    for multi_turn in (True, False):
        config = to_trinity(compose_spec([]), replace(FACTS, multi_turn=multi_turn), FOLDERS)
        reader = config["buffer"]["trainer_input"]["auxiliary_buffers"]["expert"]["format"]
        assert reader["enable_concatenated_multi_turn"] is multi_turn and reader["tools_key"] == "tools"


def test_judged_rows_need_a_judge_and_its_name_reaches_the_workflow():
    facts = replace(FACTS, scored_by=(JUDGE_WORKFLOW,))
    with pytest.raises(ConfigError, match="judge_model"):
        tasksets([], facts)
    with pytest.raises(ConfigError, match="judge_model"):
        compose_spec(["data.free_text=judge"])
    for taskset in tasksets(["data.free_text=judge", "data.judge_model=qwen-max"], facts):
        assert taskset["workflow_args"]["judge_model_name"] == "qwen-max"
    assert all("workflow_args" not in taskset for taskset in tasksets([]))


def test_an_export_for_clusters_without_this_package_refuses_rows_that_need_it(tmp_path, monkeypatch):
    spec = compose_spec(["loss=stock"])
    facts = replace(FACTS, scored_by=("math_boxed_workflow", CHRF_REWARD))
    monkeypatch.setattr("chord_exp.actions.prepare_data", lambda spec, allow_missing: facts)
    with pytest.raises(ConfigError, match=r"chord_exp\.plugins\.rewards\.ChrfReward"):
        export(spec, tmp_path, tmp_path / "a.yaml")
    facts = replace(FACTS, scored_by=("math_boxed_workflow", "math_boxed_reward"))
    assert export(spec, tmp_path, tmp_path / "a.yaml") == 0
    assert "chord_exp." not in (tmp_path / "a.yaml").read_text()


@pytest.fixture
def judge(monkeypatch):
    """Stands for a judge model: a server of the OpenAI protocol that rates what holds "useful" 9, else 2."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            request = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append(request)
            response = request["messages"][1]["content"].split("<response>")[1].split("</response>")[0]
            rating = 9 if "useful" in response else 2
            message = {"role": "assistant", "content": f'```json\n{{"rating": {rating}}}\n```'}
            body = {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": request["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            }
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(orjson.dumps(body))

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield seen
    server.shutdown()
    thread.join()
    server.server_close()


class Scripted:
    """Stands for Trinity's ModelWrapper: answers every prompt with the texts given, and keeps what it was asked."""

    def __init__(self, model, texts):
        self.config = SimpleNamespace(
            model_path=model, trust_remote_code=False, chat_template=None, enable_thinking=None
        )
        self.texts, self.asked = texts, []

    def generate(self, prompts, **arguments):
        self.asked.append((prompts[0], arguments))
        return [
            SimpleNamespace(response_text=text, metrics=None, reward=None, eid=SimpleNamespace(run=0))
            for text in self.texts
        ]

    async def generate_async(self, prompts, **arguments):
        return self.generate(prompts, **arguments)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tool_model(tmp_path_factory.mktemp("model") / "model"))


def task_of(row, *, temperature=1.0):
    from trinity.buffer.schema.formatter import TaskFormatter
    from trinity.common.config import FormatConfig, GenerationConfig, StorageConfig

    keys = FormatConfig(response_key="answer", system_prompt="", workflow_key="workflow", reward_fn_key="reward")
    storage = StorageConfig(
        name="rl",
        format=keys,
        default_workflow_type="math_boxed_workflow",
        workflow_args={"judge_model_name": "judge"},
        rollout_args=GenerationConfig(temperature=temperature),
    )
    return TaskFormatter(storage).format(row)


def test_a_judge_scores_by_the_rubric_of_the_row(judge, model):
    row = rows_of(*free_texts(1)["free_text"], JUDGE)["rl"]
    workflow = task_of(row).to_workflow(Scripted(model, ["A useful thing.", "No idea."]), [])
    assert [round(made.reward, 3) for made in workflow.run()] == [0.9, 0.2]
    assert all(request["model"] == "judge" for request in judge) and len(judge) == 2
    assert "It is a useful thing." in judge[0]["messages"][1]["content"]


@pytest.mark.parametrize("name", conversations(1))
def test_after_an_evaluation_of_any_kind_rollouts_of_every_kind_keep_their_own_sampling(judge, model, name):
    """Trinity's own runner, over evaluation rows and then rollout rows of mixed kinds."""
    from trinity.explorer.workflow_runner import WorkflowRunner

    runner = SimpleNamespace(workflow_instance=None, model_wrapper=Scripted(model, []), auxiliary_model_wrappers=[])

    def instance(row, temperature):
        return WorkflowRunner._create_workflow_instance(runner, task_of(row, temperature=temperature))

    mixed = [*conversations(2).values(), *free_texts(2).values()]
    for free_text in ("chrf", JUDGE):
        instance(rows_of(*conversations(1)[name], free_text)["eval"], 0.0)
        for messages, tools in mixed:
            assert instance(rows_of(messages, tools, free_text)["rl"], 1.0).rollout_args["temperature"] == 1.0
        for messages, tools in mixed:
            assert instance(rows_of(messages, tools, free_text)["eval"], 0.0).rollout_args["temperature"] == 0.0
