"""The plan shows every derived number, for any variant and cluster."""

from __future__ import annotations

import io

import pytest
from composing import FACTS, FOLDERS, compose_spec, to_trinity
from rich.console import Console

from chord_exp.experiment.geometry import derive
from chord_exp.experiment.memory.architecture import KNOWN
from chord_exp.experiment.memory.fit import Machine
from chord_exp.experiment.plan import mu_curve, render, show
from chord_exp.experiment.rehearsal import DIFFERENCES
from chord_exp.experiment.spec import DataFacts
from chord_exp.trinity_config.user_overrides import flatten

NO_FORECAST = Machine(None)


def text_of(
    overrides: list[str],
    facts: DataFacts = FACTS,
    machine: Machine = NO_FORECAST,
    times: dict[str, float] | None = None,
) -> str:
    spec = compose_spec(overrides)
    out = io.StringIO()
    Console(file=out, width=200).print(render(spec, facts, derive(spec, facts), flatten(spec.trinity), machine, times))
    return out.getvalue()


def row(text: str, label: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith(label)]
    return line


def test_the_plan_shows_the_derived_sizes_with_their_formulas():
    text = text_of(["cluster=gpu_8", "model=qwen3_4b", "total_steps=500", "mu_schedule=seed_full"])
    assert "192" in row(text, "U, rollouts") and "24 x repeat_times 8" in row(text, "U, rollouts")
    assert "64" in row(text, "E, expert rows") and "0.2500" in row(text, "E, expert rows")
    assert "256" in row(text, "T, rows")
    assert "1,310,720" in row(text, "tokens a step")
    assert "4 for 4 engines + 4 for the trainer" in row(text, "GPU split")
    assert "4 trainer GPUs / sequence parallel 1" in row(text, "D, data-parallel")
    assert "32,000" in row(text, "expert rows used") and "total_epochs 62" in row(text, "expert rows used")
    assert "step 100: 0.600" in row(text, "values") and "step 400: 0.050" in row(text, "values")


def test_hand_set_values_are_marked_as_such():
    text = text_of(["trinity.algorithm.optimizer.weight_decay=0.1"])
    assert "Set by hand" in text
    assert "0.1" in row(text, "algorithm.optimizer.weight_decay")
    assert "Set by hand" not in text_of([])


def test_a_rehearsal_without_gpus_names_every_setting_that_differs_from_a_gpu_run():
    said = {each.key: each for each in DIFFERENCES}
    rehearsal, on_gpus = (
        dict(
            flatten(
                to_trinity(
                    compose_spec([f"cluster={name}", "cluster.engine_num=1"]), FACTS, FOLDERS, flash_attention=True
                )
            )
        )
        for name in ("real_cpu", "gpu_2")
    )
    differing = {key for key in {**rehearsal, **on_gpus} if rehearsal.get(key) != on_gpus.get(key)}
    by_our_key = {
        "cluster.ray_address": "cluster.ray_address",
        "cluster.dtype": "explorer.rollout_model.dtype",
        "cluster.gpu_memory_utilization": "explorer.rollout_model.gpu_memory_utilization",
        "explorer.rollout_model.enforce_eager": "explorer.rollout_model.enforce_eager",
        "attention": "trainer.trainer_config.model.override_config.attn_implementation",
    }
    number_formats = {f"trainer.trainer_config.{x}.fsdp_config.mixed_precision.param_dtype" for x in ("actor", "ref")}
    assert differing == {*by_our_key.values(), *number_formats}
    for ours, key in by_our_key.items():
        assert str(rehearsal[key]).lower() == said[ours].rehearsal
        assert key not in on_gpus or str(on_gpus[key]).lower() == said[ours].on_gpus
    text = text_of(["cluster=real_cpu"])
    assert all(each.why in row(text, each.key) for each in DIFFERENCES)
    assert "rehearsal" not in text_of(["cluster=gpu_2"])


def test_assumed_sizes_are_called_assumed():
    text = text_of([], DataFacts(5000, 20000, 100, assumed=True))
    assert "assumed" in row(text, "expert rows  ") and "warning: the data is not there" in text


