"""What a run's resolved Trinity configuration says of it: μ at each step, rows of a batch, where the data lies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chord_exp.errors import ConfigError
from chord_exp.experiment.schedule import MuSchedule, mu_at
from chord_exp.report.read.settings import flat
from chord_exp.trinity_config.rows import CARD_FILE


@dataclass(frozen=True)
class BatchRows:
    """Rows of a training step."""

    rollouts: int
    experts: int


def planned_mu(config: Mapping[str, Any], steps: int) -> list[tuple[int, float]]:
    """Return step and μ as planned; nothing for a run without a schedule, or with more than one stage."""
    arguments = (config.get("algorithm") or {}).get("policy_loss_fn_args") or {}
    if config.get("stages") or "mu_peak" not in arguments:
        return []
    try:
        schedule = MuSchedule(*(arguments[f"mu_{key}"] for key in ("warmup_steps", "decay_steps", "peak", "valley")))
    except (KeyError, TypeError, ConfigError):
        return []
    return [(step, mu_at(step, schedule)) for step in range(1, steps + 1)]


def batch_rows(config: Mapping[str, Any]) -> dict[str, BatchRows]:
    """Return the rows of a training step of each stage, by its name; one with an empty name for most runs.

    A stage whose loss is told no rows, as Trinity's own loss, is left out.
    """
    found = {}
    for stage in config.get("stages") or [config]:
        arguments = (stage.get("algorithm") or {}).get("policy_loss_fn_args") or {}
        rows = BatchRows(int(arguments.get("usual_rows") or 0), int(arguments.get("expert_rows") or 0))
        if rows.rollouts + rows.experts:
            found[str(stage.get("stage_name") or "")] = rows
    return found


def prepared_folder(config: Mapping[str, Any]) -> Path | None:
    """Return the folder of the prepared data; None where the configuration names none."""
    taskset = ((config.get("buffer") or {}).get("explorer_input") or {}).get("taskset") or {}
    auxiliary = ((config.get("buffer") or {}).get("trainer_input") or {}).get("auxiliary_buffers") or {}
    paths = [one["path"] for one in (taskset, *auxiliary.values()) if isinstance(one, dict) and one.get("path")]
    return Path(paths[0]).parent if paths else None


def data_facts(folder: Path) -> dict[str, str]:
    """Return what is known of prepared data: where it lies, how many rows of each kind."""
    facts = {"folder": str(folder)}
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return facts
    if manifest.get("inputs"):
        facts["inputs"] = ", ".join(f"{one.get('path')} ({one.get('read')} rows)" for one in manifest["inputs"][:8])
    return facts | {key: value for key, value in flat({"rows": manifest.get("rows") or {}}) if value != "0"}


def data_card(folder: Path) -> str:
    """Return the text of the prepared data's card, in Markdown; the empty text where there is none."""
    try:
        return (folder / CARD_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
