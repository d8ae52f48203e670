"""From a folder of SFT data to the expert rows, rollout prompts and held-out prompts of a CHORD run
(layout.py says how they look)."""

from __future__ import annotations

from chord_exp.prepare.manifest import Manifest, load_manifest
from chord_exp.prepare.pipeline import ensure_prepared

__all__ = ["Manifest", "ensure_prepared", "load_manifest"]
