"""The examples, and the paper's experiments at scale=tiny, run from beginning to end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run_module

from chord_exp.experiment.schedule import MuSchedule, mu_at
from chord_exp.run_files import metrics, record

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(place: Path, name: str, *arguments: str) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", str(EXAMPLES / name), *arguments],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
def test_own_data_ends_in_a_record(tmp_path):
    shown = example(tmp_path, "own_data.sh", str(EXAMPLES.parent / "sft_data"), "2")
    assert shown.rstrip().endswith("succeeded: 2 of 2 steps")


@pytest.mark.slow
def test_compared_variants_end_in_a_table(tmp_path):
    shown = example(tmp_path, "compare_variants.sh", "1", "mu,sft")
    assert shown.count("held-out accuracy") >= 2
    assert len([line for line in shown.splitlines() if "held-out accuracy" in line and "->" in line]) == 2


# mu's warm-up and decay, peak and valley: the paper's, of which four steps are the beginning
PAPER = {
    "paper_math_mu": MuSchedule(0, 200, 0.9, 0.05),
    "paper_math_phi": MuSchedule(0, 0, 0.1, 0.1),
    "paper_tools_mu": MuSchedule(0, 30, 0.9, 0.05),
    "paper_tools_phi": MuSchedule(0, 0, 0.1, 0.1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER)
def test_an_experiment_of_the_paper_runs_on_the_tiny_model(tmp_path, name):
    done = run_module(tmp_path, "-m", "chord_exp", f"experiment={name}", "scale=tiny", "hydra.run.dir=run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert record.RunRecord.load(tmp_path / "run" / "run.json").completed_steps == 4
    rows = metrics.read(tmp_path / "run" / "metrics.jsonl")
    assert metrics.series(rows, metrics.MU) == {step: pytest.approx(mu_at(step, PAPER[name])) for step in range(1, 5)}
    assert ("actor/expert/sft_phi_loss" in {key for row in rows for key in row}) == name.endswith("phi")
