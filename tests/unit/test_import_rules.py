"""Data flows one way: which module may import what (the table of the design)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import chord_exp

PACKAGE = Path(chord_exp.__file__).parent
PURE = {"errors", "field_checks", "schedule", "spec", "gpus", "geometry"}

# modules or subpackages: what of chord_exp they may import (None: anything), which other packages never
RULES: dict[str, tuple[set[str] | None, set[str]]] = {
    "errors": (set(), {"hydra", "omegaconf", "torch", "trinity", "ray"}),
    "schedule": ({"errors"}, {"hydra", "omegaconf", "torch", "trinity", "ray"}),
    "field_checks": ({"errors"}, {"hydra", "omegaconf", "torch", "trinity", "ray"}),
    "spec": ({"errors", "field_checks", "schedule"}, {"hydra", "omegaconf", "torch", "trinity", "ray"}),
    "gpus": ({"errors", "spec"}, {"hydra", "omegaconf", "torch", "trinity", "ray"}),
    "geometry": ({"errors", "gpus", "schedule", "spec"}, {"hydra", "omegaconf", "torch", "trinity", "ray"}),
    "hand_set": ({"errors"}, {"hydra", "omegaconf", "torch", "trinity", "ray"}),
    "plugin_names": (set(), {"hydra", "omegaconf", "torch", "trinity", "ray"}),
    "trinity_config": (
        {"errors", "geometry", "hand_set", "spec", "tracking", "plugin_names"},
        {"hydra", "ray", "torch", "trinity"},
    ),
    "tracking": ({"geometry", "spec"}, {"hydra", "omegaconf", "torch", "trinity", "ray", "wandb"}),
    "plan": ({"geometry", "schedule", "spec", "gpus"}, {"hydra", "ray", "torch", "trinity"}),
    "check": (None, {"hydra", "ray", "torch", "trinity"}),
    "engine": (None, {"hydra"}),
    "loss": (None, {"hydra"}),
    "launch": (None, {"torch"}),
    "record": (None, {"torch"}),
    "rewards": (None, {"hydra", "ray"}),
    "workflows": (None, {"hydra", "ray"}),
    # prepare/check.py asks Trinity's own readers, lazily
    "prepare": (None, {"hydra", "ray"}),
    "report": (None, {"hydra"}),
    "sweep": (None, {"torch"}),
}
FORBIDDEN_INSIDE = {
    "check": {"launch", "engine", "cli", "compose"},
    "engine": {"spec", "launch"},
    "loss": {"spec"},
    "launch": {"conf", "compose"},
    "sweep": {"conf"},
    "prepare": {"launch", "cli", "compose"},
    "rewards": {"spec", "launch", "engine"},
    "workflows": {"spec", "launch", "engine"},
    "report": {"launch", "engine"},
}


def files_of(module: str) -> list[Path]:
    if (PACKAGE / module).is_dir():
        return sorted((PACKAGE / module).rglob("*.py"))
    alone = PACKAGE / f"{module}.py"
    # loss_weights.py and the like belong to loss.py
    return sorted([*([alone] if alone.exists() else []), *PACKAGE.glob(f"{module}_*.py")]) if alone.exists() else []


def imports_of(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            module = node.module or ""
            found.update([module, *(f"{module}.{alias.name}" for alias in node.names)])
    return found


def top_level_imports_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def present() -> list[str]:
    return [module for module in RULES if files_of(module)]


@pytest.mark.parametrize("module", present())
def test_a_module_imports_only_what_its_place_allows(module):
    allowed, never = RULES[module]
    for file in files_of(module):
        names = imports_of(file)
        outside = {name.split(".")[0] for name in names}
        assert not outside & never, f"{file} imports {outside & never}"
        inside = {name.split(".")[1] for name in names if name.startswith("chord_exp.") and name.count(".") >= 1}
        inside = {name for name in inside if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()}
        assert not inside & FORBIDDEN_INSIDE.get(module, set()), f"{file} imports {inside}"
        if allowed is not None:
            assert inside <= allowed, f"{file} imports {inside - allowed}"


def test_the_rules_cover_the_modules_that_they_are_about():
    assert {"errors", "schedule", "spec", "gpus", "geometry", "hand_set", "trinity_config", "plan"} <= set(present())


@pytest.mark.parametrize("module", sorted(PURE))
def test_the_pure_core_needs_nothing_but_the_standard_library(module):
    outside = {name.split(".")[0] for name in imports_of(PACKAGE / f"{module}.py")} - {"chord_exp"}
    assert outside <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("rules", ["batch", "buffers", "mu", "names", "rules", "subject", "weights"])
def test_the_rules_of_the_check_are_pure(rules):
    file = PACKAGE / "check" / f"{rules}.py"
    outside = {name.split(".")[0] for name in imports_of(file)} - {"chord_exp"}
    assert outside <= set(sys.stdlib_module_names)
    called = {ast.unparse(node.func) for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)}
    assert not {name for name in called if name == "open" or name.rpartition(".")[2] in ("read_text", "exists")}


@pytest.mark.parametrize("module", ["trinity_config", "plan", "geometry", "hand_set"])
def test_the_pure_middle_writes_no_files(module):
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not {
        name for name in called if name == "open" or name.rpartition(".")[2] in ("write_text", "mkdir", "makedirs")
    }


def test_sweep_and_launch_and_prepare_import_heavy_libraries_late():
    heavy = {"torch", "ray", "trinity", "transformers", "datasets", "vllm"}
    light = [file for module in ("prepare", "sweep") for file in files_of(module)]
    light += [PACKAGE / f"{name}.py" for name in ("cli", "compose", "actions", "refusals", "trinity_schema", "plan")]
    for file in light:
        assert not top_level_imports_of(file) & heavy, file


def test_the_worker_of_a_trial_reads_its_configuration_without_hydra():
    code = (
        "import sys, chord_exp.sweep.backends.worker, chord_exp.actions, chord_exp.config.compose; "
        "chord_exp.config.compose.schema(); "
        "sys.exit('hydra' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
