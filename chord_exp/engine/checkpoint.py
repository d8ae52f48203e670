"""Checkpoints of the local engine: a Hugging Face folder for anyone, and the rest of the state to continue exactly.

Layout, as verl's: `global_step_N/actor/huggingface/` (weights, config, tokenizer), `global_step_N/actor/train_state.pt`
(optimizer, learning-rate schedule, random state, data positions), and beside them
`latest_checkpointed_iteration.txt`. With adapters also `actor/lora_adapter/`.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors.torch import load_file

from chord_exp.errors import RunFailed
from chord_exp.run_files.checkpoints import ADAPTER_FOLDER, HF_FOLDER, LATEST, hf_dir, saved_steps, step_dir
from chord_exp.utils.files import write_atomically

TRAIN_STATE = "train_state.pt"
EXPLORER_STATES = "explorer_states.jsonl"


def adapter_dir(job_dir: str | Path, step: int) -> Path:
    """The folder of the adapters inside a checkpoint, where adapters are trained."""
    return step_dir(job_dir, step) / "actor" / ADAPTER_FOLDER


def random_state() -> dict[str, Any]:
    """State of every random number generator that training may use."""
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": numpy.random.get_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what `random_state` took."""
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    numpy.random.set_state(state["numpy"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def save(
    job_dir: str | Path,
    step: int,
    write_weights: Callable[[Path], None],
    tokenizer: Any,
    train_state: dict[str, Any],
    keep: int,
) -> None:
    """Write the checkpoint of a step whole or not at all, then drop all but the newest `keep` (0 keeps every one).

    Args:
        write_weights: writes HF_FOLDER into the folder it is given, and whatever else belongs to the model.

    Raises:
        OSError: the folder cannot be written; what was there before is untouched.
    """
    final = step_dir(job_dir, step)
    draft = final.with_name(final.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        (draft / "actor").mkdir(parents=True)
        write_weights(draft / "actor")
        tokenizer.save_pretrained(draft / "actor" / HF_FOLDER)
        torch.save(train_state, draft / "actor" / TRAIN_STATE)
        # Trinity's synchroniser spares folders with this mark when it cleans up
        (draft / ".full_checkpoint").touch()
        if final.exists():
            shutil.rmtree(final)
        draft.rename(final)
        write_atomically(Path(job_dir) / LATEST, str(step))
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    if keep > 0:
        for old in saved_steps(job_dir)[:-keep]:
            shutil.rmtree(step_dir(job_dir, old), ignore_errors=True)


def load_train_state(job_dir: str | Path, step: int) -> dict[str, Any]:
    """What `save` was given as `train_state`."""
    return torch.load(step_dir(job_dir, step) / "actor" / TRAIN_STATE, map_location="cpu", weights_only=False)


def record_explorer_state(job_dir: str | Path, state: dict[str, Any]) -> None:
    """Append the explorer's data position after a step, so that a later resume can go back to any checkpoint's."""
    with open(Path(job_dir) / EXPLORER_STATES, "a", encoding="utf-8") as stream:
        stream.write(json.dumps(state) + "\n")


def explorer_state(job_dir: str | Path, step: int) -> dict[str, Any] | None:
    """The explorer's data position after `step` batches, None if it was never recorded."""
    return next((state for state in reversed(_explorer_states(job_dir)) if state["latest_iteration"] == step), None)


def _explorer_states(job_dir: str | Path) -> list[dict[str, Any]]:
    path = Path(job_dir) / EXPLORER_STATES
    states = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with suppress(ValueError):  # a line cut short by a crash
            states.append(json.loads(line))
    return states


def rewind(job_dir: str | Path, explorer: str, trainer: str, *, explores: bool) -> int:
    """Before resuming, go back to the newest checkpoint that loads, with the data positions that belong to it.

    Trinity lets the explorer record its position at every weight update, ahead of the last checkpoint; resuming from
    there would skip the prompts in between and train on others than an uninterrupted run. A checkpoint that does not
    load is set aside as `global_step_N.corrupt`.

    Args:
        explorer, trainer: the names under which Trinity keeps the two states.
        explores: whether the stage has an explorer; pure SFT has none, and no positions of it.

    Returns:
        The step that training continues after; 0 if there was no checkpoint yet, or none that the explorer knew of.

    Raises:
        RunFailed: there are checkpoints and none can be used.
    """
    job = Path(job_dir)
    candidates, whole = sorted(saved_steps(job), reverse=True), []
    for step in candidates:
        try:
            train_state = load_train_state(job, step)
            read_weights(hf_dir(job, step))
        except (MemoryError, PermissionError):  # nothing is wrong with the checkpoint
            raise
        except Exception:  # torch and safetensors raise many kinds on a damaged file
            print(f"{step_dir(job, step)} does not load and is set aside")
            shutil.rmtree(corrupt := step_dir(job, step).with_suffix(".corrupt"), ignore_errors=True)
            step_dir(job, step).rename(corrupt)
            continue
        whole.append(step)
        if not explores or rewind_explorer(job, explorer, step):
            meta = {"latest_iteration": step, "sample_strategy_state": train_state["sample_strategy"]}
            write_atomically(job / f"{trainer}_meta.json", json.dumps(meta))
            write_atomically(job / LATEST, str(step))
            # a later checkpoint without data positions would be taken for the newest when old ones are cleared away
            for later in saved_steps(job):
                if later > step:
                    shutil.rmtree(step_dir(job, later))
            return step
    # killed between its first checkpoint and the explorer's first record, a run has hardly begun and begins anew
    begun = any(state["latest_iteration"] > 0 for state in _explorer_states(job))
    if whole != candidates or begun:
        raise RunFailed(f"none of the checkpoints of {job} can be resumed", str(job), "start a new run")
    for step in whole:
        shutil.rmtree(step_dir(job, step))
    for stale in (job / f"{explorer}_meta.json", job / f"{trainer}_meta.json", job / LATEST):
        stale.unlink(missing_ok=True)
    return 0


def rewind_explorer(job_dir: str | Path, explorer: str, step: int) -> bool:
    """Set the explorer back to its data position after `step`; returns whether that is known."""
    positions = explorer_state(job_dir, step)
    if positions is None:
        return False
    write_atomically(Path(job_dir) / f"{explorer}_meta.json", json.dumps(positions))
    return True


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a Hugging Face folder.

    Raises:
        FileNotFoundError: there are no weights in it.
        safetensors.SafetensorError: a file is damaged.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"no safetensors file in {folder}")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}
