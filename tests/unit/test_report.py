"""Reports of runs: what they say, that it is true, and that each figure stands in a line of metrics.jsonl."""

from __future__ import annotations

import csv
import json
import re
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from report_runs import OUT_OF_MEMORY, make_run

from chord_exp.report import __main__ as command
from chord_exp.report.figures.budget import budget
from chord_exp.report.figures.compare import common_target, cost_to_reach, differing, groups
from chord_exp.report.figures.importance import setting_importance
from chord_exp.report.figures.prompts import over_prompts
from chord_exp.report.figures.summary import look, who_wins
from chord_exp.report.page.curves import thinned
from chord_exp.report.page.html import render
from chord_exp.report.page.parts import changed
from chord_exp.report.page.serve import serving
from chord_exp.report.read.folders import find_runs, labels, newest
from chord_exp.report.read.rollouts import answers_over_time
from chord_exp.report.read.runs import read_run, read_runs
from chord_exp.run_files import history as h
from chord_exp.run_files import names
from chord_exp.run_files.evaluation import EVALUATION, FOLDER, GREEDY, ITEMS, Evaluation, ModelScore
from chord_exp.run_files.record import FAILED, RUNNING, SUCCEEDED, RunRecord
from chord_exp.run_files.scores import answers_of
from chord_exp.utils.files import try_lock


def sweep(folder: Path, seeds: int, peaks: tuple[float, ...] = (0.1, 0.6), steps: int = 40) -> Path:
    jobs = [(peak, seed) for peak in peaks for seed in range(1, seeds + 1)]
    for number, (peak, seed) in enumerate(jobs):
        make_run(folder / f"{number}_mu_peak={peak},seed={seed}", steps, seed=seed, peak=peak)
    return folder


def page_of(*folders: Path) -> str:
    return render(look(read_runs(find_runs(folders))))


def written(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / names.METRICS).read_text(encoding="utf-8").splitlines()]


# --- the page


def test_a_page_tells_the_end_first_and_then_goes_the_way_people_know(tmp_path):
    page = page_of(make_run(tmp_path / "run"))
    parts = ("Succeeded after 60 of 60 steps", ">Train<", ">Evaluation<", ">Stability<", ">Performance<", "Settings")
    places = [page.index(part) for part in parts]
    assert places == sorted(places)


def test_a_page_needs_nothing_but_itself(tmp_path):
    page = page_of(make_run(tmp_path / "run")).replace("/*! https://github.com/leeoniya/uPlot (v1.6.32) */", "")
    assert not re.search(r"https?:|src=|<link|@import|url\(", page)
    # whole without its script
    assert page.count("<svg") >= 10 and page.index("<script") > page.rindex("</svg>")


def test_what_people_typed_is_text_and_no_markup(tmp_path):
    run = make_run(tmp_path / "run", name="<b>bold</b>", overrides=["data.system_prompt=<script>alert(1)</script>"])
    page = page_of(run)
    assert "<b>bold" not in page and "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_every_point_of_a_page_is_a_line_of_the_metrics(tmp_path):
    run = make_run(tmp_path / "run")
    rows, checked = written(run), 0
    drawn = {"Clipped rollout tokens": h.CLIP_SHARE, "Held-out accuracy": h.ACCURACY, "logged": h.MU}
    for label, numbers, path in re.findall(r'data-l="([^"]+)" data-x="0" data-n="([\d ]+)" d="([^"]+)"', page_of(run)):
        if label not in drawn:
            continue
        for number, (at, value) in zip(numbers.split(), re.findall(r"[ML](\S+) ([^MLh]+)", path), strict=True):
            row = rows[int(number) - 1]
            assert row["step"] == int(at)
            assert row[drawn[label]] == pytest.approx(float(value), rel=1e-3)
            checked += 1
    assert checked > 100


def test_every_figure_of_the_table_is_the_value_in_its_line(tmp_path):
    run = make_run(tmp_path / "run", 300)
    assert command.main([str(run)]) == 0
    rows = written(run)
    with open(run / "report.csv", encoding="utf-8", newline="") as stream:
        figures = list(csv.DictReader(stream))
    for figure in figures:
        row = rows[int(figure["line"]) - 1]
        assert row["step"] == int(figure["step"])
        assert row[figure["metric"]] == float(figure["value"])
    assert {figure["what"] for figure in figures} == {"final", "best", "point"}
    assert {h.REWARD, h.GRAD_NORM, "time/train_step"} <= {figure["metric"] for figure in figures}


