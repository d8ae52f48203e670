"""Find run folders and read what is in them: the record, the settings, the metrics, the end of the log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from chord_exp.errors import ConfigError
from chord_exp.experiment.schedule import MuSchedule, mu_at
from chord_exp.report.history import History, history, numbered
from chord_exp.run_files.names import LAUNCH, LOGS, METRICS, RECORD, TRINITY_CONFIG
from chord_exp.run_files.record import RUNNING, SUCCEEDED, RunRecord

# a trial that was made and not started yet
WAITING = "waiting"
# the composed configuration, as Hydra users know it
COMPOSED = ".hydra/config.yaml"
# folders below the working folder where runs and sweeps are made, and how deep
RUN_ROOT, SWEEP_ROOT = "outputs", "multirun"
# files of which one makes a folder a run's
MARKS = (RECORD, LAUNCH, METRICS)
DEEPEST = 4
LOG_LINES, LOG_BYTES = 15, 65536
# settings that say nothing of what was learnt: seeds are what a group is drawn from, the others are names and places
NO_SETTING = re.compile(
    r"(seed|name|project|action|export_to|debug|resume|data\.(out|check)|cluster\.ray_address|monitor(\..*)?)$"
)


@dataclass(frozen=True)
class Run:
    """One run's folder as read."""

    path: Path
    # short and unique in a report
    label: str
    # of the record, or WAITING
    status: str
    record: RunRecord | None
    # settings that were given by hand, key to value
    overrides: Mapping[str, str]
    # all settings where they are known, otherwise the overrides
    settings: Mapping[str, str]
    history: History
    # the resolved Trinity config
    config: Mapping[str, Any] = field(repr=False)

    @property
    def seed(self) -> int:
        """The run's seed; -1 where nobody wrote it down."""
        return self.record.seed if self.record else -1

    @property
    def succeeded(self) -> bool:
        """Whether it did what was planned."""
        return self.status == SUCCEEDED

    @property
    def going_on(self) -> bool:
        """Whether more is to come."""
        return self.status in (RUNNING, WAITING)

    @property
    def planned_steps(self) -> int:
        """Steps that were planned; those that were made where nothing is known."""
        return self.record.planned_steps if self.record else self.history.steps

    @cached_property
    def log_end(self) -> list[str]:
        """The last lines of the log."""
        try:
            with open(self.path / LOGS / "run.log", "rb") as stream:
                stream.seek(max(0, (self.path / LOGS / "run.log").stat().st_size - LOG_BYTES))
                text = stream.read().decode(errors="replace")
        except OSError:
            return []
        return [line.rstrip() for line in text.splitlines() if line.strip()][-LOG_LINES:]

    def planned_mu(self) -> list[tuple[int, float]]:
        """Return step and μ as planned; nothing for a run without a schedule, or with more than one stage."""
        arguments = (self.config.get("algorithm") or {}).get("policy_loss_fn_args") or {}
        if self.config.get("stages") or "mu_peak" not in arguments:
            return []
        try:
            schedule = MuSchedule(
                *(arguments[f"mu_{key}"] for key in ("warmup_steps", "decay_steps", "peak", "valley"))
            )
        except (KeyError, TypeError, ConfigError):
            return []
        return [(step, mu_at(step, schedule)) for step in range(1, self.planned_steps + 1)]

    def data_facts(self) -> dict[str, str]:
        """Return what is known of the prepared data: where it lies, how many rows of each kind."""
        taskset = ((self.config.get("buffer") or {}).get("explorer_input") or {}).get("taskset") or {}
        auxiliary = ((self.config.get("buffer") or {}).get("trainer_input") or {}).get("auxiliary_buffers") or {}
        paths = [one["path"] for one in (taskset, *auxiliary.values()) if isinstance(one, dict) and one.get("path")]
        if not paths:
            return {}
        folder = Path(paths[0]).parent
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {"folder": str(folder)}
        facts = {"folder": str(folder)}
        if manifest.get("inputs"):
            facts["inputs"] = ", ".join(f"{one.get('path')} ({one.get('read')} rows)" for one in manifest["inputs"][:8])
        facts |= {key: value for key, value in flat({"rows": manifest.get("rows") or {}}) if value != "0"}
        return facts


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


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read run folders, each under a label of its own: what sets its path apart from the others'."""
    return [read_run(path, label) for path, label in zip(paths, labels(paths), strict=True)]


def labels(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of paths that differ; the part that all have at their beginning is left out."""
    if len(paths) == 1:
        return [paths[0].name]
    parts = [path.parts for path in paths]
    common = next((i for i, here in enumerate(zip(*parts, strict=False)) if len(set(here)) > 1), min(map(len, parts)))
    return ["/".join(one[common:]) or one[-1] for one in parts]


def read_run(path: Path, label: str = "") -> Run:
    """Read a run's folder; a damaged or missing part is left out."""
    record = _record(path)
    config = _yaml(path / TRINITY_CONFIG)
    given = record.overrides if record else _launch_overrides(path)
    overrides = dict(word.lstrip("+~").split("=", 1) for word in given if "=" in word)
    composed = resolved(dict(flat(_yaml(path / COMPOSED))))
    settings = {key: value for key, value in (composed or overrides).items() if not NO_SETTING.match(key)}
    return Run(
        path=path,
        label=label or path.name,
        status=record.status if record else WAITING,
        record=record,
        overrides=overrides,
        settings=settings,
        history=history(numbered(path / METRICS)),
        config=config,
    )


def _record(path: Path) -> RunRecord | None:
    try:
        return RunRecord.load(path / RECORD)
    except (OSError, ValueError, TypeError):
        return None


def _launch_overrides(path: Path) -> list[str]:
    try:
        return list(json.loads((path / LAUNCH).read_text(encoding="utf-8"))["overrides"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _yaml(path: Path) -> dict[str, Any]:
    # libyaml, where it is: hundreds of files are read
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def resolved(settings: dict[str, str]) -> dict[str, str]:
    """Return settings with those that point to another (`lr: ${model.lr}`) replaced by what they point to."""

    def follow(value: str, left: int) -> str:
        points = re.fullmatch(r"\$\{([\w.]+)\}", value)
        return follow(settings.get(points[1], value), left - 1) if points and left and points[1] in settings else value

    return {key: follow(value, len(settings)) for key, value in settings.items()}


def flat(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted key and value, as text, of each leaf of a tree."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, "null" if tree is None else str(tree)
