"""The default experiment on the real vLLM and verl learns as on the local engine, which is made to stand for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from running import Run
from test_modes import check_succeeded
from wandb_reader import rows_of, run_of

from chord_exp.run_files import metrics

STEPS = 40
LEARN = [f"total_steps={STEPS}", "data.eval_interval=10"]


def default_run(folder: Path, *overrides: str) -> tuple[Run, str]:
    """The experiment of `make run`, with an evaluation every ten steps."""
    words = [*LEARN, *overrides, f"hydra.run.dir={folder}"]
    command = [sys.executable, "-m", "chord_exp", *words]
    with subprocess.Popen(
        command, cwd=folder.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as it:
        run = Run(folder, it)
        return run, run.wait()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """The same experiment, seeds and data on the local engine and on the real stack."""
    place = tmp_path_factory.mktemp("learning")
    local, output = default_run(place / "local")
    check_succeeded(local, output)
    real, output = default_run(place / "real", "cluster=real_cpu", "monitor=wandb_offline")
    check_succeeded(real, output)
    return local, real


def test_both_begin_alike(both: tuple[Run, Run]) -> None:
    local, real = both
    # greedy answers of the same weights
    assert real.series(metrics.ACCURACY)[0] == pytest.approx(local.series(metrics.ACCURACY)[0], abs=0.02)
    for key in ("actor/mu", "actor/expert/sft_loss"):
        assert real.series(key)[1] == pytest.approx(local.series(key)[1], rel=1e-4), key
    assert real.series("actor/mu") == pytest.approx(local.series("actor/mu"))


def test_both_learn_alike(both: tuple[Run, Run]) -> None:
    curves = [run.series(metrics.ACCURACY) for run in both]
    assert sorted(curves[0]) == sorted(curves[1]) == list(range(0, STEPS + 1, 10))
    local, real = curves
    for curve in curves:
        assert curve[STEPS] - curve[0] > 0.1
    # they draw different rollouts
    assert all(abs(real[step] - local[step]) < 0.2 for step in local)
    for run in both:
        losses = list(run.series("actor/expert/sft_loss").values())
        assert sum(losses[-10:]) < sum(losses[:10])


def test_wandb_offline_holds_explorer_and_trainer(both: tuple[Run, Run]) -> None:
    _, real = both
    files = {run_of(file).job_type: file for file in real.folder.glob("wandb/offline-run-*/*.wandb")}
    assert set(files) == {"explorer", "trainer"}
    assert len({run_of(file).run_group for file in files.values()}) == 1
    logged = {row["step"]: row for row in rows_of(files["trainer"]) if "actor/mu" in row}
    assert {step: row["actor/mu"] for step, row in logged.items()} == pytest.approx(real.series("actor/mu"))
    evaluated = {row["step"]: row for row in rows_of(files["explorer"]) if metrics.ACCURACY in row}
    assert sorted(evaluated) == sorted(real.series(metrics.ACCURACY))
