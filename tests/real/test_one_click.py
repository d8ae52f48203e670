"""The one-click script on the real vLLM and verl, where no Ray runs: beside a cluster that does, it would join it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from conftest import ONE_RUNNER
from package_script import SCRIPT
from prepared_kinds import TINY
from running import TIMEOUT

from chord_exp.experiment.rehearsal import DIFFERENCES


def test_the_one_click_script_trains_on_a_ray_of_its_own(tmp_path: Path) -> None:
    words = ["--input-dir", "sft_data", "--config-type", "simple", "--gpus", "2", "--model", str(TINY)]
    words += ["--name", "clicked", "--out", f"{tmp_path}/run", "--", "total_steps=2", "data.eval_rows=8"]
    # the settings that the plan of cluster=real_cpu lists
    listed = {one.key: one.rehearsal for one in DIFFERENCES if one.key.startswith("cluster.")}
    del listed["cluster.ray_address"]
    words += ["cluster.engine=real_cpu", *(f"{key}={value}" for key, value in listed.items())]
    words += ['data.system_prompt=""', "model.max_prompt_tokens=256", "model.max_response_tokens=24", ONE_RUNNER]
    own = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run(
        ["bash", str(SCRIPT), *words],
        cwd=tmp_path,
        env={
            **own,
            "OMP_NUM_THREADS": "1",
            "CHORD_PYTHON": sys.executable,
            "PATH": f"{Path(sys.executable).parent}:{own['PATH']}",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "succeeded" and record["completed_steps"] == 2
    assert list(tmp_path.glob("run/checkpoints/*/*/global_step_2/actor/huggingface/model.safetensors"))
    assert "停止本脚本启动的 Ray" in done.stdout
