"""What a tracker (WandB, SwanLab, MLflow, Trackio) is told about a run, and what it is not: plain values of the
specification.

No prompt and no key leaves the machine by way of a run's configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chord_exp.experiment.geometry import Geometry
from chord_exp.experiment.sections import GROUP_LENGTH, TAG_LENGTH
from chord_exp.experiment.spec import ExperimentSpec

# keys whose values stay here: what opens a door, and texts that are asked of the model
_PRIVATE = re.compile(r"(^|_)(api_?key|access_?key|token|secret|password|credentials?|system_prompt)$", re.IGNORECASE)


def sweep_label(sweep_dir: Path) -> str:
    """The group of the runs of a sweep: the last two parts of its folder, `NAME/TIME` by default."""
    return "/".join(sweep_dir.absolute().parts[-2:])[-GROUP_LENGTH:]


def tracker_args(spec: ExperimentSpec, geometry: Geometry) -> dict[str, Any]:
    """The part of `monitor_args` that concerns the tracker: its name, mode, group, tags and config.

    The config holds the experiment's own keys under their own names, and below `derived` the sizes that follow from
    them (rows a step, and data-parallel ranks, of the last stage).
    """
    config = asdict(spec)
    for key in ("monitor", "resume"):
        del config[key]
    last = geometry.stages[-1]
    config["derived"] = {
        "usual_rows": last.batch.usual_rows,
        "expert_rows": last.batch.expert_rows,
        "data_parallel_size": last.gpus.data_parallel_size,
        "steps": sum(stage.steps for stage in geometry.stages),
    }
    labels = (spec.effective_variant, spec.model.name, spec.data.name, spec.cluster.name, *spec.monitor.tags)
    return {
        "name": spec.monitor.tracker,
        "mode": spec.monitor.mode,
        "group": spec.monitor.group or spec.name,
        "tags": list(dict.fromkeys(label[:TAG_LENGTH] for label in labels)),
        "config": _public(config),
    }


def _public(value: Any) -> Any:
    """Nested plain values without the private keys."""
    if isinstance(value, Mapping):
        return {str(key): _public(item) for key, item in value.items() if not _PRIVATE.search(str(key))}
    return [_public(item) for item in value] if isinstance(value, (list, tuple)) else value
