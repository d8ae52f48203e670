"""The forecast of GPU memory against what is known: models' sizes, Trinity's table of what runs, its own limits."""

from __future__ import annotations

import csv
import dataclasses
import json
from functools import cache
from math import ceil
from pathlib import Path

import pytest
from composing import FACTS, compose_spec

from chord_exp.errors import ConfigError
from chord_exp.experiment.geometry import derive
from chord_exp.experiment.memory import fit
from chord_exp.experiment.memory.architecture import KNOWN, by_name, from_config, to_config
from chord_exp.experiment.memory.cards import CARDS, gib_of
from chord_exp.experiment.memory.costs import checkpoint_bytes, rollout_flops, training_flops
from chord_exp.experiment.memory.fit import COMFORTABLE, REFUSED, WITH_SEGMENTS, Machine, use_of
from chord_exp.experiment.memory.remedies import cheapest
from chord_exp.experiment.memory.terms import GIB
from chord_exp.experiment.memory.trainer import TrainerSetup, outside, peak
from chord_exp.machine_facts import architecture_of

TABLE = Path(__file__).parents[1] / "assets" / "trinity_gpu_configs.csv"
# of the models' own cards and checkpoints
PARAMETERS = {
    "Qwen3-0.6B": 596_049_920,
    "Qwen3-1.7B": 1_720_574_976,
    "Qwen3-4B": 4_022_468_096,
    "Qwen3-8B": 8_190_735_360,
    "Qwen3-14B": 14_768_307_200,
    "Qwen3-32B": 32_762_123_264,
    "Qwen2.5-0.5B": 494_032_768,
    "Qwen2.5-1.5B": 1_543_714_304,
    "Qwen2.5-3B": 3_085_938_688,
    "Qwen2.5-7B": 7_615_616_512,
    "Qwen2.5-14B": 14_770_033_664,
    "Qwen2.5-32B": 32_763_876_352,
    "Llama-3.2-1B": 1_235_814_400,
    "Llama-3.2-3B": 3_212_749_824,
    "Llama-3.1-8B": 8_030_261_248,
}


def test_the_sizes_of_known_models_add_up_to_their_published_parameters():
    assert {name: model.parameters for name, model in KNOWN.items()} == PARAMETERS


def test_every_model_of_conf_is_known_by_its_name():
    conf = Path(__file__).parents[2] / "conf" / "model"
    paths = [
        line.split()[1] for file in conf.glob("*.yaml") for line in file.read_text().splitlines() if line[:5] == "path:"
    ]
    assert len(paths) > 5
    assert [path for path in paths if by_name(path) is None] == ["builtin:tiny"]
    assert by_name("Qwen/Qwen3-4B-Instruct-2507") == KNOWN["Qwen3-4B"]
    assert by_name("Qwen/Qwen3-4B-AWQ") is None and by_name("Qwen/Qwen3-30B-A3B") is None


def test_a_config_json_is_read_and_one_of_another_kind_is_not_guessed_at(tmp_path):
    model = KNOWN["Llama-3.2-3B"]
    (tmp_path / "config.json").write_text(json.dumps(to_config(model)))
    assert architecture_of(str(tmp_path)) == model
    (tmp_path / "config.json").write_text(json.dumps({**to_config(model), "model_type": "qwen3_moe"}))
    assert architecture_of(str(tmp_path)) is None
    (tmp_path / "config.json").write_text("{")
    assert architecture_of(str(tmp_path)) is None
    assert from_config({"model_type": "llama", "num_attention_heads": 3}) is None


def test_adapters_are_counted_on_the_layers_that_get_one():
    model = KNOWN["Qwen3-4B"]
    assert model.lora_parameters(0, "all-linear") == 0
    everywhere, some = (model.lora_parameters(32, targets) for targets in ("all-linear", r".*\.(q_proj|v_proj)"))
    assert some == 32 * (2560 + 4096 + 2560 + 1024) < everywhere


def rows_of_the_table() -> list[tuple[str, int, int, str, str]]:
    """Every cell: card, trainer GPUs, max_model_len, model, the simplest setting that runs."""
    lines = [line for line in TABLE.read_text().splitlines() if not line.startswith("#")]
    given = ("card", "trainer_gpus", "max_model_len")
    return [
        (row["card"], int(row["trainer_gpus"]), int(row["max_model_len"]), model, cell)
        for row in csv.DictReader(lines)
        for model, cell in row.items()
        if model not in given
    ]


