"""Trinity's own schema and validators accept what `to_trinity` writes, for every option of every group."""

from __future__ import annotations

import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from composing import FACTS, FOLDERS, SIZES, compose_spec, to_trinity
from prepared_kinds import TINY

from chord_exp.config.hydra_errors import groups
from chord_exp.errors import ConfigError
from chord_exp.experiment.geometry import derive
from chord_exp.experiment.spec import DataFacts, ExperimentSpec
from chord_exp.trinity_config.build import Folders, to_yaml
from chord_exp.trinity_config.user_overrides import DERIVED_FROM, EXPERT_BUFFER, FIXED, SAME_AS, flatten, lookup

pytest.importorskip("trinity")


def every_choice() -> list[list[str]]:
    """Each option of each group alone, then the combinations whose parts meet in Trinity's validators."""
    single = [[f"{group}={option}"] for group, options in groups().items() for option in options]
    variants, clusters = groups()["variant"], ("gpu_1", "gpu_8", "multi_node")
    model = "model=qwen3_4b"  # its batches are large enough for sixteen trainer GPUs
    pairs = [[model, f"variant={variant}", f"cluster={cluster}"] for variant in variants for cluster in clusters]
    stock = [[model, "loss=stock", f"cluster={cluster}"] for cluster in clusters]
    return single + pairs + stock


@pytest.fixture(scope="module")
def trinity_accepts(tmp_path_factory):
    """Trinity's schema and validators on a configuration, each in a folder of its own; returns its stages."""
    from trinity.common.config import Config, load_config

    logging.getLogger("trinity").setLevel(logging.ERROR)

    def accept(spec: ExperimentSpec) -> list[Config]:
        scratch = tmp_path_factory.mktemp("run")
        folders = Folders(str(scratch / "checkpoints"), str(scratch / "metrics.jsonl"))
        path = scratch / "trinity.yaml"
        path.write_text(to_yaml(to_trinity(spec, FACTS, folders)), encoding="utf-8")
        config = load_config(str(path))
        stages = list(config) if config.stages else [config]
        return [stage.check_and_update() for stage in stages]

    return accept


@pytest.mark.parametrize("variant", ["mu", "sft"])
def test_expert_rows_are_read_in_an_order_of_the_run_s_seed_so_that_runs_of_other_seeds_are_other_runs(variant):
    spec = compose_spec([f"variant={variant}", "seed=7", "data.seed=8"])
    inputs = to_trinity(spec, FACTS, FOLDERS)["buffer"]["trainer_input"]
    rows = inputs["experience_buffer"] if variant == "sft" else inputs["auxiliary_buffers"][EXPERT_BUFFER]
    assert rows["data_selector"] == {"selector_type": "shuffle", "seed": 7}


@pytest.mark.parametrize("overrides", every_choice(), ids=" ".join)
def test_trinity_accepts_every_choice_and_changes_none_of_its_sizes(trinity_accepts, overrides, tmp_path):
    # Trinity makes adapters of a model before it has read its weights
    shutil.copy(TINY / "config.json", tmp_path)
    spec = compose_spec(overrides, tmp_path)
    geometry = derive(spec, FACTS)
    accepted = trinity_accepts(spec)
    assert len(accepted) == len(geometry.stages)
    for config, stage in zip(accepted, geometry.stages, strict=True):
        assert config.mode == stage.gpus.mode
        assert config.buffer.train_batch_size == stage.batch.rows
        assert config.buffer.total_steps == config.trainer.total_steps == stage.steps
        assert config.trainer.max_token_len_per_gpu == stage.max_token_len_per_gpu
        assert config.cluster.trainer_gpu_num == stage.gpus.trainer
        assert config.cluster.rollout_gpu_num == stage.gpus.rollout
        assert config.algorithm.loss_agg_mode == config.algorithm.policy_loss_fn_args["loss_agg_mode"]
        assert config.name.split("/")[0] == spec.name
        if stage.batch.usual_rows:
            assert config.explorer.eval_interval == stage.eval_interval
            assert config.buffer.explorer_input.tasksets[0].repeat_times == spec.repeat_times


