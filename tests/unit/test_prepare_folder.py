"""The output folder: no-op when up to date, never mixed with foreign files, whole whatever kills it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from prepare_samples import pair, prepare, tree, write_lines

import chord_exp.prepare.folder as folder
from chord_exp.errors import DataError, RunFailed
from chord_exp.prepare import load_manifest


@pytest.fixture
def source(tmp_path):
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(40)])
    return tmp_path / "raw"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "made" / "out"


def leftovers(out):
    return [path.name for path in out.parent.iterdir() if path != out]


def test_the_same_inputs_and_arguments_write_nothing(source, out):
    first = prepare(source, out)
    stamp = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    inode = out.stat().st_ino
    second = prepare(source, out)
    assert (first.up_to_date, second.up_to_date) == (False, True)
    assert out.stat().st_ino == inode and {path: path.stat().st_mtime_ns for path in out.rglob("*")} == stamp
    assert first.content == second.content and load_manifest(out).content == second.content


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (lambda source, out: {"expert_ratio": 0.5}, "expert_ratio was 0.25 and is 0.5"),
        (lambda source, out: {"system_prompt": "Box."}, "system_prompt was"),
        (lambda source, out: write_lines(source / "b.jsonl", [pair(99)]) and {}, "b.jsonl is new or changed"),
        (
            lambda source, out: write_lines(source / "a.jsonl", [pair(n) for n in range(9)]) and {},
            "a.jsonl is new",
        ),
        (
            lambda source, out: (source / "a.jsonl").rename(source / "c.jsonl") and {},
            "c.jsonl is new or changed",
        ),
        (lambda source, out: (out / "rl" / "train.jsonl").unlink() or {}, "rl/train.jsonl is missing"),
    ],
)
def test_a_changed_input_or_argument_rebuilds_and_says_why(source, out, change, because):
    prepare(source, out)
    made = prepare(source, out, **change(source, out))
    assert not made.up_to_date and because in made.rebuilt_because
    assert leftovers(out) == []


def test_a_removed_input_rebuilds(source, out):
    write_lines(source / "b.jsonl", [pair(99)])
    prepare(source, out)
    (source / "b.jsonl").unlink()
    assert prepare(source, out).rebuilt_because == "b.jsonl is gone"


def test_a_prepared_file_changed_by_hand_is_neither_used_nor_overwritten(source, out):
    prepare(source, out)
    (out / "rl" / "train.jsonl").write_text("mine")
    with pytest.raises(DataError, match="changed since"):
        prepare(source, out, seed=5)
    assert (out / "rl" / "train.jsonl").read_text() == "mine"


@pytest.mark.parametrize("name", ["notes.txt", "sft/extra.jsonl", "manifest.json"])
def test_a_folder_with_foreign_files_is_refused_untouched(source, out, name):
    if name != "manifest.json":
        prepare(source, out)
    path = out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    before = tree(out)
    with pytest.raises(DataError, match=r"not written by|files of yours"):
        prepare(source, out)
    assert tree(out) == before


def test_a_file_in_the_place_of_the_output_is_refused_and_an_empty_folder_is_used(source, out):
    out.parent.mkdir()
    out.write_text("mine")
    with pytest.raises(DataError, match="is a file"):
        prepare(source, out)
    out.unlink()
    out.mkdir()
    assert prepare(source, out).rl_rows == 30


@pytest.mark.parametrize("damage", ["{", "[]", '{"tool": "chord_exp.prepare"}'])
def test_a_damaged_manifest_is_reported_not_guessed(source, out, damage):
    prepare(source, out)
    (out / "manifest.json").write_text(damage)
    with pytest.raises(DataError, match=r"not written by|cannot be read"):
        prepare(source, out)


@pytest.mark.parametrize("place", [".", "sub", ".."])
def test_input_and_output_may_not_overlap(source, place):
    before = tree(source)
    with pytest.raises(DataError, match="overlap"):
        prepare(source, source / place)
    assert tree(source) == before


@pytest.mark.parametrize("missing", ["folder", "file"])
def test_a_missing_input_folder_is_refused(tmp_path, out, missing):
    place = tmp_path / "nothing"
    if missing == "file":
        place.write_text("{}")
    with pytest.raises(DataError, match=r"does not exist|not a folder"):
        prepare(place, out)
    assert not out.parent.exists()


def test_the_old_folder_survives_a_failure_while_writing(source, out, monkeypatch):
    prepare(source, out)
    before = tree(out)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", "rl/train.jsonl")

    monkeypatch.setattr("chord_exp.prepare.pipeline.write_sides", full)
    with pytest.raises(RunFailed, match="No space left"):
        prepare(source, out, seed=1)
    assert tree(out) == before and leftovers(out) == []


def test_an_input_that_changes_while_it_is_read_is_refused(source, out):
    def append(what, done, total, rows):
        with (source / "a.jsonl").open("a") as file:
            file.write("{}\n")

    with pytest.raises(DataError, match="changed while"):
        prepare(source, out, progress=append)
    assert not out.exists()


@pytest.mark.parametrize("exchange", [True, False])
def test_a_replaced_folder_is_swapped_whole_with_or_without_an_atomic_exchange(source, out, monkeypatch, exchange):
    prepare(source, out)
    if not exchange:
        monkeypatch.setattr(folder, "_exchange", lambda one, other: False)
    assert prepare(source, out, seed=1).content["arguments"]["seed"] == 1
    assert leftovers(out) == []


def test_what_a_killed_preparation_left_is_put_back_or_cleared(source, out):
    prepare(source, out)
    before = tree(out)
    unfinished = out.parent / ".out.prepare-1-aa.tmp"
    unfinished.mkdir()
    (unfinished / "x").write_text("half")
    out.rename(out.parent / ".out.prepare-1-aa.old")
    assert prepare(source, out).up_to_date
    assert tree(out) == before and leftovers(out) == []
    (out.parent / ".out.prepare-1-bb.old").mkdir()
    assert prepare(source, out).up_to_date
    assert tree(out) == before and leftovers(out) == []


def test_two_preparations_at_once_build_once(source, out):
    results = []
    threads = [threading.Thread(target=lambda: results.append(prepare(source, out))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made.up_to_date for made in results) == [False, True, True, True]


def test_a_second_preparation_says_that_it_waits_for_the_first(source, out):
    waiting = threading.Event()
    with folder.locked(out.parent, lambda: None):
        second = threading.Thread(target=lambda: prepare(source, out, on_wait=waiting.set))
        second.start()
        assert waiting.wait(30)
        assert not out.exists()
    second.join()
    assert load_manifest(out).rl_rows == 30


KILLED = """
import sys
from chord_exp.prepare import ensure_prepared
from chord_exp.prepare.options import PrepareOptions
seed = 1
while True:
    print("building", flush=True)
    ensure_prepared(sys.argv[1], sys.argv[2], PrepareOptions(0.25, 4, None, seed, ""))
    seed += 1
