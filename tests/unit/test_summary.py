"""What a run prints at its end."""

from __future__ import annotations

import io

from report_runs import make_run
from rich.console import Console

from chord_exp.launch.progress import State, clock
from chord_exp.launch.summary import mu_plot, show, warnings, without_last_evaluation
from chord_exp.run_files import metrics
from chord_exp.run_files.names import METRICS, RECORD
from chord_exp.run_files.record import RunRecord


def rows(**values: list[float]) -> list[metrics.Row]:
    count = max(map(len, values.values()))
    keys = {"reward": metrics.REWARD, "spread": metrics.GROUP_REWARD_STD_MAX, "cut": metrics.TRUNCATED_PROMPTS}
    return [
        {"step": step + 1, "source": "explorer", **{keys[k]: v[step] for k, v in values.items()}}
        for step in range(count)
    ]


def test_a_run_whose_rollouts_never_earned_anything_is_pointed_out() -> None:
    (warning,) = warnings(rows(reward=[0.0, 0.0], spread=[0.0, 0.0]))
    assert "reward 0" in warning


def test_groups_whose_rollouts_are_all_alike_are_pointed_out() -> None:
    (warning,) = warnings(rows(reward=[0.2, 0.4], spread=[0.0, 0.0]))
    assert "equal rewards" in warning
    assert warnings(rows(reward=[0.2, 0.4], spread=[0.0, 0.5])) == []


def test_prompts_that_were_cut_are_counted() -> None:
    (warning,) = warnings(rows(reward=[0.2, 0.4], spread=[0.5, 0.5], cut=[0, 3]))
    assert warning.startswith("3 rollouts")


def test_rollouts_that_an_evaluation_lost_are_counted() -> None:
    seen = [{"step": step, "source": "explorer", metrics.EVAL_LOST_ROLLOUTS: lost} for step, lost in ((0, 0), (4, 2))]
    (warning,) = warnings(seen)
    assert warning.startswith("2 rollouts of evaluations") and "step 4)" in warning


def test_a_run_that_ended_without_its_last_evaluation_says_so() -> None:
    before = {"step": 9, "source": "trainer", "stage": "sft"}
    steps = [{"step": step, "source": "trainer", "stage": "grpo"} for step in (1, 2, 3)]
    evaluated = {"step": 2, "source": "explorer", "stage": "grpo", metrics.ACCURACY: 0.5}
    (warning,) = without_last_evaluation([before, *steps, evaluated])
    assert warning.endswith("of step 2")
    assert without_last_evaluation([before, *steps, {**evaluated, "step": 3}]) == []
    assert without_last_evaluation([]) == []


def test_the_end_names_the_command_that_makes_a_page(tmp_path) -> None:
    printed = Console(record=True, width=200, file=io.StringIO())
    run = make_run(tmp_path / "my run", 5)
    show(printed, RunRecord.load(run / RECORD), metrics.read(run / METRICS), run)
    assert f"look at it  python -m chord_exp.report '{run}'" in printed.export_text()


def test_the_mu_plot_is_plain_text() -> None:
    plot = mu_plot({step: step / 10 for step in range(1, 30)})
    assert "\x1b" not in plot
    assert "μ" in plot


def test_the_progress_line_counts_the_steps_of_all_stages() -> None:
    state = State({"sft": 4, "grpo": 6}, phase="training")
    state.update({"step": 2, "source": "trainer", "stage": "grpo", "actor/mu": 0.0, "actor/usual/pg_loss": -0.5})
    assert state.line().startswith("step 6/10")
    assert "GRPO -0.5000" in state.line()


def test_the_time_left_is_told_by_when_rows_were_written_not_by_when_they_are_read() -> None:
    state = State({"": 100}, phase="training")
    for step in range(1, 11):
        state.update({"step": step, "source": "trainer", "wall_time": 1000.0 + 3.0 * step})
    assert state.seconds_left() == 270.0 and state.line().endswith("4:30 left")


def test_the_pause_before_a_resume_is_not_taken_for_slow_steps() -> None:
    state = State({"": 10})
    for step, when in ((4, 10.0), (5, 12.0), (5, 9000.0), (6, 9002.0)):
        state.update({"step": step, "source": "trainer", "wall_time": when})
    assert state.seconds_left() == 8.0


def test_times_read_like_clocks() -> None:
    assert (clock(5), clock(65), clock(3725)) == ("0:05", "1:05", "1:02:05")
