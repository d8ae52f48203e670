"""Every line of every shell block is a command that some test runs or checks, and every YAML block is valid."""

from __future__ import annotations

import importlib
import json
import re
import runpy
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from package_script import planned, run
from test_docs import _COMMAND, DOCUMENTS, ROOT, check_experiment, in_this_python, place  # noqa: F401 - a fixture

from chord_exp.check.rules import findings
from chord_exp.check.subject import ERROR
from chord_exp.prepare.__main__ import _dashed, build_parser
from chord_exp.trinity_config.schema import check_schema, trinity_keys

PACKAGE = ROOT / "package"
# sizes may refer to sections that a fragment leaves out
WHOLE_ONLY = ("no model is named", "no path is given", "this is no whole configuration")


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def shell_lines() -> list[str]:
    """Every command of every shell block, once: comments left out, continued lines joined."""
    found = []
    for document in DOCUMENTS:
        for block in blocks(document, "bash"):
            lines = [
                shlex.split(line, comments=True) for line in in_this_python(block).replace("\\\n", " ").splitlines()
            ]
            found += [shlex.join(words) for words in lines if words]
    return list(dict.fromkeys(found))


def check_script(words: list[str], place: Path) -> None:  # noqa: F811
    """The script takes the words, and chord_exp what it makes of them, on no GPU where none is asked for."""
    assert words[0] in ("run_chord_training.sh", "package/run_chord_training.sh", "../package/run_chord_training.sh")
    at = words.index("--") if "--" in words else len(words)
    options, rest = words[1:at], words[at:]
    if "--help" in options:
        assert run(place, *options).returncode == 0
    else:
        check_experiment(planned(place, *options, "--yes", *rest))


def check_python(words: list[str]) -> None:
    if words[0] == "prepare_chord_data.py":
        complete = runpy.run_path(str(PACKAGE / words[0]))["with_defaults"](words[1:])
        build_parser().parse_args([_dashed(word) for word in complete])
    elif words[0] == "-m":
        importlib.import_module(words[1]).build_parser().parse_args(words[2:])
    elif words[0] == "-c":
        compile(words[1], "<docs>", "exec")
    else:
        assert (ROOT / words[0]).exists() and words[1:] in ([], ["my_runs"]), words


def check_trinity(words: list[str]) -> None:
    assert words[:2] == ["run", "--config"] and len(words) == 3
    assert words[2] == "my_config.yaml" or (PACKAGE / words[2]).exists()


def check_example(words: list[str]) -> None:
    assert (ROOT / words[0]).exists() or (ROOT / "examples" / words[0]).exists()


CHECKERS = {
    "trinity": check_trinity,
    # run as they stand by tests/integration/test_three_ways.py
    "ray": lambda words: words in (["start", "--head"], ["status"]) or pytest.fail(str(words)),
    "cp": lambda words: (PACKAGE / words[0]).exists() or pytest.fail(words[0]),
    "source": lambda words: words[0].endswith(".venv/bin/activate") or pytest.fail(words[0]),
    "tail": lambda words: words[0] == "-f" or pytest.fail(str(words)),
    # run by test_habits
    "eval": lambda words: words == ["$(python -m chord_exp -sc install=bash)"] or pytest.fail(str(words)),
    "pip": lambda words: words[0] == "install" or pytest.fail(str(words)),
    "git": lambda words: words[0] in ("clone", "checkout", "commit") or pytest.fail(str(words)),
}


@pytest.mark.parametrize("line", shell_lines())
def test_a_line_of_a_shell_block_is_a_command_that_works(line, place):  # noqa: F811
    if _COMMAND.match(line):
        return  # checked by test_docs
    program, *words = shlex.split(line)
    if program == "bash":
        check_script(words, place) if words[0].endswith("run_chord_training.sh") else check_example(words)
    elif program == "python":
        check_python(words)
    else:
        assert program in CHECKERS, f"nothing checks {line!r}"
        CHECKERS[program](words)


def yaml_blocks() -> list[tuple[str, str]]:
    found = [(document.name, block) for document in DOCUMENTS for block in blocks(document, "yaml")]
    return list({block: (name, block) for name, block in found}.values())


@pytest.mark.parametrize("block", [pytest.param(block, id=name) for name, block in yaml_blocks()])
def test_a_yaml_block_is_valid(block, tmp_path, monkeypatch):
    values = yaml.safe_load(block)
    if "@package" in block:
        from composing import compose_spec

        (tmp_path / "experiment").mkdir()
        (tmp_path / "experiment" / "shown.yaml").write_text(block, encoding="utf-8")
        spec = compose_spec([f"hydra.searchpath=[file://{tmp_path}]", "experiment=shown"])
        assert spec.name == values["name"]
        return
    check_schema(values)
    found = findings(values, verl_legacy=False, rows={}, known=frozenset(trinity_keys()))
    unknown = [one for one in found if "Trinity has no key" in one.what or "is no argument" in one.what]
    assert not unknown, unknown
    if "algorithm_type" in block:
        errors = [one for one in found if one.severity == ERROR and not one.what.startswith(WHOLE_ONLY)]
        assert {one.key for one in errors} <= {"algorithm.sample_strategy_args.sft_dataset_name"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_json_blocks_are_rows(document):
    for block in blocks(document, "json"):
        for line in block.splitlines():
            assert isinstance(json.loads(line), dict)


def test_an_unknown_program_would_be_noticed(place):  # noqa: F811
    with pytest.raises(AssertionError, match="nothing checks"):
        test_a_line_of_a_shell_block_is_a_command_that_works("rm -rf my_data", place)
    if shutil.which("bash"):
        with pytest.raises(AssertionError):
            check_script(["run_chord_training.sh", "--no-such-option"], place)


def test_the_plots_are_those_that_their_script_draws_from_runs_that_can_be_made(place):  # noqa: F811
    script = runpy.run_path(str(ROOT / "docs" / "make_plots.py"), run_name="make_plots")
    drawn = re.findall(r'draw\("(\w+)"', (ROOT / "docs" / "make_plots.py").read_text(encoding="utf-8"))
    assert sorted(drawn) == sorted(path.stem for path in (ROOT / "docs" / "plots").glob("*.svg"))
    assert set(script["PICTURES"]) == {path.stem for path in (ROOT / "docs" / "plots").glob("*.png")}
    for words in script["RUNS"].values():
        assert check_experiment(list(words))


def test_the_reports_of_the_guide_are_those_that_their_script_writes_and_small():
    script = runpy.run_path(str(ROOT / "docs" / "make_plots.py"), run_name="make_plots")
    pages = list((ROOT / "docs" / "reports").glob("*"))
    assert {page.name for page in pages} == {f"{name}.html" for name in script["REPORTS"]}
    assert all(page.stat().st_size < 400_000 for page in pages)
    for guide in ("guide.md", "guide.zh-CN.md"):
        linked = re.findall(r"\(reports/(\w+)\.html\)", (ROOT / "docs" / guide).read_text(encoding="utf-8"))
        assert set(linked) == set(script["REPORTS"])
