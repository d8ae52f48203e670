"""The folder of a run: made for a new run, taken up for a resumed one, never silently shared."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import yaml

from chord_exp.errors import ConfigError
from chord_exp.launch.launch_spec import LaunchSpec
from chord_exp.launch.run_request import Outcome, phase_path
from chord_exp.run_files import causes, record
from chord_exp.run_files.names import CHECKPOINTS, LOCK, LOGS, METRICS, RECORD, TRINITY_CONFIG
from chord_exp.run_files.record import RUNNING, RunRecord
from chord_exp.utils.files import try_lock

# space held back so that the end of a run can be recorded on a disk that it has filled, bytes
BALLAST = 1 << 20
# settings that a resumed run may change: they decide how long it runs, on what, and what is kept, not what is learnt
MAY_CHANGE = (
    "continue_from_checkpoint",
    "total_steps",
    "total_epochs",
    "save_interval",
    "max_checkpoints_to_keep",
    "eval_interval",
    "sync_timeout",
    "max_read_timeout",
    "max_token_len_per_gpu",
    "param_offload",
    "optimizer_offload",
    "offload_policy",
    "gpu_memory_utilization",
    "extra_engine_args.device",
    "extra_engine_args.threads",
    "cluster.ray_address",
    "log.level",
)


def open_folder(launch: LaunchSpec, run_dir: Path) -> tuple[RunRecord, IO[bytes]]:
    """Make the run's folder, or take up the one of the run to resume, and lock it.

    Returns:
        The record of the starting run, as written to the folder, and the lock, held until it is closed.

    Raises:
        ConfigError: the folder is in use, holds something else, or cannot be written.
    """
    _refuse_unfit(launch, run_dir)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = try_lock(run_dir / LOCK, f"process {os.getpid()} on {socket.gethostname()}")
    except OSError as error:
        raise _cannot_write(run_dir, error) from error
    if lock is None:
        raise ConfigError(
            f"{run_dir} holds a run that is still going on ({(run_dir / LOCK).read_text()})",
            "hydra.run.dir",
            "wait for its end, or stop it",
        )
    try:
        return _begin(launch, run_dir), lock
    except BaseException:
        lock.close()
        raise


def _refuse_unfit(launch: LaunchSpec, run_dir: Path) -> None:
    """Refuse a folder that holds a run when a new one is to start, and one that holds none to resume.

    Raises:
        ConfigError: it is one.
    """
    if (run_dir / RECORD).exists():
        if not launch.resume:
            raise ConfigError(
                f"{run_dir} already holds a run",
                "hydra.run.dir",
                "add resume=true to go on with it, or give another folder",
            )
    elif launch.resume:
        raise ConfigError(f"{run_dir} holds no run to resume", "resume", "leave resume out, or name the run's folder")
    elif (run_dir / CHECKPOINTS).exists():
        raise ConfigError(f"{run_dir} holds checkpoints of something else", "hydra.run.dir", "give an empty folder")


def _cannot_write(run_dir: Path, error: OSError) -> ConfigError:
    return ConfigError(f"cannot write to {run_dir}: {error.strerror}", "hydra.run.dir", "give another folder")


def _begin(launch: LaunchSpec, run_dir: Path) -> RunRecord:
    """In the locked folder: write what the run starts from."""
    _refuse_unfit(launch, run_dir)  # another run may have come and gone
    attempt = _resumable(launch, run_dir).attempt + 1 if launch.resume else 1
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
        data_digest=launch.data_digest,
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
        _end_last_line(run_dir / METRICS)
        for log in causes.logs_of_attempt(run_dir):
            # the verdict reads these logs: it must not find an earlier attempt's trouble
            log.rename(log.with_suffix(f".{attempt - 1}.log"))
        (run_dir / LOGS / "ballast").write_bytes(os.urandom(BALLAST))
        launch.save(run_dir)
        running.save(run_dir / RECORD)
    except OSError as error:
        raise _cannot_write(run_dir, error) from error
    return running


def _resumable(launch: LaunchSpec, run_dir: Path) -> RunRecord:
    """The record of the run to go on with.

    Raises:
        ConfigError: it was another experiment, or its files are damaged.
    """
    try:
        before = RunRecord.load(run_dir / RECORD)
        if before.data_digest != launch.data_digest:
            raise ConfigError(
                "resume=true with other data: the prepared rows are not those that the run was started with",
                str(run_dir / RECORD),
                "bring the data back as it was, or start a new run",
            )
        _refuse_other_settings(launch, run_dir, before)
    except (OSError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(f"{run_dir} cannot be resumed: {error}", str(run_dir), "start a new run") from error
    except ConfigError:
        raise
    except ValueError as error:  # ConfigError is one, too
        raise ConfigError(f"{run_dir / RECORD} is damaged: {error}", str(run_dir), "start a new run") from error
    return before


def _end_last_line(metrics_file: Path) -> None:
    """Take away a metrics line that a full disk or a kill cut short: the next one would be glued to it."""
    if metrics_file.exists():
        data = metrics_file.read_bytes()
        if data and not data.endswith(b"\n"):
            os.truncate(metrics_file, data.rfind(b"\n") + 1)


def _refuse_other_settings(launch: LaunchSpec, run_dir: Path, before: RunRecord) -> None:
    """A resumed run must be the same experiment; how long it runs and what it keeps may change.

    Raises:
        ConfigError: naming the first setting that differs, and the overrides that the run was started with.
    """
    old = dict(_flat(yaml.safe_load((run_dir / TRINITY_CONFIG).read_text(encoding="utf-8"))))
    new = dict(_flat(yaml.safe_load(launch.yaml)))
    differing = (key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    changed = sorted(key for key in differing if not key.endswith(MAY_CHANGE) and not key.startswith("monitor."))
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
