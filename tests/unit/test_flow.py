"""One way through: a command line is composed once, its data prepared once, and a trial repeats none of it."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import hydra
import pytest
from command_line import SMALL, left_in, refused
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from chord_exp import actions, prepare
from chord_exp.cli import main
from chord_exp.config import compose
from chord_exp.launch import run
from chord_exp.launch.folder import open_folder
from chord_exp.launch.launch_spec import LaunchSpec
from chord_exp.launch.run import run_experiment
from chord_exp.prepare.read import inventory
from chord_exp.run_files.record import SUCCEEDED, RunRecord
from chord_exp.sweep.backends import worker
from chord_exp.utils.files import is_locked


@pytest.fixture
def calls(monkeypatch):
    """How often each step of the way was taken, by its name; files that were hashed by their names."""
    counted: Counter[str] = Counter()

    def count(owner: Any, name: str, label: str | None = None) -> None:
        real = getattr(owner, name)

        def wrapper(*given: Any, **named: Any) -> Any:
            counted[label or name] += 1
            return real(*given, **named)

        monkeypatch.setattr(owner, name, wrapper)

    with hydra.initialize_config_module(compose.CONFIG_MODULE, version_base="1.3"):
        loader = type(GlobalHydra.instance().config_loader())
    count(loader, "load_configuration", "compositions")
    count(actions, "to_trinity")
    count(actions, "derive")
    count(prepare, "ensure_prepared")
    count(inventory, "sha256_file", "hashes")
    compose.schema.cache_clear()
    inventory._digest.cache_clear()
    return counted


def once(**others: int) -> dict[str, int]:
    # the experiment, and the defaults that are kept beside it
    counts = {"compositions": 2, "ensure_prepared": 1, "hashes": 1, "derive": 1, "to_trinity": 1, **others}
    return {step: count for step, count in counts.items() if count}


def test_a_run_takes_each_step_once(place, started, calls):
    assert main(SMALL) == 0
    # what needs no data to be refused is refused before data is prepared, by assumed sizes
    assert +calls == once(derive=2, to_trinity=2)
    calls.clear()
    assert main(SMALL) == 0
    # one process hashes a file once while it stays as it is
    assert +calls == once(hashes=0)
    assert compose.schema.cache_info().misses == 1


def test_a_sweep_takes_each_step_once_for_each_trial_and_prepares_once(place, started, machine, calls):
    assert main(SMALL) == 0
    calls.clear()
    inventory._digest.cache_clear()
    assert main(["-m", "mu_peak=0.1,0.2,0.3", *SMALL, "hydra.sweep.dir=sweep"]) == 0
    # the sweep itself, its trials, and the defaults
    assert +calls == once(compositions=1 + 3 + 1, derive=3, to_trinity=3)
    calls.clear()
    trial = place / "sweep" / "1_mu_peak=0.2"
    (trial / "logs").mkdir()
    assert worker._attempt(trial) == (0, "")
    assert +calls == {}
    ((launch, run_dir),) = started.calls[1:]
    assert run_dir == trial and launch.config["algorithm"]["policy_loss_fn_args"]["mu_peak"] == 0.2


def test_a_plan_composes_once_and_leaves_nothing(place, calls):
    assert main([*SMALL, "action=plan"]) == 0
    assert calls["compositions"] == calls["to_trinity"] == calls["derive"] == 1
    assert left_in(place) == set()


def test_a_plan_of_large_data_assumes_its_sizes_and_says_so(place, monkeypatch, capsys):
    monkeypatch.setattr("chord_exp.data_facts.SMALL_BYTES", 10)
    assert main([*SMALL, "action=plan"]) == 0
    printed = capsys.readouterr()
    assert "assumed" in printed.out and "is not prepared yet" in printed.err
    assert left_in(place) == set()


def test_a_trial_that_goes_on_does_not_start_anew(place, started, machine):
    assert main(["-m", "seed=1,2", *SMALL, "hydra.sweep.dir=sweep"]) == 0
    trial = place / "sweep" / "0_seed=1"
    launch = LaunchSpec.load(trial)
    record, lock = open_folder(launch, trial)
    lock.close()
    assert worker._attempt(trial) == (0, "")
    assert started.calls[-1][0].resume
    record.with_end(status=SUCCEEDED, completed_steps=4).save(trial / "run.json")
    started.calls.clear()
    assert worker._attempt(trial) == (0, "")
    assert started.calls == []


def test_a_trial_finds_its_data_whatever_folder_it_runs_in(place, started, machine):
    assert main(["-m", "seed=1,2", *SMALL, "hydra.sweep.dir=sweep", "data.input_dir=sft_data"]) == 0
    for trial in (place / "sweep").glob("*_seed=*"):
        config = LaunchSpec.load(trial).config
        paths = [config["buffer"]["explorer_input"]["taskset"]["path"], config["model"]["model_path"]]
        assert all(path.startswith("/") for path in paths)


def test_a_trial_keeps_its_prepared_folder_from_being_replaced(place, started, machine, monkeypatch):
    assert main(["-m", "seed=1,2", *SMALL, "hydra.sweep.dir=sweep", "data.out=made"]) == 0
    seen = []
    monkeypatch.setattr(run, "run_experiment", run_experiment)
    monkeypatch.setattr(run, "_run_to_end", lambda *given: seen.append(is_locked(Path("made/manifest.json"))) or (1, 0))
    (trial,) = (place / "sweep").glob("*_seed=1")
    assert worker._attempt(trial)[0] == 1
    assert seen == [True] and not is_locked(Path("made/manifest.json"))


def test_what_a_run_was_started_with_is_read_back_as_it_was(place, started):
    assert main([*SMALL, "data.system_prompt='\\${x}'", "hydra.run.dir=here"]) == 0
    ((launch, run_dir),) = started.calls
    again = LaunchSpec.load(run_dir)
    assert "${x}" in again.yaml and again.yaml == launch.yaml
    assert json.dumps(again.config, sort_keys=True) == json.dumps(launch.config, sort_keys=True)
    assert (again.overrides, again.stages, again.data_digest) == (launch.overrides, launch.stages, launch.data_digest)


def test_a_resumed_run_refuses_other_data(place, started, capsys):
    # a folder that the user named is prepared again in its place
    command = [*SMALL, "data.out=made", "hydra.run.dir=here"]
    assert main(command) == 0
    ((launch, run_dir),) = started.calls
    open_folder(launch, run_dir)[1].close()
    with open(place / "sft_data" / "rows.jsonl", "a", encoding="utf-8") as rows:
        rows.write('\n{"prompt": "What is 50 + 50?", "response": "\\\\boxed{100}"}')
    assert main([*command, "resume=true"]) == 0
    with pytest.raises(Exception, match="resume=true with other data"):
        open_folder(started.calls[-1][0], run_dir)
    assert RunRecord.load(run_dir / "run.json").data_digest == launch.data_digest


def test_two_runs_of_one_name_in_the_same_second_each_get_a_folder(place, started):
    fixed = "hydra.run.dir=outputs/${name}/now"
    (place / "conf" / "experiment").mkdir(parents=True)
    option = f"# @package _global_\nhydra:\n  run:\n    dir: {fixed.partition('=')[2]}\n"
    (place / "conf" / "experiment" / "clock.yaml").write_text(option, encoding="utf-8")
    for _ in range(3):
        assert main(["--config-dir", "conf", "experiment=clock", *SMALL]) == 0
    folders = [run_dir for _, run_dir in started.calls]
    assert [folder.name for folder in folders] == ["now", "now-2", "now-3"]
    for launch, folder in started.calls:
        assert launch.config["checkpoint_root_dir"] == str(folder / "checkpoints")
        kept = OmegaConf.load(folder / ".hydra" / "hydra.yaml")
        assert kept.hydra.runtime.output_dir == str(folder)


def test_hydra_s_own_values_may_be_named(place, started):
    run_dir = "hydra.run.dir='${hydra:runtime.cwd}/runs/${hydra:job.name}'"
    assert main([*SMALL, run_dir, "name='${hydra:runtime.choices.model}'"]) == 0
    ((launch, folder),) = started.calls
    assert folder == place / "runs" / "chord_exp" and launch.name == "tiny"


def test_two_sweeps_of_one_name_in_the_same_second_each_get_a_folder(place, started, machine):
    (place / "conf" / "experiment").mkdir(parents=True)
    option = "# @package _global_\nhydra:\n  sweep:\n    dir: multirun/${name}/now\n"
    (place / "conf" / "experiment" / "clock.yaml").write_text(option, encoding="utf-8")
    for _ in range(2):
        assert main(["--config-dir", "conf", "-m", "seed=1,2", "experiment=clock", *SMALL]) == 0
    trials = sorted((place / "multirun").glob("*/now*/*_seed=*"))
    assert [trial.parent.name for trial in trials] == ["now", "now", "now-2", "now-2"]
    assert all(LaunchSpec.load(trial).config["checkpoint_root_dir"] == str(trial / "checkpoints") for trial in trials)


def test_the_environment_that_hydra_is_told_to_set_is_set(place, started, monkeypatch):
    monkeypatch.setenv("OF_THE_TEST", "before")
    assert main([*SMALL, "+hydra.job.env_set.OF_THE_TEST=after"]) == 0
    assert os.environ["OF_THE_TEST"] == "after"


def test_relative_paths_are_those_of_the_shell_whatever_hydra_is_told(place, started):
    assert main([*SMALL, "hydra.job.chdir=true", "data.input_dir=sft_data"]) == 0


def test_a_run_leaves_what_hydra_users_know(place, started):
    assert main(["mu_peak=0.4", *SMALL, "hydra.run.dir=here"]) == 0
    kept = {
        name: OmegaConf.load(place / "here" / ".hydra" / f"{name}.yaml") for name in ("config", "hydra", "overrides")
    }
    assert kept["config"].mu_peak == 0.4 and "hydra" not in kept["config"]
    assert kept["hydra"].hydra.overrides.task == kept["overrides"] == ["mu_peak=0.4", *SMALL]
    assert kept["hydra"].hydra.mode == "RUN" or str(kept["hydra"].hydra.mode) == "RunMode.RUN"


def test_a_run_repeats_from_the_configuration_that_it_left(place, started):
    assert main(["mu_peak=0.4", *SMALL, "hydra.run.dir=here"]) == 0
    assert main(["--config-path", "here/.hydra", "--config-name", "config", "hydra.run.dir=there"]) == 0
    first, again = (launch for launch, _ in started.calls)
    assert first.config["algorithm"] == again.config["algorithm"]


REFUSED = [
    (["--config-dir", "typo"], "--config-dir typo is no folder"),
    (["variant=null"], "use one of grpo, mu"),
    (["-m", "seed=range(4,1)"], "gives no value"),
    (["-m", "variant=glob(zzz*)"], "gives no value"),
    (["-m", "mu_peak=interval(0,1)"], "add hydra/sweeper=optuna"),
    (["-m", "hydra.run.dir=a,b"], "cannot be swept"),
    (["-m", "seed=1,2", "hydra/launcher=basic"], "use hydra/launcher=local"),
    (["-m", "seed=1,2", "hydra.sweeper.max_batch_size=2"], "hydra.launcher.max_concurrent"),
    (["+hydra.callbacks.mine._target_=x"], "hydra.callbacks are not called"),
    (["--experimental-rerun", "x"], ".hydra/overrides.yaml"),
    (["data.input_dir=数据"], "type \"data.input_dir='数据'\""),
    (["data.input_dir=~/x"], "type \"data.input_dir='~/x'\""),
    (["experiment=我的实验"], "type \"experiment='我的实验'\""),
    (["-m", "hydra/sweeper=optuna", "mu_peka=interval(0,1)"], "did you mean 'mu_peak'"),
    (["-m", "action=plan,run"], "action=plan is no trial"),
]


@pytest.mark.parametrize(
    ("words", "line"), REFUSED, ids=lambda value: None if isinstance(value, str) else " ".join(value)
)
def test_what_hydra_would_do_and_this_does_not_is_refused_in_one_line(place, started, machine, capsys, words, line):
    assert line in refused(capsys, words)
    assert left_in(place) == set()


def test_the_word_that_a_refusal_names_is_taken(place, started):
    (place / "sft_data").rename(place / "数据")
    assert main([*SMALL, "data.input_dir='数据'"]) == 0
