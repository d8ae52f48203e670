"""The command line: what it prints, what it refuses, what it leaves behind, and its exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import ROWS, SMALL, left_in, refused, run_module

from chord_exp.cli import main
from chord_exp.errors import INTERRUPTED, RunFailed
from chord_exp.prepare import load_manifest


def mu_peak_of(launch) -> float:
    return launch.config["algorithm"]["policy_loss_fn_args"]["mu_peak"]


def test_a_run_gets_its_folder_its_data_and_its_overrides(place, started):
    assert main(["mu_peak=0.4", *SMALL, "hydra.run.dir=here"]) == 0
    ((launch, run_dir),) = started.calls
    assert mu_peak_of(launch) == 0.4
    assert run_dir == place / "here" and (run_dir / ".hydra" / "overrides.yaml").exists()
    assert left_in(run_dir) == {".hydra", "launch.json", "trinity.yaml"}, "no log file of Hydra"
    assert launch.overrides == ["mu_peak=0.4", *SMALL]
    assert [(stage.name, stage.planned_steps) for stage in launch.stages] == [("", 4)]
    assert launch.config["checkpoint_root_dir"] == str(run_dir / "checkpoints")
    assert yaml.safe_load(launch.yaml) == launch.config
    prepared = Path(launch.config["buffer"]["explorer_input"]["taskset"]["path"]).parent
    manifest = load_manifest(prepared)
    assert manifest.eval_rows == 8
    assert manifest.expert_rows + manifest.rl_rows + manifest.eval_rows == len(ROWS)


def test_a_run_in_two_stages_says_what_each_will_do(place, started):
    assert main([*SMALL, "variant=sft_then_grpo"]) == 0
    ((launch, _),) = started.calls
    assert [(stage.name, stage.planned_steps) for stage in launch.stages] == [("sft", 2), ("grpo", 2)]


def test_a_run_without_a_folder_gets_one_of_its_own(place, started):
    assert main(SMALL) == 0
    assert started.calls[0][1].parent == place / "outputs" / "tiny-mu"


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_the_exit_code_of_a_run_is_that_of_the_command(place, started, code):
    started.codes.append(code)
    assert main(SMALL) == code


def test_an_error_of_a_run_is_one_line(place, started, capsys):
    started.codes.append(RunFailed("the trainer died", "logs/trainer.log", "look there"))
    assert main(SMALL) == 1
    error = capsys.readouterr().err
    assert "chord_exp: the trainer died [logs/trainer.log] -> look there" in error and "Traceback" not in error


def test_an_unexpected_error_is_one_line_and_a_traceback_on_request(place, started, capsys):
    started.codes += [KeyError("x"), KeyError("x")]
    assert main(SMALL) == 1
    error = capsys.readouterr().err
    assert "unexpected KeyError" in error and "debug=true" in error and "Traceback" not in error
    assert main([*SMALL, "debug=true"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupted_run_says_so(place, started):
    started.codes.append(KeyboardInterrupt())
    assert main(SMALL) == INTERRUPTED


def trials_of(sweep: Path) -> dict[str, dict[str, Any]]:
    """The composed configuration of each trial of a sweep, by its folder's name, in order."""
    return {
        path.parents[1].name: yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in sorted(sweep.glob("*/.hydra/config.yaml"))
    }


def test_a_sweep_runs_every_job_and_tells_of_the_failed_one(place, machine, capsys):
    machine.codes += [0, 1, 0]
    assert main(["-m", "mu_peak=0.1,0.2,0.3", "hydra.sweep.dir=sweep", *SMALL]) == 1
    trials = trials_of(place / "sweep")
    assert list(trials) == ["0_mu_peak=0.1", "1_mu_peak=0.2", "2_mu_peak=0.3"]
    assert [trial["mu_peak"] for trial in trials.values()] == [0.1, 0.2, 0.3]
    assert [number for number, _, _ in machine.starts] == [0, 1, 2]
    assert "2 succeeded" in (said := capsys.readouterr().out) and "1 failed" in said


