"""One experiment through the real Trinity loop, from the command line."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
import torch
from command_line import run_module
from running import FINISHED_STEPS as STEPS
from running import Run, check_resumes, ended_at_exit, finish, start
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from wandb_reader import rows_of, run_of

from chord_exp.experiment.schedule import MuSchedule, mu_at
from chord_exp.run_files import metrics
from chord_exp.run_files.evaluation import EVALUATION, Evaluation


def test_a_run_succeeds_says_so_and_leaves_nothing_running(finished: tuple[Run, str]) -> None:
    run, output = finished
    assert run.process.returncode == 0, output
    record = run.record
    assert (record["status"], record["planned_steps"], record["completed_steps"]) == ("succeeded", STEPS, STEPS)
    assert record["error"] is None
    assert run.processes() == []


def test_the_record_holds_what_it_takes_to_repeat_the_run(finished: tuple[Run, str]) -> None:
    record = finished[0].record
    assert record["versions"]["trinity-rft"].startswith("0.6.")
    assert f"total_steps={STEPS}" in record["overrides"]
    assert len(record["config_hash"]) == 64
    assert record["seed"] == 42
    assert record["seconds"] > 0
    assert set(record["best_metrics"]) >= {metrics.ACCURACY, metrics.REWARD}
    assert "${" not in (finished[0].folder / "trinity.yaml").read_text()


def test_every_step_is_logged_with_the_mu_of_the_schedule_and_finite_losses(finished: tuple[Run, str]) -> None:
    run, _ = finished
    trinity = (run.folder / "trinity.yaml").read_text()
    import yaml

    args = yaml.safe_load(trinity)["algorithm"]["policy_loss_fn_args"]
    schedule = MuSchedule(args["mu_warmup_steps"], args["mu_decay_steps"], args["mu_peak"], args["mu_valley"])
    mu = run.series(metrics.MU)
    assert list(mu) == list(range(1, STEPS + 1))
    for step, value in mu.items():
        assert value == pytest.approx(mu_at(step, schedule), abs=1e-9)
    assert metrics.non_finite(run.rows) is None
    for step in mu:
        total = run.series("actor/loss")[step]
        parts = (1 - mu[step]) * run.series("actor/usual/pg_loss")[step] + mu[step] * run.series(
            "actor/expert/sft_loss"
        )[step]
        assert total == pytest.approx(parts, abs=1e-6)


def test_rollouts_are_strictly_on_policy_and_no_prompt_is_cut(finished: tuple[Run, str]) -> None:
    run, _ = finished
    versions = run.series("rollout/model_version")
    assert versions == {step: step - 1 for step in range(1, STEPS + 1)}
    for log in run.folder.glob("logs/explorer_rollout_model*.log"):
        assert "truncated" not in log.read_text()
    # on-policy: the first ratio of new to old probability is one
    assert all(abs(kl) < 1e-4 for kl in run.series("actor/usual/ppo_kl").values())


def test_rollouts_of_a_prompt_are_sampled_and_not_copies_of_each_other(finished: tuple[Run, str]) -> None:
    run, _ = finished
    (file,) = run.folder.glob("checkpoints/*/*/buffer/*.jsonl")
    groups: dict[tuple, set[str]] = {}
    for line in file.read_text().splitlines():
        row = json.loads(line)
        groups.setdefault((row["eid"]["batch"], row["eid"]["task"]), set()).add(row["response_text"])
    assert len(groups) == STEPS * 2
    assert sum(len(responses) > 1 for responses in groups.values()) >= len(groups) / 2
    assert max(run.series(metrics.GROUP_REWARD_STD_MAX).values()) > 0
    assert sum(run.series(metrics.TRUNCATED_PROMPTS).values()) == 0


def test_held_out_accuracy_is_measured_before_and_after(finished: tuple[Run, str]) -> None:
    run, output = finished
    accuracy = run.series(metrics.ACCURACY)
    assert {0, STEPS} <= set(accuracy)
    assert "held-out accuracy:" in output


def test_the_output_is_short_and_names_every_place(finished: tuple[Run, str]) -> None:
    run, output = finished
    for name in ("run.json", "metrics.jsonl", "trinity.yaml", "logs", "checkpoints"):
        assert str(run.folder / name) in output
    assert "INFO" not in output
    assert "Traceback" not in output
    assert len(output.splitlines()) < 60


def test_the_final_checkpoint_is_a_model_that_anyone_can_load(finished: tuple[Run, str]) -> None:
    folder = finished[0].weights(STEPS).parent
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1 + 1"}], tokenize=False, add_generation_prompt=True
    )
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    assert model.generate(ids, max_new_tokens=3).shape[1] > ids.shape[1]


def test_a_finished_run_is_scored_as_its_training_scored_it(finished: tuple[Run, str]) -> None:
    run, _ = finished
    done = run_module(run.folder.parent, "-m", "chord_exp.evaluate", run.folder.name, "--k", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    accuracy = run.series(metrics.ACCURACY)
    scores = {
        model.step: model.answers["greedy"].score.value for model in Evaluation.load(run.folder / EVALUATION).models
    }
    assert scores == {step: pytest.approx(accuracy[step]) for step in (0, STEPS)}


def test_a_used_folder_is_neither_resumed_nor_overwritten_unasked(finished: tuple[Run, str]) -> None:
    run, _ = finished
    before = (run.folder / "run.json").read_bytes()
    again, output = finish(run.folder, f"total_steps={STEPS}")
    assert again.process.returncode == 2
    assert "already holds a run" in output
    assert "resume=true" in output
    assert (run.folder / "run.json").read_bytes() == before


def test_a_resumed_run_must_be_the_same_experiment(finished: tuple[Run, str]) -> None:
    run, _ = finished
    again, output = finish(run.folder, f"total_steps={STEPS}", "resume=true", "mu_peak=0.3")
    assert again.process.returncode == 2
    assert "mu_peak was 0.6 and is now 0.3" in output


def test_ctrl_c_stops_cleanly_and_the_resumed_run_equals_one_never_stopped(
    tmp_path: Path, finished: tuple[Run, str]
) -> None:
    run = start(tmp_path / "run", f"total_steps={STEPS}")
    with ended_at_exit(run):
        run.wait_for_step(5)
        # no step is made while another process asks for the folder
        (trainer,) = run.find("LocalTrainer")
        trainer.suspend()
        other, output = finish(run.folder, f"total_steps={STEPS}", "resume=true")
        trainer.resume()
        assert other.process.returncode == 2, output
        assert "still going on" in output
        run.process.send_signal(signal.SIGINT)
        output = run.wait()
        assert run.process.returncode == 130, output
        assert run.record["status"] == "stopped"
        assert run.processes() == []
    # what was done is kept: the step under way when the stop came is finished and saved
    stopped_at = run.record["completed_steps"]
    assert run.weights(stopped_at).exists()
    again, (whole, _) = check_resumes(run), finished
    left, right = load_file(again.weights(STEPS)), load_file(whole.weights(STEPS))
    assert left.keys() == right.keys()
    assert all(left[name].equal(right[name]) for name in left)
    assert again.series("rollout/model_version") == {step: step - 1 for step in range(1, STEPS + 1)}
    assert again.series("rollout/accuracy/mean") == whole.series("rollout/accuracy/mean")


def test_the_phi_variant_trains_and_is_evaluated_on_held_out_rows(tmp_path: Path) -> None:
    run, output = finish(tmp_path / "run", "total_steps=3", "variant=phi")
    assert run.process.returncode == 0, output
    assert list(run.series("actor/expert/sft_phi_loss")) == [1, 2, 3]
    assert {0, 3} <= set(run.series(metrics.ACCURACY)), output


def test_sft_then_grpo_runs_both_stages_and_the_second_starts_from_the_first(tmp_path: Path) -> None:
    run, output = finish(tmp_path / "run", "total_steps=4", "variant=sft_then_grpo")
    assert run.process.returncode == 0, output
    record = run.record
    assert record["completed_steps"] == record["planned_steps"]
    stages = {row["stage"] for row in run.rows if row["source"] == "trainer"}
    assert stages == {"sft", "grpo"}
    assert "global_step" in (run.folder / "logs" / "explorer_runner_0.log").read_text()


def test_the_stock_loss_of_trinity_runs_too(tmp_path: Path) -> None:
    run, output = finish(tmp_path / "run", "total_steps=2", "loss=stock", "expert_data_ratio=0.5")
    assert run.process.returncode == 0, output
    assert run.record["status"] == "succeeded"


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A small model of another family, which has learnt nothing."""
    folder = tmp_path / "llama"
    tiny = Path(sys.modules["chord_exp"].__file__).parent / "tiny" / "model"
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_wandb_records_both_roles_of_another_model_and_neither_a_key_nor_a_prompt_leaves_by_it(
    tmp_path: Path, llama: Path
) -> None:
    key = "0123456789abcdef" * 2 + "01234567"
    # offline although there is a key: what a server that never answers does to a run, the tests of the writer say
    env, model = {"WANDB_API_KEY": key}, [f"model.path={llama}", "model.name=llama"]
    run, output = finish(tmp_path / "run", "total_steps=2", "monitor=wandb_offline", "name=watched", *model, env=env)
    assert run.process.returncode == 0, output
    # an untrained model earns nothing, and the user is told that GRPO learnt nothing
    assert "reward 0" in output
    files = sorted(run.folder.glob("wandb/offline-run-*/*.wandb"))
    runs = {run_of(file).job_type: run_of(file) for file in files}
    assert set(runs) == {"explorer", "trainer"}
    assert {(run.project, run.run_group) for run in runs.values()} == {("chord", "watched")}
    logged = {row["step"]: row for file in files for row in rows_of(file) if "actor/loss" in row}
    assert {step: row["actor/loss"] for step, row in logged.items()} == run.series("actor/loss")
    assert f"wandb sync {run.folder}/wandb/offline-run-*" in output.replace("\n", "")
    assert "choice" not in output
    asked = json.loads(
        (run.folder / "checkpoints/chord/watched/buffer").glob("*.jsonl").__next__().read_text().splitlines()[0]
    )
    prompt = asked["prompt_text"].encode()
    assert prompt
    for file in run.folder.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert key.encode() not in content, file
        # rollouts are kept as they were; nothing else tells what the model was asked
        assert file.parent.name == "buffer" or prompt not in content, file
    assert run.processes() == []
