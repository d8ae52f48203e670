"""A wheel of the project installs into a fresh environment and runs from any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from report_runs import make_run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SOURCES = ("chord_exp", "conf", "sft_data", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The `bin` folder of an environment that holds the wheel; its libraries are those of this environment."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    source.mkdir()
    for name in SOURCES:
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif origin.exists():
            shutil.copy(origin, source)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = place.glob("chord_exp-*.whl")
    shutil.rmtree(source)
    venv.create(place / "venv", with_pip=True)
    python = place / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    (packages,) = (place / "venv").glob("lib/python*/site-packages")
    # only the libraries: an editable chord_exp stands in a .pth file of its own, which is not read from here
    (packages / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python.parent


def run(installed: Path, place: Path, *command: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["PATH"] = f"{installed}:{os.environ['PATH']}"
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_is_what_is_imported_with_its_version(installed, tmp_path):
    code = "import chord_exp, importlib.metadata as m; print(chord_exp.__file__, m.version('chord_exp'))"
    file, version = run(installed, tmp_path, "python", "-c", code).split()
    assert Path(file).is_relative_to(installed.parent)
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()


def test_its_commands_run_from_any_folder(installed, tmp_path):
    assert "Groups" in run(installed, tmp_path, "chord_exp", "--help")
    assert "U, rollouts a step" in run(installed, tmp_path, "chord_exp", "action=plan", "experiment=seed_full")
    run(installed, tmp_path, "chord_exp-prepare", "--input-dir", str(ROOT / "sft_data"), "--out", "prepared")
    export = ["action=export", "export_to=my.yaml", "cluster=gpu_2", "loss=stock"]
    run(installed, tmp_path, "chord_exp", *export, "data=prepared", "data.out=prepared")
    assert " errors" not in run(installed, tmp_path, "chord_exp-check", "--verl", "new", "my.yaml").replace(
        "0 errors", ""
    )
    run(installed, tmp_path, "chord_exp-report", str(make_run(tmp_path / "made", 5)))
    assert "color-scheme" in (tmp_path / "made" / "report.html").read_text(encoding="utf-8")


def test_an_experiment_trains_from_the_wheel_alone(installed, tmp_path):
    few = ["total_steps=1", "data.eval_rows=8", "batch_size=2", "repeat_times=4", "mu_schedule=constant"]
    assert "succeeded after 1 of 1 steps" in run(installed, tmp_path, "chord_exp", *few)
