"""What a run prints when it has ended."""

from __future__ import annotations

import shlex
from pathlib import Path

import plotext
from rich.console import Console

from chord_exp.launch.progress import clock
from chord_exp.run_files import metrics
from chord_exp.run_files.history import history
from chord_exp.run_files.names import CHECKPOINTS, LOGS, METRICS, RECORD, TRINITY_CONFIG
from chord_exp.run_files.record import RESUME, STOPPED, SUCCEEDED, RunRecord
from chord_exp.run_files.rules import findings
from chord_exp.run_files.tracker_sync import sync_command

PLOT_SIZE = (64, 10)
REPORT = "python -m chord_exp.report"
EVALUATE = "python -m chord_exp.evaluate"


def show(console: Console, record: RunRecord, rows: list[metrics.Row], run_dir: Path) -> None:
    """Print how a run ended, what it learnt, the μ it used and where everything is."""
    took = f" in {clock(record.seconds)}" if record.seconds is not None else ""
    say = f"{record.status} after {record.completed_steps} of {record.planned_steps} steps{took}"
    console.print(
        f"{record.name}: {say}", style="bold green" if record.status == SUCCEEDED else "bold red", highlight=False
    )
    for found in findings(history(enumerate(rows, start=1)), succeeded=record.status == SUCCEEDED):
        text = f"warning: {found.what} -> {found.remedy}"
        console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)
    accuracy = metrics.series(rows, metrics.ACCURACY)
    if len(accuracy) > 1:
        first, last = min(accuracy), max(accuracy)
        gain = 100 * (accuracy[last] - accuracy[first])
        text = f"{accuracy[first]:.1%} at step {first}, {accuracy[last]:.1%} at step {last} ({gain:+.1f} points)"
        console.print(f"held-out accuracy: {text}", highlight=False)
    reward = metrics.series(rows, metrics.REWARD)
    if reward:
        steps = sorted(reward)
        fifth = max(1, len(steps) // 5)
        early, late = (sum(reward[step] for step in part) / fifth for part in (steps[:fifth], steps[-fifth:]))
        console.print(
            f"rollout reward: {early:.2f} in the first fifth of the steps, {late:.2f} in the last", highlight=False
        )
    mu = metrics.series(rows, metrics.MU)
    if len(set(mu.values())) > 1:
        console.print(mu_plot(mu), highlight=False, markup=False)
    _show_paths(console, record, run_dir)


def mu_plot(mu: dict[int, float]) -> str:
    """Return the μ of each step as a small text plot."""
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(*PLOT_SIZE)
    plotext.plot(list(mu), list(mu.values()), marker="braille")
    plotext.yfrequency(4)
    plotext.title("μ by step")
    # plotext ends each line with an escape code even in its colourless theme
    return plotext.uncolorize(plotext.build())


def _show_paths(console: Console, record: RunRecord, run_dir: Path) -> None:
    where = {
        "record": run_dir / RECORD,
        "metrics": run_dir / METRICS,
        "config": run_dir / TRINITY_CONFIG,
        "logs": run_dir / LOGS,
        "checkpoints": Path(record.checkpoint) if record.checkpoint else run_dir / CHECKPOINTS,
    }
    for label, path in where.items():
        if path.exists():
            console.print(f"  {label:<12}{path}", highlight=False, markup=False, soft_wrap=True)
    commands = {"look at it": REPORT, **({"score it": EVALUATE} if record.checkpoint else {"go on": RESUME})}
    for label, command in commands.items():
        text = f"{command} {shlex.quote(str(run_dir))}"
        console.print(f"  {label:<12}{text}", highlight=False, markup=False, soft_wrap=True)
    if upload := sync_command(run_dir):
        console.print(f"  {'upload':<12}{upload}", highlight=False, markup=False, soft_wrap=True)
    if record.error and record.status != STOPPED:
        console.print(f"error: {record.error.what}", style="red", highlight=False, markup=False, soft_wrap=True)
        for part in (record.error.cause, record.error.remedy):
            if part:
                console.print(f"  -> {part}", highlight=False, markup=False, soft_wrap=True)