def test_a_crashed_run_shows_the_end_of_its_log_beside_the_cause(tmp_path):
    page = page_of(make_run(tmp_path / "run", 30, status=FAILED, error=OUT_OF_MEMORY, completed_steps=12))
    assert "Failed after 12 of 30 steps" in page
    assert (
        page.index("the memory did not suffice") < page.index("CUDA out of memory &lt;here&gt;") < page.index(">Train")
    )


def test_a_run_without_a_record_or_metrics_is_still_shown(tmp_path):
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / names.LAUNCH).write_text('{"overrides": ["mu_peak=0.3"]}', encoding="utf-8")
    page = page_of(tmp_path / "trial")
    assert "Waiting" in page and "mu_peak" in page


def test_a_line_that_a_crash_cut_short_is_passed_over(tmp_path):
    run = make_run(tmp_path / "run", 10)
    with open(run / names.METRICS, "a", encoding="utf-8") as stream:
        stream.write('{"step": 11, "actor/lo')
    assert read_run(run).history.steps == 10


def test_answers_to_the_same_prompt_are_shown_over_time(tmp_path):
    run = make_run(tmp_path / "run", 10)
    buffer = run / "checkpoints" / "chord" / "tiny" / "buffer" / "experience_buffer.jsonl"
    buffer.parent.mkdir(parents=True)
    rows = [
        {
            "eid": {"batch": step},
            "prompt_text": prompt,
            "response_text": f"{prompt} <{step}>\nand so on",
            "response_length": step,
            "reward": step / 10,
        }
        for step in range(1, 10)
        for prompt in ("2+2", f"once {step}")
    ]
    text = "\n".join(map(json.dumps, rows)) + '\n{"eid": {"ba'
    buffer.write_text(text, encoding="utf-8")
    page = page_of(run)
    assert "Response length of rollouts: mean of a step from 1 to 9" in page
    assert "2+2 &lt;1&gt;\nand so on<td" in page and "2+2 &lt;9&gt;" in page
    assert page.index("2+2 &lt;1&gt;") < page.index("2+2 &lt;9&gt;") < page.index("once")


def evaluate(run: Path, right: dict[str, float], digest: str = "d") -> None:
    """Leave in a run's folder what an evaluation of its last checkpoint leaves."""
    items = [
        {"model": "base", "sampling": GREEDY, "prompt": prompt, "response": "a", "score": 0.0, "cut": ""}
        for prompt in right
    ]
    items += [{**item, "model": "step 5", "score": right[item["prompt"]]} for item in items]
    answers = {label: [item for item in items if item["model"] == label] for label in ("base", "step 5")}
    models = [
        ModelScore("base", 0, "m", {GREEDY: answers_of(answers["base"])}),
        ModelScore("step 5", 5, "w", {GREEDY: answers_of(answers["step 5"], answers["base"])}),
    ]
    Evaluation("now", "data", digest, "eval", 8, 1.0, "local", models).save(run / EVALUATION)
    (run / FOLDER).mkdir()
    (run / FOLDER / ITEMS).write_text("\n".join(map(json.dumps, items)), encoding="utf-8")


def test_a_run_shows_what_its_checkpoints_earned_when_they_were_evaluated(tmp_path):
    run = make_run(tmp_path / "run", 5)
    assert "Checkpoints evaluated" not in page_of(run)
    evaluate(run, {str(prompt): float(prompt % 2) for prompt in range(20)})
    page = page_of(run)
    assert "Checkpoints evaluated" in page and "+50.0 points" in page and "<small>better" in page


def test_where_no_prompt_came_twice_answers_are_spread_over_time(tmp_path):
    run = make_run(tmp_path / "run", 10)
    buffer = run / "checkpoints" / "chord" / "tiny" / "buffer" / "experience_buffer.jsonl"
    buffer.parent.mkdir(parents=True)
    rows = [
        {"eid": {"batch": step}, "prompt_text": f"prompt {step}", "response_text": "a", "reward": 0.5}
        for step in range(1, 41)
    ]
    buffer.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = answers_over_time(run)
    assert found is not None and "no prompt came twice" in found.what
    steps = [int(one.when) for answers in found.prompts.values() for one in answers]
    assert len(steps) == 8 and (steps[0], steps[-1]) == (1, 40) and steps == sorted(steps)


def test_answers_of_evaluated_checkpoints_stand_beside_each_other(tmp_path):
    run = make_run(tmp_path / "run", 5)
    evaluate(run, {"same": 0.0, "learnt": 1.0})
    found = answers_over_time(run)
    assert found is not None and list(found.prompts) == ["learnt", "same"]
    assert [(one.when, one.reward) for one in found.prompts["learnt"]] == [("base", 0.0), ("step 5", 1.0)]
    assert "Answers over time" in page_of(run)


