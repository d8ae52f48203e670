"""From a folder of raw data to the expert rows, rollout prompts and held-out prompts of a CHORD run (layout.py says how
they look).

    survey    which files there are, and what is in them: files, plain (encodings), hashes
    reader    files cut into chunks (cutting, tabular), read by several processes (parallel, chunk)
    rows      one raw row: formats → checks → answers → scoring, and what it is known by (normal, language, leaks)
    place     all rows as columns: duplicates, near duplicates (near), prompt groups, split
    writer    the sides; then manifest, card, personal, verdict (what the user should see)
    check     the written rows through Trinity's own readers, on request
"""

from __future__ import annotations

from chord_exp.prepare.manifest import Manifest, load_manifest
from chord_exp.prepare.pipeline import ensure_prepared

__all__ = ["Manifest", "ensure_prepared", "load_manifest"]
