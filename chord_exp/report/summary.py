"""What is said about runs, worked out once for all forms of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chord_exp.report.compare import Group, GroupScores, common_target, compare, groups
from chord_exp.report.measures import TITLES, is_higher_better, objective, shown, shown_difference
from chord_exp.report.rules import Finding, findings
from chord_exp.report.runs import Run
from chord_exp.report.statistics import FEWEST_SEEDS, Interval


@dataclass(frozen=True)
class Report:
    """What a report is about, worked out once for all its forms."""

    runs: Sequence[Run]
    groups: Sequence[Group]
    scores: Sequence[GroupScores]
    # runs are compared by it
    metric: str
    # the score that costs are counted to
    target: float | None
    found: Sequence[Sequence[Finding]]

    @property
    def going_on(self) -> bool:
        """Whether a run has not ended."""
        return any(run.going_on for run in self.runs)

    @property
    def title(self) -> str:
        """What it is about, in a few words."""
        if len(self.runs) == 1:
            record = self.runs[0].record
            return f"{record.name if record else self.runs[0].label}"
        kinds = len(self.groups)
        return f"{len(self.runs)} runs of {'one setting' if kinds == 1 else f'{kinds} settings'}"


def look(runs: Sequence[Run], target: float | None = None) -> Report:
    """Work out everything that is said about runs."""
    found = groups(runs)
    metric = objective(run.history for run in runs)
    wanted = target if target is not None else common_target(runs, metric)
    return Report(runs, found, compare(found, metric), metric, wanted, [findings(run.history) for run in runs])


def took(seconds: float | None) -> str:
    """Return a duration as people read it."""
    if seconds is None:
        return ""
    minutes, left = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def how_it_ended(run: Run) -> str:
    """Return status and steps in words."""
    record = run.record
    if record is None:
        return f"{run.status}: there is no record yet"
    steps = run.history.steps if run.going_on else record.completed_steps
    time = f" in {took(record.seconds)}" if record.seconds is not None else ""
    tries = f", attempt {record.attempt}" if record.attempt > 1 else ""
    return f"{record.status} after {steps} of {record.planned_steps} steps{time}{tries}"


def who_wins(report: Report) -> list[str]:
    """Return in words what the comparison shows, and what it does not."""
    scored = [one for one in report.scores if one.final_mean is not None]
    if len(scored) < 2:
        return []
    name, higher = TITLES.get(report.metric, report.metric), is_higher_better(report.metric)
    first = report.scores[0]
    said = []
    clear = [one for one in scored if one.difference and one.difference.verdict in ("higher", "lower")]
    for one in clear:
        assert one.difference is not None
        better = (one.difference.verdict == "higher") == higher
        word = "better" if better else "worse"
        said.append(f"{one.group.label} is {word} than {first.group.label}: {difference_text(one, report.metric)}.")
    few = any(one.difference and one.difference.verdict == "too few seeds" for one in scored)
    if few:
        fewest = min(len(one.final) for one in scored)
        said.append(
            f"{name} is not compared where a group has fewer than {FEWEST_SEEDS} seeds that succeeded (the fewest: "
            f"{fewest})."
        )
    elif not clear and first.final_mean is not None:
        said.append(f"No group differs from {first.group.label} in {name.lower()} by more than its seeds do.")
    return said


def difference_text(one: GroupScores, metric: str) -> str:
    """Return what a group is ahead of the first by."""
    found = one.difference
    assert found is not None
    low, high = (shown_difference(end, metric).removesuffix(" points") for end in (found.low, found.high))
    how = "paired by seed" if found.paired else "unpaired"
    return f"{shown_difference(found.value, metric)} [{low}, {high}] ({how}, {found.count} seeds)"


def interval_text(found: Interval | None, metric: str) -> str:
    """Return an estimate with its interval."""
    if found is None:
        return "-"
    if found.count < 2:
        return shown(found.value, metric)
    return f"{shown(found.value, metric)} [{shown(found.low, metric)}, {shown(found.high, metric)}]"
