"""The files of trackers that a run leaves in its folder, and how to upload them later. Needs no tracker."""

from __future__ import annotations

import shlex
from pathlib import Path

FOLDER = "wandb"
SWANLAB_FOLDER = "swanlab"
# is there when an online run ended before everything was uploaded
UNSENT_FILE = f"{FOLDER}/unsent"


def sync_command(folder: Path, runs: str = "") -> str | None:
    """Return the one shell command that uploads what is not uploaded yet; None when there is nothing.

    Args:
        folder: of a run, or of a sweep.
        runs: where below it the run folders lie, as a pattern: `*/` for a sweep, nothing for a single run.
    """
    # the folder is quoted, the pattern is left to the shell
    place = f"{shlex.quote(str(folder))}/{runs}{FOLDER}"
    if any(folder.glob(f"{runs}{UNSENT_FILE}")):
        return f"wandb sync --include-online {place}/*run-*"
    if any(folder.glob(f"{runs}{FOLDER}/offline-run-*")):
        return f"wandb sync {place}/offline-run-*"
    if any(folder.glob(f"{runs}{SWANLAB_FOLDER}/run-*")):
        return f"swanlab sync {shlex.quote(str(folder))}/{runs}{SWANLAB_FOLDER}/run-*"
    return None
