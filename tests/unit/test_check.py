"""`python -m chord_exp.check`: each mismatch that Trinity passes over is found, named and counted out."""

from __future__ import annotations

import copy
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from chord_exp.check.__main__ import main
from chord_exp.check.document import look_at_data, read
from chord_exp.check.rules import findings
from chord_exp.check.subject import ERROR, WARNING, Rows
from chord_exp.check.weights import stock_weights
from chord_exp.trinity_config.loss_arguments import ARGUMENTS, STOCK_DEFAULTS
from chord_exp.trinity_config.plugin_names import CHORD_LOSS

ROOT = Path(__file__).parents[2]
UPSTREAM = ROOT / "tests" / "assets" / "upstream_shape.yaml"
LOSS = "algorithm.policy_loss_fn_args"
EXPERT = "buffer.trainer_input.auxiliary_buffers.sft_dataset"
TASKSET = "buffer.explorer_input.taskset"
EVALUATION = "buffer.explorer_input.eval_tasksets"
U, E, D = 256, 64, 4
EXAMPLE = {
    "use_dynamic_bsz": True,
    "ppo_mini_batch_size": 320,
    "ppo_micro_batch_size_per_gpu": 4,
    "ngpus_trainer": D,
    "train_batch_size_usual": U,
    "train_batch_size_expert": E,
}


def clean() -> dict[str, Any]:
    """The example with everything put right that its check names."""
    values = yaml.safe_load(UPSTREAM.read_text(encoding="utf-8"))
    values["model"]["model_path"] = "Qwen/Qwen2.5-7B-Instruct"
    values["continue_from_checkpoint"] = False
    values["trainer"].pop("grad_clip")
    for key, value in {"use_dynamic_bsz": False, "ppo_mini_batch_size": 1, "ppo_micro_batch_size_per_gpu": 1}.items():
        values["algorithm"]["policy_loss_fn_args"][key] = value
    set_in(values, f"{TASKSET}.format.system_prompt", "")
    set_in(values, f"{EXPERT}.data_selector", {"selector_type": "shuffle"})
    return values


def set_in(values: dict[str, Any], path: str, value: Any) -> None:
    *sections, last = path.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    if value is KeyError:
        values.pop(last, None)
    else:
        values[last] = value


def found(changes: dict[str, Any], **facts: Any) -> list:
    values = clean()
    for path, value in changes.items():
        set_in(values, path, value)
    return findings(values, **{"verl_legacy": False, "rows": {}, **facts})


def test_a_right_configuration_has_no_findings():
    assert found({}) == []