@pytest.mark.parametrize("variant", ["mu", "phi", "sft", "grpo", "sft_then_grpo"])
@pytest.mark.parametrize("cluster", ["local", "gpu_1", "gpu_8"])
def test_every_variant_and_cluster_has_a_plan(variant, cluster):
    text = text_of([f"variant={variant}", f"cluster={cluster}", "model=qwen3_4b"])
    assert ("Stage sft" in text) == (variant in ("sft", "sft_then_grpo"))
    assert ("Stage grpo" in text) == (variant in ("grpo", "sft_then_grpo"))
    assert ("μ over steps" in text) == (variant in ("mu", "phi"))


def test_the_curve_rises_falls_and_keeps_to_its_width():
    spec = compose_spec(["mu_schedule=seed_full", "mu_peak=1.0", "mu_valley=0.0"])
    curve = mu_curve(spec, 500)
    assert len(curve) == 60
    assert curve[0] == curve[-1] == "▁"
    assert curve[12] == "█"
    assert len(mu_curve(spec, 1)) == 1


def test_the_printed_plan_fits_its_page(capsys):
    spec = compose_spec([])
    show(spec, FACTS, derive(spec, FACTS), [], Machine(None))
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) <= 120


def test_the_plan_of_a_machine_without_gpus_speaks_of_none():
    text = text_of([])
    assert "GPU" not in text
    assert "at most" in row(text, "tokens a micro-batch")


def test_one_of_a_kind_is_not_a_plural():
    text = text_of(["cluster=gpu_2", "model=qwen3_4b"])
    assert "1 for 1 engine + 1 for the trainer" in row(text, "GPU split")
    assert "1 trainer GPU / sequence" in row(text, "D, data-parallel")
    assert "1 machine of 2 GPUs" in row(text, "cluster")


def test_the_plan_names_the_variant_that_is_trained():
    assert "variant phi" in text_of(["phi=pq"])


GPU = ["cluster=gpu_4", "model=qwen3_4b", "total_steps=5", "mu_schedule=constant"]


def test_the_plan_shows_memory_term_by_term_with_the_largest_and_the_cheapest_change():
    text = text_of(GPU, machine=Machine(KNOWN["Qwen3-4B"], 80.0, True))
    assert "44.5 GiB of 80.0 GiB" in row(text, "a trainer GPU") and "fits" in row(text, "a trainer GPU")
    assert "8TV" in row(text, "  logits") and "4P/F" in row(text, "  parameters")
    assert "rows of full length at once" in row(text, "an engine's GPU")
    assert "optimizer" in row(text, "largest term")
    assert "cluster.max_token_len_per_gpu=5120" in row(text, "cheapest change")
    assert "44.5 -> 38.4 GiB" in row(text, "cheapest change")


def test_the_plan_says_what_does_not_fit_and_what_nobody_knows():
    model = KNOWN["Qwen3-4B"]
    assert "does not fit" in row(text_of(GPU, machine=Machine(model, 24.0)), "a trainer GPU")
    assert "expandable_segments" in row(text_of(GPU, machine=Machine(model, 48.0)), "a trainer GPU")
    assert "cluster.gpu_memory_gib" in row(text_of(GPU, machine=Machine(model)), "a trainer GPU")
    assert "are not known here" in text_of(GPU, machine=Machine(None))
    by_hand = Machine(model, 80.0, not_followed=("trainer.trainer_config.model.use_fused_kernels",))
    assert "use_fused_kernels" in row(text_of(GPU, machine=by_hand), "not followed")


def test_the_plan_shows_arithmetic_disk_space_and_the_times_of_the_run_that_is_resumed():
    text = text_of(GPU, machine=Machine(KNOWN["Qwen3-4B"]), times={"training": 1.0, "waiting for rollouts": 3.0})
    assert "5.9e+16" in row(text, "FLOPs a step, at most")
    assert "45.0 GiB" in row(text, "disk, a checkpoint")
    assert "75% of a step" in row(text, "waiting for rollouts")
    assert "Time of a step" not in text_of(GPU, machine=Machine(KNOWN["Qwen3-4B"]))
