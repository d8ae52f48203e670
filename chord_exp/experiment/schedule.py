"""The μ schedule: the weight of the SFT term in L = (1 - μ)·L_GRPO + μ·L_SFT (arXiv 2508.11408)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from chord_exp.errors import ConfigError


@dataclass(frozen=True)
class MuSchedule:
    """Linear warm-up from 0 to `peak`, then a half cosine down to `valley`, then `valley` for good.

    Raises:
        ConfigError: a weight outside [0, 1], a negative length, or a `peak` that no step would ever use.
    """

    # steps of linear warm-up; 0 starts at `peak`
    warmup_steps: int
    # steps of cosine decay after the warm-up; 0 jumps to `valley`
    decay_steps: int
    # weight of the SFT term at the end of the warm-up, in [0, 1]
    peak: float
    # weight of the SFT term after the decay, in [0, 1]
    valley: float

    def __post_init__(self) -> None:
        for key, weight in (("mu_peak", self.peak), ("mu_valley", self.valley)):
            if not 0 <= weight <= 1:
                raise ConfigError(f"{key}={weight} is not in [0, 1]", key, "μ is the share of the SFT term in the loss")
        for key, steps in (("mu_warmup_steps", self.warmup_steps), ("mu_decay_steps", self.decay_steps)):
            if steps < 0:
                raise ConfigError(f"{key}={steps} is negative", key, "give a number of steps, 0 or more")
        if self.warmup_steps == 0 and self.decay_steps == 0 and self.peak != self.valley:
            raise ConfigError(
                f"mu_peak={self.peak} is never used: with mu_warmup_steps=0 and mu_decay_steps=0 "
                f"μ is mu_valley={self.valley} from the first step",
                "mu_decay_steps",
                "set mu_decay_steps above 0, or mu_peak equal to mu_valley for a constant μ (mu_schedule=constant)",
            )


def mu_at(step: int, schedule: MuSchedule) -> float:
    """μ at a trainer step (the first step is 1).

    The formula of Trinity-RFT's `mu_schedule_function`; a test compares the two.
    """
    if step < schedule.warmup_steps:
        return step / schedule.warmup_steps * schedule.peak
    if step >= schedule.warmup_steps + schedule.decay_steps:
        return schedule.valley
    progress = (step - schedule.warmup_steps) / schedule.decay_steps
    return schedule.valley + (schedule.peak - schedule.valley) * 0.5 * (1 + math.cos(math.pi * progress))


def values(schedule: MuSchedule, total_steps: int) -> list[float]:
    """μ at each trainer step 1..total_steps, in order."""
    return [mu_at(step, schedule) for step in range(1, total_steps + 1)]


def warnings_of(schedule: MuSchedule, steps: int | None) -> list[tuple[str, str]]:
    """Return what is possible but hardly meant, each with its key.

    Args:
        steps: trainer steps; None when they are not known.
    """
    peak, valley, end = schedule.peak, schedule.valley, schedule.warmup_steps + schedule.decay_steps
    found = []
    if steps is not None and steps < end and peak != valley:
        at_end = mu_at(steps, schedule)
        found.append(
            (
                "mu_decay_steps",
                f"μ is still {at_end:.3f} at the last step {steps}: the schedule takes {end} steps to "
                f"reach mu_valley={valley}",
            )
        )
    if schedule.warmup_steps and not schedule.decay_steps and peak != valley:
        found.append(
            (
                "mu_decay_steps",
                f"mu_decay_steps=0: μ jumps from mu_peak={peak} to mu_valley={valley} at step {schedule.warmup_steps}",
            )
        )
    if valley > peak:
        found.append(("mu_valley", f"mu_valley={valley} is above mu_peak={peak}: μ rises where it should decay"))
    return found
