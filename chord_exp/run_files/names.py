"""Names of what a run leaves in its folder."""

from __future__ import annotations

TRINITY_CONFIG = "trinity.yaml"
METRICS = "metrics.jsonl"
RECORD = "run.json"
LOGS = "logs"
CHECKPOINTS = "checkpoints"