def test_options_may_stand_between_overrides(place, machine):
    assert main(["lr=1e-3", "-m", "mu_peak=0.1,0.2", "hydra.sweep.dir=sweep", *SMALL]) == 0
    trials = trials_of(place / "sweep").values()
    assert [(trial["mu_peak"], trial["lr"]) for trial in trials] == [(0.1, 1e-3), (0.2, 1e-3)]


def test_a_sweep_stops_when_interrupted(place, machine, monkeypatch):
    def press_ctrl_c(seconds):
        os.kill(os.getpid(), signal.SIGINT)
        machine.wait = wait

    wait, machine.wait = machine.wait, press_ctrl_c
    assert main(["-m", "mu_peak=0.1,0.2", "hydra.sweep.dir=sweep", *SMALL]) == INTERRUPTED
    assert len(machine.starts) == 1


def test_a_sweep_over_options_composes_each(place, machine):
    assert main(["-m", "variant=mu,phi,sft", "hydra.sweep.dir=sweep", *SMALL]) == 0
    assert [trial["variant"] for trial in trials_of(place / "sweep").values()] == ["mu", "phi", "sft"]


def test_the_record_of_a_run_names_the_variant_that_is_trained(place, started):
    assert main(["phi=pq", *SMALL]) == 0
    ((launch, _),) = started.calls
    assert launch.variant == "phi"
    assert launch.config["algorithm"]["policy_loss_fn_args"]["phi"] == "pq"


def test_runs_that_split_differently_prepare_different_folders(place, started):
    for different in (["data.seed=7"], ["data.system_prompt=Think."], ["data.input_dir=sft_data"]):
        assert main([*SMALL, *different]) == 0
    paths = [launch.config["buffer"]["explorer_input"]["taskset"]["path"] for launch, _ in started.calls]
    assert len({Path(path).parent for path in paths}) == 3
    assert all(load_manifest(Path(path).parent) for path in paths)


def test_rows_left_out_by_an_automatic_preparation_are_told_once(place, started, capsys):
    with open(place / "sft_data" / "rows.jsonl", "a", encoding="utf-8") as file:
        file.write('\n{"prompt": ')
    assert main(SMALL) == 0
    error = capsys.readouterr().err
    assert error.count("chord_exp: warning: 1 of 145 rows rejected (1 invalid_json)") == 1
    assert main(SMALL) == 0
    assert "rejected" not in capsys.readouterr().err


def test_a_plan_prints_and_leaves_no_run_folder(place, started, capsys):
    assert main(["action=plan", "cluster=gpu_8", "model=qwen3_4b", "batch_size=8", "total_steps=50"]) == 0
    assert "GPU split" in capsys.readouterr().out
    assert started.calls == [] and not list(place.glob("outputs/qwen*"))


def test_a_plan_without_data_says_what_it_assumes(place, started, capsys):
    assert main(["action=plan", "data.input_dir=not_here_yet"]) == 0
    assert "assumed" in capsys.readouterr().out
    assert left_in(place) == set()


def test_several_plans_in_one_command(place, capsys):
    assert main(["-m", "action=plan", "variant=sft,grpo"]) == 0
    out = capsys.readouterr().out
    assert "Stage sft" in out and "Stage grpo" in out
    assert not (place / "multirun").exists()


