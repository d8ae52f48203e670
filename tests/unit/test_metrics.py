"""Reading metrics files."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from chord_exp.run_files import metrics


def test_lines_cut_short_by_a_crash_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    file.write_text('{"step": 1, "source": "trainer", "a": 1}\n{"step": 2, "sou')
    assert [row["step"] for row in metrics.read(file)] == [1]
    assert metrics.read(tmp_path / "missing.jsonl") == []


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_a_tail_sees_each_row_once_however_the_file_grows(cuts: list[int]) -> None:
    import tempfile

    text = "".join(f'{{"step": {step}, "source": "trainer"}}\n' for step in range(6)).encode()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "m.jsonl")
        tail, seen, written = metrics.Tail(file), [], 0
        for cut in [*cuts, len(text)]:
            with open(file, "ab") as stream:
                stream.write(text[written : written + cut])
            written += cut
            seen += [row["step"] for row in tail.new_rows()]
    assert seen == list(range(6))


def test_a_tail_from_the_end_shows_only_what_is_new(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    file.write_text('{"step": 1}\n')
    tail = metrics.Tail(file, from_end=True)
    with open(file, "a") as stream:
        stream.write('{"step": 2}\n')
    assert [row["step"] for row in tail.new_rows()] == [2]


def test_a_tail_sees_the_rows_of_a_resumed_run_that_cut_off_a_broken_line(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    file.write_text('{"step": 1, "a": 1}\n{"step": 2, "a"')
    tail = metrics.Tail(file)
    assert [row["step"] for row in tail.new_rows()] == [1]
    file.write_text('{"step": 1, "a": 1}\n{"step": 3, "a": 33333333333333333}\n')
    assert [(row["step"], row["a"]) for row in tail.new_rows()] == [(3, 33333333333333333)]


def test_a_tail_begins_again_with_a_file_that_was_replaced(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    file.write_text('{"step": 1}\n{"step": 2}\n')
    tail = metrics.Tail(file)
    assert len(list(tail.new_rows())) == 2
    file.write_text('{"step": 1}\n')
    assert [row["step"] for row in tail.new_rows()] == [1]


def test_best_values_know_which_direction_is_better() -> None:
    rows = [
        {"step": step, metrics.ACCURACY: step / 10, "actor/loss": value}
        for step, value in ((1, 3.0), (2, 1.0), (3, 2.0))
    ]
    best = metrics.best_values(rows)
    assert best[metrics.ACCURACY] == {"value": 0.3, "step": 3}
    assert best["actor/loss"] == {"value": 1.0, "step": 2}


def test_only_the_trainer_is_asked_for_finite_values() -> None:
    assert metrics.non_finite([{"step": 1, "source": "explorer", "a": "NaN"}]) is None