@pytest.mark.parametrize("loss", ["exact", "stock"])
@pytest.mark.parametrize("variant", ["mu", "phi", "sft", "grpo", "sft_then_grpo"])
def test_trinity_builds_the_loss_from_the_arguments(trinity_accepts, variant, loss, tmp_path):
    from trinity.algorithm import POLICY_LOSS_FN

    for config in trinity_accepts(compose_spec([f"variant={variant}", f"loss={loss}"], tmp_path)):
        POLICY_LOSS_FN.get(config.algorithm.policy_loss_fn)(backend="verl", **config.algorithm.policy_loss_fn_args)


def test_the_sample_strategy_takes_exactly_the_derived_rows_and_finds_its_buffer(trinity_accepts, tmp_path):
    from math import ceil

    # 7 of 100 rows: Trinity's ceil(0.07 * 100) would be 8
    spec = compose_spec(["batch_size=31", "repeat_times=3", "expert_data_ratio=0.07"], tmp_path)
    stage = derive(spec, FACTS).stages[0]
    assert (stage.batch.expert_rows, stage.batch.rows) == (7, 100)
    (config,) = trinity_accepts(spec)
    arguments = config.algorithm.sample_strategy_args
    assert ceil(arguments["expert_data_ratio"] * config.buffer.train_batch_size) == stage.batch.expert_rows
    expert = config.buffer.trainer_input.auxiliary_buffers[arguments["sft_dataset_name"]]
    assert expert.schema_type == "sft"
    assert expert.total_epochs * FACTS.expert_rows >= stage.steps * stage.batch.expert_rows


def test_expert_rows_last_even_when_their_number_was_guessed(tmp_path):
    guessed = DataFacts(5000, 20000, 100, "/data/prepared", assumed=True)
    config = to_trinity(compose_spec([], tmp_path), guessed, FOLDERS)
    assert config["buffer"]["trainer_input"]["auxiliary_buffers"][EXPERT_BUFFER]["total_steps"] == 80


def test_stock_loss_needs_nothing_of_this_package_without_a_metrics_file(tmp_path):
    folders = Folders(FOLDERS.checkpoint_root, None)
    for variant in ("mu", "phi", "sft", "grpo", "sft_then_grpo"):
        text = to_yaml(to_trinity(compose_spec(["loss=stock", f"variant={variant}"], tmp_path), FACTS, folders))
        assert "chord_exp" not in text.replace("chord_exp/tiny/model", "")


def test_stock_loss_gets_the_sizes_that_make_it_exact(tmp_path):
    spec = compose_spec([*SIZES, "loss=stock", "cluster=gpu_8", "cluster.ulysses_sequence_parallel_size=2"], tmp_path)
    arguments = to_trinity(spec, FACTS, FOLDERS)["algorithm"]["policy_loss_fn_args"]
    wanted = {
        "use_dynamic_bsz": False,
        "ppo_mini_batch_size": 1,
        "ppo_micro_batch_size_per_gpu": 1,
        "ngpus_trainer": 2,
        "train_batch_size_usual": 24,
        "train_batch_size_expert": 8,
        "clip_range": 0.2,
    }
    assert {key: arguments[key] for key in wanted} == wanted
    legacy = to_trinity(spec, FACTS, FOLDERS, verl_legacy=True)["algorithm"]["policy_loss_fn_args"]
    assert (legacy["use_dynamic_bsz"], legacy["ppo_mini_batch_size"]) == (True, 32)


def test_text_with_an_interpolation_survives_the_yaml(tmp_path, trinity_accepts):
    from trinity.common.config import load_config

    config = to_trinity(compose_spec([], tmp_path), FACTS, FOLDERS)
    config["buffer"]["explorer_input"]["taskset"]["format"]["system_prompt"] = "pay ${price} 元"
    path = tmp_path / "trinity.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(str(path)).buffer.explorer_input.taskset.format.system_prompt == "pay ${price} 元"


@pytest.mark.parametrize(
    ("overrides", "method"),
    [
        (["cluster=gpu_2"], "nccl"),
        (["cluster=gpu_2", "cluster.sync_method=memory"], "memory"),
        (["cluster=gpu_2", "cluster.sync_method=checkpoint"], "checkpoint"),
        (["cluster=gpu_1"], "memory"),
        (["cluster=gpu_1", "cluster.sync_method=checkpoint"], "checkpoint"),
        (["cluster=local", "cluster.sync_method=memory"], "memory"),
        (["cluster=gpu_2", "cluster.sync_method=memory", "variant=sft"], "checkpoint"),
    ],
)
def test_weights_are_synchronised_as_the_user_wants_and_trinity_keeps_it(trinity_accepts, overrides, method, tmp_path):
    (config,) = trinity_accepts(compose_spec(overrides, tmp_path))
    assert config.synchronizer.sync_method.value == method