@cache
def share(card: str, gpus: int, window: int, model: str, sequence: int, offload: bool) -> float:
    """Of the card's memory, by the forecast; two rows a micro-batch, as in the table."""
    setup = TrainerSetup(KNOWN[model], gpus, ceil(2 * window / sequence), sequence, offload)
    return (peak(setup).size + sum(term.size for term in outside(setup))) / (gib_of(card) * GIB)


def of_the_listed(cell: tuple[str, int, int, str, str]) -> float:
    words = cell[4].split(" + ")
    sequence = next((int(word[3:]) for word in words if word.startswith("SP=")), 1)
    return share(*cell[:4], sequence, "Offload" in words)


def least(cell: tuple[str, int, int, str, str]) -> float:
    """With offload and the best sequence parallelism."""
    return min(share(*cell[:4], sequence, True) for sequence in (1, 2, 4) if cell[1] % sequence == 0)


def disagrees(cell: tuple[str, int, int, str, str]) -> str:
    """Why the forecast and the table differ; empty where they agree."""
    words = cell[4].split(" + ")
    if words == ["-"]:
        return "nothing runs, and something is forecast to" if least(cell) <= WITH_SEGMENTS else ""
    if of_the_listed(cell) > (WITH_SEGMENTS if "Env" in words else COMFORTABLE):
        return "runs, and is forecast not to"
    plain = share(*cell[:4], 1, False)
    if (words != ["vanilla"] and plain <= COMFORTABLE) or (
        "Env" in words and len(words) > 1 and plain <= WITH_SEGMENTS
    ):
        return "a simpler setting is forecast to run"
    return ""


def test_the_forecast_agrees_with_trinitys_table_of_what_runs():
    cells = rows_of_the_table()
    differing = {cell: why for cell in cells if (why := disagrees(cell))}
    assert len(cells) == 560
    # docs/memory.md lists them
    assert len(differing) == 23
    # each at an edge: a twentieth more or less of the card would mend it
    edges = [(of_the_listed(cell), least(cell), share(*cell[:4], 1, False)) for cell in differing if cell[4] != "-"]
    assert all(any(abs(x / limit - 1) < 0.05 for x in edge for limit in (COMFORTABLE, WITH_SEGMENTS)) for edge in edges)


def test_nothing_that_ran_is_refused_and_two_thirds_of_what_cannot_run_are():
    ran = [of_the_listed(cell) for cell in rows_of_the_table() if cell[4] != "-"]
    cannot = [least(cell) for cell in rows_of_the_table() if cell[4] == "-"]
    assert (len(ran), len(cannot)) == (479, 81)
    assert max(ran) < REFUSED
    assert sum(one > REFUSED for one in cannot) == 54
    # of the rest a run is warned
    assert sum(one > WITH_SEGMENTS for one in cannot) == 77


def test_the_share_that_is_refused_leaves_room_for_what_the_forecast_may_be_wrong_by():
    assert COMFORTABLE < WITH_SEGMENTS < REFUSED
    ran = max(of_the_listed(cell) for cell in rows_of_the_table() if cell[4] != "-")
    assert ran * 1.02 <= REFUSED


def test_cards_are_known_by_name_or_given_in_gib():
    assert gib_of("NVIDIA A100 80GB") == gib_of("a100-80g") == 80
    assert gib_of(47.5) == 47.5
    with pytest.raises(ConfigError, match=r"did you mean 'H100'.*|H10"):
        gib_of("H10")
    with pytest.raises(ConfigError, match="no memory"):
        gib_of(0)
    assert all(10 < size < 200 for size in CARDS.values())


GPU = ["cluster=gpu_4", "model=qwen3_4b", "total_steps=5", "mu_schedule=constant"]


def use(overrides: list[str], **machine: object):
    spec = compose_spec([*GPU, *overrides])
    known = Machine(architecture_of(spec.model.path), **{"card_gib": 80.0, "flash_attention": True, **machine})
    (found,) = use_of(spec, derive(spec, FACTS), known)
    return spec, known, found


def test_offload_between_uses_does_not_lower_the_peak_and_fsdps_own_does():
    plain, between, throughout = (
        use(words)[2].trainer.peak.size
        for words in (
            [],
            ["cluster.param_offload=true", "cluster.optimizer_offload=true"],
            ["cluster.offload_policy=true"],
        )
    )
    assert plain == between > 2 * throughout


