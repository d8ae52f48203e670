"""Causes of failures: each is found in a log that has it, in the line that ended a run, and nowhere else."""

from __future__ import annotations

import os
import re
import resource
import socket
from pathlib import Path

import pytest
import yaml

import chord_exp
from chord_exp.run_files.causes import CAUSES, Diagnosis, diagnose, explain, in_log, is_machine_fault
from chord_exp.run_files.record import RunError

ASSETS = Path(__file__).parents[1] / "assets"
FAILURES = yaml.safe_load((ASSETS / "failures.yaml").read_text(encoding="utf-8"))
BY_NAME = {cause.name: cause for cause in CAUSES}


def seen(log: str) -> list[Diagnosis]:
    return list(in_log(enumerate(log.splitlines(), start=1), "logs/trainer.log"))


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: f"{failure['cause']}-{failure['source'][:12]}")
def test_a_log_is_given_its_cause_and_the_line_that_shows_it(failure, tmp_path):
    log = tmp_path / "logs" / "trainer.log"
    log.parent.mkdir()
    log.write_text(failure["log"], encoding="utf-8")
    first = diagnose(tmp_path)[0]
    assert first.cause.name == failure["cause"]
    assert first.file == "logs/trainer.log" and failure["log"].splitlines()[first.line - 1].strip() == first.text
    assert re.search(first.cause.sign, first.text)


def raised(act) -> str:
    with pytest.raises(OSError) as caught:
        act()
    return f"OSError: {caught.value}"


def open_files_until_none_is_left() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, hard))
    files = []
    try:
        while True:
            files.append(open(os.devnull))  # noqa: SIM115
    finally:
        for file in files:
            file.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_the_system_says_of_disks_ports_files_and_sockets_is_understood(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        said = {
            "disk_full": raised(lambda: Path("/dev/full").write_text("x")),
            "port_taken": raised(lambda: socket.create_server(("127.0.0.1", port))),
            "open_files": raised(open_files_until_none_is_left),
            "socket_path": raised(lambda: socket.socket(socket.AF_UNIX).bind(str(tmp_path / ("x" * 120)))),
        }
    for name, text in said.items():
        assert [one.cause.name for one in seen(text)] == [name]
        assert explain(text).cause == BY_NAME[name].what


def test_what_this_package_itself_writes_is_understood():
    engine = Path(chord_exp.__file__).parent / "engine"
    written = (engine / "actors.py").read_text("utf-8") + (engine / "train_engine.py").read_text("utf-8")
    for text, name in (("No more samples to train. Stopping training.", "expert_rows_exhausted"),):
        assert text in written and [one.cause.name for one in seen(text)] == [name]
    assert explain("NonFiniteLoss: actor/grad_norm is not finite at step 5").cause == BY_NAME["not_finite"].what


def test_names_and_texts_tell_causes_apart():
    for part in ("name", "what"):
        values = [getattr(cause, part) for cause in CAUSES]
        assert len(set(values)) == len(values)
    assert all(cause.remedy for cause in CAUSES)


def test_what_counts_at_the_end_only_is_no_news_in_the_middle_of_a_log():
    assert seen("INFO raylet: started\nWARNING: Timeout of a probe, trying again\nthe GCS answers") == []
    assert explain("ray.exceptions.RaySystemError: System error").cause == BY_NAME["ray_died"].what


def test_the_logs_say_what_the_last_line_leaves_open():
    log = next(failure["log"] for failure in FAILURES if failure["cause"] == "trainer_memory")
    for error in (
        "ActorDiedError: the StrictTrainer process died",
        "KeyError: 'x'",
        "OutOfMemoryError: CUDA out of memory",
    ):
        told = explain(error, seen(log))
        assert (told.what, told.cause) == (error, BY_NAME["trainer_memory"].what)
    assert explain("KeyError: 'x'").remedy == ""


def test_rollouts_that_failed_with_their_engine_are_no_fault_of_the_workflow():
    ended = "only 0 of the 16 rollouts of step 6 succeeded [logs/explorer_runner_*.log]"
    log = next(failure["log"] for failure in FAILURES if failure["cause"] == "engine_died")
    assert explain(ended, seen(log)).cause == BY_NAME["engine_died"].what
    assert explain(ended).cause == BY_NAME["rollouts_failed"].what


def test_a_last_line_that_says_enough_is_believed_over_the_logs():
    log = "OSError: [Errno 98] Address already in use, trying another"
    assert explain("NonFiniteLoss: actor/loss is not finite at step 4", seen(log)).cause == BY_NAME["not_finite"].what


def test_a_dead_process_is_no_fault_of_the_machine_where_a_log_names_another_cause():
    dead = "ActorDiedError: the StrictTrainer process died"
    assert is_machine_fault(explain(dead))
    log = next(failure["log"] for failure in FAILURES if failure["cause"] == "trainer_memory")
    assert not is_machine_fault(explain(dead, seen(log)))
    assert is_machine_fault(RunError("the run's process died (signal 9) without a word"))


def test_logs_of_earlier_attempts_are_not_looked_at(tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "trainer.1.log").write_text("OSError: [Errno 28] No space left on device\n")
    assert diagnose(tmp_path) == []
    (logs / "trainer.log").write_text("OSError: [Errno 28] No space left on device\n")
    assert [one.cause.name for one in diagnose(tmp_path)] == ["disk_full"]


def test_what_a_process_printed_is_looked_at_in_the_last_ray_only(tmp_path):
    for session, text in (("session_2026-01-01", "OSError: [Errno 28]"), ("session_2026-01-02", "OSError: [Errno 24]")):
        folder = tmp_path / "logs" / "ray" / session
        folder.mkdir(parents=True)
        (folder / "worker-1.err").write_text(f"{text} Too many open files\n")
    (found,) = diagnose(tmp_path)
    assert found.cause.name == "open_files" and "session_2026-01-02" in found.file


def test_a_line_of_a_very_long_log_has_its_true_number(tmp_path, monkeypatch):
    monkeypatch.setattr("chord_exp.run_files.causes.SEARCHED", 200)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "run.log").write_text("a step\n" * 1000 + "OSError: [Errno 28] No space left on device\n")
    assert [one.line for one in diagnose(tmp_path)] == [1001]