MISMATCHES: list[tuple[str, dict[str, Any], str, str, list[str]]] = [
    ("sum", {"buffer.train_batch_size": 256}, ERROR, "buffer.train_batch_size", ["204", "256", "52", "320"]),
    (
        "train batch left out",
        {"buffer.train_batch_size": KeyError},
        ERROR,
        "buffer.train_batch_size",
        ["left out", "256"],
    ),
    (
        "ceil in floats",
        {"buffer.batch_size": 31, "algorithm.repeat_times": 3, "buffer.train_batch_size": 100}
        | {"algorithm.sample_strategy_args.expert_data_ratio": 0.07},
        ERROR,
        "algorithm.sample_strategy_args.expert_data_ratio",
        ["ceil(0.07 x 100)", "8", "not 7", "0.065"],
    ),
    ("ratio of 1", {"algorithm.sample_strategy_args.expert_data_ratio": 1.0}, ERROR, "expert_data_ratio", ["empty"]),
    ("one rollout", {"algorithm.repeat_times": 1}, ERROR, "algorithm.repeat_times", ["advantage is 0"]),
    ("U in the loss", {f"{LOSS}.train_batch_size_usual": 128}, ERROR, LOSS, ["0.33"]),
    ("E in the loss", {f"{LOSS}.train_batch_size_expert": KeyError}, ERROR, LOSS, ["left out", "1", "64"]),
    ("D in the loss", {f"{LOSS}.ngpus_trainer": 8}, ERROR, f"{LOSS}.ngpus_trainer", ["is 8", "is 4"]),
    ("E below D", {f"{LOSS}.train_batch_size_expert": 3}, ERROR, LOSS, ["smaller than ngpus_trainer=4", "is 0"]),
    (
        "mu never peaks",
        {f"{LOSS}.mu_warmup_steps": 0, f"{LOSS}.mu_decay_steps": 0},
        ERROR,
        "mu_decay_steps",
        ["0.5", "0.02"],
    ),
    ("mu jumps", {f"{LOSS}.mu_decay_steps": 0}, WARNING, "mu_decay_steps", ["jumps", "200"]),
    ("mu above 1", {f"{LOSS}.mu_peak": 1.5}, ERROR, "mu_peak", ["1.5"]),
    ("mu left out", {f"{LOSS}.mu_peak": KeyError}, WARNING, LOSS, ["mu_peak=0.1"]),
    ("phi left out", {f"{LOSS}.enable_phi_function": KeyError}, WARNING, LOSS, ["CHORD-phi"]),
    ("schedule too long", {"trainer.total_steps": 300}, WARNING, "mu_decay_steps", ["300", "600"]),
    ("clip range", {f"{LOSS}.clip_range": KeyError}, ERROR, LOSS, ["clip_range: 0.2"]),
    ("a KL loss", {"algorithm.kl_loss_fn_args": {"kl_coef": 0.01}}, WARNING, "kl_loss_fn", ["0.01", "outside"]),
    ("an entropy term", {"algorithm.entropy_loss_fn_args": {"entropy_coef": 0.1}}, WARNING, "entropy_loss_fn", ["0.1"]),
    (
        "data set name",
        {"algorithm.sample_strategy_args.sft_dataset_name": "sft"},
        ERROR,
        "sft_dataset_name",
        ["sft_dataset"],
    ),
    ("schema type", {f"{EXPERT}.schema_type": KeyError}, WARNING, EXPERT, ["schema_type: sft"]),
    ("storage type", {f"{EXPERT}.storage_type": KeyError}, ERROR, EXPERT, ["storage_type: file"]),
    ("order", {f"{EXPERT}.data_selector": KeyError}, WARNING, EXPERT, ["shuffle"]),
    ("thinking", {"model.enable_thinking": False}, WARNING, f"{EXPERT}.format", ["enable_thinking: false"]),
    ("system prompt", {f"{TASKSET}.format.system_prompt": KeyError}, WARNING, TASKSET, ["one of its own"]),
    ("no path", {f"{TASKSET}.path": KeyError}, ERROR, f"{TASKSET}.path", ["no path"]),
    ("no GPU left", {"explorer.rollout_model.engine_num": 8}, ERROR, "explorer.rollout_model", ["8 of 8"]),
    ("one GPU", {"cluster.gpu_per_node": 1}, ERROR, "explorer.rollout_model", ["colocate"]),
    ("colocate", {"mode": "colocate"}, ERROR, "mode", ["8"]),
    ("part of a machine", {"cluster.node_num": 2}, ERROR, "explorer.rollout_model", ["12", "8"]),
    ("sequence parallel", {"trainer.ulysses_sequence_parallel_size": 3}, ERROR, "ulysses", ["4", "3"]),
    ("unknown cluster", {"cluster": {}}, WARNING, "cluster", ["D cannot be checked"]),
    ("window", {"model.max_prompt_tokens": 2048}, ERROR, "model.max_model_len", ["12288", "11264"]),
    ("micro-batch", {"trainer.max_token_len_per_gpu": 4096}, ERROR, "max_token_len_per_gpu", ["4096", "11264"]),
    (
        "D does not divide T",
        {"buffer.batch_size": 30, "buffer.train_batch_size": 300},
        ERROR,
        "train_batch_size",
        ["4"],
    ),
    ("rising mu", {f"{LOSS}.mu_valley": 0.9}, WARNING, "mu_valley", ["0.9", "above", "0.5"]),
    ("resuming", {"continue_from_checkpoint": KeyError}, WARNING, "continue_from_checkpoint", ["write false"]),
    ("idle key", {"trainer.grad_clip": 1.0}, WARNING, "trainer.grad_clip", ["clip_grad"]),
    ("runner_num", {"explorer.runner_num": 16}, WARNING, "explorer.runner_num", ["runner_per_model"]),
    ("train file", {"trainer.trainer_config_path": "t.yaml"}, ERROR, "trainer_config_path", ["read no longer"]),
    (
        "warm-up data",
        {"buffer.trainer_input.sft_warmup_dataset": {"path": "x"}},
        ERROR,
        "sft_warmup",
        ["auxiliary_buffers"],
    ),
    ("gone argument", {f"{LOSS}.use_token_level_loss_in_sft": True}, ERROR, LOSS, ["gone"]),
    ("misspelt argument", {f"{LOSS}.mu_peek": 0.3}, ERROR, f"{LOSS}.mu_peek", ["mu_peak"]),
    ("misspelt ratio", {"algorithm.sample_strategy_args.expert_ratio": 0.3}, ERROR, "expert_ratio", ["silence"]),
]


