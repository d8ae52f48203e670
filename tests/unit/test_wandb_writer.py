"""Real WandB, offline or in front of servers that misbehave: what is recorded, and that nothing waits for it."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import wandb
from trinity.common.config import Config, MonitorConfig
from wandb_reader import config_of, rows_of, run_of

from chord_exp.plugins.monitor import RunMonitor
from chord_exp.plugins.trackers import wandb as wandb_writer
from chord_exp.plugins.trackers import writer as tracker_writer
from chord_exp.plugins.trackers.wandb import WandbWriter, has_key
from chord_exp.run_files import metrics
from chord_exp.run_files.tracker_sync import sync_command

KEY = "0123456789abcdef" * 2 + "01234567"
ARGS = {
    "name": "wandb",
    "mode": "online",
    "group": "tiny/2026",
    "tags": ["mu", "tiny"],
    "config": {"mu_peak": 0.4, "model": {"a": 1}},
}


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No key, no server of anybody's, and no WandB service left of another test."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    yield
    wandb.teardown()


@pytest.fixture
def silent_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
    """A server that takes connections and never answers: a network that hangs. Holds who came."""
    listener, came = socket.create_server(("127.0.0.1", 0)), []

    def accept() -> None:
        try:
            while True:
                came.append(listener.accept()[0])
        except OSError:
            return

    threading.Thread(target=accept, daemon=True).start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
    init = WandbWriter._init

    def soon_given_up(self: WandbWriter, mode: Literal["online", "offline"]) -> Any:
        # a busy machine may take longer to start what records offline
        with monkeypatch.context() as online_only:
            if mode == "online":
                online_only.setattr(wandb_writer, "INIT_SECONDS", 5)
            return init(self, mode)

    monkeypatch.setattr(WandbWriter, "_init", soon_given_up)
    yield came
    for connection in came:
        connection.close()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def monitor(folder: Path, role: str = "trainer", name: str = "tiny-mu", **changes: object) -> RunMonitor:
    args = {"metrics_path": str(folder / "metrics.jsonl"), "tracker": {**ARGS, **changes}}
    return RunMonitor("chord", "", name, role, Config(monitor=MonitorConfig(monitor_args=args)))


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))


def test_without_a_key_everything_is_kept_offline_under_the_role_group_and_tags(tmp_path: Path) -> None:
    folder = tmp_path / "0_mu_peak=0.4"
    for role in ("trainer", "explorer"):
        writer = monitor(folder, role)
        writer.log({"actor/mu": 0.4}, 1)
        writer.close()
    runs = {run_of(file).job_type: run_of(file) for file in files(folder)}
    assert set(runs) == {"trainer", "explorer"}
    for role, run in runs.items():
        assert (run.project, run.run_group, list(run.tags)) == ("chord", "tiny/2026", ["mu", "tiny"])
        assert run.display_name == f"tiny-mu-0_mu_peak=0.4-{role}"
    assert config_of(files(folder)[0]) == ARGS["config"]
    assert rows_of(files(folder)[0]) == [{"step": 1, "actor/mu": 0.4}]


def test_a_resumed_run_keeps_its_id_and_may_log_a_step_again(tmp_path: Path) -> None:
    for step in (2, 1):
        writer = monitor(tmp_path)
        writer.log({"actor/mu": 0.1 * step}, step)
        writer.close()
        # WandB names its folders by the second
        (tmp_path / "wandb").rename(tmp_path / f"attempt_{step}")
        (tmp_path / "wandb").mkdir()
        shutil.copy(tmp_path / f"attempt_{step}" / "trainer.id", tmp_path / "wandb")
    first, second = sorted(tmp_path.glob("attempt_*/offline-run-*/run-*.wandb"))
    assert run_of(first).run_id == run_of(second).run_id
    assert [rows_of(first)[0]["step"], rows_of(second)[0]["step"]] == [1, 2]


def test_other_folders_stages_and_roles_have_other_ids(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        for role, name in (("trainer", "x/sft"), ("trainer", "x/grpo"), ("explorer", "x/grpo")):
            monitor(tmp_path / folder, role, name).close()
    ids = {run_of(file).run_id for folder in ("a", "b") for file in files(tmp_path / folder)}
    assert len(ids) == 6


def test_a_folder_removed_and_used_again_is_another_run(tmp_path: Path) -> None:
    ids = set()
    for _ in range(2):
        monitor(tmp_path / "run").close()
        ids.add(run_of(files(tmp_path / "run")[0]).run_id)
        shutil.rmtree(tmp_path / "run")
    assert len(ids) == 2


def test_no_key_and_no_password_of_the_command_line_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(sys, "argv", ["worker.py", "--redis-password=opensesame"])
    writer = monitor(tmp_path, mode="offline")
    print("a line that WandB's console capture would keep")
    writer.log({"actor/mu": 0.4}, 1)
    writer.close()
    assert rows_of(files(tmp_path)[0])
    for file in tmp_path.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        for secret in (KEY, "opensesame", "console capture"):
            assert secret.encode() not in content, file


@pytest.mark.parametrize(
    ("variables", "text", "expected"),
    [
        ({"WANDB_API_KEY": KEY}, "", True),
        ({"WANDB_IDENTITY_TOKEN_FILE": "/token"}, "", True),
        ({"WANDB_API_KEY": ""}, "", False),
        ({}, f"machine api.wandb.ai login user password {KEY}", True),
        ({}, f"machine github.com login user password {KEY}", False),
        ({}, "machine api.wandb.ai login", False),
        ({"WANDB_BASE_URL": "https://my.host:8080"}, f"machine my.host:8080 login user password {KEY}", True),
        ({"WANDB_BASE_URL": "https://my.host"}, f"machine api.wandb.ai login user password {KEY}", False),
    ],
)
def test_a_key_is_found_where_wandb_looks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], text: str, expected: bool
) -> None:
    (tmp_path / "netrc").write_text(text)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert has_key(wandb.setup().settings.base_url) is expected


def test_a_network_that_hangs_stalls_nothing_and_the_run_is_kept_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent_server: list[socket.socket]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    writer = monitor(tmp_path)
    for step in range(100):
        writer.log({"actor/mu": 0.4}, step)
    # all steps are logged while WandB still waits for an answer
    assert len(metrics.read(tmp_path / "metrics.jsonl")) == 100
    assert writer._tracker._thread.is_alive()
    writer.close()
    assert silent_server, "WandB went online, as a key is configured"
    assert [row["step"] for row in rows_of(files(tmp_path)[0])] == list(range(100))
    assert sync_command(tmp_path) == f"wandb sync {tmp_path}/wandb/offline-run-*"


def test_closing_gives_up_on_a_wandb_that_never_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forever = threading.Event()
    monkeypatch.setattr(tracker_writer, "CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(WandbWriter, "_start", lambda self: forever.wait())
    writer = monitor(tmp_path)
    writer.log({"actor/mu": 0.4}, 1)
    writer.close()
    assert "did not finish" in caplog.text
    forever.set()


def test_rows_that_a_slow_wandb_does_not_take_are_counted_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forever = threading.Event()
    monkeypatch.setattr(tracker_writer, "CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(tracker_writer, "QUEUE_ROWS", 5)
    monkeypatch.setattr(WandbWriter, "_start", lambda self: forever.wait())
    writer = monitor(tmp_path)
    for step in range(20):
        writer.log({"actor/mu": 0.4}, step)
    writer.close()
    forever.set()
    assert "too slow for 16 rows" in caplog.text
    assert len(metrics.read(tmp_path / "metrics.jsonl")) == 20


def test_a_full_queue_does_not_keep_the_end_from_wandb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answered, start = threading.Event(), WandbWriter._start
    monkeypatch.setattr(tracker_writer, "QUEUE_ROWS", 3)
    monkeypatch.setattr(WandbWriter, "_start", lambda self: answered.wait() and start(self))
    writer = monitor(tmp_path)
    for step in range(3):
        writer.log({"actor/mu": 0.4}, step)
    threading.Timer(0.2, answered.set).start()
    writer.close()
    assert "did not finish" not in caplog.text
    assert [row["step"] for row in rows_of(files(tmp_path)[0])] == [1, 2]


@pytest.mark.parametrize("mode", ["disabled", "offline"])
def test_an_environment_that_turns_wandb_off_is_obeyed_though_there_is_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent_server: list[socket.socket], mode: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", mode)
    writer = monitor(tmp_path)
    writer.log({"actor/mu": 0.4}, 1)
    writer.close()
    assert silent_server == []
    assert len(files(tmp_path)) == (mode == "offline")
    assert len(metrics.read(tmp_path / "metrics.jsonl")) == 1


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_a_wandb_that_raises_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("the service is gone")

    monkeypatch.setattr(*((wandb, "init") if broken == "init" else (wandb.Run, broken)), fails)
    writer = monitor(tmp_path)
    for step in range(3):
        writer.log({"actor/mu": 0.4}, step)
    with caplog.at_level(logging.WARNING):
        writer.close()
    assert caplog.text.count("the service is gone") == 1
    assert len(metrics.read(tmp_path / "metrics.jsonl")) == 3


def test_a_place_that_wandb_cannot_write_to_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "wandb").write_text("a file where the folder should be")
    writer = monitor(tmp_path)
    writer.log({"actor/mu": 0.4}, 1)
    writer.close()
    assert "WandB stopped recording trainer" in caplog.text
    assert len(metrics.read(tmp_path / "metrics.jsonl")) == 1


def test_nothing_asks_for_a_key_even_at_a_terminal(tmp_path: Path) -> None:
    """In a process whose standard streams are a terminal, where WandB would ask."""
    import pty

    script = (
        "from pathlib import Path; from chord_exp.plugins.trackers.wandb import WandbWriter;"
        f"w = WandbWriter(Path({str(tmp_path)!r}), 'p', 'n', '', 'trainer', {ARGS!r});"
        "w.log({'a': 1.0}, 1); w.close()"
    )
    parent, child = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", script], stdin=child, stdout=child, stderr=child)
    os.close(child)
    said = b""
    try:
        while part := os.read(parent, 4096):
            said += part
    except OSError:  # the terminal is closed: the process has ended
        pass
    assert process.wait() == 0
    assert b"choice" not in said and b"account" not in said and b"API key" not in said, said
    assert rows_of(files(tmp_path)[0]) == [{"step": 1, "a": 1.0}]


def test_the_upload_command_names_what_is_there_and_is_one_that_wandb_takes(tmp_path: Path) -> None:
    assert sync_command(tmp_path) is None
    sweep = tmp_path / "my sweep"
    for trial in ("0_a", "1_b"):
        monitor(sweep / trial).close()
    command = sync_command(sweep, "*/")
    assert command == f"wandb sync '{sweep}'/*/wandb/offline-run-*"
    command = command.replace("wandb sync", f"{sys.executable} -m wandb sync --dry-run", 1)
    result = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert "Would sync 2 run(s)" in result.stderr + result.stdout


def test_an_online_run_that_was_not_uploaded_whole_is_uploaded_by_the_command_too(tmp_path: Path) -> None:
    (tmp_path / "wandb" / "run-x").mkdir(parents=True)
    assert sync_command(tmp_path) is None
    (tmp_path / "wandb" / "unsent").touch()
    assert sync_command(tmp_path) == f"wandb sync --include-online {tmp_path}/wandb/*run-*"
