"""Makes run folders as a run leaves them, of any length, for tests of reports and for measuring them."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

from chord_exp.run_files import history as h
from chord_exp.run_files import names
from chord_exp.run_files.record import SUCCEEDED, RunError, RunRecord


def rows(steps: int, *, seed: int = 1, peak: float = 0.6, eval_every: int = 20, tested: bool = False) -> list[dict]:
    """Rows as the monitor writes them: an explorer's and a trainer's a step, and evaluations."""
    found: list[dict] = []
    # seeds differ by what they start with, runs of one seed by their noise
    skill = 0.2 + 0.1 * random.Random(seed).random()
    chance = random.Random(f"{seed} {peak}")
    noise = {f"experience_pipeline/more/{index}": chance.random() for index in range(20)}
    for step in range(steps + 1):
        now = 1.7e9 + 2.0 * step
        share = step / max(1, steps)
        level = skill + (0.3 + 0.3 * peak) * share
        if step % eval_every == 0 or step == steps:
            accuracy = round(min(1.0, level + chance.gauss(0, 0.02)), 4)
            evaluation = {h.ACCURACY: accuracy, h.EVAL_DONE: 100.0, "time/eval": 1.5, "wall_time": now}
            # a little below what was chosen by
            test = {h.TEST_ACCURACY: round(accuracy - 0.03, 4)} if tested else {}
            found.append({"step": step, "source": "explorer", **evaluation, **test})
        if not step:
            continue
        explorer = {
            "wall_time": now,
            h.REWARD: max(0.0, min(1.0, level + chance.gauss(0, 0.1))),
            h.GROUP_STD_MEAN: 0.3,
            h.GROUP_STD_MAX: 0.5,
            h.SAMPLES: 48.0,
            **noise,
        }
        trainer = {
            "wall_time": now + 1,
            h.MU: peak * (1 - share),
            h.LOSS: 0.8 - 0.5 * share + chance.gauss(0, 0.05),
            h.GRPO_LOSS: chance.gauss(0, 0.05),
            h.SFT_LOSS: 2 * math.exp(-3 * share),
            h.ENTROPY: 0.4 - 0.2 * share,
            h.GRAD_NORM: 1 + abs(chance.gauss(0, 0.2)),
            h.PPO_KL: 1e-6,
            h.CLIP_SHARE: 0.01,
            h.CUT_PROMPTS: 0,
            h.TOKENS_PER_SECOND: 4000 + chance.gauss(0, 200),
            h.TOKENS: 4000,
            "time/read_experience": 0.4,
            "time/train_step": 1.2,
            "time/sync_weight": 0.05,
            **noise,
        }
        found += [{"step": step, "source": "explorer", **explorer}, {"step": step, "source": "trainer", **trainer}]
    return found


def make_run(
    folder: Path,
    steps: int = 60,
    *,
    seed: int = 1,
    peak: float = 0.6,
    status: str = SUCCEEDED,
    tested: bool = False,
    composed: dict | None = None,
    **record: object,
) -> Path:
    """Write a run's folder; returns it.

    Args:
        tested: with a test set beside the evaluation set.
        composed: the configuration that Hydra composed; none is written without.
    """
    (folder / names.LOGS).mkdir(parents=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows(steps, seed=seed, peak=peak, tested=tested))
    (folder / names.METRICS).write_text(lines, encoding="utf-8")
    values = {
        "name": folder.name,
        "project": "chord",
        "variant": "mu",
        "planned_steps": steps,
        "completed_steps": steps,
        "config_hash": "0" * 64,
        "overrides": [f"mu_peak={peak}", f"seed={seed}", f"total_steps={steps}"],
        "run_id": "ab12",
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 2.0 * steps,
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        **record,
    }
    RunRecord(status=status, seed=seed, **values).save(folder / names.RECORD)  # type: ignore[arg-type]
    (folder / names.LOGS / "run.log").write_text("step 1\nCUDA out of memory <here>\n", encoding="utf-8")
    schedule = {"mu_warmup_steps": 0, "mu_decay_steps": steps, "mu_peak": peak, "mu_valley": 0.05}
    schedule |= {"usual_rows": 48, "expert_rows": 16}
    config = {"algorithm": {"policy_loss_fn_args": schedule}, "buffer": {"total_steps": steps}}
    (folder / names.TRINITY_CONFIG).write_text(json.dumps(config), encoding="utf-8")
    if composed is not None:
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "config.yaml").write_text(json.dumps(composed), encoding="utf-8")
    return folder


OUT_OF_MEMORY = RunError("CUDA out of memory", "the memory did not suffice", "lower cluster.max_token_len_per_gpu")
