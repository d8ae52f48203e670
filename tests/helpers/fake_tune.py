"""`python -m chord_exp` with fake trials in place of training, to be killed: `fake_tune.py ARGUMENT ...`.

Everything else is real: Hydra, the sweeper, the study, the scheduler and the worker's process. A fake trial makes
`total_steps` steps of `FAKE_STEP_SECONDS` whose accuracy rises to 1 - |mu_peak - 0.3|, and goes on from its last step.
The steps of a trial that reaches less than 0.7 take `FAKE_HOPELESS_FACTOR` times as long: there is time to stop it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from chord_exp.launch.launch_spec import LaunchSpec
from chord_exp.run_files import metrics, record
from chord_exp.run_files.names import METRICS, RECORD
from chord_exp.sweep.backends import local, ray_jobs, worker


def run(run_dir: Path) -> tuple[int, str]:
    """Make the steps; obeys SIGTERM after one."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    launch = LaunchSpec.load(run_dir)
    mu_peak = launch.config["algorithm"]["policy_loss_fn_args"]["mu_peak"]
    steps, reached = launch.stages[0].planned_steps, 1 - abs(mu_peak - 0.3)
    seconds = float(os.environ["FAKE_STEP_SECONDS"])
    if reached < 0.7:
        seconds *= float(os.environ.get("FAKE_HOPELESS_FACTOR", "1"))
    rows = metrics.read(run_dir / METRICS)
    done = rows[-1]["step"] if rows else 0
    with open(run_dir / "starts.txt", "a") as stream:
        stream.write(f"{done}\n")
    base = record.RunRecord("s", "p", "mu", record.RUNNING, steps, done, 0, "", [], "none", record.utc_now())
    base.save(run_dir / RECORD)
    while done < steps and not stopped:
        time.sleep(seconds)
        done += 1
        row = {"step": done, "source": "explorer", metrics.ACCURACY: reached * done / steps}
        with open(run_dir / METRICS, "a") as stream:
            stream.write(json.dumps(row) + "\n")
    status, code = (record.SUCCEEDED, 0) if done == steps else (record.STOPPED, 130)
    base.with_end(status=status, completed_steps=done).save(run_dir / RECORD)
    return code, ""


if __name__ == "__main__":
    if "--attempt" in sys.argv:
        worker._attempt = run
        sys.exit(worker.main())

    def with_fake(command):
        def changed(trial):
            words = command(trial)
            at = words.index("-m")
            pace = f"FAKE_STEP_SECONDS={os.environ['FAKE_STEP_SECONDS']}"  # a job has the environment of its cluster
            return ["env", pace, *words[:at], __file__, *words[at + 2 :]]

        return changed

    local.worker_command = with_fake(local.worker_command)
    ray_jobs.worker_command = with_fake(ray_jobs.worker_command)
    from chord_exp.cli import main

    if sys.argv[1] == "resume":
        from chord_exp.runs.__main__ import main
    sys.exit(main(sys.argv[1:]))
