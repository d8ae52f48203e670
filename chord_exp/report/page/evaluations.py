"""Tables of what checkpoints earned when they were evaluated: one run's, and groups of runs over the same prompts."""

from __future__ import annotations

from collections.abc import Sequence

from chord_exp.report.figures.prompts import OverPrompts
from chord_exp.report.page.tables import Cell, Column, Table
from chord_exp.run_files.evaluation import GREEDY, Evaluation, Lead
from chord_exp.run_files.model_card import estimate_text

NOTE = (
    "Intervals (95%) are over prompts, each one observation however often it was answered: what other prompts of the "
    "kind might have given. The smallest difference is that which so many prompts would show four times in five."
)
SMALLEST = Column("smallest difference")


def evaluation_table(evaluation: Evaluation) -> Table:
    """Return the scores of every model of an evaluation."""
    names = {GREEDY: "pass@1, greedy"}
    columns = [Column("model", is_number=False), Column("answers", is_number=False), Column("score")]
    rows = [
        (
            model.label,
            names.get(sampling, f"mean@{evaluation.samples}"),
            estimate_text(answers.score),
            *_lead_cells(answers.lead),
        )
        for model in evaluation.models
        for sampling, answers in model.answers.items()
    ]
    return Table([*columns, Column("ahead of base"), SMALLEST], rows)


def prompt_table(found: Sequence[OverPrompts], reference: str) -> Table:
    """Return groups of runs over the same prompts."""
    columns = [Column("group", is_number=False), Column("runs"), Column("pass@1, greedy")]
    rows = [(one.label, str(one.runs), estimate_text(one.score), *_lead_cells(one.lead)) for one in found]
    return Table([*columns, Column(f"ahead of {reference}"), SMALLEST], rows)


def _lead_cells(lead: Lead | None) -> tuple[Cell, Cell]:
    if lead is None:
        return "", ""
    return (estimate_text(lead, signed=True), lead.verdict), f"{100 * lead.detectable:.1f} points"
