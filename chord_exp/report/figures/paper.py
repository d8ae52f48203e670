"""What the CHORD paper reports for each method, to stand beside what was measured here."""

from __future__ import annotations

from collections.abc import Mapping

from chord_exp.report.read.runs import Run

SOURCE = "arXiv 2508.11408 v3, Table 1, as secondary copies of it have it, accuracy in %"
# other models, data and lengths than anybody's here: the order of the methods is what can be compared
BENCHMARKS = ("AMC", "AIME24", "AIME25", "MMLU-Pro", "BFCL")
ORIGINAL = "original"
# values by method, in the order of the table; those of others' methods are left out
REPORTED: Mapping[str, tuple[float, ...]] = {
    ORIGINAL: (43.8, 11.7, 6.66, 24.7, 46.2),
    "sft": (55.9, 15.8, 15.2, 38.4, 69.8),
    "grpo": (52.1, 13.2, 8.54, 45.8, 77.1),
    "sft_then_grpo": (58.4, 17.1, 16.3, 51.3, 76.1),
    "mu": (60.8, 18.1, 17.9, 43.3, 77.6),
    "phi": (62.5, 18.2, 17.2, 56.2, 78.5),
}
# settings of a method of the paper's, where a run has them
AS_IN_THE_PAPER = {"phi": ("none", "pq", "null"), "mu_source": ("schedule",)}


def reported(run: Run) -> tuple[float, ...] | None:
    """Return what the paper reports for the method of a run; None for one that is not in its table.

    A constant μ without φ is none of its methods: CHORD-μ is the one that decays.
    """
    variant = run.record.variant if run.record else run.composed.get("variant", "")
    if any(run.composed.get(key, fits[0]) not in fits for key, fits in AS_IN_THE_PAPER.items()):
        return None
    is_constant = run.composed.get("mu_peak") == run.composed.get("mu_valley", "")
    return None if variant == "mu" and is_constant else REPORTED.get(variant)
