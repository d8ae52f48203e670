"""The checkpoints that a run keeps, by the updates before them: those of earlier stages counted."""

from __future__ import annotations

import argparse
from pathlib import Path

from chord_exp.errors import ConfigError
from chord_exp.launch.launch_spec import LaunchSpec
from chord_exp.run_files.checkpoints import hf_dir, job_dir, saved_steps, step_dir
from chord_exp.run_files.names import RECORD


def run_around(folder: Path) -> Path | None:
    """Return the run that a folder is, or lies in; None for neither."""
    return next((place for place in (folder, *folder.parents) if (place / RECORD).is_file()), None)


def kept(run_dir: Path) -> dict[int, Path]:
    """Return the checkpoint folders of a run, global_step_N, by overall step, ascending.

    Raises:
        ConfigError: there is none.
    """
    launch = LaunchSpec.load(run_dir)
    found: dict[int, Path] = {}
    before = 0
    for stage in launch.stages:
        job = job_dir(run_dir, launch.project, launch.name, stage.name)
        found |= {before + step: step_dir(job, step).absolute() for step in saved_steps(job)}
        before += stage.planned_steps
    if not found:
        raise ConfigError(f"{run_dir} holds no checkpoint", str(run_dir), "go on with the run until it saves one")
    return found


def hf_of(checkpoint: Path) -> Path:
    """Return the Hugging Face folder of a checkpoint folder, there or not."""
    return hf_dir(checkpoint.parent, int(checkpoint.name.rpartition("_")[2]))


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose among a run's checkpoints."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="of a run: all checkpoints that it keeps")
    which.add_argument("--steps", metavar="N,N", help="of a run: the checkpoints of these steps")


def chosen(given: argparse.Namespace, folder: Path, run_dir: Path) -> dict[int, Path]:
    """Return the checkpoints that the options, or a folder inside of the run, name; the newest where nothing does.

    Raises:
        ConfigError: the run keeps no such checkpoint.
    """
    there = kept(run_dir)
    if given.all:
        return there
    if given.steps is None:
        named = {step: path for step, path in there.items() if folder.is_relative_to(path)}
        return named or {max(there): there[max(there)]}
    try:
        wanted = sorted({int(word) for word in given.steps.split(",")})
    except ValueError:
        raise ConfigError(f"--steps {given.steps} are no numbers", "--steps", "give some like 20,40") from None
    if missing := [step for step in wanted if step not in there]:
        raise ConfigError(
            f"{run_dir} keeps no checkpoint of step {missing[0]}",
            "--steps",
            f"it keeps {', '.join(map(str, there))}; cluster.max_checkpoints_to_keep and cluster.keep_best say how "
            "many a run keeps",
        )
    return {step: there[step] for step in wanted}
