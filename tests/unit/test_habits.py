"""What a newcomer tries first: --help, make help, completion, an example; and what a release needs to be complete."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command_line import run_module

from chord_exp.check import __main__ as check
from chord_exp.cli import main
from chord_exp.config.hydra_errors import groups
from chord_exp.prepare import __main__ as prepare

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WIDTH, HEIGHT = 80, 24
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def test_help_fits_a_screen_and_names_every_group_in_one_line(tmp_path):
    done = run_module(tmp_path, "-m", "chord_exp", "--help")
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) < HEIGHT and max(map(len, lines)) <= WIDTH
    for group, options in groups().items():
        (line,) = [line for line in lines if re.match(rf"\s*{group} ", line)]
        named = re.findall(r"\b[a-z]\w*\b", re.sub(r"\(.*?\)|: .*", "", line.replace(group, "", 1)))
        known = [word for word in named if word in options]
        assert known and set(named) - set(options) <= {"to", "or"}, line


def test_the_first_option_of_a_group_in_the_help_is_the_default(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    defaults = yaml.safe_load((ROOT / "conf" / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    for entry in defaults:
        for group, option in entry.items() if isinstance(entry, dict) else ():
            if group in groups() and option:
                assert re.search(rf"^\s*{group}\s+{option}\b", text, re.MULTILINE), group


@pytest.mark.parametrize("module", [prepare, check])
def test_the_other_commands_explain_themselves(capsys, module):
    with pytest.raises(SystemExit, match=r"^0$"):
        module.main(["--help"])
    assert f"python -m {module.__name__.removesuffix('.__main__')}" in capsys.readouterr().out


def test_make_help_lists_every_target_with_a_line_each():
    done = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True)
    targets = set(re.findall(r"^\.PHONY: ([a-z-]+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = dict(re.findall(r"^  ([a-z-]+) +(\S.*)$", done.stdout, re.MULTILINE))
    assert targets - {"check-python"} == set(shown)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_documented_completion_offers_options_and_keys_in_a_real_shell(tmp_path):
    assert 'eval "$$(chord_exp -sc install=bash)"' in (ROOT / "conf" / "config.yaml").read_text()
    typed = {
        "mu_schedule=se": {"mu_schedule=seed_full", "mu_schedule=seed_simple"},
        "mu_pe": {"mu_peak="},
        "cluster.engine_n": {"cluster.engine_num="},
    }
    script = 'eval "$(chord_exp -sc install=bash)"\n'
    for word in typed:
        script += f"""
COMP_WORDS=(chord_exp "{word}") COMP_CWORD=1 COMP_LINE="chord_exp {word}"; COMP_POINT=${{#COMP_LINE}}
hydra_bash_completion
printf '%s ' "${{COMPREPLY[@]}}"; echo
"""
    environment = {**os.environ, "PATH": PATH}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done
    for (word, wanted), line in zip(typed.items(), done.stdout.splitlines()[-3:], strict=True):
        offered = {one if one in wanted else re.sub("=.*", "=", one) for one in line.split()}
        assert wanted <= offered and all(one.startswith(word) for one in line.split()), done


def test_the_packages_of_the_project_are_complete():
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    there = {".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "chord_exp").rglob("__init__.py")}
    assert there <= listed and listed - there <= {"chord_exp.conf", "chord_exp.sft_data"}


def test_version_citation_changelog_and_licence_agree():
    version = PROJECT["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version and citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE).group(1) == version
    assert citation["license"] == PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_the_map_of_the_house_names_every_subpackage_and_no_other():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`chord_exp/(\w+)/`", text))
    there = {path.parent.name for path in (ROOT / "chord_exp").glob("*/__init__.py")}
    assert named == there - {"tiny"}


def test_the_example_of_an_export_checks_it_and_refuses_the_wrong_edit(tmp_path):
    environment = {**os.environ, "PATH": PATH}
    command = ["bash", str(ROOT / "examples" / "export_and_check.sh")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "my_config.yaml: no mismatch" in done.stdout and "batch_size x repeat_times is 384" in done.stdout
