"""How a run really ended, from what it left behind: Trinity itself calls a crash finished."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from chord_exp.launch.run_request import Outcome
from chord_exp.run_files import metrics
from chord_exp.run_files.causes import diagnose, end_of_log, explain
from chord_exp.run_files.names import LOGS
from chord_exp.run_files.record import FAILED, RESUME_IT, STOPPED, SUCCEEDED, RunError

INDEX = "model.safetensors.index.json"
# below this, writing has been failing, bytes
FULL_DISK = 256 * 1024
# in the log of a run whose Ray went away
LOST_RAY = r"(raylet|GCS).{0,80}(died|dead|fail|lost|unreachable|exited)"


@dataclass(frozen=True)
class RunVerdict:
    """The end of a run."""

    status: str
    completed_steps: int
    error: RunError | None = None


@dataclass(frozen=True)
class Evidence:
    """What there is to judge by."""

    run_dir: Path
    outcome: Outcome | None
    # of the run's process; negative: ended by that signal
    exit_code: int
    # of the stage that the run came to
    planned_steps: int
    is_last_stage: bool
    # that stage's name, empty where there is only one
    stage: str
    # the metrics of all stages, by this attempt and those before it
    rows: list[metrics.Row]
    # folder of the final checkpoint's Hugging Face weights
    final_weights: Path
    # the loss logs true values (loss=stock logs NaN for one-sided micro-batches while its gradients are right)
    check_losses_finite: bool
    free_bytes: int
    interrupted: bool


def judge_run(evidence: Evidence) -> RunVerdict:
    """Decide how a run ended.

    Succeeded means: it did all it planned, its last evaluation too, its last step is the planned one, every value the
    trainer logged is finite, and the final checkpoint is whole.
    """
    outcome, steps = evidence.outcome, trained_steps(evidence.rows, evidence.stage)
    ended = outcome.ended if outcome else None
    if ended == "stopped" or (evidence.interrupted and ended != "finished"):
        return RunVerdict(STOPPED, steps, RunError("stopped by the user", remedy=RESUME_IT))
    if outcome is None:
        return RunVerdict(FAILED, steps, _died(evidence))
    if outcome.ended == "failed":
        return RunVerdict(FAILED, steps, explain(outcome.error, diagnose(evidence.run_dir)))
    steps = outcome.completed_steps or 0
    for problem in (_stopped_short(evidence, steps), _not_finite(evidence), damaged_weights(evidence.final_weights)):
        if problem:
            return RunVerdict(FAILED, steps, problem)
    return RunVerdict(SUCCEEDED, steps)


def trained_steps(rows: list[metrics.Row], stage: str) -> int:
    """Return the last step of a stage whose update the trainer logged."""
    of_stage = (row for row in rows if row.get("source") == "trainer" and row.get("stage", "") == stage)
    return max((row["step"] for row in of_stage), default=0)


def _died(evidence: Evidence) -> RunError:
    if evidence.free_bytes < FULL_DISK:
        return explain("No space left on device")
    how = f"signal {-evidence.exit_code}" if evidence.exit_code < 0 else f"exit code {evidence.exit_code}"
    log = end_of_log(evidence.run_dir)
    if any(re.search(LOST_RAY, line, re.IGNORECASE) for line in log):
        return explain(f"Ray died: the run's process ended with it ({how})")
    last = log[-1].strip() if log else ""
    if re.match(r"(\w+\.)*\w*(Error|Exception|Interrupt)\b", last):
        return explain(last, diagnose(evidence.run_dir))
    return explain(f"the run's process died ({how}) without a word", diagnose(evidence.run_dir))


def _stopped_short(evidence: Evidence, steps: int) -> RunError | None:
    if steps == evidence.planned_steps and evidence.is_last_stage:
        return None
    what = f"training ended after {steps} of {evidence.planned_steps} steps"
    known = explain(what, diagnose(evidence.run_dir))
    return (
        known
        if known.remedy
        else RunError(
            what,
            "the data ran out, or explorer and trainer disagreed on the number of steps",
            f"look at the end of {LOGS}/explorer.log and {LOGS}/trainer.log, then {RESUME_IT}",
        )
    )


def _not_finite(evidence: Evidence) -> RunError | None:
    # after a resume some steps were made twice: the last time counts
    trained = (row for row in evidence.rows if row.get("source") == "trainer")
    rows = list({(row.get("stage", ""), row["step"]): row for row in trained}.values())
    if not evidence.check_losses_finite:
        rows = [{key: row[key] for key in ("step", "source", "actor/grad_norm") if key in row} for row in rows]
    found = metrics.non_finite(rows)
    return explain(f"{found[0]} is not finite at step {found[1]}") if found else None


def damaged_weights(folder: Path) -> RunError | None:
    """Return why a Hugging Face folder's weights would fail to load, judged by headers and sizes: no tensor is read."""
    problem = None
    if not (folder / "config.json").is_file():
        problem = "config.json is missing"
    elif not any(folder.glob("*.safetensors")):
        problem = "no safetensors file"
    else:
        try:
            problem = _first_damage(folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problem = f"{INDEX}: {error}"
    if problem is None:
        return None
    return RunError(
        f"the final checkpoint does not load ({problem})",
        f"{folder} is incomplete",
        f"{RESUME_IT}, from the checkpoint before it",
    )


def _first_damage(folder: Path) -> str | None:
    """Name a file that the index of a sharded model misses, or one that is cut.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError: the index cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    if (folder / INDEX).is_file():
        shards = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
        for name in sorted(shards):
            if not (folder / name).is_file():
                return f"{name} is missing"
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "np"):
                pass
        except (OSError, SafetensorError) as error:
            return f"{file.name}: {error}"
    return None
