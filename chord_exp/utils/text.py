"""Small helpers for messages."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Sequence


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return `did you mean 'x'?`, or the empty string when nothing is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if not near:
        # a key given without the node it lives under: `engine_num` for `cluster.engine_num`
        near = [key for key in known if key.rpartition(".")[2] == word.rpartition(".")[2]][:1]
    return f"did you mean {near[0]!r}?" if near else ""


def warn(warnings: Iterable[str]) -> None:
    """Print warnings for the user."""
    for warning in warnings:
        print(f"chord_exp: warning: {warning}", file=sys.stderr)
