"""The table of a sweep: what each trial does, from its state and its metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from chord_exp.launch.progress import State, clock
from chord_exp.launch.run_request import read_phase
from chord_exp.run_files import metrics
from chord_exp.run_files.names import METRICS
from chord_exp.sweep.scheduling.trial import ACTIVE, ENDED, FAILED, PRUNED, QUEUED, RUNNING, STOPPED, SUCCEEDED, Trial

# trials are compared by the first of these that any of them has
OBJECTIVES = (metrics.ACCURACY, metrics.REWARD, "actor/loss")
STYLES = {SUCCEEDED: "green", FAILED: "red", RUNNING: "cyan", STOPPED: "yellow", PRUNED: "magenta", QUEUED: "dim"}
# the metrics in words
WORDS = {metrics.ACCURACY: "held-out accuracy", metrics.REWARD: "rollout reward", "actor/loss": "loss"}
# rows that a live table shows at most, so that it fits a screen
LIVE_ROWS = 24


@dataclass
class Course:
    """What a trial's metrics say so far; read on as they grow."""

    trial: Trial
    state: State = field(init=False)
    # the best value of each objective, with its step
    best: dict[str, tuple[float, int]] = field(init=False, default_factory=dict)
    _tail: metrics.Tail = field(init=False)

    def __post_init__(self) -> None:
        self.state = State(dict(self.trial.stages))
        self._tail = metrics.Tail(self.trial.run_dir / METRICS)

    def read_on(self) -> None:
        """Take in what was appended."""
        self.state.phase = read_phase(self.trial.run_dir)
        for row in self._tail.new_rows():
            self.state.update(row)
            for key in OBJECTIVES:
                value = row.get(key)
                # what the base model is worth, at step 0, is no merit of a trial
                if row["step"] > 0 and isinstance(value, (int, float)) and math.isfinite(value):
                    before = self.best.get(key)
                    better = before is None or (
                        value > before[0] if metrics.HIGHER_IS_BETTER[key] else value < before[0]
                    )
                    if better:
                        self.best[key] = (float(value), row["step"])

    def seconds_left(self) -> float | None:
        """Time to the last planned step, by the pace since the start; None where nothing is known."""
        step, planned = self.state.step, self.state.planned_steps
        if self.trial.state not in ACTIVE or not step:
            return None
        seen = self.state.seconds_left()
        if seen is not None:
            return seen
        return (time.time() - (self.trial.started or time.time())) / step * (planned - step)


def objective(courses: Iterable[Course]) -> str:
    """The metric that trials are compared by."""
    there = {key for course in courses for key in course.best}
    return next((key for key in OBJECTIVES if key in there), OBJECTIVES[0])


def best(courses: Iterable[Course]) -> tuple[Course, str, float, int] | None:
    """The best trial that did not fail, with the metric, its value and its step; None before there is one."""
    found = list(courses)
    key = objective(found)
    fit = [course for course in found if key in course.best and course.trial.state != FAILED]
    if not fit:
        return None
    sign = 1 if metrics.HIGHER_IS_BETTER[key] else -1
    first = max(fit, key=lambda course: (sign * course.best[key][0], -course.trial.number))
    return first, key, *first.best[key]


def render(courses: Sequence[Course], title: str, most: int | None = None) -> RenderableType:
    """The table itself.

    Args:
        most: rows to show at most; those left out are counted below.
    """
    key = objective(courses)
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("trial", "overrides"):
        table.add_column(name, overflow="ellipsis", no_wrap=True, max_width=48)
    for name in ("step", "μ", "reward", f"best {WORDS[key]}", "GPUs", "state", "left"):
        table.add_column(name, justify="right" if name not in ("state",) else "left", no_wrap=True)
    shown = _most_telling(courses, most)
    common = set.intersection(*(set(course.trial.overrides) for course in courses)) if len(courses) > 1 else set()
    for course in shown:
        table.add_row(*_cells(course, key, common))
    parts: list[RenderableType] = [table]
    if common:
        of_all = " ".join(word for word in courses[0].trial.overrides if word in common)
        parts.append(Text(f"all: {of_all}", style="dim", no_wrap=True, overflow="ellipsis"))
    if len(shown) < len(courses):
        parts.append(Text(f"and {len(courses) - len(shown)} more", style="dim"))
    return Group(*parts)


def _most_telling(courses: Sequence[Course], most: int | None) -> Sequence[Course]:
    """Running trials first, then those that wait, then the ended; in the order of numbers again."""
    if most is None or len(courses) <= most:
        return courses
    rank = sorted(courses, key=lambda course: (course.trial.state not in ACTIVE, course.trial.state in ENDED))
    return sorted(rank[:most], key=lambda course: course.trial.number)


def _cells(course: Course, key: str, common: set[str]) -> list[Text]:
    trial, state = course.trial, course.state
    left = course.seconds_left()
    value = course.best.get(key)
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
    """How many trials are in which state: `2 running, 1 queued`."""
    number: dict[str, int] = {}
    for trial in trials:
        number[trial.state] = number.get(trial.state, 0) + 1
    order = [RUNNING, QUEUED, SUCCEEDED, FAILED, STOPPED, PRUNED]
    states = [*(state for state in order if state in number), *(state for state in number if state not in order)]
    return ", ".join(f"{number[state]} {state}" for state in states)


def show_end(console: Console, courses: Sequence[Course], title: str) -> None:
    """Print the whole table, what went wrong, and which trial was best."""
    console.print(render(courses, title))
    for course in courses:
        trial = course.trial
        if trial.error and trial.state in (FAILED, STOPPED):
            style = "red" if trial.state == FAILED else "yellow"
            text = f"{trial.name}: {trial.error}"
            console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
    found = best(courses)
    if found is not None:
        course, key, value, step = found
        text = f"best: {course.trial.name}, {WORDS[key]} {value:.4g} at step {step}"
        console.print(text, style="bold", highlight=False, markup=False, soft_wrap=True)
        console.print(f"  {course.trial.run_dir}", highlight=False, markup=False, soft_wrap=True)
