"""The node `hydra.launcher`: what is refused, and how it is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from chord_exp.errors import ConfigError
from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.settings import Settings

CONF = Path(__file__).parents[2] / "conf" / "hydra" / "launcher"


def values(option: str) -> dict:
    return yaml.safe_load((CONF / f"{option}.yaml").read_text(encoding="utf-8"))


def test_a_sweep_that_is_refused_before_its_folder_is_made_takes_nothing_of_the_one_above(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep" / "0").mkdir(parents=True)
    SweepFolder(tmp_path / "sweep" / "from_4").abandon()
    assert (tmp_path / "sweep" / "0").is_dir()


@pytest.mark.parametrize("option", ["local", "ray"])
def test_the_options_are_read_and_come_back_from_a_file(option):
    settings = Settings.read(values(option))
    assert settings.backend == option and Settings.read(settings.as_dict()) == settings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"backend": "cloud"}, r"hydra\.launcher\.backend=cloud is not known .*use one of local, ray"),
        ({"order": "lifo"}, r"order=lifo is not known"),
        ({"retries": None}, r"retries=None has the wrong type .*declared as int"),
        ({"retries": True}, r"retries=True has the wrong type"),
        ({"max_gpus": -1}, r"max_gpus=-1 is below 0"),
        ({"num_cpus": 0}, r"num_cpus=0 is below 1"),
        ({"patience": 1.5}, r"patience=1\.5 has the wrong type"),
        ({"memory_per_trial": 0}, r"memory_per_trial=0\.0 is no number above 0"),
        ({"cpus_per_trial": float("nan")}, r"cpus_per_trial=nan is not a finite number"),
        ({"adress": "auto"}, r"adress is not known .*address"),
        ({"bind": [7]}, r"bind=\[7\] has the wrong type"),
    ],
)
def test_what_is_not_a_setting_is_refused_with_the_key(change, said):
    with pytest.raises(ConfigError, match=said):
        Settings.read({**values("ray"), **change})


def test_a_missing_setting_is_told():
    given = values("local")
    del given["order"]
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.order is missing"):
        Settings.read(given)
