"""What the doctor says of a run: how it ended, why, where that is seen, and what helps."""

from __future__ import annotations

import json

import pytest
from report_runs import make_run

from chord_exp.doctor.__main__ import main
from chord_exp.run_files.names import LOGS, METRICS, RECORD
from chord_exp.run_files.record import FAILED, RunError

NCCL = "[rank2]: Watchdog caught collective operation timeout: WorkNCCL(SeqNum=4, OpType=BROADCAST)"


def failed(run, error: RunError):
    values = json.loads((run / RECORD).read_text())
    values |= {"status": FAILED, "error": {"what": error.what, "cause": error.cause, "remedy": error.remedy}}
    (run / RECORD).write_text(json.dumps(values))
    return run


def test_a_healthy_run_has_nothing_wrong(tmp_path, capsys):
    run = make_run(tmp_path / "run", 30)
    (run / LOGS).mkdir(exist_ok=True)
    # of a run that succeeded, no log tells of trouble
    (run / LOGS / "explorer.log").write_text("OSError: [Errno 98] Address already in use, trying another\n")
    assert main([str(run)]) == 0
    assert "nothing is wrong" in capsys.readouterr().out


def test_a_failed_run_is_given_the_cause_that_its_log_knows(tmp_path, capsys):
    run = failed(
        make_run(tmp_path / "run", 5), RunError("ActorDiedError: the StrictTrainer process died", "killed", "x")
    )
    (run / LOGS).mkdir(exist_ok=True)
    (run / LOGS / "trainer.log").write_text(f"INFO step 5\n{NCCL}\n")
    assert main([str(run)]) == 1
    said = capsys.readouterr().out
    assert "nccl_timeout" in said and f"{LOGS}/trainer.log:2" in said and "NCCL_DEBUG=INFO" in said


def test_a_run_that_learnt_nothing_is_told_by_its_metrics(tmp_path, capsys):
    run = make_run(tmp_path / "run", 12)
    rows = [{**json.loads(line), "rollout/accuracy/mean": 0.0} for line in (run / METRICS).read_text().splitlines()]
    (run / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main([str(run)]) == 1
    said = capsys.readouterr().out
    assert "reward_zero" in said and f"{METRICS}:" in said


@pytest.mark.parametrize("content", [None, "{"])
def test_a_folder_without_a_readable_run_is_refused(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / RECORD).write_text(content)
    assert main([str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
