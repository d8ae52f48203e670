"""Why runs fail: the end of the log, and what a known error line means and what helps."""

from __future__ import annotations

import re
from pathlib import Path

from chord_exp.run_files.names import LOGS
from chord_exp.run_files.record import RunError

# of a log, bytes
LOG_END = 65536

# from a sign in an error to what it means and what helps
KNOWN_CAUSES = (
    (
        r"No space left on device|Errno 28",
        "the disk of the run's folder is full",
        "free some space or lower cluster.max_checkpoints_to_keep, then go on with resume=true",
    ),
    (
        r"NonFiniteLoss|is not finite",
        "the loss or its gradient overflowed; the weights were left as they were",
        "look for damaged expert rows and rewards and go on with resume=true, or start a new run with a lower lr or "
        "mu_peak",
    ),
    (
        r"CUDA out of memory|OutOfMemoryError|MemoryError|\bOOM\b",
        "the memory did not suffice",
        "lower cluster.max_token_len_per_gpu and go on with resume=true, or start a new run with a smaller "
        "batch_size or model.max_response_tokens",
    ),
    (
        r"^Ray died|raylet|\bGCS\b|ray\.exceptions|RaySystemError",
        "Ray went away while the run was using it",
        f"look at {LOGS}/run.log, then go on with resume=true",
    ),
    (
        r"Trainer.*died|died.*Trainer|create_colocated_worker_cls",
        "the trainer's process was killed or crashed",
        f"look at {LOGS}/trainer.log, then go on with resume=true",
    ),
    (
        r"Explorer.*died|died.*Explorer",
        "the explorer's process was killed or crashed",
        f"look at {LOGS}/explorer.log, then go on with resume=true",
    ),
    (
        r"ActorDied|ActorUnavailable|RayActorError|WorkerCrashed|process died",
        "a process of the run was killed or crashed",
        f"look at {LOGS}/, then go on with resume=true",
    ),
    (
        r"Timeout",
        "something was waited for in vain",
        f"look at {LOGS}/explorer.log and {LOGS}/trainer.log for the first error",
    ),
)

# signs of a fault of the machine, not of the experiment: the same run may well succeed elsewhere or later
MACHINE_FAULT = (
    r"^Ray died|ActorDied|ActorUnavailable|RayActorError|RaySystemError|WorkerCrashed|NodeDied|raylet|\bGCS\b"
    r"|process died|No space left on device|Errno 28"
)


def explain(error: str) -> RunError:
    """Return cause and remedy of an error line, where known."""
    for sign, cause, remedy in KNOWN_CAUSES:
        if re.search(sign, error):
            return RunError(error, cause, remedy)
    return RunError(error, f"see the traceback in {LOGS}/run.log")


def is_machine_fault(error: RunError) -> bool:
    """Return whether the same run may well succeed when it is started again."""
    return re.search(MACHINE_FAULT, error.what) is not None


def end_of_log(run_dir: Path) -> list[str]:
    """Return the last lines of a run's log that are not blank; none where there is no log."""
    try:
        with open(run_dir / LOGS / "run.log", "rb") as stream:
            stream.seek(max(0, (run_dir / LOGS / "run.log").stat().st_size - LOG_END))
            text = stream.read().decode(errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()]
