"""The configuration tree: every option composes, every field is explained, nothing unknown gets in."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from composing import compose_config, compose_spec

import chord_exp
from chord_exp.config import compose
from chord_exp.config.hydra_errors import groups, to_config_error
from chord_exp.errors import ConfigError
from chord_exp.experiment.sections import ClusterSpec, DataSpec, ModelSpec, MonitorSpec
from chord_exp.experiment.spec import ExperimentSpec

CONF = Path(__import__("chord_exp.conf", fromlist=["x"]).__file__).parent
YAML_FILES = sorted(CONF.rglob("*.yaml"))
GROUP_SPECS = {"model": ModelSpec, "data": DataSpec, "cluster": ClusterSpec, "monitor": MonitorSpec}

WANTED = {
    "model": "tiny qwen3_0_6b qwen3_1_7b qwen3_4b qwen3_8b qwen2_5_7b qwen2_5_1_5b llama3_2_3b",
    "data": "sft_data",
    "mu_schedule": "seed_full seed_simple paper_mu paper_mu_tools paper_phi upstream_example constant local",
    "cluster": "local gpu_1 gpu_2 gpu_4 gpu_8 multi_node",
    "variant": "mu phi sft grpo sft_then_grpo",
    "monitor": "files wandb",
    "experiment": "seed_full seed_simple",
}


@pytest.mark.parametrize("group", WANTED)
def test_the_promised_options_are_there(group):
    assert set(WANTED[group].split()) <= set(groups()[group])


@pytest.mark.parametrize(("group", "option"), [(group, option) for group in groups() for option in groups()[group]])
def test_every_option_composes_into_a_checked_experiment(group, option):
    assert isinstance(compose_spec([f"{group}={option}"]), ExperimentSpec)


def without_block_texts(text: str) -> str:
    """YAML without the lines of texts that a `|` begins."""
    return re.sub(r"^( *)(.*: \|)\n(?:\1 +.*\n|\n)+", r"\1\2\n", text, flags=re.MULTILINE)


@pytest.mark.parametrize("file", YAML_FILES, ids=lambda file: str(file.relative_to(CONF)))
def test_a_comment_stands_above_every_field(file):
    lines = without_block_texts(file.read_text(encoding="utf-8")).splitlines()
    for number, line in enumerate(lines):
        field = re.match(r"\s*(- )?([\w /]+):( |$)", line)
        if not field or field.group(2) in (
            "defaults",
            "hydra",
            "job",
            "run",
            "sweep",
            "job_logging",
            "hydra_logging",
        ):
            continue
        if "override /" in line:
            continue
        above = lines[number - 1].strip() if number else ""
        assert above.startswith("#") and len(above) > 4, f"{file.name}:{number + 1}: no comment above {line.strip()!r}"


@pytest.mark.parametrize(("group", "spec"), GROUP_SPECS.items())
def test_option_files_give_every_field_so_that_no_default_hides_in_code(group, spec):
    names = {field.name for field in dataclasses.fields(spec)}
    assert all(field.default is dataclasses.MISSING for field in dataclasses.fields(spec))
    for option in groups()[group]:
        given = yaml.safe_load((CONF / group / f"{option}.yaml").read_text(encoding="utf-8"))
        # an option that decides more than its own group's keys
        given = given.get(group, given)
        # or one that takes another's and changes a few
        assert set(given) == names or ("defaults" in given and set(given) - {"defaults"} <= names)
        assert given["name"] == option


def test_no_experiment_field_has_a_default_in_code():
    assert all(field.default is dataclasses.MISSING for field in dataclasses.fields(ExperimentSpec))


def test_the_seed_schedule_is_the_seed_s():
    mu = compose_spec(["mu_schedule=seed_full"]).mu
    assert (mu.warmup_steps, mu.decay_steps, mu.peak, mu.valley) == (100, 300, 0.6, 0.05)


def test_the_paper_schedules_are_the_paper_s():
    assert dataclasses.astuple(compose_spec(["mu_schedule=paper_mu"]).mu) == (0, 200, 0.9, 0.05)
    assert dataclasses.astuple(compose_spec(["mu_schedule=paper_mu_tools"]).mu) == (0, 30, 0.9, 0.05)
    assert dataclasses.astuple(compose_spec(["mu_schedule=paper_phi"]).mu) == (0, 0, 0.1, 0.1)
    assert dataclasses.astuple(compose_spec(["mu_schedule=upstream_example"]).mu) == (200, 400, 0.5, 0.02)


def test_a_constant_schedule_has_one_knob():
    assert dataclasses.astuple(compose_spec(["mu_schedule=constant", "mu_peak=0.02"]).mu) == (
        0,
        0,
        0.02,
        0.02,
    )


def test_sizes_follow_the_model_unless_given():
    assert compose_spec(["model=qwen3_4b"]).lr == 1e-6
    assert compose_spec(["model=qwen3_4b", "lr=5e-6", "batch_size=32"]).batch_size == 32


def test_an_experiment_chooses_options_and_the_command_line_still_decides():
    full = compose_spec(["experiment=seed_full"])
    assert (full.model.name, full.cluster.name, full.mu_warmup_steps) == ("qwen3_4b", "gpu_8", 100)
    other = compose_spec(["experiment=seed_full", "model=tiny", "cluster=local", "mu_peak=0.4"])
    assert (other.model.name, other.cluster.name, other.mu_peak) == ("tiny", "local", 0.4)


def test_the_seed_s_common_adjustments_are_overrides():
    spec = compose_spec(
        [
            "experiment=seed_full",
            "batch_size=8",
            "cluster.param_offload=true",
            "cluster.optimizer_offload=true",
            "cluster.gpu_per_node=4",
            "cluster.tensor_parallel_size=2",
            "cluster.runner_per_model=16",
            "cluster.engine_num=1",
        ]
    )
    assert (spec.cluster.gpu_per_node, spec.cluster.engine_num, spec.cluster.param_offload) == (4, 1, True)


def test_remote_code_is_off_in_every_model():
    for option in groups()["model"]:
        assert compose_spec([f"model={option}"]).model.trust_remote_code is False
    assert compose_spec(["model.trust_remote_code=true"]).model.trust_remote_code is True


def test_the_built_in_model_is_a_folder_of_the_package():
    assert compose_spec([]).model.path == str(Path(chord_exp.__file__).parent / "tiny" / "model")


def test_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_model").mkdir()
    spec = compose_spec(["data.input_dir=raw", "data.out=made", "model.path=my_model"])
    assert (spec.data.input_dir, spec.data.out) == (str(tmp_path / "raw"), str(tmp_path / "made"))
    assert spec.model.path == str(tmp_path / "my_model")


@pytest.mark.parametrize("path", ["./nothing", "/no/such/folder", "'~/no_such_folder_here'", "a/b/c"])
def test_a_model_folder_that_is_not_there_is_refused(path):
    with pytest.raises(ConfigError, match="is no folder"):
        compose_spec([f"model.path={path}"])


def test_trinity_takes_any_key_without_a_plus():
    assert compose_spec(["trinity.a.b=1", "+trinity.c=x"]).trinity == {"a": {"b": 1}, "c": "x"}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["mu_peka=0.4"], ["mu_peka", "did you mean 'mu_peak'"]),
        (["+mu_peka=0.4"], ["mu_peka", "did you mean 'mu_peak'"]),
        (["model.max_prompt_token=1"], ["did you mean 'model.max_prompt_tokens'"]),
        (["+model.typo=1"], ["model.typo"]),
        (["++cluster.engine_nmu=1"], ["did you mean 'cluster.engine_num'"]),
        (["engine_num=4"], ["did you mean 'cluster.engine_num'"]),
        (["model=qwen3_4"], ["model=qwen3_4", "did you mean 'qwen3_4b'", "llama3_2_3b"]),
        (["experiment=seed_ful"], ["did you mean 'seed_full'"]),
        (["modle=tiny"], ["did you mean 'model'"]),
        (["+foo=1"], ["unknown key 'foo'"]),
        (["foo/bar=1"], ["foo"]),
        (["a=b=c"], ["type \"a='b=c'\""]),
        (["lr=["], ["lr=["]),
        (["lr=abc"], ["lr", "abc", "Float"]),
        (["batch_size=1.5"], ["batch_size", "1.5", "Integer"]),
        (["mu_peak=${nothing}"], ["nothing"]),
        (["~lr"], ["lr"]),
        (["batch_size=null"], ["batch_size"]),
    ],
)
def test_what_hydra_refuses_becomes_one_line_with_a_hint(overrides, words):
    with pytest.raises(Exception) as refusal:
        compose.read(compose_config(overrides))
    error = refusal.value if isinstance(refusal.value, ConfigError) else to_config_error(refusal.value)
    assert "\n" not in str(error)
    assert all(word in str(error) for word in words), str(error)


def test_a_value_left_to_the_user_is_asked_for():
    with pytest.raises(Exception) as refusal:
        compose.read(compose_config(["data=folder", "data.input_dir=???"]))
    assert "data.input_dir has no value" in str(to_config_error(refusal.value))


def test_a_name_without_an_owner_is_no_hub_id():
    with pytest.raises(ConfigError, match="no folder my_model here; a hub id has the form owner/name"):
        compose_spec(["model.path=my_model"])
    assert compose_spec(["model.path=owner/my_model"]).model.path == "owner/my_model"
