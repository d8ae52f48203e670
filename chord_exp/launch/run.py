"""Start one run in its own process, watch it, judge it, and write its record."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from chord_exp import metrics, record
from chord_exp.errors import INTERRUPTED, RUN_FAILED, SUCCEEDED, ConfigError
from chord_exp.launch import private_ray, processes, summary, verdict
from chord_exp.launch.order import CHECKPOINTS, LOGS, METRICS, RECORD, TRINITY_CONFIG, Outcome, RunOrder, phase_path
from chord_exp.launch.progress import Progress, State
from chord_exp.record import FAILED, RUNNING, STOPPED, RunError, RunRecord

POLL_SECONDS = 0.25
# after the first Ctrl-C the run may finish its step and save
STOP_SECONDS = 150
# space held back so that the end of a run can be recorded on a disk that it has filled, bytes
BALLAST = 1 << 20
# settings that a resumed run may change: they decide how long it runs and what is kept, not what is computed
MAY_CHANGE = (
    "continue_from_checkpoint",
    "total_steps",
    "total_epochs",
    "save_interval",
    "max_checkpoints_to_keep",
    "eval_interval",
    "sync_timeout",
    "max_read_timeout",
    "extra_engine_args.device",
    "extra_engine_args.threads",
    "cluster.ray_address",
    "log.level",
)
EXIT_CODES = {record.SUCCEEDED: SUCCEEDED, FAILED: RUN_FAILED, STOPPED: INTERRUPTED}


@dataclass(frozen=True)
class Stage:
    """One of Trinity's stages. Its `name` is empty where there is only one."""

    name: str
    planned_steps: int


@dataclass(frozen=True)
class Launch:
    """Everything that starting a run takes; plain values, decided before."""

    name: str
    project: str
    variant: str
    seed: int
    # "local" or "verl"
    engine: str
    ray_address: str
    resume: bool
    # the resolved Trinity config, as values and as text
    config: dict[str, Any]
    yaml: str
    stages: tuple[Stage, ...]
    # False for loss=stock, whose logged losses may be NaN on one-sided micro-batches
    losses_are_true: bool
    overrides: list[str] = field(default_factory=list)


def run_experiment(launch: Launch, run_dir: Path, console: Console | None = None) -> int:
    """Run an experiment in a folder of its own.

    Returns:
        The process exit code: 0 succeeded, 1 failed, 130 interrupted.

    Raises:
        ConfigError: the folder holds a run already and `resume` is off, or cannot be written.
    """
    console = console or Console(stderr=False)
    run_dir = run_dir.absolute()
    running = _open_folder(launch, run_dir)
    console.print(f"{launch.name}: {run_dir}", highlight=False, markup=False, soft_wrap=True)
    ray_dir = Path(tempfile.mkdtemp(prefix="chord-ray-"))
    interrupted = False
    try:
        address = launch.ray_address
        order = RunOrder(
            launch.engine, address, f"{launch.project}/{launch.name}/{running.run_id}", launch.resume, str(ray_dir)
        )
        order.save(run_dir)
        process = _start(run_dir, running.run_id, launch)
        try:
            interrupted = _watch(process, launch, run_dir, console)
        finally:
            exit_code = _end(process, running.run_id)
        free = shutil.disk_usage(run_dir).free
    finally:
        _keep_ray_logs(ray_dir, run_dir)
        shutil.rmtree(ray_dir, ignore_errors=True)
        (run_dir / LOGS / "ballast").unlink(missing_ok=True)
    ended = _conclude(launch, running, run_dir, exit_code, free, interrupted)
    summary.show(console, ended, metrics.read(run_dir / METRICS), run_dir)
    return EXIT_CODES[ended.status]


def _open_folder(launch: Launch, run_dir: Path) -> RunRecord:
    """Make the run's folder, or take up the one of the run to resume."""
    path = run_dir / RECORD
    attempt = 1
    if path.exists():
        if not launch.resume:
            raise ConfigError(
                f"{run_dir} already holds a run",
                "hydra.run.dir",
                "add resume=true to go on with it, or give another folder",
            )
        before = RunRecord.load(path)
        _refuse_other_settings(launch, run_dir, before)
        attempt = before.attempt + 1
    elif launch.resume:
        raise ConfigError(f"{run_dir} holds no run to resume", "resume", "leave resume out, or name the run's folder")
    elif (run_dir / CHECKPOINTS).exists():
        raise ConfigError(f"{run_dir} holds checkpoints of something else", "hydra.run.dir", "give an empty folder")
    running = RunRecord(
        name=launch.name,
        project=launch.project,
        variant=launch.variant,
        status=RUNNING,
        planned_steps=sum(stage.planned_steps for stage in launch.stages),
        completed_steps=0,
        seed=launch.seed,
        config_hash=record.config_hash(launch.config, run_dir),
        overrides=launch.overrides,
        run_id=uuid.uuid4().hex[:12],
        started=record.utc_now(),
        attempt=attempt,
        git=record.git_state(Path(__file__).parent),
        versions=record.versions(),
        machine=record.machine(),
    )
    try:
        (run_dir / LOGS).mkdir(parents=True, exist_ok=True)
        for stale in (Outcome.path(run_dir), phase_path(run_dir)):
            stale.unlink(missing_ok=True)
        (run_dir / LOGS / "ballast").write_bytes(os.urandom(BALLAST))
        (run_dir / TRINITY_CONFIG).write_text(launch.yaml, encoding="utf-8")
        running.save(path)
    except OSError as error:
        raise ConfigError(
            f"cannot write to {run_dir}: {error.strerror}", "hydra.run.dir", "give another folder"
        ) from error
    return running


