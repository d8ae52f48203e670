"""What is said about runs, worked out once for all forms of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chord_exp.report.figures.compare import Group, GroupScores, common_target, compare, groups, methods
from chord_exp.report.figures.measures import TITLES, is_higher_better, objective, shown, shown_difference
from chord_exp.report.read.runs import Run
from chord_exp.report.read.settings import StudyPlan
from chord_exp.run_files import history as h
from chord_exp.run_files.rules import Finding, findings
from chord_exp.utils import statistics
from chord_exp.utils.statistics import FEWEST_SEEDS, Difference, Interval


@dataclass(frozen=True)
class Report:
    """What a report is about, worked out once for all its forms."""

    runs: Sequence[Run]
    # of a study its methods
    groups: Sequence[Group]
    scores: Sequence[GroupScores]
    # place of the group that the others are compared with
    reference: int
    # runs are compared by it
    metric: str
    # the score that costs are counted to
    target: float | None
    found: Sequence[Sequence[Finding]]
    # of which all runs are
    study: StudyPlan | None

    @property
    def going_on(self) -> bool:
        """Whether a run has not ended."""
        return any(run.going_on for run in self.runs)

    @property
    def title(self) -> str:
        """What it is about, in a few words."""
        if self.study and self.study.title:
            return self.study.title
        if len(self.runs) == 1:
            record = self.runs[0].record
            return f"{record.name if record else self.runs[0].label}"
        kinds = len(self.groups)
        return f"{len(self.runs)} runs of {'one setting' if kinds == 1 else f'{kinds} settings'}"

    @property
    def judged_metric(self) -> str:
        """The metric that groups are judged by: accuracy on the test set, where all of them have it."""
        return h.TEST_ACCURACY if any(one.tested for one in self.scores) else self.metric

    @property
    def judged_by(self) -> str:
        """How groups are judged, in words."""
        if self.judged_metric == h.TEST_ACCURACY:
            return "test accuracy at the step that was best on the evaluation set"
        return f"{TITLES.get(self.metric, self.metric).lower()} at the end"


def look(runs: Sequence[Run], target: float | None = None) -> Report:
    """Work out everything that is said about runs."""
    plans = {run.study for run in runs}
    study = plans.pop() if len(plans) == 1 and len(runs) > 1 else None
    found = methods(runs, study) if study else groups(runs)
    names = [tuple(group.settings.values()) for group in found] if study else []
    reference = names.index(study.reference) if study and study.reference in names else 0
    metric = objective(run.history for run in runs)
    wanted = target if target is not None else common_target(runs, metric)
    said = [findings(run.history, succeeded=run.succeeded) for run in runs]
    return Report(runs, found, compare(found, metric, reference), reference, metric, wanted, said, study)


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
    scored = [one for one in report.scores if one.judged]
    if len(scored) < 2:
        return []
    fewest = min(len(one.judged) for one in scored)
    if fewest < FEWEST_SEEDS:
        return [
            f"{report.judged_by.capitalize()} is not compared where a group has fewer than {FEWEST_SEEDS} seeds that "
            f"succeeded (the fewest: {fewest})."
        ]
    return _first_and_others(report, scored) if report.study else _against_reference(report, scored)


def _first_and_others(report: Report, scored: Sequence[GroupScores]) -> list[str]:
    """Name the method of a study that came out first, and from which others that can be told."""
    higher = is_higher_better(report.judged_metric)
    means = [statistics.bootstrap(list(one.judged.values())) for one in scored]
    order = sorted(range(len(scored)), key=lambda index: means[index].value, reverse=higher)
    first, others = scored[order[0]], [scored[index] for index in order[1:]]
    said = [
        f"{first.group.label} comes out first: {interval_text(means[order[0]], report.judged_metric)}, "
        f"{report.judged_by}, {len(first.judged)} seeds."
    ]
    ahead = [(one, statistics.difference(first.judged, one.judged)) for one in others]
    clear = "higher" if higher else "lower"
    for is_clear, text in ((True, "It is better than {}."), (False, "It cannot be told from {}.")):
        names = [
            f"{one.group.label} ({difference_text(found, report.judged_metric)}, {how(found)})"
            for one, found in ahead
            if (found.verdict == clear) == is_clear
        ]
        if names:
            said.append(text.format("; ".join(names)))
    return said


def _against_reference(report: Report, scored: Sequence[GroupScores]) -> list[str]:
    """Say which groups differ from the reference."""
    higher, metric = is_higher_better(report.judged_metric), report.judged_metric
    name = report.scores[report.reference].group.label
    said = []
    for one in scored:
        if one.difference and one.difference.verdict in ("higher", "lower"):
            word = "better" if (one.difference.verdict == "higher") == higher else "worse"
            ahead = difference_text(one.difference, metric)
            said.append(f"{one.group.label} is {word} than {name}: {ahead} ({how(one.difference)}).")
    return said or [f"No group differs from {name} in {report.judged_by} by more than its seeds do."]


def difference_text(found: Difference, metric: str) -> str:
    """Return what one group is ahead of another by."""
    low, high = (shown_difference(end, metric).removesuffix(" points") for end in (found.low, found.high))
    return f"{shown_difference(found.value, metric)} [{low}, {high}]"


def how(found: Difference) -> str:
    """Return how two groups were compared."""
    return f"{'paired by seed' if found.paired else 'unpaired'}, {found.count} seed{'s' if found.count > 1 else ''}"


def interval_text(found: Interval | None, metric: str) -> str:
    """Return an estimate with its interval."""
    if found is None:
        return "-"
    if found.count < 2:
        return shown(found.value, metric)
    return f"{shown(found.value, metric)} [{shown(found.low, metric)}, {shown(found.high, metric)}]"


def mean_text(values: Mapping[int, float], metric: str) -> str:
    """Return the mean over seeds with its interval; a dash where there are none."""
    return interval_text(statistics.bootstrap(list(values.values())) if values else None, metric)
