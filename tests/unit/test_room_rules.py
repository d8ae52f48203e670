"""What the import contracts of pyproject.toml cannot say: which imports come late, and which rooms touch no file."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import chord_exp

PACKAGE = Path(chord_exp.__file__).parent
# every module of these rooms, the main modules too
LIGHT = [
    "cli",
    "actions",
    "data_facts",
    "check",
    "convert",
    "evaluate",
    "config",
    "experiment",
    "prepare",
    "report",
    "run_files",
    "runs",
    "sweep",
    "trinity_config",
    "utils",
]
# not vllm: without it that name is a stub of ours, and the real one imports torch
HEAVY = {"torch", "ray", "trinity", "transformers", "datasets"}
PURE_CHECKS = ("batch", "buffers", "mu", "names", "rules", "subject", "weights")
PURE = [
    *sorted((PACKAGE / "experiment").glob("*.py")),
    *(PACKAGE / "trinity_config" / f"{name}.py" for name in ("build", "user_overrides", "tracker_config", "rows")),
    *(PACKAGE / "check" / f"{name}.py" for name in PURE_CHECKS),
]
TOUCHES_FILES = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "exists", "mkdir", "makedirs"}


def loaded_after(code: str) -> set[str]:
    """Top-level names in sys.modules of a process of its own, after some code."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_heavy_libraries_are_imported_late():
    names = [file.relative_to(PACKAGE.parent).with_suffix("").parts for file in PACKAGE.rglob("*.py")]
    names = [".".join(name) for name in names if name[1] in LIGHT and name[-1] != "__init__"]
    assert "chord_exp.cli" in names and "chord_exp.sweep.run" in names
    assert not loaded_after("import " + ", ".join(sorted(names))) & HEAVY


def test_the_worker_of_a_trial_starts_its_run_without_hydra():
    code = "import chord_exp.sweep.backends.worker, chord_exp.launch.run"
    assert not loaded_after(code) & {"hydra", "omegaconf"}


@pytest.mark.parametrize("file", PURE, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_the_pure_middle_touches_no_file(file):
    calls = [node.func for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Call)]
    assert not {ast.unparse(call).rpartition(".")[2] for call in calls} & TOUCHES_FILES
