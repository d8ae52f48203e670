"""What a run prints at its end."""

from __future__ import annotations

import io
import json
from pathlib import Path

from report_runs import make_run
from rich.console import Console

from chord_exp.launch.progress import State, clock
from chord_exp.launch.summary import mu_plot, show
from chord_exp.run_files import metrics
from chord_exp.run_files.names import METRICS, RECORD
from chord_exp.run_files.record import RunRecord


def printed(run: Path) -> str:
    console = Console(record=True, width=200, file=io.StringIO())
    show(console, RunRecord.load(run / RECORD), metrics.read(run / METRICS), run)
    return console.export_text()


def test_the_end_names_what_the_metrics_give_away(tmp_path) -> None:
    run = make_run(tmp_path / "run", 5)
    assert "warning:" not in printed(run)
    with open(run / METRICS, "a", encoding="utf-8") as stream:
        stream.write(json.dumps({"step": 5, "source": "trainer", metrics.TRUNCATED_PROMPTS: 3}) + "\n")
    assert "warning: 3 of 240 rollouts had their prompt cut" in printed(run)
    assert "first at step 5 -> raise model.max_prompt_tokens" in printed(run)


def test_the_end_names_the_command_that_makes_a_page(tmp_path) -> None:
    run = make_run(tmp_path / "my run", 5)
    assert f"look at it  python -m chord_exp.report '{run}'" in printed(run)


def test_the_end_names_the_command_that_goes_on_or_the_one_that_scores(tmp_path) -> None:
    stopped = make_run(tmp_path / "stopped", 5, status="stopped")
    done = make_run(tmp_path / "done", 5, checkpoint="weights")
    assert f"go on       python -m chord_exp.runs resume {stopped}" in printed(stopped)
    said = printed(done)
    assert f"score it    python -m chord_exp.evaluate {done}" in said and "runs resume" not in said


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