"""


@pytest.mark.parametrize("exchange", ["atomic", "two_renames"])
def test_a_killed_process_leaves_a_whole_folder_at_any_moment(source, out, exchange):
    write_lines(source / "b.jsonl", [pair(n) for n in range(100, 1500)])
    prepare(source, out, eval_rows=4)
    script = KILLED
    if exchange == "two_renames":
        script = "import chord_exp.prepare.folder as f\nf._exchange = lambda one, other: False\n" + KILLED
    moments = random.Random(7)
    for built in range(6):
        child = subprocess.Popen([sys.executable, "-c", script, source, out], stdout=subprocess.PIPE)
        assert child.stdout is not None
        for _ in range(built + 1):
            child.stdout.readline()
        time.sleep(moments.uniform(0.0, 0.3))
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
        if exchange == "two_renames":
            folder.recover(out)
        seed = load_manifest(out).content["arguments"]["seed"]
        assert seed >= built
        assert prepare(source, out, eval_rows=4, seed=seed).up_to_date
        assert leftovers(out) == []


KILLED_AT_STEP = """
import os, signal, sys
import chord_exp.prepare.folder as folder
from chord_exp.prepare import ensure_prepared
from chord_exp.prepare.options import PrepareOptions

left = int(sys.argv[3])

def deadly(function):
    def call(*args, **kwargs):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return function(*args, **kwargs)
    return call

exchange = folder._exchange if sys.argv[4] == "atomic" else lambda one, other: False
folder._exchange = deadly(exchange)
folder.Path.rename = deadly(folder.Path.rename)
folder.shutil.rmtree = deadly(folder.shutil.rmtree)
ensure_prepared(sys.argv[1], sys.argv[2], PrepareOptions(0.25, 4, None, 1, ""))
"""


@pytest.mark.parametrize("exchange", ["atomic", "two_renames"])
def test_a_kill_between_any_two_steps_of_the_swap_loses_nothing(source, out, exchange):
    seeds = []
    for step in range(8):
        shutil.rmtree(out.parent, ignore_errors=True)
        prepare(source, out, eval_rows=4)
        arguments = [str(source), str(out), str(step), exchange]
        code = subprocess.run([sys.executable, "-c", KILLED_AT_STEP, *arguments]).returncode
        if exchange == "two_renames":
            folder.recover(out)
        seeds.append(load_manifest(out).content["arguments"]["seed"])
        assert prepare(source, out, eval_rows=4, seed=seeds[-1]).up_to_date
        assert leftovers(out) == []
        if code == 0:
            break
    assert code == 0 and step >= 2
    assert seeds[0] == 0 and seeds[-1] == 1 and seeds == sorted(seeds)