@pytest.mark.parametrize(
    ("overrides", "installed", "attention"),
    [
        (["cluster=gpu_2"], False, "sdpa"),
        (["cluster=gpu_2"], True, None),
        (["cluster=gpu_2", "cluster.attention=sdpa"], True, "sdpa"),
        (["cluster=gpu_2", "cluster.attention=flash_attention_2"], False, "flash_attention_2"),
        # where only flash attention is right, and where nothing of this package is at hand
        (["cluster=gpu_8", "cluster.ulysses_sequence_parallel_size=2"], False, None),
        (["cluster=gpu_2", "loss=stock"], False, None),
        (["cluster=local"], False, None),
    ],
)
def test_attention_is_what_the_user_wants_or_what_is_installed(overrides, installed, attention, tmp_path):
    spec = compose_spec([*SIZES, *overrides], tmp_path)
    config = to_trinity(spec, FACTS, FOLDERS, flash_attention=installed)
    assert lookup(config, "trainer.trainer_config.model.override_config.attn_implementation") == attention
    assert "trainer_config" not in to_trinity(spec, FACTS, FOLDERS, verl_legacy=True)["trainer"]


def test_verl_gets_the_attention_that_was_chosen(trinity_accepts, tmp_path):
    from trinity.trainer.verl.config import _deep_merge, _normalize_trainer_config

    (config,) = trinity_accepts(compose_spec(["cluster=gpu_2", "cluster.attention=sdpa"], tmp_path))
    verl: dict = {"model": {"path": "m", "override_config": {}}}
    _deep_merge(verl, _normalize_trainer_config(config.trainer.trainer_config), set())
    assert verl == {"model": {"path": "m", "override_config": {"attn_implementation": "sdpa"}}}


@pytest.mark.parametrize("variant", ["mu", "phi", "grpo", "sft"])
@pytest.mark.parametrize(
    ("overrides", "reference"),
    [([], False), (["trinity.algorithm.kl_loss_fn=k2"], True), (["loss=stock"], True)],
    ids=["exact", "KL", "stock"],
)
def test_a_reference_model_is_loaded_only_where_a_kl_term_reads_it(
    trinity_accepts, variant, overrides, reference, tmp_path
):
    from trinity.algorithm import ALGORITHM_TYPE

    asked = ["cluster=gpu_2", f"variant={variant}", "cluster.max_token_len_per_gpu=1000000", *overrides]
    (config,) = trinity_accepts(compose_spec(asked, tmp_path))
    algorithm = ALGORITHM_TYPE.get(config.algorithm.algorithm_type)
    assert algorithm.use_reference is (reference and variant != "sft")


def test_our_algorithm_types_are_trinitys_in_all_else():
    from trinity.algorithm.algorithm import GRPOAlgorithm, MIXCHORDAlgorithm

    from chord_exp.plugins.algorithm import CHORDAlgorithm, PlainGRPOAlgorithm

    for ours, stock in ((CHORDAlgorithm, MIXCHORDAlgorithm), (PlainGRPOAlgorithm, GRPOAlgorithm)):
        assert issubclass(ours, stock) and ours.default_config() == stock.default_config()
        assert {name for name in vars(ours) if not name.startswith("_")} == {"use_reference"}


def test_trinity_asks_for_no_algorithm_type_of_ours_by_its_own_name():
    """Its streamlit form aside, Trinity compares the type with sft and dpo only; the rest goes by the class."""
    import trinity

    package = Path(trinity.__file__).parent
    compared = re.compile(r"algorithm_type\s*(?:==|!=|in\b|not in\b)([^:]*)")
    found = {
        name
        for path in package.rglob("*.py")
        if "manager/config" not in path.as_posix()
        for comparison in compared.findall(path.read_text(encoding="utf-8"))
        for name in re.findall(r"[\"'](\w+)[\"']", comparison)
    }
    assert found and not found & {"mix_chord", "grpo"}