# --- several runs


def test_runs_that_were_evaluated_are_compared_prompt_by_prompt(tmp_path):
    sweep(tmp_path / "s", 2, steps=5)
    for run in find_runs([tmp_path]):
        # two prompts in ten more are solved with the higher peak, the others are as hard for both
        more = 4 if "0.6" in run.name else 2
        evaluate(run, {str(prompt): float(prompt % 10 < more) for prompt in range(50)})
    report = look(read_runs(find_runs([tmp_path])))
    first, second = over_prompts(report.groups, 0)
    assert (first.label, first.runs, first.lead) == ("mu_peak=0.1", 2, None)
    assert second.lead is not None and second.lead.value == pytest.approx(0.2) and second.lead.low > 0
    assert "Last checkpoints over prompts" in render(report)


def test_runs_that_were_asked_other_prompts_are_not_compared_over_them(tmp_path):
    for number, run in enumerate(find_runs([sweep(tmp_path / "s", 1, steps=5)])):
        evaluate(run, {"1": 1.0, "2": 0.0}, digest=str(number))
    report = look(read_runs(find_runs([tmp_path])))
    assert len(over_prompts(report.groups, 0)) == 1 and "over prompts" not in render(report)


def test_runs_that_differ_in_their_seed_alone_are_one_group(tmp_path):
    runs = read_runs(find_runs([sweep(tmp_path / "s", 3)]))
    assert differing(runs) == ["mu_peak"]
    assert [(one.label, len(one.runs)) for one in groups(runs)] == [("mu_peak=0.1", 3), ("mu_peak=0.6", 3)]
    assert [run.seed for run in runs] == [1, 2, 3, 1, 2, 3]


def test_trials_come_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 1):
        make_run(tmp_path / f"{number}_x", 2)
    assert [path.name for path in find_runs([tmp_path])] == ["1_x", "9_x", "10_x"]


def test_all_settings_count_where_they_are_known(tmp_path):
    for name, lr in (("a", 1e-3), ("b", 1e-4)):
        composed = {"lr": lr, "seed": 1, "name": name, "model": {"path": "here"}}
        make_run(tmp_path / name, 5, overrides=["experiment=mine"], composed=composed)
    assert differing(read_runs(find_runs([tmp_path]))) == ["lr"]


def test_a_setting_that_points_to_another_is_what_that_is(tmp_path):
    for name, lr in (("a", "${model.lr}"), ("b", "0.001")):
        make_run(tmp_path / name, 5, composed={"lr": lr, "model": {"lr": 0.001}})
    assert differing(read_runs(find_runs([tmp_path]))) == []


def test_the_setting_that_decides_is_the_important_one(tmp_path):
    for number, (peak, size) in enumerate((peak, size) for peak in (0.0, 0.3, 0.6, 0.9) for size in (4, 8)):
        make_run(tmp_path / f"{number}", 20, peak=peak, overrides=[f"mu_peak={peak}", f"batch_size={size}"])
    report = look(read_runs(find_runs([tmp_path])))
    assert "Beside the paper" not in render(report)
    found = setting_importance(report.scores, True)
    assert found["mu_peak"] > 0.8 and "Which settings matter" in render(report)
    assert setting_importance(report.scores[:4], True) == {}


def test_few_seeds_are_shown_and_not_judged(tmp_path):
    (said,) = who_wins(look(read_runs(find_runs([sweep(tmp_path / "s", 3)]))))
    assert "fewer than 5 seeds" in said


def test_a_clear_difference_over_five_seeds_is_named_with_its_interval(tmp_path):
    (said,) = who_wins(look(read_runs(find_runs([sweep(tmp_path / "s", 5, (0.1, 0.9))]))))
    assert said.startswith("mu_peak=0.9 is better than mu_peak=0.1: +") and "paired by seed, 5 seeds" in said


def test_equal_methods_are_not_told_apart(tmp_path):
    for number, (size, seed) in enumerate((size, seed) for size in (8, 16) for seed in range(1, 6)):
        name, overrides = f"{number}", [f"batch_size={size}", f"seed={seed}"]
        make_run(tmp_path / name, 40, seed=seed * size, overrides=overrides)
    (said,) = who_wins(look(read_runs(find_runs([tmp_path]))))
    assert said.startswith("No group differs from batch_size=8")