@pytest.mark.parametrize(
    ("changes", "severity", "key", "words"), [row[1:] for row in MISMATCHES], ids=[row[0] for row in MISMATCHES]
)
def test_a_mismatch_is_named_with_its_numbers(changes, severity, key, words):
    hits = [one for one in found(changes) if one.severity == severity and key in one.key]
    assert any(all(word in f"{one.what} {one.fix}" for word in words) for one in hits), found(changes)


@pytest.mark.parametrize(
    ("arguments", "usual", "expert", "mu", "legacy"),
    [
        # rows of the tables in docs/losses.md and of the notes behind them
        (EXAMPLE, 1, 1, 0.50, True),
        ({**EXAMPLE, "use_dynamic_bsz": False}, 80, 80, 0.50, False),
        ({}, 64, 16, 0.20, False),
        ({**EXAMPLE, "train_batch_size_usual": E, "train_batch_size_expert": U}, 4, 0.25, 0.06, False),
        (
            {**EXAMPLE, "use_dynamic_bsz": False, "ppo_mini_batch_size": 1, "ppo_micro_batch_size_per_gpu": 1},
            1,
            1,
            0.5,
            False,
        ),
    ],
)
def test_the_weights_are_those_of_the_documented_table(arguments, usual, expert, mu, legacy):
    weights = stock_weights(arguments, U, E, D, verl_legacy=legacy)
    assert (weights.usual, weights.expert) == pytest.approx((usual, expert))
    assert weights.effective_mu(0.5) == pytest.approx(mu, abs=0.005)


def test_sizes_that_d_does_not_divide_change_mu():
    sizes = {"ppo_mini_batch_size": 1, "ppo_micro_batch_size_per_gpu": 1, "train_batch_size_usual": 18}
    weights = stock_weights({**sizes, "ngpus_trainer": 4, "train_batch_size_expert": 6}, 18, 6, 4, verl_legacy=False)
    assert (weights.usual, weights.expert) == pytest.approx((1.125, 1.5))
    assert weights.effective_mu(0.5) == pytest.approx(0.57, abs=0.005)


def test_doubled_rollouts_with_old_arguments_train_another_mu():
    assert stock_weights(EXAMPLE, 2 * U, E, D, verl_legacy=False).effective_mu(0.5) == pytest.approx(0.33, abs=0.005)


@given(
    dynamic=st.booleans(),
    usual=st.integers(1, 40),
    expert=st.integers(1, 40),
    believed=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    ranks=st.sampled_from([1, 2, 4]),
    micro=st.sampled_from([1, 2, 4]),
)
def test_the_weights_are_what_the_real_loss_class_computes(dynamic, usual, expert, believed, ranks, micro):
    """Against Trinity's own arithmetic, micro-batch by micro-batch, with verl >= 0.8's sum and mean over ranks."""
    chord = pytest.importorskip("trinity.algorithm.policy_loss_fn.chord_policy_loss")
    usual, expert = usual * ranks * micro, expert * ranks * micro
    arguments = {
        "use_dynamic_bsz": dynamic,
        "ppo_mini_batch_size": usual + expert,
        "ppo_micro_batch_size_per_gpu": micro,
        "ngpus_trainer": ranks,
        "train_batch_size_usual": believed[0] * ranks,
        "train_batch_size_expert": believed[1] * ranks,
    }
    loss = chord.MIXCHORDPolicyLossFn(clip_range=0.2, **arguments)
    rows = micro  # of a micro-batch; every one has the same number
    if dynamic:
        weight = [loss.experience_per_gpu / (rows * loss.train_batch_size_usual)]
        weight.append(loss.experience_per_gpu / (rows * loss.train_batch_size_expert))
    else:
        weight = [loss.gradient_accumulation / loss.train_batch_size_usual]
        weight.append(loss.gradient_accumulation / loss.train_batch_size_expert)
    weights = stock_weights(arguments, usual, expert, ranks, verl_legacy=False)
    micro_batches = (usual + expert) / ranks / rows
    times = micro_batches if weights.times == "K" else 1
    # a row counts its weight; a rank has its share of the rows; ranks are averaged
    assert weights.usual * times == pytest.approx(weight[0] * usual / ranks)
    assert weights.expert * times == pytest.approx(weight[1] * expert / ranks)