def test_the_first_remedy_that_fits_is_the_cheapest_in_speed():
    spec, machine, found = use(["model.max_response_tokens=20480"], card_gib=70.0)
    assert found.trainer.verdict == fit.TOO_MUCH
    remedy = cheapest(spec, FACTS, machine)
    assert remedy.overrides == ("cluster.max_token_len_per_gpu=21504",)
    assert remedy.fits
    spec, machine, found = use([], card_gib=24.0)
    assert found.trainer.verdict == fit.TOO_MUCH
    assert "cluster.offload_policy=true" in cheapest(spec, FACTS, machine).overrides
    spec, machine, _ = use([], card_gib=8.0)
    assert cheapest(spec, FACTS, machine) is None


def test_a_remedy_is_a_whole_experiment_that_is_derived_again():
    spec, machine, _ = use(["model.max_response_tokens=20480", "cluster.max_token_len_per_gpu=21504"], card_gib=48.0)
    remedy = cheapest(spec, FACTS, machine)
    key, value = remedy.overrides[0].split("=")
    changed = dataclasses.replace(spec.cluster, **{key.removeprefix("cluster."): int(value)})
    again = derive(dataclasses.replace(spec, cluster=changed), FACTS)
    assert again.stages[0] in [one.stage for one in remedy.uses] or len(remedy.overrides) > 1


def test_an_engine_without_room_for_one_row_does_not_fit():
    assert use([])[2].engine.verdict == fit.FITS
    assert use([], card_gib=9.0)[2].engine.verdict == fit.TOO_MUCH
    _, _, alone = use(["cluster.tensor_parallel_size=2"])
    assert alone.engine.terms[0].size == use([])[2].engine.terms[0].size / 2
    assert alone.engine.kv_tokens > 2 * use([])[2].engine.kv_tokens


def test_on_one_gpu_the_trainer_has_what_the_engine_leaves():
    spec = compose_spec(["cluster=gpu_1", "model=qwen3_0_6b", "total_steps=5", "mu_schedule=constant"])
    machine = Machine(architecture_of(spec.model.path), 80.0, True)
    (found,) = use_of(spec, derive(spec, FACTS), machine)
    assert 58 < found.trainer.room / GIB < 60


def test_a_micro_batch_is_no_longer_than_the_rows_of_a_rank():
    few = use(["batch_size=2", "repeat_times=2", "expert_data_ratio=0.5", "cluster.max_token_len_per_gpu=500000"])[2]
    assert few.stage.max_token_len_per_gpu == 500000
    many = use(["cluster.max_token_len_per_gpu=500000"])[2]
    assert few.trainer.peak.size < many.trainer.peak.size / 4


def test_nothing_is_forecast_without_gpus_or_for_a_model_of_unknown_sizes():
    spec = compose_spec(["cluster=local"])
    assert use_of(spec, derive(spec, FACTS), Machine(KNOWN["Qwen3-4B"])) == ()
    spec = compose_spec(GPU)
    assert use_of(spec, derive(spec, FACTS), Machine(None)) == ()


def test_an_unknown_card_gives_sizes_without_a_verdict():
    _, _, found = use([], card_gib=None)
    assert found.verdicts == (fit.UNKNOWN, fit.UNKNOWN)
    assert found.trainer.size > 30 * GIB


def test_sdpa_needs_a_mask_over_all_pairs_of_tokens():
    flash, sdpa = (use([f"cluster.attention={name}"])[2].trainer for name in ("flash_attention_2", "sdpa"))
    tokens = 10240
    assert sdpa.size - flash.size == pytest.approx(3 * tokens**2)


def test_costs_follow_parameters_and_tokens():
    model = KNOWN["Qwen3-4B"]
    # 2 a parameter and token; forward twice and a backward pass of twice that
    assert rollout_flops(model, 1, 1000) == pytest.approx(2 * model.parameters * 1000, rel=0.05)
    assert training_flops(model, 3, 1000) == pytest.approx(4 * rollout_flops(model, 3, 1000))
    assert training_flops(model, 3, 1000, lora=True) == pytest.approx(3 * rollout_flops(model, 3, 1000))
    assert checkpoint_bytes(model, 0) == 12 * model.parameters
    assert checkpoint_bytes(model, 1000) == 4 * model.parameters + 6000
