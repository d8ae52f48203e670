"""The command line of prepare: both spellings, exit codes, one readable line for what went wrong."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from composing import compose_spec
from prepare_samples import free_text, pair, rows, tree, write_lines

from chord_exp.data_facts import prepare_data
from chord_exp.prepare.__main__ import build_parser, main


@pytest.fixture
def source(tmp_path):
    write_lines(tmp_path / "raw_data" / "a.jsonl", [pair(n) for n in range(40)] + [free_text(1), {"bad": 1}])
    return tmp_path / "raw_data"


def test_dashed_and_underscored_flags_are_the_same(source, tmp_path, capsys):
    assert (
        main(
            [
                "--input-dir",
                f"{source}",
                "--expert-ratio",
                "0.5",
                "--eval-rows=4",
                "--out",
                f"{tmp_path / 'o_1'}",
            ]
        )
        == 0
    )
    assert (
        main(
            [
                f"--input_dir={source}",
                "--expert_ratio=0.5",
                "--eval_rows",
                "4",
                "--out",
                f"{tmp_path / 'o_2'}",
            ]
        )
        == 0
    )
    assert tree(tmp_path / "o_1") == tree(tmp_path / "o_2")
    assert len(rows(tmp_path / "o_1", "eval")) == 4


def test_it_tells_where_the_rows_went_and_explains_both_ratios(source, tmp_path, capsys):
    assert main(["--input-dir", f"{source}", "--out", f"{tmp_path / 'out'}", "--eval-rows", "0"]) == 0
    said = capsys.readouterr()
    assert "asked 0.25, reached 0.25" in said.out
    assert "expert_data_ratio is the share of each training batch" in said.out
    assert "1 of 42 rows rejected (1 unknown_format)" in said.err
    assert main(["--input-dir", f"{source}", "--out", f"{tmp_path / 'out'}", "--eval-rows", "0"]) == 0
    assert "up to date, nothing written" in capsys.readouterr().out
    assert main(["--input-dir", f"{source}", "--out", f"{tmp_path / 'out'}", "--eval-rows", "2"]) == 0
    assert "written in place of other eval_rows" in capsys.readouterr().out


def test_without_out_the_rows_go_under_outputs_prepared(source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--input-dir", "raw_data"]) == 0
    (made,) = (tmp_path / "outputs" / "prepared").iterdir()
    assert f"written: {made.relative_to(tmp_path)}" in capsys.readouterr().out and made.name.startswith("raw_data-")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--input-dir"],
        ["--input-dir", "{raw}", "--nonsense", "1"],
        ["--input-dir", "{raw}", "--expert-ratio", "much"],
        ["--input-dir", "{raw}", "--expert-ratio", "0"],
        ["--input-dir", "{raw}", "--expert-ratio", "1"],
        ["--input-dir", "{raw}", "--eval-rows", "-3"],
        ["--input-dir", "{raw}", "--near-dedup", "2"],
        ["--input-dir", "{raw}", "--map", "prompt"],
        ["--input-dir", "{raw}/none"],
        ["--input-dir", "{raw}", "--out", "{raw}"],
    ],
)
def test_bad_arguments_exit_2_with_one_line(source, tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert main([word.format(raw=source) for word in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("chord_exp.prepare: ") and said.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw_data"]


def test_help_fits_a_screen():
    lines = build_parser().format_help().splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80


def test_on_a_terminal_a_bar_shows_rows_and_rate(source, tmp_path):
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "chord_exp.prepare",
        "--input-dir",
        str(source),
        "--out",
        str(tmp_path / "out"),
    ]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # a closed terminal ends the reading on Linux
        while chunk := os.read(ours, 4096):
            shown += chunk
    os.close(ours)
    assert child.wait() == 0
    assert b"42 rows" in shown and b"/s" in shown and b"Traceback" not in shown


def test_ctrl_c_exits_130_and_leaves_nothing_behind(tmp_path):
    source = tmp_path / "raw"
    write_lines(source / "a.jsonl", [pair(n) for n in range(60_000)])
    command = [
        sys.executable,
        "-m",
        "chord_exp.prepare",
        "--input-dir",
        str(source),
        "--out",
        str(tmp_path / "out"),
    ]

    def as_in_a_terminal() -> None:
        # a process started in the background inherits a SIGINT that is ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)

    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=as_in_a_terminal)
    deadline = time.monotonic() + 900
    while not (tmp_path / ".out.draft").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    os.kill(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=900)
    assert child.returncode == 130
    assert said == "chord_exp.prepare: interrupted: the output is as it was\n"
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_both_commands_split_a_folder_alike_when_given_the_same_numbers(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = compose_spec(["data=folder", "data.input_dir=raw_data", "data.eval_rows=4", "data.system_prompt=''"])
    facts = prepare_data(spec)
    assert main(["--input-dir", "raw_data", "--out", "by_hand", "--eval-rows", "4"]) == 0
    shutil.rmtree(Path(facts.folder) / "token_lengths")  # which a run adds
    assert tree(tmp_path / "by_hand") == tree(Path(facts.folder))
