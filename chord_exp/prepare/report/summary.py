"""A manifest as a few lines for people."""

from __future__ import annotations

from collections import Counter

from chord_exp.prepare.manifest import Manifest
from chord_exp.prepare.report.card import counted_files
from chord_exp.prepare.report.warnings import counted
from chord_exp.trinity_config.rows import EVAL, RL, SFT, TEST


def summary_lines(manifest: Manifest) -> list[str]:
    """What was read, where the rows went, and both expert ratios explained."""
    content = manifest.content
    rows, ratios = content["rows"], content["ratios"]
    duplicates = sum(rows["duplicates"].values())
    lines = [
        f"read   {rows['read']:>9,} rows of {counted_files(content)}: "
        f"{counted(Counter(content['formats']))}; {rows['rejected']:,} rejected, {duplicates:,} duplicates"
    ]
    notes = {
        SFT: f"expert rows, {counted(Counter(content['sft_only'])) or 'all verifiable'}",
        RL: "rollout prompts",
        EVAL: "held-out prompts",
        **({TEST: "test prompts"} if rows[TEST] else {}),
    }
    for side, note in notes.items():
        lengths = content["lengths"].get(side)
        longest = f"; longest prompt {lengths['prompt_bytes']['max']:,} bytes" if lengths else ""
        lines.append(f"{side:<6} {rows[side]:>9,} {note}{longest}")
    lines.append(f"columns not read: {counted(Counter(content['unused_columns'])) or 'none'}")
    lines.append(f"expert_ratio asked {ratios['expert_ratio_asked']:g}, reached {ratios['expert_ratio_reached']:.4f}")
    lines.append(ratios["note"])
    return lines
