"""The one line that a run shows while it trains."""

from __future__ import annotations

import time
from collections import deque
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from chord_exp.run_files import metrics

# without a terminal a line is printed at most this often, seconds
PLAIN_INTERVAL = 10.0
# steps whose pace tells the time left
PACED_STEPS = 50


@dataclass
class State:
    """What the line shows; numbers stay None until first seen."""

    # planned steps of each stage, in order, by its name
    stages: dict[str, int]
    phase: str = "starting"
    step: int = 0
    mu: float | None = None
    grpo_loss: float | None = None
    sft_loss: float | None = None
    reward: float | None = None
    accuracy: float | None = None
    tokens_per_second: float | None = None
    # when the last steps were made, to tell the time left: seconds since the epoch, steps
    paced: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=PACED_STEPS))

    @property
    def planned_steps(self) -> int:
        """Steps of all stages together."""
        return sum(self.stages.values())

    def overall_step(self, row: metrics.Row) -> int:
        """Return the step of a row, with those of the stages before its own."""
        names = list(self.stages)
        stage = row.get("stage", "")
        before = names[: names.index(stage)] if stage in names else []
        return row["step"] + sum(self.stages[name] for name in before)

    def update(self, row: metrics.Row) -> None:
        """Take what a metrics row says."""

        def number(key: str, old: float | None) -> float | None:
            value = row.get(key)
            return old if not isinstance(value, (int, float)) else float(value)

        self.mu = number(metrics.MU, self.mu)
        self.grpo_loss = number("actor/usual/pg_loss", self.grpo_loss)
        for key in ("actor/expert/sft_loss", "actor/expert/sft_phi_loss"):
            self.sft_loss = number(key, self.sft_loss)
        self.reward = number(metrics.REWARD, self.reward)
        self.accuracy = number(metrics.ACCURACY, self.accuracy)
        self.tokens_per_second = number("perf/tokens_per_second", self.tokens_per_second)
        if row.get("source") == "trainer":
            self.step = self.overall_step(row)
            if self.paced and self.step <= self.paced[-1][1]:  # a resume repeats steps
                self.paced.clear()
            self.paced.append((row.get(metrics.WALL_TIME, time.time()), self.step))

    def seconds_left(self) -> float | None:
        """Return the time to the planned last step at the pace of the last steps; None until two are known."""
        if len(self.paced) < 2:
            return None
        (begun, first), (seen, last) = self.paced[0], self.paced[-1]
        return max(0.0, seen - begun) / (last - first) * (self.planned_steps - self.step)

    def line(self) -> str:
        """Return the line itself."""
        parts = [f"step {self.step}/{self.planned_steps}"] if self.step else []
        if not self.step or self.step == self.planned_steps or self.phase != "training":
            parts.append(self.phase)
        shown = (
            ("μ", self.mu, ".3f"),
            ("GRPO", self.grpo_loss, "+.4f"),
            ("SFT", self.sft_loss, ".4f"),
            ("reward", self.reward, ".2f"),
            ("held-out", self.accuracy, ".1%"),
            ("tokens/s", self.tokens_per_second, ",.0f"),
        )
        parts += [f"{label} {format(value, style)}" for label, value, style in shown if value is not None]
        left = self.seconds_left()
        if left is not None and self.step < self.planned_steps:
            parts.append(f"{clock(left)} left")
        return "  ".join(parts)


def clock(seconds: float) -> str:
    """Write seconds as 1:05 or 2:03:04."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress(AbstractContextManager["Progress"]):
    """Shows a `State`: refreshed in place on a terminal, a new line now and then elsewhere."""

    def __init__(self, console: Console, state: State) -> None:
        self.console, self.state = console, state
        self._spinner = Spinner("dots", text="")
        self._live = Live(self._spinner, console=console, refresh_per_second=8, transient=True)
        self._printed = ("", float("-inf"), -1)

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *details: Any) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def show(self) -> None:
        """Bring the line up to date."""
        if self.console.is_terminal:
            self._spinner.update(text=Text(self.state.line(), no_wrap=True, overflow="ellipsis"))
            return
        phase, when, step = self._printed
        now = time.monotonic()
        moved = self.state.step != step and now - when >= PLAIN_INTERVAL
        if moved or self.state.phase != phase:
            self.console.print(self.state.line(), highlight=False, soft_wrap=True)
            self._printed = (self.state.phase, now, self.state.step)
