"""The page of one run: how it ended, its curves, its answers, its settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from chord_exp.report.figures.compare import chosen_score, final_score
from chord_exp.report.figures.summary import Report, how_it_ended
from chord_exp.report.page.curves import charts_of_run
from chord_exp.report.page.evaluations import NOTE, evaluation_table
from chord_exp.report.page.parts import changed, error_lines, pairs, sections, setting_table
from chord_exp.report.page.svg import Chart, Line
from chord_exp.report.page.tables import Column, Table, html
from chord_exp.report.read.evaluations import read_evaluation
from chord_exp.report.read.planned import data_card, data_facts, prepared_folder
from chord_exp.report.read.rollouts import answers_over_time, response_lengths
from chord_exp.report.read.runs import Run
from chord_exp.run_files import history as h
from chord_exp.run_files.names import METRICS
from chord_exp.run_files.rules import Finding
from chord_exp.utils.statistics import wilson_interval


def one_run(report: Report) -> Iterator[str]:
    """Yield the body of the page."""
    run = report.runs[0]
    here = Path.cwd()
    path = run.path.relative_to(here) if run.path.is_relative_to(here) else run.path
    yield f'<p class=dim>{escape(str(path))}</p><section class="verdict {run.status}">'
    yield f"<b>{escape(how_it_ended(run).capitalize())}</b>"
    yield from error_lines(run)
    yield from _headline(run)
    yield "</section>"
    yield _findings(report.found[0])
    yield sections((*charts_of_run(run), *_length_chart(run)), steps_drawn=True)
    if (evaluation := read_evaluation(run.path)) is not None:
        yield f"<h2>Checkpoints evaluated</h2><p class=dim>{NOTE}</p>" + html(evaluation_table(evaluation))
    yield _answers(run)
    yield "<h2>Settings and origin</h2>"
    record = run.record
    if rows := changed(run):
        yield "<h3>What differs from the defaults</h3>" + html(setting_table(rows))
    if (data := prepared_folder(run.config)) is not None:
        yield "<h3>Data</h3>" + pairs(data_facts(data).items())
        if card := data_card(data):
            yield f"<details><summary>Data card</summary><pre>{escape(card)}</pre></details>"
    if record is not None:
        origin = {
            "variant": record.variant,
            "seed": str(record.seed),
            "started": record.started,
            "git": " ".join(f"{key}={value}" for key, value in record.git.items()),
            "machine": " ".join(f"{key}={value}" for key, value in record.machine.items()),
            "configuration": record.config_hash[:16],
            "checkpoint": record.checkpoint or "",
        }
        yield "<h3>Run</h3>" + pairs((key, value) for key, value in origin.items() if value)
        yield "<h3>Versions</h3>" + pairs(record.versions.items())
    if run.composed:
        yield f"<details><summary>All settings</summary>{pairs(run.composed.items())}</details>"
    yield (
        f"<p class=dim>Every point is a line of {METRICS}; its number shows under the pointer and stands in the CSV "
        "beside this page. Thick lines are means of neighbouring steps.</p>"
    )


def _headline(run: Run) -> Iterator[str]:
    accuracy = run.history[h.ACCURACY].finite()
    if len(accuracy):
        counts = run.history[h.EVAL_DONE].finite()
        share, prompts = float(accuracy.value[-1]), int(counts.value[-1]) if len(counts) else 0
        if len(accuracy) > 1:
            text = f"Held-out accuracy {accuracy.value[0]:.1%} at step {accuracy.at[0]}, {share:.1%}"
            text += f" at step {accuracy.at[-1]} (line {accuracy.line[-1]})"
        else:
            text = f"Held-out accuracy {share:.1%} at step {accuracy.at[0]} (line {accuracy.line[0]})"
        if prompts and 0 <= share <= 1:
            low, high = wilson_interval(share, prompts)
            text += f"; over {prompts} prompts that is {low:.0%} to {high:.0%} (95% interval)"
        yield f"<p>{escape(text)}.</p>"
    tested = chosen_score(run)
    if tested is not None:
        text = (
            f"Test accuracy {tested.value:.1%} (line {tested.line}) at step {tested.at}, the best on held-out prompts"
        )
        yield f"<p>{text}.</p>"
    last = final_score(run, h.REWARD)
    if last is not None:
        yield f"<p>Rollout reward {last.value:.2f}: mean of the last {last.of} steps, to line {last.line}.</p>"


def _findings(found: Sequence[Finding]) -> str:
    if not found:
        return "<p class=dim>No rule over the metrics found anything to say.</p>"
    items = "".join(
        f"<li class={one.severity}><b>{escape(one.what)}</b><br>{escape(one.remedy)} "
        f"<small>{escape(one.rule)}: {escape(one.metric)}, line {one.line}</small></li>"
        for one in found
    )
    return f"<h3>What the metrics say</h3><ul class=findings>{items}</ul>"


def _length_chart(run: Run) -> Iterator[tuple[str, Chart]]:
    """Yield the length of rollouts by step, without expert rows; nothing where no rollouts were kept."""
    steps, means = response_lengths(run.path)
    if steps:
        line = Line("mean of a step", steps, means, 0)
        yield "Stability", Chart("Response length of rollouts", "tokens; expert rows are left out", lines=[line])


def _answers(run: Run) -> str:
    found = answers_over_time(run.path)
    if found is None:
        return ""
    columns = [Column("prompt", is_number=False), Column("step"), Column("answer", is_number=False)]
    rows = [
        ("" if index else prompt, one.when, one.answer, f"{one.reward:.3g}", str(one.line))
        for prompt, answers in found.prompts.items()
        for index, one in enumerate(answers)
    ]
    table = html(Table([*columns, Column("reward"), Column("line")], rows))
    return (
        f"<h2>Answers over time</h2><p class=dim>{escape(str(found.file.relative_to(run.path)))}: {found.what}.</p>"
        f'<div class="rollouts">{table}</div>'
    )
