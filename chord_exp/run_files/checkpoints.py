"""Where a run keeps its checkpoints: Trinity's folders, and verl's layout in them."""

from __future__ import annotations

from pathlib import Path

from chord_exp.run_files.names import CHECKPOINTS

HF_FOLDER = "huggingface"
# of peft, beside HF_FOLDER, where Trinity's engines look for it
ADAPTER_FOLDER = "lora_adapter"
LATEST = "latest_checkpointed_iteration.txt"


def job_dir(run_dir: Path, project: str, name: str, stage: str = "") -> Path:
    """Return the folder that Trinity saves a stage's checkpoints in; `stage` is empty where there is only one."""
    return run_dir / CHECKPOINTS / project / name / stage


def step_dir(job: str | Path, step: int) -> Path:
    """Return the folder of the checkpoint taken after `step` updates."""
    return Path(job) / f"global_step_{step}"


def hf_dir(job: str | Path, step: int) -> Path:
    """Return the Hugging Face folder inside a checkpoint."""
    return step_dir(job, step) / "actor" / HF_FOLDER


def latest_step(job: str | Path) -> int:
    """Return the step of the newest complete checkpoint, 0 if there is none."""
    marker = Path(job) / LATEST
    return int(marker.read_text()) if marker.exists() else 0


def saved_steps(job: str | Path) -> list[int]:
    """Return the steps that have a checkpoint folder, ascending."""
    names = (path.name.removeprefix("global_step_") for path in Path(job).glob("global_step_*") if path.is_dir())
    return sorted(int(name) for name in names if name.isdigit())
