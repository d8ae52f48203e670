"""Short readable names for the trials of a sweep: what sets each apart from the others."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

LABEL_LENGTH = 60


def labels(jobs: Sequence[Sequence[str]]) -> list[str]:
    """A label for each job's overrides: those that differ between the jobs, such as `mu_peak=0.2_seed=1`.

    Args:
        jobs: the overrides of each job, `key=value` each.

    Returns:
        Labels fit for file names; empty ones for a single job.
    """
    values: dict[str, set[str]] = {}
    for overrides in jobs:
        for key, value in map(_split, overrides):
            values.setdefault(key, set()).add(value)
    everywhere = [{key for key, _ in map(_split, overrides)} for overrides in jobs]
    differing = {key for key in values if len(values[key]) > 1 or not all(key in keys for keys in everywhere)}
    short = _shortened(differing)
    return [
        label({short[key]: value for key, value in map(_split, overrides) if key in differing}) for overrides in jobs
    ]


def label(values: dict[str, str]) -> str:
    """One label from keys and values."""
    text = "_".join(f"{key}={value}" for key, value in values.items())
    safe = re.sub(r"[^\w.=+-]+", "-", text, flags=re.ASCII).strip("-.")
    if safe == text and len(safe) <= LABEL_LENGTH:
        return safe
    # two labels must not become equal by what was replaced or cut
    digest = hashlib.sha256(text.encode()).hexdigest()[:6]
    return f"{safe[: LABEL_LENGTH - 7].rstrip('-.')}-{digest}"


def folder_name(number: int | str, label: str) -> str:
    """Name of a trial's folder."""
    return f"{number}_{label}" if label else str(number)


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key.lstrip("+~"), value


def _shortened(keys: set[str]) -> dict[str, str]:
    """Dotted keys by their last part, where that is one key's alone."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: key.rpartition(".")[2] if last.count(key.rpartition(".")[2]) == 1 else key for key in keys}