def test_a_run_that_failed_is_listed_and_does_not_count(tmp_path):
    sweep(tmp_path / "s", 2)
    make_run(tmp_path / "s" / "9_broken", 40, seed=3, peak=0.6, status=FAILED, error=OUT_OF_MEMORY)
    report = look(read_runs(find_runs([tmp_path / "s"])))
    assert [len(one.final) for one in report.scores] == [2, 2]
    page = render(report)
    assert "9_broken: failed" in page and "lower cluster.max_token_len_per_gpu" in page and "2 of 3" in page


def test_time_does_not_run_backwards_where_the_first_weights_are_evaluated_last(tmp_path):
    made = make_run(tmp_path / "run", 20) / names.METRICS
    rows = [json.loads(line) for line in made.read_text().splitlines()]
    last = max(row[h.WALL_TIME] for row in rows)
    for row in rows:
        row[h.WALL_TIME] += 100.0 if row["step"] == 0 else 0.0
    assert max(row[h.WALL_TIME] for row in rows if row["step"] == 0) > last
    made.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    spent = budget(read_run(made.parent)).columns[-1].tolist()
    assert spent[0] == 0 and spent == sorted(spent) and spent[-1] > 30


def test_the_cost_of_a_score_is_counted_until_it_was_reached(tmp_path):
    run = read_run(make_run(tmp_path / "run", 60))
    series = run.history[h.ACCURACY]
    cost = cost_to_reach(run, h.ACCURACY, float(series.value[2]))
    assert cost is not None and cost.steps <= series.at[2]
    assert cost.seconds == pytest.approx(2.0 * cost.steps, abs=1.1)
    assert cost.tokens == 4000 * cost.steps and cost.samples == 64 * cost.steps
    assert cost_to_reach(run, h.ACCURACY, 1.01) is None
    assert common_target([run], h.ACCURACY) is None


def test_what_a_run_spends_follows_its_stages(tmp_path):
    run = make_run(tmp_path / "run", 1, composed={"model": {"parameters_b": 0.001}})
    stages = [
        {"stage_name": "sft", "algorithm": {"policy_loss_fn_args": {"expert_rows": 16}}},
        {"stage_name": "grpo", "algorithm": {"policy_loss_fn_args": {"usual_rows": 48}}},
    ]
    (run / names.TRINITY_CONFIG).write_text(json.dumps({"stages": stages}), encoding="utf-8")
    steps = [("sft", 1, 100), ("sft", 2, 100), ("grpo", 1, 1000)]
    rows = [{"stage": stage, "step": step, h.TOKENS: tokens, "wall_time": 10.0 * step} for stage, step, tokens in steps]
    (run / names.METRICS).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = budget(read_run(run))
    # 6 a parameter and token; and 2 more for making a rollout
    assert found.until(2).samples == 32 and found.until(2).flops == pytest.approx(200 * 6e6)
    assert (found.total.samples, found.total.tokens) == (80, 1200)
    assert found.total.flops == pytest.approx(200 * 6e6 + 1000 * 8e6)


def test_what_nobody_wrote_down_is_no_number(tmp_path):
    total = budget(read_run(make_run(tmp_path / "run", 5))).total
    assert np.isnan(total.flops) and total.samples == 320


def test_what_differs_from_the_defaults_is_shown_beside_them(tmp_path):
    composed = {"lr": "${model.lr}", "model": {"lr": 0.01, "path": "here"}, "seed": 1}
    run = make_run(tmp_path / "run", 5, overrides=["model.lr=0.01"], composed=composed)
    (run / ".hydra" / "defaults.yaml").write_text("lr: ${model.lr}\nmodel: {lr: 0.02, path: here}\nseed: 1\n")
    found = changed(read_run(run))
    assert found == [("model.lr", "0.01", "0.02"), ("lr", "0.01", "0.02")]
    assert "<td class=long>model.lr<td class=long>0.01<td class=long>0.02" in page_of(run)


def test_thirty_runs_fit_in_a_page_of_a_megabyte_and_a_half(tmp_path):
    page = page_of(sweep(tmp_path / "s", 5, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), steps=200))
    assert len(page.encode()) < 1_500_000


# --- histories


def seen(*rows: dict) -> h.History:
    return h.history((number, {"source": "trainer", **row}) for number, row in enumerate(rows, start=1))


def test_of_a_step_that_a_resume_repeated_the_last_value_counts():
    loss = seen({"step": 1, h.LOSS: 5.0}, {"step": 2, h.LOSS: 4.0}, {"step": 2, h.LOSS: 3.0})[h.LOSS]
    assert (loss.at.tolist(), loss.value.tolist(), loss.line.tolist()) == ([1, 2], [5, 3], [1, 3])


