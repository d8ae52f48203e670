"""The record of a run: `run.json`, everything needed to judge it and to repeat it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from chord_exp.run_files.names import LOCK
from chord_exp.utils.files import is_locked, write_atomically

RUNNING, SUCCEEDED, FAILED, STOPPED = "running", "succeeded", "failed", "stopped"
PACKAGES = (
    "chord_exp",
    "trinity-rft",
    "verl",
    "ray",
    "torch",
    "transformers",
    "vllm",
    "datasets",
    "hydra-core",
    "wandb",
)


@dataclass(frozen=True)
class RunError:
    """Why a run did not succeed, each part one line."""

    what: str
    cause: str = ""
    remedy: str = ""


# the command that goes on with a run, and the remedy that names it
RUNS = "python -m chord_exp.runs"
RESUME = f"{RUNS} resume"
RESUME_IT = f"go on with `{RESUME} RUN`"
# how a run ended whose end nobody wrote down
UNWATCHED = RunError(
    "the process that watched the run died",
    "it was killed, or its machine went down",
    RESUME_IT,
)


@dataclass(frozen=True)
class RunRecord:
    """What `run.json` holds. Times are UTC, ISO 8601; durations seconds."""

    name: str
    project: str
    variant: str
    # running, succeeded, failed or stopped
    status: str
    planned_steps: int
    completed_steps: int
    seed: int
    # SHA-256 of the resolved Trinity config; see config_hash for what does not count
    config_hash: str
    overrides: list[str]
    run_id: str
    started: str
    # of the prepared data: settings of the split and inputs
    data_digest: str = ""
    error: RunError | None = None
    # last value of each metric
    final_metrics: dict[str, float] = field(default_factory=dict)
    # best value of the metrics that have a better direction, each with its step
    best_metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    ended: str | None = None
    seconds: float | None = None
    # how often this folder was started: 1, and one more for each resume
    attempt: int = 1
    git: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None

    def save(self, path: Path) -> None:
        """Write the record whole or not at all."""
        write_atomically(path, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> RunRecord:
        """Read a record. One that says "running" while no process of the run lives is returned as failed.

        Raises:
            OSError, ValueError, TypeError: there is none, or it is damaged.
        """
        found = cls._read(path)
        if found.status == RUNNING and not is_locked(path.with_name(LOCK)):
            found = cls._read(path)  # it may have ended since
            if found.status == RUNNING:
                return replace(found, status=FAILED, error=UNWATCHED)
        return found

    @classmethod
    def _read(cls, path: Path) -> RunRecord:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.get("error"):
            values["error"] = RunError(**values["error"])
        return cls(**values)

    def with_end(self, **changes: Any) -> RunRecord:
        """Return the record of the ended run."""
        now = datetime.now(timezone.utc)
        seconds = round((now - datetime.fromisoformat(self.started)).total_seconds(), 3)
        return replace(self, ended=now.isoformat(), seconds=seconds, **changes)


def utc_now() -> str:
    """Return the time now, as records write it."""
    return datetime.now(timezone.utc).isoformat()


def config_hash(config: dict[str, Any], run_dir: Path) -> str:
    """Return a hash that is equal for equal configurations.

    The run's own folder, the address of Ray, where metrics go and whether the run is resumed do not count; where the
    data and the model lie does, as their content is not looked at.
    """
    counted = {key: value for key, value in config.items() if key not in ("continue_from_checkpoint", "monitor")}
    if "cluster" in counted:
        counted["cluster"] = {key: value for key, value in counted["cluster"].items() if key != "ray_address"}
    folder = json.dumps(str(run_dir.absolute()))[1:-1]
    text = json.dumps(counted, sort_keys=True, default=str).replace(folder, "<run>")
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide a run's numbers, those installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_state(folder: Path) -> dict[str, Any]:
    """Return commit and cleanliness of the working tree around a folder; empty outside of git."""

    def git(*arguments: str) -> str:
        result = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
        result.check_returncode()
        return result.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def machine() -> dict[str, Any]:
    """Return what the run runs on."""
    return {"system": platform.platform(), "cpus": len(os.sched_getaffinity(0))}