def test_an_engine_that_shares_the_gpu_sees_the_one_that_ray_gives_it(trinity_accepts, tmp_path):
    """Trinity would write "0", which is another GPU than the trainer's where CUDA_VISIBLE_DEVICES names a later one."""
    (config,) = trinity_accepts(compose_spec(["cluster=gpu_1"], tmp_path))
    assert config.mode == "colocate" and config.explorer.rollout_model.cuda_visible_devices is None
    assert config.explorer.rollout_model.gpu_memory_utilization == 0.25


def test_a_hand_set_value_is_merged_last_and_into_every_stage(tmp_path):
    overrides = ["variant=sft_then_grpo", "trinity.algorithm.optimizer.weight_decay=0.5"]
    config = to_trinity(compose_spec(overrides, tmp_path), FACTS, FOLDERS)
    assert config["algorithm"]["optimizer"]["weight_decay"] == 0.5
    assert [stage["algorithm"]["optimizer"]["weight_decay"] for stage in config["stages"]] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trinity.buffer.train_batch_size=99", ["99", "32", "batch_size"]),
        ("trinity.algorithm.repeat_times=16", ["16", "4", "repeat_times"]),
        ("trinity.algorithm.policy_loss_fn_args.mu_peak=0.9", ["0.9", "0.6", "mu_peak"]),
        ("trinity.algorithm.sample_strategy_args.expert_data_ratio=0.5", ["0.5", "0.25"]),
        ("trinity.cluster.gpu_per_node=8", ["8", "2", "cluster.gpu_per_node"]),
        ("trinity.trainer.total_steps=5", ["5", "80", "total_steps"]),
        ("trinity.synchronizer.sync_style=trainer_driven", ["trainer_driven", "=fixed", "on-policy", "leave it out"]),
        ("trinity.synchronizer.sync_method=checkpoint", ["checkpoint", "memory", "cluster.sync_method"]),
        ("trinity.algorithm.kl_loss_fn=k2", ["'k2'", "no reference model", "set it to none"]),
        ("trinity.algorithm.kl_loss_fn=null", ["None", "no reference model"]),
        ("trinity.buffer=7", ["7", "buffer.batch_size"]),
        ("trinity.explorer.runner_num=16", ["runner_num", "runner_per_model"]),
        ("trinity.trainer.trainer_config_path=x.yaml", ["trainer_config_path", "trainer_config"]),
        (
            "trinity.buffer.trainer_input.sft_warmup_dataset.path=x",
            ["sft_warmup_dataset", "auxiliary buffer"],
        ),
        ("trinity.trainer.ppo_epochs=4", ["ppo_epochs", "cluster"]),
        # values that stand in two places, and those that the data was prepared with
        ("trinity.model.temperature=0.7", ["0.7", "1.0", "model.temperature"]),
        ("trinity.model.enable_thinking=true", ["True", "None", "model.enable_thinking"]),
        ("trinity.buffer.explorer_input.taskset.rollout_args.temperature=0.7", ["0.7", "model.temperature"]),
        ("trinity.buffer.explorer_input.taskset.format.system_prompt=hi", ["hi", "data.system_prompt"]),
        ("trinity.buffer.explorer_input.taskset.format.prompt_key=q", ["q", "data.prompt_key"]),
        ("trinity.buffer.trainer_input.auxiliary_buffers.expert.format.messages_key=m", ["data.messages_key"]),
        (
            "trinity.buffer.trainer_input.auxiliary_buffers.expert.format.enable_thinking=true",
            ["model.enable_thinking"],
        ),
        (
            "trinity.explorer.rollout_model.temperature=0.7",
            ["0.7", "1.0", "must say the same"],
        ),
        ("trinity.explorer.rollout_model.max_model_len=7", ["7", "must say the same", "set model.max_model_len"]),
        ("trinity.explorer.rollout_model.seed=1", ["seed"]),
        (
            "trinity.algorithm.policy_loss_fn_args.loss_agg_mode=seq-mean-token-mean",
            ["token-mean", "must say the same", "set trinity.algorithm.loss_agg_mode"],
        ),
        ("trinity.model.chat_template_path=t.jinja", ["t.jinja", "custom_chat_template"]),
        # what fails in the trainer's worker
        ("trinity.algorithm.policy_loss_fn_args.mu_peek=0.3", ["ExactCHORDLoss", "did you mean 'mu_peak'"]),
        (
            "trinity.algorithm.policy_loss_fn_args.use_token_level_loss_in_sft=1",
            ["trinity.algorithm.loss_agg_mode"],
        ),
    ],
)
def test_a_hand_set_value_that_contradicts_or_is_old_is_refused_with_the_fix(override, words, tmp_path):
    with pytest.raises(ConfigError) as refusal:
        to_trinity(compose_spec([*SIZES, override], tmp_path), FACTS, FOLDERS)
    assert all(word in str(refusal.value) for word in words)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        # right for the stage of rollouts, which stands at the top level, and wrong for the SFT stage
        ("trinity.algorithm.algorithm_type=grpo", ["grpo", "=sft of stage sft"]),
        ("trinity.mode=both", ["both", "=train of stage sft"]),
        ("trinity.buffer.train_batch_size=24", ["24", "=8 of stage sft"]),
        # right for the SFT stage only
        ("trinity.buffer.train_batch_size=8", ["8", "=24 of stage grpo"]),
        ("trinity.buffer.trainer_input.auxiliary_buffers.expert.path=x", ["no such section"]),
    ],
)
def test_a_hand_set_value_must_be_right_for_every_stage(override, words, tmp_path):
    with pytest.raises(ConfigError) as refusal:
        to_trinity(compose_spec([*SIZES, "variant=sft_then_grpo", override], tmp_path), FACTS, FOLDERS)
    assert all(word in str(refusal.value) for word in words), refusal.value