def test_the_known_arguments_are_those_of_the_classes():
    registry = pytest.importorskip("trinity.algorithm").POLICY_LOSS_FN
    for name, arguments in ARGUMENTS.items():
        signature = inspect.signature(registry.get(name).__init__).parameters
        assert set(arguments) == set(signature) - {"self", "backend"}, name
    stock = inspect.signature(registry.get("mix_chord").__init__).parameters
    assert {name: stock[name].default for name in STOCK_DEFAULTS} == STOCK_DEFAULTS


def test_a_size_that_the_exact_loss_lacks_is_asked_for():
    (one,) = [one for one in found({"algorithm.policy_loss_fn": CHORD_LOSS}) if one.key == f"{LOSS}.usual_rows"]
    assert one.severity == ERROR and "usual_rows is left out" in one.what and "256" in one.fix


@pytest.mark.parametrize("argument", ["clip_range_low", "cutoff_prob", "sft_loss_agg_mode", "legacy_actor"])
def test_every_argument_of_the_exact_loss_is_known(argument):
    changes = {"algorithm.policy_loss_fn": CHORD_LOSS, f"{LOSS}.{argument}": 0.1}
    assert not [one for one in found(changes) if one.key == f"{LOSS}.{argument}"]


def test_verls_own_sections_below_trainer_config_are_no_old_names(tmp_path, capsys):
    values = clean()
    values["trainer"]["trainer_config"] = {"actor": {"fsdp_config": {"use_torch_compile": False}, "grad_clip": 2.0}}
    code, out, _ = run(tmp_path, capsys, values)
    assert code == 0 and "warning: trainer.trainer_config.actor.grad_clip: " in out and "fsdp_config" not in out


def test_the_upstream_shape_is_told_how_its_weights_move_on_this_verl_and_that_old_verl_keeps_them():
    values = read(UPSTREAM).values
    new = [one for one in findings(values, verl_legacy=False, rows={}) if one.key == LOSS]
    assert len(new) == 1 and "depends on its neighbours" in new[0].what and new[0].severity == WARNING
    assert "GRPO x 1, SFT x 1)" in new[0].what
    assert not [one for one in findings(values, verl_legacy=True, rows={}) if one.key == LOSS]


def test_a_greedy_evaluation_of_the_same_workflow_spoils_the_rollouts():
    evaluation = {"name": "e", "path": "a/b", "rollout_args": {"temperature": 0.0}, "format": {"system_prompt": ""}}
    evaluation["format"] |= {"prompt_key": "problem", "response_key": "answer"}
    (one,) = found({EVALUATION: [evaluation]})
    assert one.severity == ERROR and one.key == f"{EVALUATION}.0.rollout_args"
    assert "1.0 -> 0.0" in one.what and "async_math_boxed_workflow" in one.fix
    twin = {**evaluation, "default_workflow_type": "async_math_boxed_workflow"}
    assert found({EVALUATION: [twin]}) == []
    warm = {**evaluation, "rollout_args": {"temperature": 0.6}}
    assert [one.severity for one in found({EVALUATION: [warm]})] == [WARNING]


@pytest.mark.parametrize(
    ("changes", "rows", "severity", "words"),
    [
        ({}, 100, ERROR, ["600 steps take 38400", "64 a step", "there are 100", "step 39", "total_epochs: 384"]),
        ({}, 40_000, None, []),
        ({}, None, WARNING, ["38400", "1536 rows"]),
        ({f"{EXPERT}.total_steps": 600}, 100, None, []),
        ({f"{EXPERT}.total_epochs": KeyError}, 5000, ERROR, ["left out", "step 78"]),
    ],
)
def test_expert_rows_that_run_out_are_counted(changes, rows, severity, words):
    facts = {f"{EXPERT}.path": Rows(rows, ("messages",))}
    ours = [one for one in found({"trainer.total_steps": 600, **changes}, rows=facts) if "total_epochs" in one.key]
    assert [one.severity for one in ours] == ([severity] if severity else [])
    assert all(word in f"{ours[0].what} {ours[0].fix}" for word in words)