def test_export_writes_a_yaml_that_trinity_reads(place, capsys):
    command = ["action=export", "export_to=my.yaml", "cluster=gpu_8", "model=qwen3_4b", "batch_size=8"]
    assert main(command) == 0
    text = (place / "my.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["cluster"]["gpu_per_node"] == 8
    assert "${" not in text and "???" not in text
    assert main(command) == 0, "the same export again changes nothing"
    assert (place / "my.yaml").read_text(encoding="utf-8") == text


def test_export_for_one_gpu_says_how_to_start_the_ray_it_needs(place, capsys):
    assert main([*SMALL, "action=export", "export_to=my.yaml", "cluster=gpu_1"]) == 0
    assert yaml.safe_load(Path("my.yaml").read_text())["cluster"]["ray_address"] == "auto"
    assert "CUDA_VISIBLE_DEVICES=0,0 ray start --head --num-gpus=2" in capsys.readouterr().out


def test_export_of_the_stock_loss_needs_no_package_of_ours(place):
    assert (
        main(["action=export", "export_to=my.yaml", "loss=stock", "cluster=gpu_8", "model=qwen3_4b", "batch_size=8"])
        == 0
    )
    assert "chord_exp." not in (place / "my.yaml").read_text(encoding="utf-8")


def test_export_overwrites_no_other_file(place, capsys):
    (place / "my.yaml").write_text("mine", encoding="utf-8")
    assert "exists and differs" in refused(capsys, [*SMALL, "action=export", "export_to=my.yaml"])
    assert (place / "my.yaml").read_text(encoding="utf-8") == "mine"
    assert "cannot write" in refused(capsys, [*SMALL, "action=export", "export_to=no/such/folder/my.yaml"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cfg", "job"], "mu_peak: 0.6"),
        (["--cfg", "job", "--resolve", "model=qwen3_4b"], "lr: 1.0e-06"),
        (["--cfg", "hydra"], "outputs/"),
        (["--info", "defaults-tree"], "mu_schedule"),
        (["--help"], "mu_schedule"),
    ],
)
def test_hydra_s_own_questions_are_answered(place, capsys, arguments, words):
    assert main(arguments) == 0
    assert words in capsys.readouterr().out
    assert left_in(place) == set()


def test_a_typing_error_in_a_question_to_hydra_is_refused_too(place, capsys):
    assert "did you mean 'mu_peak'" in refused(capsys, ["--cfg", "job", "mu_peka=1"])


def test_a_user_s_own_option_folder_is_read(place, started):
    (place / "mine" / "mu_schedule").mkdir(parents=True)
    (place / "mine" / "mu_schedule" / "steep.yaml").write_text(
        "# @package _global_\nmu_warmup_steps: 1\nmu_decay_steps: 2\nmu_peak: 0.7\nmu_valley: 0.0\n",
        encoding="utf-8",
    )
    assert main(["--config-dir", "mine", "mu_schedule=steep", "total_steps=4"]) == 0
    assert mu_peak_of(started.calls[0][0]) == 0.7


def test_the_module_exits_with_the_code(place):
    done = run_module(place, "-m", "chord_exp", "mu_peka=1")
    assert done.returncode == 2
    assert done.stderr == "chord_exp: unknown key 'mu_peka' [mu_peka] -> did you mean 'mu_peak'?\n"


def test_showing_the_configuration_imports_nothing_heavy(place):
    code = (
        "import sys; from chord_exp.cli import main; sys.argv = ['chord_exp']; main(['--cfg', 'job']);"
        "print('HEAVY', "
        "sorted({'torch', 'ray', 'trinity', 'transformers', 'datasets', 'numpy', 'rich'} & set(sys.modules)))"
    )
    assert run_module(place, "-c", code).stdout.splitlines()[-1] == "HEAVY []"


def test_completion_lists_the_options(place):
    environment = {**os.environ, "COMP_LINE": "chord_exp cluster=", "COMP_POINT": "18"}
    done = subprocess.run(
        [sys.executable, "-m", "chord_exp", "-sc", "query=bash"],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert {"cluster=gpu_8", "cluster=local"} <= set(done.stdout.split())


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"], ["action=plan"]])
def test_a_reader_that_has_enough_of_the_output_gets_no_complaint(place, words):
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "chord_exp", *words],
            cwd=place,
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=900,
        )
    finally:
        os.close(write)
    assert done.returncode == 1 and "rror" not in done.stderr


def test_somebody_at_a_terminal_is_told_at_once_that_it_reads_the_configuration(capsys, monkeypatch):
    assert main(["lr=0"]) == 2
    assert "reading" not in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["lr=0"]) == 2
    assert capsys.readouterr().err.startswith("chord_exp: reading the configuration\n")