def test_a_hand_set_value_goes_only_to_the_stages_that_have_its_place(tmp_path):
    overrides = [
        "variant=sft_then_grpo",
        "trinity.algorithm.policy_loss_fn_args.clip_range_high=0.3",
        "trinity.buffer.explorer_input.taskset.rollout_args.top_p=0.9",
    ]
    config = to_trinity(compose_spec([*SIZES, *overrides], tmp_path), FACTS, FOLDERS)
    sft, grpo = config["stages"]
    assert "clip_range_high" not in sft["algorithm"]["policy_loss_fn_args"]
    assert grpo["algorithm"]["policy_loss_fn_args"]["clip_range_high"] == 0.3
    assert "taskset" not in sft["buffer"]["explorer_input"]
    assert grpo["buffer"]["explorer_input"]["taskset"]["rollout_args"]["top_p"] == 0.9
    assert config["algorithm"] == grpo["algorithm"]


def test_what_trinity_does_not_copy_follows_the_key_that_was_set(tmp_path):
    overrides = ["trinity.algorithm.loss_agg_mode=seq-mean-token-mean", "trinity.model.custom_chat_template=T"]
    config = to_trinity(compose_spec([*SIZES, *overrides], tmp_path), FACTS, FOLDERS)
    assert config["algorithm"]["policy_loss_fn_args"]["loss_agg_mode"] == "seq-mean-token-mean"
    expert = config["buffer"]["trainer_input"]["auxiliary_buffers"][EXPERT_BUFFER]
    assert expert["format"]["chat_template"] == config["model"]["custom_chat_template"] == "T"


# keys that no key of ours decides: constants that a user may replace
FREE = (
    "algorithm.optimizer.",
    "algorithm.advantage_fn",
    "algorithm.kl_penalty_fn",
    "algorithm.kl_loss_fn",
    "algorithm.entropy_loss_fn",
    "algorithm.loss_agg_mode",
    "algorithm.policy_loss_fn_args.clip_range",
    "buffer.explorer_input.eval_tasksets",
    "buffer.explorer_input.taskset.name",
    "buffer.explorer_input.taskset.rollout_args.logprobs",
    "buffer.explorer_input.taskset.workflow_args.judge_api_",
    "buffer.trainer_input.experience_buffer.name",
    "buffer.trainer_input.experience_buffer.capacity",
    "buffer.trainer_input.experience_buffer.max_read_timeout",
    "buffer.trainer_input.experience_buffer.data_selector.selector_type",
    "buffer.trainer_input.auxiliary_buffers.expert.name",
    "buffer.trainer_input.auxiliary_buffers.expert.data_selector.selector_type",
    "data_processor.experience_pipeline.save_input",
    "explorer.eval_on_startup",
    "explorer.rollout_model.engine_type",
    "ignore_validator_suggestions",
    "log.level",
    "model.enable_prompt_truncation",
    "synchronizer.sync_interval",
    "synchronizer.sync_timeout",
    "trainer.save_hf_checkpoint",
    "trainer.trainer_strategy",
    "trainer.trainer_type",
    "trainer.use_dynamic_bsz",
)


