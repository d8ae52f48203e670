"""Find the folders of runs: those named, those below them, or the newest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from chord_exp.errors import ConfigError
from chord_exp.run_files.names import LAUNCH, METRICS, RECORD

# folders below the working folder where runs and sweeps are made, and how deep
RUN_ROOT, SWEEP_ROOT = "outputs", "multirun"
# files of which one makes a folder a run's
MARKS = (RECORD, LAUNCH, METRICS)
DEEPEST = 4


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Return the run folders that are named, or that lie below those that are: in the order given, then by number.

    Raises:
        ConfigError: a folder is none, or holds no run.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"{folder} is no folder", "DIR", "give the folder of a run or of a sweep")
        below = list(_below(folder.absolute(), DEEPEST))
        if not below:
            raise ConfigError(
                f"{folder} holds no run: no {' or '.join(MARKS)} in it or below",
                "DIR",
                f"give the folder that a run printed, below {RUN_ROOT}/ or {SWEEP_ROOT}/",
            )
        found |= dict.fromkeys(below)
    return list(found)


def _below(folder: Path, depth: int) -> Iterator[Path]:
    if any((folder / mark).is_file() for mark in MARKS):
        yield folder
    elif depth:
        try:
            inner = [one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")]
        except OSError:  # not for us to read
            return
        for one in sorted(inner, key=_by_number):
            yield from _below(one, depth - 1)


def _by_number(folder: Path) -> tuple[float, str]:
    number = re.match(r"\d+(?=_|$)", folder.name)
    return (float(number[0]) if number else float("inf"), folder.name)


def newest(here: Path) -> Path:
    """Return the folder of the newest run, or the whole sweep that it belongs to.

    Raises:
        ConfigError: there is none.
    """
    records = [*(here / RUN_ROOT).glob(f"**/{RECORD}"), *(here / SWEEP_ROOT).glob(f"*/*/*/{RECORD}")]
    if not records:
        raise ConfigError(
            f"no run below {RUN_ROOT}/ or {SWEEP_ROOT}/", "DIR", "start one with make run, or give a run's folder"
        )
    run = max(records, key=lambda path: path.stat().st_mtime).parent
    return run.parent if run.is_relative_to(here / SWEEP_ROOT) else run


def labels(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of paths that differ; the part that all have at their beginning is left out."""
    if len(paths) == 1:
        return [paths[0].name]
    parts = [path.parts for path in paths]
    common = next((i for i, here in enumerate(zip(*parts, strict=False)) if len(set(here)) > 1), min(map(len, parts)))
    return ["/".join(one[common:]) or one[-1] for one in parts]