def test_paths_and_keys_of_rows_are_looked_at(tmp_path):
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "train.jsonl").write_text('{"messages": "[]"}\n{"messages": "[]"}\n\n')
    (tmp_path / "rl.jsonl").write_text('{"prompt": "1+1", "answer": "2"}\n')
    values = clean()
    set_in(values, f"{EXPERT}.path", str(tmp_path / "sft"))
    set_in(values, f"{EXPERT}.format.messages_key", "message")
    set_in(values, f"{TASKSET}.path", str(tmp_path / "rl.jsonl"))
    rows = look_at_data(values)
    assert rows[f"{EXPERT}.path"] == Rows(2, ("messages",), files=("train.jsonl",))
    hits = {one.key: one for one in findings(values, verl_legacy=False, rows=rows)}
    assert "did you mean 'messages'?" in hits[f"{EXPERT}.format.messages_key"].fix
    assert "is a file" in hits[f"{TASKSET}.path"].what
    set_in(values, f"{TASKSET}.path", "./rl")
    assert look_at_data(values)[f"{TASKSET}.path"].missing
    set_in(values, f"{TASKSET}.path", "openai/gsm8k")
    assert look_at_data(values)[f"{TASKSET}.path"] == Rows(None, None)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"train.jsonl": 2, "test.jsonl": 5}, "train.jsonl (2 rows)"),
        ({"a.jsonl": 2, "b.jsonl": 3, "README.md": 1}, "a.jsonl, b.jsonl (5 rows)"),
        ({"a.jsonl": 2, "b.parquet": 3}, "a.jsonl, b.parquet (rows not counted)"),
    ],
)
def test_the_files_that_were_looked_at_are_named(tmp_path, capsys, files, said):
    folder = tmp_path / "sft"
    folder.mkdir()
    for name, count in files.items():
        (folder / name).write_text('{"messages": "[]"}\n' * count)
    values = clean()
    set_in(values, f"{EXPERT}.path", str(folder))
    _, out, _ = run(tmp_path, capsys, values)
    assert f"/my_config.yaml: {EXPERT}.path: looked at {said}\n" in out


def test_a_relative_path_is_explained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rl").mkdir()
    values = clean()
    set_in(values, f"{TASKSET}.path", "./rl")
    (one,) = findings(values, verl_legacy=False, rows=look_at_data(values))
    assert "where Ray was started" in one.what and "${oc.env:PWD}/rl" in one.fix


def test_each_stage_is_checked_and_its_keys_are_those_of_the_file():
    values = clean()
    algorithm = copy.deepcopy(values["algorithm"])
    algorithm["policy_loss_fn_args"]["mu_peak"] = 2.0
    values["stages"] = [{"stage_name": "a", "algorithm": algorithm}, {"stage_name": "b"}]
    (one,) = findings(values, verl_legacy=False, rows={})
    assert one.key == f"stages.0.{LOSS}.mu_peak"


# the command