def _refuse_other_settings(launch: Launch, run_dir: Path, before: RunRecord) -> None:
    """A resumed run must be the same experiment; how long it runs and what it keeps may change.

    Raises:
        ConfigError: naming the first setting that differs, and the overrides that the run was started with.
    """
    old = dict(_flat(yaml.safe_load((run_dir / TRINITY_CONFIG).read_text(encoding="utf-8"))))
    new = dict(_flat(yaml.safe_load(launch.yaml)))
    changed = sorted(
        key for key in old.keys() | new.keys() if old.get(key) != new.get(key) and not key.endswith(MAY_CHANGE)
    )
    if changed:
        key = changed[0]
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ConfigError(
            f"resume=true with other settings: {key} was {old.get(key)!r} and is now {new.get(key)!r}{more}",
            str(run_dir / TRINITY_CONFIG),
            f"give the overrides of before ({' '.join(before.overrides) or 'none'}), or start a new run",
        )


def _flat(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _flat(value, f"{path}.{index}")
    else:
        yield path, tree


def _start(run_dir: Path, run_id: str, launch: Launch) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        processes.MARK: run_id,
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if launch.ray_address == "local":
        environment |= {**private_ray.ENVIRONMENT, "OMP_NUM_THREADS": "1"}
    if launch.engine == "local":
        # Arrow's allocator would start a thread on import, and a process with threads cannot be forked
        environment["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
        # Ray hides every GPU from processes that ask for none; the local engine shares one without asking
        environment["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    with open(run_dir / LOGS / "run.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "chord_exp.launch.run_process", str(run_dir)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them."""
    received: list[int] = []
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, lambda got, _: received.append(got))
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(process: subprocess.Popen[bytes], launch: Launch, run_dir: Path, console: Console) -> bool:
    """Show progress until the process ends; returns whether the user stopped it."""
    state = State({stage.name: stage.planned_steps for stage in launch.stages})
    tail = metrics.Tail(run_dir / METRICS, from_end=launch.resume)
    handled, deadline = 0, float("inf")
    with _signals() as received, Progress(console, state) as progress:
        while process.poll() is None:
            for row in tail.new_rows():
                state.update(row)
            state.phase = _phase(run_dir)
            if len(received) > handled:
                handled += 1
                if handled > 1:
                    break
                console.print("stopping after this step; press Ctrl-C again to stop at once", highlight=False)
                process.send_signal(signal.SIGTERM)
                deadline = time.monotonic() + STOP_SECONDS
            if time.monotonic() > deadline:
                break
            progress.show()
            time.sleep(POLL_SECONDS)
        for row in tail.new_rows():
            state.update(row)
        progress.show()
    return bool(received)


def _phase(run_dir: Path) -> str:
    try:
        return phase_path(run_dir).read_text() or "starting"
    except OSError:
        return "starting"


def _end(process: subprocess.Popen[bytes], run_id: str) -> int:
    """End whatever is left of the run; returns the exit code of its process."""
    processes.end_run(run_id)
    return process.wait()


def _keep_ray_logs(ray_dir: Path, run_dir: Path) -> None:
    """Keep what Ray itself wrote, its sessions' logs, with the run."""
    target = run_dir / LOGS / "ray"
    for session in ray_dir.glob("session_2*/logs"):
        try:
            shutil.copytree(session, target / session.parent.name, dirs_exist_ok=True, ignore_dangling_symlinks=True)
        except (OSError, shutil.Error):
            return  # a full disk; the verdict says so


def _stage_steps(rows: list[metrics.Row], stage: Stage) -> int:
    return verdict.trained_steps([row for row in rows if row.get("stage", "") == stage.name])


def _conclude(
    launch: Launch, running: RunRecord, run_dir: Path, exit_code: int, free: int, interrupted: bool
) -> RunRecord:
    """Judge the ended run and write its record."""
    rows = metrics.read(run_dir / METRICS)
    last = launch.stages[-1]
    job_dir = run_dir / CHECKPOINTS / launch.project / launch.name / last.name
    weights = job_dir / f"global_step_{last.planned_steps}" / "actor" / "huggingface"
    evidence = verdict.Evidence(
        run_dir=run_dir,
        outcome=Outcome.load(run_dir),
        exit_code=exit_code,
        planned_steps=last.planned_steps,
        rows=[row for row in rows if row.get("stage", "") == last.name],
        final_weights=weights,
        losses_are_true=launch.losses_are_true,
        free_bytes=free,
        interrupted=interrupted,
    )
    judged = verdict.judge(evidence)
    before = sum(_stage_steps(rows, stage) for stage in launch.stages[:-1])
    ended = running.with_end(
        status=judged.status,
        completed_steps=before + judged.completed_steps,
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
    return ended
