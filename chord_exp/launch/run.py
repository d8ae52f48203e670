"""Start one run in its own process, watch it, judge it, and write its record."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO

from rich.console import Console

from chord_exp.errors import INTERRUPTED, RUN_FAILED, SUCCEEDED, ConfigError
from chord_exp.launch import summary, verdict
from chord_exp.launch.attempt import keep_ray_logs, require_packages, run_to_end
from chord_exp.launch.cluster import private_ray
from chord_exp.launch.folder import open_folder
from chord_exp.launch.launch_spec import LaunchSpec
from chord_exp.launch.progress import Progress, State
from chord_exp.launch.run_request import Outcome, RunRequest, read_phase
from chord_exp.run_files import metrics, record
from chord_exp.run_files.checkpoints import hf_dir, job_dir
from chord_exp.run_files.model_card import try_write_card
from chord_exp.run_files.names import LOGS, METRICS, RECORD
from chord_exp.run_files.record import FAILED, STOPPED, RunError, RunRecord
from chord_exp.utils.files import share_lock
from chord_exp.utils.signals import collect_stop_signals

EXIT_CODES = {record.SUCCEEDED: SUCCEEDED, FAILED: RUN_FAILED, STOPPED: INTERRUPTED}


def run_experiment(launch: LaunchSpec, run_dir: Path, console: Console | None = None) -> int:
    """Run an experiment in a folder of its own.

    Returns:
        The process exit code: 0 succeeded, 1 failed, 130 interrupted.

    Raises:
        ConfigError: the packages that cluster.engine needs are missing, the folder holds a run already and `resume` is
            off, or it cannot be written.
    """
    require_packages(launch.engine)
    console = console or Console()
    run_dir = run_dir.absolute()
    # nothing may stop this process between the record that says "running" and the one that says how it ended
    with collect_stop_signals() as received, _data_in_use(launch):
        ray_dir = private_ray.make_temp_dir()
        try:
            running, lock = open_folder(launch, run_dir)
        except ConfigError:
            ray_dir.rmdir()
            raise
        console.print(f"{launch.name}: {run_dir}", highlight=False, markup=False, soft_wrap=True)
        exit_code, free = RUN_FAILED, 0
        try:
            exit_code, free = _run_to_end(launch, running, run_dir, ray_dir, lock, console, received)
        except OSError as error:
            with suppress(OSError):
                Outcome("failed", error=f"{type(error).__name__}: {error}").save(run_dir)
        finally:
            keep_ray_logs(ray_dir, run_dir)
            shutil.rmtree(ray_dir, ignore_errors=True)
            (run_dir / LOGS / "ballast").unlink(missing_ok=True)
        ended = _conclude(launch, running, run_dir, exit_code, free, interrupted=bool(received))
        lock.close()
    summary.show(console, ended, metrics.read(run_dir / METRICS), run_dir)
    return EXIT_CODES[ended.status]


@contextmanager
def _data_in_use(launch: LaunchSpec) -> Iterator[None]:
    """Keep the prepared folder from being replaced.

    Raises:
        ConfigError: it is gone.
    """
    try:
        lock = share_lock(Path(launch.data_manifest)) if launch.data_manifest else None
    except OSError as error:
        what = f"the prepared data is gone: {error.strerror}"
        raise ConfigError(what, launch.data_manifest, "start the run anew: data.input_dir is prepared again") from error
    with lock or nullcontext():
        yield


def _run_to_end(
    launch: LaunchSpec,
    running: RunRecord,
    run_dir: Path,
    ray_dir: Path,
    lock: IO[bytes],
    console: Console,
    received: list[int],
) -> tuple[int, int]:
    """Start the run's process and see it to its end; returns its exit code and the bytes then free on the disk."""
    request = RunRequest(
        engine=launch.engine,
        ray_address=launch.ray_address,
        namespace=f"{launch.project}/{launch.name}/{running.run_id}",
        resume=launch.resume,
        ray_dir=str(ray_dir),
        watcher=os.getpid(),
        keep_newest=launch.keep_newest,
        keep_best=launch.keep_best,
    )
    state = State({stage.name: stage.planned_steps for stage in launch.stages})
    tail = metrics.Tail(run_dir / METRICS, from_end=launch.resume)

    def say_that_it_stops() -> None:
        console.print("stopping after this step; press Ctrl-C again to stop at once", highlight=False)

    with Progress(console, state) as progress:

        def look() -> None:
            for row in tail.new_rows():
                state.update(row)
            state.phase = read_phase(run_dir)
            progress.show()

        exit_code = run_to_end(run_dir, running.run_id, request, lock, received, look, say_that_it_stops)
        look()
    return exit_code, shutil.disk_usage(run_dir).free


def _last_stage(rows: list[metrics.Row]) -> str:
    return next((row.get("stage", "") for row in reversed(rows) if row.get("source") == "trainer"), "")


def _conclude(
    launch: LaunchSpec, running: RunRecord, run_dir: Path, exit_code: int, free: int, interrupted: bool
) -> RunRecord:
    """Judge the ended run and write its record."""
    rows, outcome = metrics.read(run_dir / METRICS), Outcome.load(run_dir)
    names = [stage.name for stage in launch.stages]
    # where the run says it came to, or by its last metrics
    reached = outcome.stage if outcome and outcome.ended != "failed" else _last_stage(rows)
    index = names.index(reached) if reached in names else 0
    stage = launch.stages[index]
    weights = hf_dir(job_dir(run_dir, launch.project, launch.name, stage.name), stage.planned_steps)
    evidence = verdict.Evidence(
        run_dir=run_dir,
        outcome=outcome,
        exit_code=exit_code,
        planned_steps=stage.planned_steps,
        is_last_stage=index + 1 == len(names),
        rows=rows,
        stage=stage.name,
        final_weights=weights,
        check_losses_finite=launch.check_losses_finite,
        free_bytes=free,
        interrupted=interrupted,
    )
    judged = verdict.judge_run(evidence)
    ended = running.with_end(
        status=judged.status,
        completed_steps=sum(stage.planned_steps for stage in launch.stages[:index]) + judged.completed_steps,
        error=judged.error,
        final_metrics=metrics.last_values(rows),
        best_metrics=metrics.best_values(rows),
        checkpoint=str(weights) if judged.status == record.SUCCEEDED else None,
    )
    try:
        ended.save(run_dir / RECORD)
    except OSError as error:
        # the folder is gone or its disk is broken: what is left is to say so
        note = RunError(
            f"{judged.error.what if judged.error else judged.status}; the record could not be written: {error}"
        )
        return running.with_end(status=FAILED, completed_steps=judged.completed_steps, error=note)
    if ended.status == record.SUCCEEDED:
        try_write_card(weights, run_dir)
    return ended
