"""What the command line refuses: one readable line, exit code 2, and nothing written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import ROWS, SMALL, left_in, refused, run_module
from composing import SIZES
from prepare_samples import split_settings

from chord_exp.cli import main
from chord_exp.prepare import ensure_prepared
from chord_exp.runs.__main__ import main as runs_main

FREE_TEXT = [{"prompt": f"Tell me about {n}.", "response": f"It is the {n}th thing, and a fine one."} for n in range(9)]
NO_ROWS = [{"nothing": "of use"}, ["a list"]]
HANDMADE = "a folder without a manifest"
# a value on the command line wins over what an option sets
OUTDOING = ["mu_peak=0.9", "mu_valley=0.05", "mu_decay_steps=3"]


def write_rows(folder: Path, rows: list, broken: str = "") -> None:
    folder.mkdir()
    (folder / "rows.jsonl").write_text("\n".join([*map(json.dumps, rows), broken]), encoding="utf-8")


@pytest.fixture
def data(place):
    """The working folder with folders of bad data beside the good one."""
    (place / "empty").mkdir()
    write_rows(place / "free_text", FREE_TEXT)
    write_rows(place / "malformed", NO_ROWS, '{"prompt": ')
    write_rows(place / "handmade", ROWS)
    return place


def files_in(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file()
    }


GPU_8 = "cluster=gpu_8"
REFUSED = [
    # unknown options and keys, Hydra's own refusals included
    (["mu_peka=0.4"], "did you mean 'mu_peak'?"),
    (["model=qwen3_4"], "did you mean 'qwen3_4b'?"),
    (["+foo=1"], "unknown key 'foo'"),
    (["a=b=c"], "cannot read the override"),
    (["+model.typo=1"], "unknown key 'model.typo'"),
    (["hydra.run.dri=x"], "unknown key 'hydra.run.dri'"),
    (["-m", "model=tiny,tyni"], "model=tyni is not known"),
    (["data=folder"], "data.input_dir has no value"),
    (["--nonsense"], "unrecognized arguments: --nonsense"),
    (["--info", "mu_peak=0.4"], "invalid choice: 'mu_peak=0.4'"),
    (["action=plna"], "use one of run, plan, export"),
    (
        ["action=export", "export_to=my.yaml", "loss=stock", "monitor=trackio", GPU_8],
        "Trinity has no monitor 'trackio'",
    ),
    (["action=export"], "add export_to=my.yaml"),
    (["mu_peak=0.1,0.2"], "add -m to run each"),
    # names of older Trinity configurations
    (["runner_num=16"], "use cluster.runner_per_model"),
    (["explorer.runner_num=16"], "use cluster.runner_per_model"),
    (["cluster.runner_num=16"], "use cluster.runner_per_model"),
    (["+runner_num=16"], "use cluster.runner_per_model"),
    (["trainer_config_path=x"], "use trinity.trainer.trainer_config"),
    (["sft_warmup_dataset=x"], "use data"),
    (["sft_warmup_steps=5"], "use variant=sft_then_grpo"),
    (["ppo_mini_batch_size=32"], "use batch_size"),
    (["trinity.explorer.runner_num=4"], "use cluster.runner_per_model"),
    # names that would leave the output folder
    (["name=../x"], "name='../x' cannot be the name of a folder"),
    (["name=/x"], "name='/x' cannot be the name of a folder"),
    (["project=a/b"], "project='a/b' cannot be the name of a folder"),
    (["data.name=.."], "data.name='..' cannot be the name of a folder"),
    # values out of range
    (["mu_peak=1.5"], "1.5"),
    (["mu_peak=nan"], "nan"),
    (["lr=0"], "give a learning rate above 0"),
    (["-m", "mu_peak=0.1,1.5"], "1.5"),
    # shares that leave a side empty
    (["expert_data_ratio=0"], "use variant=grpo"),
    (["expert_data_ratio=1"], "use variant=grpo or variant=sft"),
    (["data.expert_ratio=0"], "leaves the SFT side without verifiable rows [data.expert_ratio]"),
    (["data.expert_ratio=1"], "leaves the RL side empty [data.expert_ratio]"),
    # a group that GRPO cannot compare
    (["repeat_times=1"], "needs at least 2 rollouts a prompt"),
    (["variant=grpo", "repeat_times=1"], "needs at least 2 rollouts a prompt"),
    # switches that contradict each other
    (["variant=phi", "phi=none"], "variant=phi and phi=none"),
    (["variant=grpo", "phi=pq"], "does nothing with variant=grpo"),
    (["trinity.buffer.train_batch_size=99"], "contradicts buffer.train_batch_size="),
    (["trinity.algorithm.repeat_times=3"], "follows from repeat_times"),
    (["trinity.buffer=null"], "would replace the whole section"),
    (["trinity.nonsense=1"], "nonsense"),
    # sizes that the chosen loss cannot weigh
    (
        [GPU_8, "cluster.engine_num=4", "loss=stock", "batch_size=7", "repeat_times=3"],
        "loss=stock cannot weigh",
    ),
    (
        [GPU_8, "loss=stock", "variant=sft", "batch_size=64"],
        "loss=stock sums Trinity's sft loss over micro-batches",
    ),
    # lengths that do not fit
    ([*SIZES, "model.max_model_len=100"], "does not fit model.max_model_len=100"),
    ([*SIZES, "cluster.max_token_len_per_gpu=100"], "cannot hold one row of up to 128 tokens"),
    (["model.max_prompt_tokens=4", "model.max_response_tokens=4", *SMALL], "the model's window is 8"),
    # GPUs that cannot be split
    ([GPU_8, "cluster.engine_num=8"], "leave none for the trainer"),
    ([GPU_8, "cluster.tensor_parallel_size=16"], "tensor_parallel_size=16"),
    (
        [GPU_8, "cluster.engine_num=1", "cluster.ulysses_sequence_parallel_size=3"],
        "divides the trainer's GPUs",
    ),
    (["cluster=gpu_1", "cluster.tensor_parallel_size=2"], "does not fit on 1 GPU"),
    (["cluster.gpu_per_node=4"], "one engine and one trainer"),
    # values set by hand that the engine or the algorithm does not take
    (["trinity.algorithm.kl_loss_fn=k2"], "no reference model"),
    (["trinity.synchronizer.sync_style=explorer_driven"], "strictly on-policy training"),
    # data that is not there or of no use
    (["data.input_dir=no_such_folder"], "no_such_folder"),
    (["data.input_dir=empty"], "empty"),
    (["data.input_dir=free_text"], "all 9 usable rows are free text"),
    (["data.input_dir=malformed"], "none of the 3 rows can be used: 1 invalid_json"),
    (["data.input_dir=null"], "neither data.input_dir nor data.out"),
    (["data=prepared"], "data.out has no value"),
    (["data=prepared", "data.out=no_such_folder"], "run python -m chord_exp.prepare"),
    (["data=prepared", "data.out=handmade"], "run python -m chord_exp.prepare"),
    (["data=prepared", "data.out=handmade", "action=plan"], "run python -m chord_exp.prepare"),
    (["data.out=handmade"], "was not written by chord_exp.prepare"),
    # a model that is not there
    (["model.path=my_model"], "no folder my_model here; a hub id has the form owner/name"),
    (["model.path=./my_model"], "is no folder"),
    # nothing to go on with
    (["resume=true"], "add hydra.run.dir=FOLDER"),
    (["resume=true", "hydra.run.dir=nope"], "holds nothing to resume"),
    (["-m", "resume=true", "mu_peak=0.1,0.2"], "python -m chord_exp.runs resume"),
    (["-m", "resume=true", "mu_peak=0.1,0.2", "hydra.sweep.dir=nope"], "python -m chord_exp.runs resume"),
]


@pytest.mark.parametrize(
    ("arguments", "words"), REFUSED, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_a_refused_command_is_one_line_exit_2_and_leaves_nothing(data, started, capsys, arguments, words):
    before, entries = files_in(data), left_in(data)
    line = refused(capsys, arguments)
    assert line.startswith("chord_exp: ") and words in line
    assert started.calls == []
    after = files_in(data)
    # data that was prepared well, and only then found not to fit, is whole and of use to the next command; of data that
    # cannot be used the list of what is wrong with it is kept
    left = after.keys() - before.keys()
    assert all(name.startswith("outputs/prepared/sft_data-") or name.endswith(".rejects.jsonl") for name in left)
    assert {name: after[name] for name in before} == before
    assert left_in(data) - entries <= {"outputs"}


def test_data_prepared_with_another_system_prompt_is_refused_with_both_texts(place, started, capsys):
    ensure_prepared("sft_data", split_settings(eval_rows=8, seed=1, system_prompt="Think hard."), out="made")
    command = ["data=prepared", "data.out=made", "total_steps=4", "mu_schedule=constant"]
    line = refused(capsys, [*command, "data.system_prompt=Be quick."])
    assert "'Be quick.'" in line and "'Think hard.'" in line and str(place / "made") in line
    assert "'Think hard.'" in refused(capsys, command)
    assert "'Think hard.'" in refused(capsys, [*command, "action=plan"])
    assert started.calls == [] and left_in(place) == {"made"}
    assert main([*command, "data.system_prompt=Think hard."]) == 0


def test_data_prepared_as_the_command_line_prepares_it_needs_no_system_prompt(place, started):
    ensure_prepared("sft_data", split_settings(eval_rows=8, seed=1), out="made")
    assert main(["data=prepared", "data.out=made", "total_steps=4", "mu_schedule=constant"]) == 0


def test_a_manifest_that_does_not_say_its_system_prompt_is_refused_readably(place, started, capsys):
    ensure_prepared("sft_data", split_settings(eval_rows=8, seed=1), out="made")
    manifest = place / "made" / "manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    del content["arguments"]
    manifest.write_text(json.dumps(content), encoding="utf-8")
    assert "manifest" in refused(capsys, ["data=prepared", "data.out=made", *SMALL[1:]])


def test_a_used_run_folder_is_refused_and_left_as_it_was(place, started, capsys):
    assert main([*SMALL, "hydra.run.dir=here"]) == 0
    (place / "here" / "run.json").write_text("{}", encoding="utf-8")
    before = (place / "here" / ".hydra" / "overrides.yaml").read_text(encoding="utf-8")
    assert "already holds a run" in refused(capsys, ["lr=1e-3", *SMALL, "hydra.run.dir=here"])
    assert (place / "here" / ".hydra" / "overrides.yaml").read_text(encoding="utf-8") == before
    assert main([*SMALL, "hydra.run.dir=here", "resume=true"]) == 0
    assert started.calls[-1][0].resume


def test_a_sweep_in_which_two_trials_would_be_the_same_run_is_refused(place, machine, capsys):
    sweep = ["-m", "method=chord_mu,fixed_mu", *OUTDOING, *SMALL, "hydra.sweep.dir=sweep"]
    said = refused(capsys, sweep)
    assert "0_method=chord_mu and 1_method=fixed_mu would be the same run" in said and OUTDOING[0] in said
    assert not (place / "sweep").exists() and not machine.starts


def test_a_used_sweep_is_refused_and_left_as_it_was_and_may_be_resumed(place, machine, capsys):
    sweep = ["-m", "mu_peak=0.1,0.2", *SMALL, "hydra.sweep.dir=sweep"]
    machine.codes += [130, 130]
    assert main(sweep) == 1
    capsys.readouterr()
    before = files_in(place / "sweep")
    assert "already holds a sweep" in refused(capsys, ["lr=1e-3", *sweep])
    assert files_in(place / "sweep") == before
    assert runs_main(["resume", "sweep"]) == 0
    assert [(number, attempt) for number, attempt, _ in machine.starts] == [(0, 1), (1, 1), (0, 2), (1, 2)]


@pytest.mark.parametrize(
    "arguments",
    [
        ["data.input_dir=free_text", "repeat_times=2"],  # after data was prepared
        ["trinity.buffer.no_such_key=99"],  # after Trinity was imported
        ["-m", "model=tiny,tyni"],
    ],
    ids=" ".join,
)
def test_a_real_process_refuses_in_one_line_too(data, arguments):
    done = run_module(data, "-m", "chord_exp", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("chord_exp: ") and done.stderr.count("\n") == 1, done.stderr
