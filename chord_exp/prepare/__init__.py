"""From a folder of raw data to the expert rows, rollout prompts and held-out prompts of a CHORD run
(trinity_config.rows says how they look).

    options   utils.split_settings on a command line
    read      which files there are and what is in them, as text; cut into chunks, which several processes read
              (parallel, chunk_reader)
    rows      one raw row: formats → turns → what it is known by (text_keys, script, contamination)
    answers   its final answer, who scores it, and whether the reward does
    split     all rows as columns: duplicates, near duplicates, prompt groups, sides
    report    the sides written; manifest, card, warnings: what the user should see; lengths in tokens, on request
    folder    the draft becomes the prepared folder
"""

from __future__ import annotations

from chord_exp.prepare.manifest import Manifest, load_manifest
from chord_exp.prepare.pipeline import ensure_prepared

__all__ = ["Manifest", "ensure_prepared", "load_manifest"]