def run(tmp_path: Path, capsys, values: dict[str, Any] | str) -> tuple[int, str, str]:
    file = tmp_path / "my_config.yaml"
    file.write_text(values if isinstance(values, str) else yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    code = main([str(file), "--verl", "new"])
    captured = capsys.readouterr()
    return code, captured.out.replace(str(tmp_path), ""), captured.err


def test_a_clean_file_exits_with_0_and_shows_its_sizes(tmp_path, capsys):
    code, out, err = run(tmp_path, capsys, clean())
    assert (code, err) == (0, "")
    assert out == "/my_config.yaml: no mismatch (U=256, E=64, T=320, D=4, mu 0.5 -> 0.02, steps by epochs)\n"


def test_an_error_exits_with_2_and_names_the_line(tmp_path, capsys):
    values = clean()
    values["buffer"]["train_batch_size"] = 256
    code, out, _ = run(tmp_path, capsys, values)
    line = next(
        n
        for n, text in enumerate((tmp_path / "my_config.yaml").read_text().splitlines(), 1)
        if "256" in text and "train_batch_size:" in text
    )
    assert code == 2 and f"/my_config.yaml:{line}: error: buffer.train_batch_size: " in out


def test_unknown_keys_are_errors_with_suggestions_and_free_sections_take_anything(tmp_path, capsys):
    values = clean()
    values["buffer"]["bach_size"] = 3
    values["runner_per_model"] = 3
    values["algorithm"]["advantage_fn_args"] = {"anything": 1}
    values["trainer"]["trainer_config"] = {"actor": {"x": 1}}
    code, out, _ = run(tmp_path, capsys, values)
    errors = [line for line in out.splitlines() if ": error: " in line]
    assert code == 2 and len(errors) == 2
    assert "did you mean 'buffer.batch_size'?" in errors[0] and "did you mean 'explorer.runner_per_model'?" in errors[1]


def test_a_value_of_the_wrong_type_is_refused_as_trinity_would(tmp_path, capsys):
    values = clean()
    values["explorer"]["eval_interval"] = "often"
    code, out, _ = run(tmp_path, capsys, values)
    assert code == 2 and "error: explorer.eval_interval" in out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1\nb: 2\n", ["no valid YAML", ":2"]),
        ("", ["holds no keys"]),
        ("- 1\n", ["holds no keys"]),
        ("a: 1\na: 2\n", ["duplicate key"]),
        ("model:\n  model_path: ${oc.env:SURELY_NOT_SET_ANYWHERE}\n", ["SURELY_NOT_SET_ANYWHERE", ":2"]),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path, capsys, text, words):
    code, out, err = run(tmp_path, capsys, text)
    assert code == 2 and out == "" and len(err.splitlines()) == 1
    assert all(word in err for word in words)


def test_a_missing_file_is_refused_in_one_line(tmp_path, capsys):
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_a_trainer_half_is_told_to_join_its_main_file(capsys):
    assert main([str(ROOT / "package" / "qwen3_chord_simple_train.yaml")]) == 2
    out = capsys.readouterr().out
    assert "join" in out and out.count(": error: ") == 1 and "warning:" not in out


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data())
def test_no_value_anywhere_makes_the_rules_fail(data):
    values = clean()
    paths = [path for path in _every_path(values)]
    for path in data.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=3)):
        node, *rest = values, *path
        for key in rest[:-1]:
            node = node[key] if isinstance(node, dict) and key in node else {}
        if isinstance(node, dict):
            node[rest[-1]] = data.draw(json_values)
    findings(json.loads(json.dumps(values)), verl_legacy=data.draw(st.booleans()), rows={})


def _every_path(node: Any, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(node, dict):
        return []
    return [path for key, value in node.items() for path in [(*prefix, key), *_every_path(value, (*prefix, key))]]


@pytest.mark.parametrize("loss", ["exact", "stock"])
@pytest.mark.parametrize(
    "overrides",
    [
        ["cluster=gpu_8", "model=qwen3_4b", "mu_schedule=seed_full"],
        ["cluster=gpu_8", "model=qwen3_4b", "variant=phi", "mu_schedule=paper_phi"],
        ["cluster=gpu_8", "model=qwen3_4b", "cluster.ulysses_sequence_parallel_size=2", "mu_schedule=paper_mu"],
        ["cluster=gpu_1", "model=qwen3_4b", "mu_schedule=paper_mu"],
        ["cluster=multi_node", "model=qwen3_4b", "mu_schedule=paper_mu"],
        ["variant=sft"],
        ["variant=grpo", "cluster=gpu_2"],
        ["variant=sft_then_grpo"],
    ],
    ids=" ".join,
)
def test_what_this_package_exports_has_no_errors(overrides, loss, tmp_path):
    from composing import FACTS, FOLDERS, compose_spec, to_trinity

    from chord_exp.trinity_config.schema import trinity_keys

    # Trinity's own baselines are exact only where a rank takes its rows at once
    roomy = ["cluster.max_token_len_per_gpu=10000000"] if loss == "stock" else []
    overrides = ["total_steps=500", *roomy, *overrides, f"loss={loss}"]
    config = to_trinity(compose_spec(overrides, tmp_path), FACTS, FOLDERS)
    found = findings(config, verl_legacy=False, rows={}, known=frozenset(trinity_keys()))
    assert {
        one.what for one in found if "algorithm_type is" not in one.what and "expert rows (" not in one.what
    } == set()
