"""An evaluation as people read it: a table, what it could not have shown, and the curve over the steps."""

from __future__ import annotations

from collections.abc import Iterator

import plotext
from rich.console import Console
from rich.table import Table

from chord_exp.run_files.evaluation import GREEDY, SAMPLED, Evaluation
from chord_exp.run_files.model_card import estimate_text

PLOT_SIZE = (64, 12)


def show(console: Console, evaluation: Evaluation) -> None:
    """Print the scores of every model, and the curve where there are several steps."""
    titles = {GREEDY: "pass@1, greedy", SAMPLED: f"mean@{evaluation.samples}"}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("model", "answers", "score", "ahead of base"):
        table.add_column(name, no_wrap=True)
    for model in evaluation.models:
        for sampling, answers in model.answers.items():
            lead = "" if answers.lead is None else f"{estimate_text(answers.lead, signed=True)}: {answers.lead.verdict}"
            table.add_row(model.label, titles[sampling], estimate_text(answers.score), lead)
    console.print(table)
    for line in notes(evaluation, titles):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if sum(model.step > 0 for model in evaluation.models) > 1:
        console.print(curve(evaluation, titles), highlight=False, markup=False)


def notes(evaluation: Evaluation, titles: dict[str, str]) -> Iterator[str]:
    """Yield what a reader of the scores must know."""
    for sampling, title in titles.items():
        leads = [
            answers.lead
            for model in evaluation.models
            if (answers := model.answers.get(sampling)) is not None and answers.lead is not None
        ]
        if leads:
            least = max(lead.detectable for lead in leads)
            shown = f"{100 * least:.1f} points" if least < 1 else "no difference at all"
            yield f"{title}: the smallest difference that {leads[-1].prompts} prompts could show: {shown}"
    everything = [answers for model in evaluation.models for answers in model.answers.values()]
    cut, count = sum(answers.cut for answers in everything), sum(answers.count for answers in everything)
    if cut:
        yield f"warning: {cut} of {count} answers were cut at model.max_response_tokens"
    if evaluation.lost:
        yield f"warning: {evaluation.lost} answers never came and are in no score: see logs/ in its folder"


def curve(evaluation: Evaluation, titles: dict[str, str]) -> str:
    """Return the scores over the steps as a small text plot."""
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(*PLOT_SIZE)
    for (sampling, title), marker in zip(titles.items(), ("braille", "dot"), strict=True):
        points = {m.step: m.answers[sampling].score.value for m in evaluation.models if sampling in m.answers}
        if points:
            plotext.plot(list(points), list(points.values()), marker=marker, label=title)
    plotext.title("score by step")
    # plotext ends each line with an escape code even in its colourless theme
    return str(plotext.uncolorize(plotext.build()))
