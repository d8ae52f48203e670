"""Every command that the documents show is accepted as written, and both READMEs say the same."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from composing import to_trinity
from omegaconf import OmegaConf

from chord_exp.check.__main__ import build_parser as check_parser
from chord_exp.config.command_line import parse
from chord_exp.config.composer import composing
from chord_exp.config.hydra_errors import groups
from chord_exp.convert import build_parser as build_convert_parser
from chord_exp.data_facts import assumed_facts
from chord_exp.doctor.__main__ import build_parser as build_doctor_parser
from chord_exp.evaluate.__main__ import build_parser as build_evaluate_parser
from chord_exp.prepare.__main__ import _dashed, build_parser
from chord_exp.report.__main__ import build_parser as build_report_parser
from chord_exp.runs.__main__ import build_parser as build_runs_parser
from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.tune.settings import TuneSettings
from chord_exp.sweep.tune.sweeper import make_plan
from chord_exp.trinity_config.build import Folders
from chord_exp.trinity_config.schema import check_schema

ROOT = Path(__file__).parents[2]
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")
GUIDES = (ROOT / "docs" / "guide.md", ROOT / "docs" / "guide.zh-CN.md")
OTHERS = (ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "examples" / "README.md")
DOCUMENTS = (*READMES, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "package").glob("*.md")), *OTHERS)

# what a reader is expected to have under the names that the documents use
PLACEHOLDER_FOLDERS = ("my_data", "my_benchmark", "my_model", "my_prepared", "my_run")
PLACEHOLDER_FILE = "my_config.yaml"
PLACEHOLDER_EXPERIMENT = "# @package _global_\ndefaults:\n  - override /mu_schedule: paper_mu\nlr: 5e-4\n"

# command lines that are options alone
PARSERS = {
    "chord_exp.convert": build_convert_parser,
    "chord_exp.doctor": build_doctor_parser,
    "chord_exp.evaluate": build_evaluate_parser,
    "chord_exp.report": build_report_parser,
}

# talked about, not shown for use
_NAMED_ONLY = ("python -m chord_exp", "python -m chord_exp.check", "make")
_COMMAND = re.compile(r"(make|python -m chord_exp[\w.]*)( |$)")
# make targets that hand ARGS to a command line of this package, and what they put before it
_TAKES_OVERRIDES = {"run": [], "plan": ["action=plan"], "export": ["action=export"], "sweep": ["-m"]}
_TAKES_FILES = ("check", "package")


def in_this_python(text: str) -> str:
    """Commands of the environment of the real stack take the same words in any other."""
    return text.replace(".venv-real/bin/python ", "python ")


def blocks_and_prose(text: str) -> tuple[list[str], str]:
    """The lines of all fenced blocks, and the text without the blocks."""
    fenced = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [line for block in fenced for line in block.splitlines()], prose


def commands_of(document: Path) -> list[str]:
    """Commands of this project in fenced blocks and inline code, without comments, in order."""
    lines, prose = blocks_and_prose(in_this_python(document.read_text(encoding="utf-8")))
    spans = [*lines, *re.findall(r"`([^`\n]+)`", prose)]
    found = [shlex.join(shlex.split(span, comments=True)) for span in spans if _COMMAND.match(span.strip())]
    return [command for command in found if command not in _NAMED_ONLY]


def all_commands() -> list[str]:
    """Every command of every document, once."""
    return list(dict.fromkeys(command for document in DOCUMENTS for command in commands_of(document)))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with everything that the documents' placeholders stand for."""
    for name in PLACEHOLDER_FOLDERS:
        (tmp_path / name).mkdir()
    (tmp_path / "my_conf" / "experiment").mkdir(parents=True)
    (tmp_path / "my_conf" / "experiment" / "my_experiment.yaml").write_text(PLACEHOLDER_EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_test_that_a_document_names_is_there():
    named = {name for path in DOCUMENTS for name in re.findall(r"tests/[\w/]+\.py", path.read_text(encoding="utf-8"))}
    assert named and all((ROOT / name).is_file() for name in named), named


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def check_experiment(arguments: list[str]) -> int:
    """What `python -m chord_exp` does with its arguments before it reads data or starts anything; returns how many
    experiments it would run."""
    with composing(parse(arguments)) as composer:
        sweeper = composer.base.hydra.sweeper
        if composer.sweeps and "_target_" not in sweeper:
            return make_plan(
                composer, TuneSettings.read(OmegaConf.to_container(sweeper)), SweepFolder(Path("new"))
            ).total
        if composer.sweeps:
            jobs = enumerate(composer.grid())
            experiments = [composer.trial(job, number, "", Path("new").absolute()) for number, job in jobs]
        else:
            experiments = [composer.run()]
    for experiment in experiments:
        config = to_trinity(experiment.spec, assumed_facts(experiment.spec), Folders("/checkpoints", None))
        if experiment.spec.trinity:
            check_schema(config)
    return len(experiments)


def check_make(words: list[str]) -> None:
    target, *assignments = words
    variables = dict(assignment.split("=", 1) for assignment in assignments)
    assert target in make_targets()
    assert set(variables) <= {"ARGS", "GPUS", "PYTHON"}
    if target in _TAKES_FILES and variables.get("ARGS"):
        assert set(shlex.split(variables["ARGS"])) <= {PLACEHOLDER_FILE, "--check"}
        return
    arguments = shlex.split(variables.get("ARGS", ""))
    if arguments and target in _TAKES_OVERRIDES:
        check_experiment([*_TAKES_OVERRIDES[target], *arguments])
    elif target == "report":
        build_report_parser().parse_args(arguments)
    elif arguments and target == "prepare":
        build_parser().parse_args([_dashed(word) for word in arguments])


@pytest.mark.parametrize("command", all_commands())
def test_a_shown_command_is_accepted(command, place):
    program, *words = shlex.split(command)
    if program == "make":
        check_make(words)
        return
    module, arguments = words[1], words[2:]
    if module == "chord_exp":
        if "resume=true" in arguments:
            (place / "my_run" / "run.json").touch()
        assert check_experiment(arguments)
    elif module in PARSERS and arguments:
        PARSERS[module]().parse_intermixed_args(arguments)
    elif module == "chord_exp.runs" and arguments:
        build_runs_parser().parse_args(arguments)
    elif module == "chord_exp.prepare":
        build_parser().parse_args([_dashed(word) for word in arguments])
    elif module == "chord_exp.check":
        assert check_parser().parse_args(arguments).config == [Path(PLACEHOLDER_FILE)]
    elif arguments and arguments[0] in ("--help", "-sc"):
        pass  # run by test_habits
    else:
        assert importlib.util.find_spec(module) and not arguments


def test_a_wrong_command_would_be_noticed(place):
    with pytest.raises(Exception, match="mu_peek"):
        check_experiment(["mu_peek=0.4"])
    with pytest.raises(AssertionError):
        check_make(["no-such-target"])


@pytest.mark.parametrize("pair", [READMES, GUIDES], ids=["READMEs", "guides"])
def test_both_languages_show_the_same_commands_in_the_same_order(pair):
    english, chinese = map(commands_of, pair)
    assert english == chinese and len(english) > 30


def test_both_guides_have_the_same_parts_plots_and_blocks():
    english, chinese = (guide.read_text(encoding="utf-8") for guide in GUIDES)
    for pattern in (r"^#+ ", r"^\|", r"^!\[.*\]\((.*)\)", r"^```(\w*)$", r"^- "):
        assert re.findall(pattern, english, re.MULTILINE) == re.findall(pattern, chinese, re.MULTILINE), pattern
    yaml_blocks = [re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL) for text in (english, chinese)]
    assert yaml_blocks[0] == yaml_blocks[1] != []


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_a_readme_lists_every_option_of_every_group(readme):
    text = readme.read_text(encoding="utf-8")
    for group, options in groups().items():
        (line,) = [line for line in text.splitlines() if re.match(rf"\| [^|]*`{group}` \|", line)]
        listed = re.findall(r"`(\w+)`", line.split("|")[2])
        assert sorted(listed) == options, group


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_links_inside_a_guide_lead_to_its_headings(guide):
    text = guide.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    targets = re.findall(r"\]\(#([^)]+)\)", text)
    assert targets and set(targets) <= anchors
