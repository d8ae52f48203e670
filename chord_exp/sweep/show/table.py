"""The table of a sweep: what each trial does, from its state and its metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from chord_exp.launch.progress import clock
from chord_exp.run_files import metrics
from chord_exp.sweep.progress import OBJECTIVES, TrialProgress
from chord_exp.sweep.scheduling.trial import ACTIVE, ENDED, FAILED, PRUNED, QUEUED, RUNNING, STOPPED, SUCCEEDED, Trial

STYLES = {SUCCEEDED: "green", FAILED: "red", RUNNING: "cyan", STOPPED: "yellow", PRUNED: "magenta", QUEUED: "dim"}
# the metrics in words
WORDS = {metrics.ACCURACY: "held-out accuracy", metrics.REWARD: "rollout reward", "actor/loss": "loss"}
# rows that a live table shows at most, so that it fits a screen
LIVE_ROWS = 24


def objective(trials: Iterable[TrialProgress]) -> str:
    """Return the metric that trials are compared by."""
    there = {key for progress in trials for key in progress.best}
    return next((key for key in OBJECTIVES if key in there), OBJECTIVES[0])


def best(trials: Iterable[TrialProgress]) -> tuple[TrialProgress, str, float, int] | None:
    """Return the best trial that did not fail, with the metric, its value and its step; None before there is one."""
    found = list(trials)
    key = objective(found)
    fit = [progress for progress in found if key in progress.best and progress.trial.state != FAILED]
    if not fit:
        return None
    sign = 1 if metrics.HIGHER_IS_BETTER[key] else -1
    first = max(fit, key=lambda progress: (sign * progress.best[key][0], -progress.trial.number))
    return first, key, *first.best[key]


def render(trials: Sequence[TrialProgress], title: str, most: int | None = None) -> RenderableType:
    """Make the table itself.

    Args:
        most: rows to show at most; those left out are counted below.
    """
    key = objective(trials)
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("trial", "overrides"):
        table.add_column(name, overflow="ellipsis", no_wrap=True, max_width=48)
    for name in ("step", "μ", "reward", f"best {WORDS[key]}", "GPUs", "state", "left"):
        table.add_column(name, justify="right" if name not in ("state",) else "left", no_wrap=True)
    shown = _most_telling(trials, most)
    common = set.intersection(*(set(progress.trial.overrides) for progress in trials)) if len(trials) > 1 else set()
    for progress in shown:
        table.add_row(*_cells(progress, key, common))
    parts: list[RenderableType] = [table]
    if common:
        of_all = " ".join(word for word in trials[0].trial.overrides if word in common)
        parts.append(Text(f"all: {of_all}", style="dim", no_wrap=True, overflow="ellipsis"))
    if len(shown) < len(trials):
        parts.append(Text(f"and {len(trials) - len(shown)} more", style="dim"))
    return Group(*parts)


def _most_telling(trials: Sequence[TrialProgress], most: int | None) -> Sequence[TrialProgress]:
    """Running trials first, then those that wait, then the ended; in the order of numbers again."""
    if most is None or len(trials) <= most:
        return trials
    rank = sorted(trials, key=lambda progress: (progress.trial.state not in ACTIVE, progress.trial.state in ENDED))
    return sorted(rank[:most], key=lambda progress: progress.trial.number)


def _cells(progress: TrialProgress, key: str, common: set[str]) -> list[Text]:
    trial, state = progress.trial, progress.state
    left = progress.seconds_left()
    value = progress.best.get(key)
    tries = f" (attempt {trial.attempt})" if trial.attempt > 1 else ""
    return [
        Text(trial.name),
        Text(" ".join(word for word in trial.overrides if word not in common)),
        Text(f"{state.step}/{trial.planned_steps}"),
        Text("" if state.mu is None else f"{state.mu:.3f}"),
        Text("" if state.reward is None else f"{state.reward:.2f}"),
        Text("" if value is None else f"{value[0]:.4g} at {value[1]}"),
        Text(str(trial.footprint.gpus)),
        Text(trial.state + tries, style=STYLES.get(trial.state, "")),
        Text("" if left is None else clock(left)),
    ]


def counts(trials: Iterable[Trial]) -> str:
    """Say how many trials are in which state: `2 running, 1 queued`."""
    number: dict[str, int] = {}
    for trial in trials:
        number[trial.state] = number.get(trial.state, 0) + 1
    order = [RUNNING, QUEUED, SUCCEEDED, FAILED, STOPPED, PRUNED]
    states = [*(state for state in order if state in number), *(state for state in number if state not in order)]
    return ", ".join(f"{number[state]} {state}" for state in states)


def show_end(console: Console, trials: Sequence[TrialProgress], title: str) -> None:
    """Print the whole table, what went wrong, and which trial was best."""
    console.print(render(trials, title))
    for progress in trials:
        trial = progress.trial
        if trial.error and trial.state in (FAILED, STOPPED):
            style = "red" if trial.state == FAILED else "yellow"
            text = f"{trial.name}: {trial.error}"
            console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
    found = best(trials)
    if found is not None:
        progress, key, value, step = found
        text = f"best: {progress.trial.name}, {WORDS[key]} {value:.4g} at step {step}"
        console.print(text, style="bold", highlight=False, markup=False, soft_wrap=True)
        console.print(f"  {progress.trial.run_dir}", highlight=False, markup=False, soft_wrap=True)
