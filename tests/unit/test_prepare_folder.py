"""The output folder: named after its content, never mixed with foreign files, whole whatever kills it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prepare_samples import pair, prepare, tree, write_lines

import chord_exp.prepare.folder as folder
from chord_exp.errors import DataError, RunFailed
from chord_exp.prepare import load_manifest
from chord_exp.utils.files import share_lock


@pytest.fixture
def source(tmp_path):
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(40)])
    return tmp_path / "raw"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "made" / "out"


def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device", "rl/train.jsonl")


def prepare_in_vain(source, out):
    """Another preparation, which fails when it writes."""
    with pytest.raises(RunFailed, match="No space left"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("chord_exp.prepare.pipeline.write_sides", full_disk)
        prepare(source, out, seed=99)


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


def test_without_a_place_the_folder_is_named_after_its_content_and_other_content_gets_another(source, tmp_path):
    root = tmp_path / "root"
    first = prepare(source, None, root=root)
    assert first.folder == root / f"raw-{first.digest[:12]}"
    before = tree(first.folder)
    others = [prepare(source, None, root=root, seed=1)]
    write_lines(source / "a.jsonl", [pair(n) for n in range(41)])
    others.append(prepare(source, None, root=root))
    assert not any(made.up_to_date or made.replaced for made in others)
    assert {path.name for path in root.iterdir()} == {made.folder.name for made in [first, *others]}
    assert len({made.digest for made in [first, *others]}) == 3 and tree(first.folder) == before
    write_lines(source / "a.jsonl", [pair(n) for n in range(40)])
    assert prepare(source, None, root=root).up_to_date


@pytest.mark.parametrize(
    ("change", "other"),
    [
        (lambda source, out: {"expert_ratio": 0.5}, "expert_ratio"),
        (lambda source, out: {"system_prompt": "Box.", "seed": 3}, "seed, system_prompt"),
        (lambda source, out: write_lines(source / "b.jsonl", [pair(99)]) and {}, "inputs"),
        (lambda source, out: write_lines(source / "a.jsonl", [pair(n) for n in range(9)]) and {}, "inputs"),
        (lambda source, out: (out / "rl" / "train.jsonl").unlink() or {}, ""),
    ],
)
def test_a_named_folder_is_replaced_when_its_content_is_another_and_says_in_what(source, out, change, other):
    prepare(source, out)
    made = prepare(source, out, **change(source, out))
    assert not made.up_to_date and made.replaced == other
    assert made.folder == out and leftovers(out) == []


def test_a_folder_that_a_run_reads_is_not_replaced(source, out):
    made = prepare(source, out)
    before = tree(out)
    with share_lock(out / "manifest.json"), share_lock(out / "manifest.json"):
        with pytest.raises(DataError, match="a run is reading"):
            prepare(source, out, seed=1)
        assert prepare(source, out).up_to_date
    assert tree(out) == before and leftovers(out) == []
    assert prepare(source, out, seed=1).digest != made.digest


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


def test_the_old_folder_survives_a_failure_while_writing(source, out):
    prepare(source, out)
    before = tree(out)
    prepare_in_vain(source, out)
    assert tree(out) == before and leftovers(out) == []


def test_an_input_that_changes_while_it_is_read_is_refused(source, out):
    def append(what, done, total, rows):
        with (source / "a.jsonl").open("a") as file:
            file.write("{}\n")

    with pytest.raises(DataError, match="changed while"):
        prepare(source, out, progress=append)
    assert not out.exists()


def test_what_a_killed_preparation_left_is_put_back_or_cleared(source, out):
    prepare(source, out)
    before = tree(out)
    (out.parent / ".out.draft").mkdir()
    (out.parent / ".out.draft" / "x").write_text("half")
    (out.parent / ".out.lock").touch()
    out.rename(out.parent / ".out.old")
    prepare_in_vain(source, out)
    assert tree(out) == before and leftovers(out) == []


def test_two_preparations_at_once_build_once(source, out):
    results = []
    threads = [threading.Thread(target=lambda: results.append(prepare(source, out))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made.up_to_date for made in results) == [False, True, True, True]


def test_a_lock_that_changes_hands_often_is_never_lost_sight_of(tmp_path):
    held = []

    def take(_):
        for _ in range(100):
            with folder.locked(tmp_path / "made", lambda: None):
                held.append(1)
                assert held == [1]
                held.pop()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, range(8)))
    assert list(tmp_path.iterdir()) == []


def test_a_second_preparation_says_that_it_waits_for_the_first(source, out):
    waiting = threading.Event()
    with folder.locked(out, lambda: None):
        second = threading.Thread(target=lambda: prepare(source, out, on_wait=waiting.set))
        second.start()
        assert waiting.wait(30)
        assert not out.exists()
        prepare(source, out.parent / "another", on_wait=lambda: pytest.fail("another folder is another lock"))
    second.join()
    assert load_manifest(out).rl_rows == 30


KILLED = """
import sys
from pathlib import Path
from prepare_samples import prepare
seed = 1
while True:
    print("building", flush=True)
    prepare(Path(sys.argv[1]), Path(sys.argv[2]), eval_rows=4, seed=seed)
    seed += 1
"""


def test_a_killed_process_leaves_a_whole_folder_at_any_moment(source, out):
    write_lines(source / "b.jsonl", [pair(n) for n in range(100, 1500)])
    prepare(source, out, eval_rows=4)
    moments = random.Random(7)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for built in range(6):
        child = subprocess.Popen([sys.executable, "-c", KILLED, source, out], stdout=subprocess.PIPE, env=environment)
        assert child.stdout is not None
        for _ in range(built + 1):
            child.stdout.readline()
        time.sleep(moments.uniform(0.0, 0.3))
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
        if not out.exists():
            (out.parent / ".out.old").rename(out)  # between its two renames: what the next preparation does
        seed = load_manifest(out).content["arguments"]["seed"]
        assert seed >= built
        assert prepare(source, out, eval_rows=4, seed=seed).up_to_date
        assert leftovers(out) == []


def code_of_one_killed_at(step, source, out):
    """The exit code of a process that prepares and is killed before the given of its steps; 0 when it has fewer."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = step

    def deadly(function):
        def call(*args, **kwargs):
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*args, **kwargs)

        return call

    for owner, name in [(Path, "rename"), (Path, "mkdir"), (Path, "unlink"), (shutil, "rmtree")]:
        setattr(owner, name, deadly(getattr(owner, name)))
    try:
        prepare(source, out, eval_rows=4, seed=1, workers=1)
    finally:
        os._exit(0)


def test_a_kill_between_any_two_steps_loses_nothing(source, out):
    """Each step dies in turn; the old content or the new is there, whole, or put back by the next preparation."""
    seeds = []
    for step in range(30):
        shutil.rmtree(out.parent, ignore_errors=True)
        prepare(source, out, eval_rows=4)
        code = code_of_one_killed_at(step, source, out)
        if not out.exists() or step % 2:
            prepare_in_vain(source, out)
        seeds.append(load_manifest(out).content["arguments"]["seed"])
        assert prepare(source, out, eval_rows=4, seed=seeds[-1]).up_to_date
        assert leftovers(out) == []
        if code == 0:
            break
    assert code == 0 and step >= 8
    assert seeds[0] == 0 and seeds[-1] == 1 and seeds == sorted(seeds)