def test_steps_of_a_later_stage_count_on():
    found = seen(
        {"step": 1, "stage": "sft", h.LOSS: 1.0},
        {"step": 2, "stage": "sft", h.LOSS: 2.0, h.ACCURACY: 0.5},
        {"step": 0, "stage": "grpo", h.ACCURACY: 0.6},
        {"step": 1, "stage": "grpo", h.LOSS: 3.0},
    )
    assert found.stages == {"sft": 0, "grpo": 2} and found.steps == 3
    assert found[h.ACCURACY].at.tolist() == [2, 2] and found[h.ACCURACY].value.tolist() == [0.5, 0.6]


def test_thinning_keeps_the_extremes_and_makes_nothing_up():
    values = np.sin(np.arange(1000.0))
    values[500], values[700] = 9.0, np.nan
    series = h.Series(np.arange(1000), values, np.arange(1, 1001))
    thin = thinned(series, 50)
    assert len(thin) <= 54 and thin.at[0] == 0 and thin.at[-1] == 999
    assert 9.0 in thin.value and all(values[at] == value for at, value in zip(thin.at, thin.value, strict=True))
    assert (thin.line == thin.at + 1).all()


# --- the command


def test_the_newest_run_or_sweep_is_the_default(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command.main([]) == 2 and "no run below outputs/" in capsys.readouterr().err
    run = make_run(tmp_path / "outputs" / "tiny" / "2026-01-01", 5)
    assert command.main([]) == 0 and (run / "report.html").is_file() and (run / "report.md").is_file()
    sweep(tmp_path / "multirun" / "tiny" / "2026-01-02", 1, steps=5)
    assert newest(tmp_path) == tmp_path / "multirun" / "tiny" / "2026-01-02"


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_without_runs_is_refused(tmp_path, capsys, made):
    folder = tmp_path / "x"
    if made:
        folder.mkdir()
    assert command.main([str(folder)]) == 2
    assert "DIR" in capsys.readouterr().err


def test_a_page_that_would_be_overwritten_by_its_own_table_is_refused(tmp_path, capsys):
    run = make_run(tmp_path / "run", 5)
    assert command.main([str(run), "--out", str(tmp_path / "page.csv")]) == 2
    assert "end it in .html" in capsys.readouterr().err and not (tmp_path / "page.csv").exists()


def test_labels_are_what_sets_paths_apart():
    assert labels([Path("/a/b/c"), Path("/a/d/c")]) == ["b/c", "d/c"]
    assert labels([Path("/a/b")]) == ["b"]
    assert labels([Path("/a/b"), Path("/a/b/c")]) == ["b", "c"]


def test_a_watched_page_loads_itself_again_until_the_run_has_ended(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", 20, status=RUNNING, seconds=None, completed_steps=0)
    lock = try_lock(run / names.LOCK)
    assert lock is not None
    page = run / "report.html"

    def end_it(seconds: float) -> None:
        assert 'http-equiv="refresh"' in page.read_text(encoding="utf-8")
        assert "Running after 20 of 20 steps" in page.read_text(encoding="utf-8")
        record = RunRecord.load(run / names.RECORD)
        record.with_end(status=SUCCEEDED, completed_steps=20).save(run / names.RECORD)

    monkeypatch.setattr(command.time, "sleep", end_it)
    with lock:
        assert command.main([str(run), "--watch"]) == 0
    assert 'http-equiv="refresh"' not in page.read_text(encoding="utf-8")
    assert "Succeeded after 20" in page.read_text(encoding="utf-8")


def test_a_served_page_is_given_to_this_machine_and_no_other_name(tmp_path):
    page = tmp_path / "report.html"
    page.write_text("the page", encoding="utf-8")
    with serving(page, 0) as address:
        host, port = address.removeprefix("http://").rstrip("/").split(":")
        assert host == "127.0.0.1"

        def get(path: str, name: str) -> tuple[int, bytes]:
            connection = HTTPConnection(host, int(port), timeout=30)
            connection.request("GET", path, headers={"Host": name})
            answer = connection.getresponse()
            return answer.status, answer.read()

        assert get("/", f"{host}:{port}") == (200, b"the page")
        assert get("/", f"localhost:{port}")[0] == 200
        assert get("/", "elsewhere.example")[0] == 403
        assert get("/../run.json", f"{host}:{port}")[0] == 404


def test_a_page_that_is_not_watched_stays_as_it_is(tmp_path):
    run = make_run(tmp_path / "run", 20, status=RUNNING, seconds=None)
    with try_lock(run / names.LOCK):
        assert command.main([str(run)]) == 0
    assert 'http-equiv="refresh"' not in (run / "report.html").read_text(encoding="utf-8")
