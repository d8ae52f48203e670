"""Several processes read: killed ones are reported, none outlives its parent, and a kill leaves a whole folder."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest
from prepare_samples import pair, prepare, write_lines

import chord_exp.prepare.pipeline as pipeline
from chord_exp.errors import RunFailed
from chord_exp.prepare import load_manifest

COMMAND = [sys.executable, "-m", "chord_exp.prepare", "--eval-rows", "4", "--workers", "2"]


@pytest.fixture
def source(tmp_path):
    for part in range(3):
        write_lines(tmp_path / "raw" / f"{part}.jsonl", [pair(n) for n in range(part * 9000, (part + 1) * 9000)])
    return tmp_path / "raw"


def start(source: Path, out: Path, seed: int) -> subprocess.Popen[str]:
    command = [*COMMAND, "--input-dir", str(source), "--out", str(out), "--seed", str(seed)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def readers_of(child: subprocess.Popen[str]) -> list[psutil.Process]:
    """Its reading processes, once there are two."""
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline and child.poll() is None:
        found = [
            process
            for process in psutil.Process(child.pid).children(recursive=True)
            if "spawn_main" in " ".join(process.cmdline())
        ]
        if len(found) == 2:
            return found
        time.sleep(0.005)
    raise AssertionError("no reading processes seen")


def test_a_reader_that_is_killed_is_reported_in_one_line_and_the_old_folder_stays(source, tmp_path):
    out = tmp_path / "made" / "out"
    prepare(source, out, workers=1, eval_rows=4)
    child = start(source, out, seed=1)
    readers_of(child)[0].kill()
    _, said = child.communicate(timeout=900)
    assert child.returncode == 1
    assert said.startswith("chord_exp.prepare: a process that read the data was killed") and said.count("\n") == 1
    assert load_manifest(out).content["arguments"]["seed"] == 0
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_reader_that_is_killed_while_it_starts_is_reported_like_any_other(source, tmp_path, monkeypatch):
    start_one = BaseProcess.start

    def start_and_kill(process):
        start_one(process)
        process.kill()

    monkeypatch.setattr(BaseProcess, "start", start_and_kill)
    with pytest.raises(RunFailed, match="a process that read the data was killed"):
        prepare(source, tmp_path / "out", workers=2)
    assert multiprocessing.active_children() == []


def test_no_reader_outlives_a_killed_preparation_and_a_folder_is_whole_after_a_kill_at_any_moment(source, tmp_path):
    out = tmp_path / "made" / "out"
    prepare(source, out, workers=1, eval_rows=4)
    moments = random.Random(11)
    for seed in range(1, 6):
        child = start(source, out, seed)
        readers = readers_of(child)
        time.sleep(moments.uniform(0, 0.8))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert child.stderr is not None
        child.stderr.close()
        psutil.wait_procs(readers, timeout=900)
        assert not any(reader.is_running() and reader.status() != psutil.STATUS_ZOMBIE for reader in readers)
        found = load_manifest(out).content["arguments"]["seed"]
        assert prepare(source, out, eval_rows=4, seed=found, workers=1).up_to_date
        assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_full_disk_in_a_reader_is_told_like_any_other(source, tmp_path, monkeypatch):
    # the spool of the reader is where most bytes go
    def full(self, chunk):
        raise OSError(28, "No space left on device", "spool")

    monkeypatch.setattr(pipeline.ChunkReader, "read", full)
    with pytest.raises(RunFailed, match="No space left"):
        prepare(source, tmp_path / "made" / "out", workers=1)
    assert list((tmp_path / "made").iterdir()) == []