@pytest.mark.parametrize("overrides", [["variant=mu"], ["variant=sft"], ["variant=grpo", "loss=stock"]], ids=" ".join)
def test_every_key_that_is_written_is_guarded_or_listed_as_free(overrides, tmp_path):
    config = to_trinity(compose_spec([*SIZES, *overrides], tmp_path), FACTS, FOLDERS)
    guarded = {*DERIVED_FROM, *FIXED, *SAME_AS}
    unknown = [
        path
        for path, _ in flatten(config)
        if not any(path == key or path.startswith(f"{key}.") for key in guarded) and not path.startswith(FREE)
    ]
    assert unknown == []


def test_verls_own_sections_are_passed_on_and_what_trinity_drops_is_refused(tmp_path):
    from chord_exp.trinity_config.schema import check_schema

    read = ["actor.fsdp_config.use_torch_compile=false", "model.enable_activation_offload=true", "actor.ppo_epochs=2"]
    overrides = [f"+trinity.trainer.trainer_config.{one}" for one in read]
    config = to_trinity(compose_spec([*SIZES, *overrides], tmp_path), FACTS, FOLDERS)
    check_schema(config)
    assert config["trainer"]["trainer_config"]["actor"]["fsdp_config"] == {"use_torch_compile": False}
    for dropped, fix in (
        ("actor.ppo_mini_batch_size=4", "use batch_size"),
        ("actor_rollout_ref.rollout.temperature=0.5", "leave it out"),
        ("trainer.critic_warmup=3", "leave it out"),
    ):
        spec = compose_spec([*SIZES, f"+trinity.trainer.trainer_config.{dropped}"], tmp_path)
        with pytest.raises(ConfigError, match="passes over") as refusal:
            check_schema(to_trinity(spec, FACTS, FOLDERS))
        assert fix in refusal.value.fix


def test_a_hand_set_value_equal_to_the_derived_one_is_no_contradiction(tmp_path):
    assert to_trinity(compose_spec([*SIZES, "trinity.buffer.train_batch_size=32"], tmp_path), FACTS, FOLDERS)


@pytest.mark.parametrize(("cluster", "kl_loss"), [("gpu_2", "k2"), ("local", "none")])
def test_a_kl_loss_is_taken_where_there_is_a_reference_model_and_none_everywhere(cluster, kl_loss, tmp_path):
    overrides = [*SIZES, f"cluster={cluster}", f"trinity.algorithm.kl_loss_fn={kl_loss}"]
    assert to_trinity(compose_spec(overrides, tmp_path), FACTS, FOLDERS)["algorithm"]["kl_loss_fn"] == kl_loss


def test_trinity_schema_refuses_an_unknown_key_with_a_suggestion(tmp_path):
    from chord_exp.trinity_config.schema import check_schema

    config = to_trinity(compose_spec(["trinity.buffer.bach_size=3"], tmp_path), FACTS, FOLDERS)
    with pytest.raises(ConfigError, match=r"buffer\.bach_size.*did you mean 'buffer\.batch_size'"):
        check_schema(config)


def test_the_keys_of_prepared_rows_are_those_of_the_prepared_layout(tmp_path):
    from chord_exp.trinity_config import rows

    for option in groups()["data"]:
        needed = {"folder": ["data.input_dir=x"], "prepared": ["data.out=x"]}.get(option, [])
        data = compose_spec([f"data={option}", *needed], tmp_path).data
        assert (data.messages_key, data.prompt_key, data.answer_key) == (
            rows.MESSAGES_KEY,
            rows.PROMPT_KEY,
            rows.ANSWER_KEY,
        )
    paths = to_trinity(compose_spec([], tmp_path), replace(FACTS, test_rows=9), FOLDERS)["buffer"]
    used = [
        paths["trainer_input"]["auxiliary_buffers"][EXPERT_BUFFER]["path"],
        paths["explorer_input"]["taskset"]["path"],
        *(taskset["path"] for taskset in paths["explorer_input"]["eval_tasksets"]),
    ]
    assert [taskset["name"] for taskset in paths["explorer_input"]["eval_tasksets"]] == ["eval", "test"]
    assert [Path(path).name for path in used] == list(rows.SIDES)
