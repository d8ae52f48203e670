"""From Hydra's configuration to an ExperimentSpec.

The schema that Hydra checks keys and types against is made from the dataclasses of `spec`: OmegaConf cannot
compose into frozen dataclasses, and a second list of fields would drift from the first.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from omegaconf import MISSING, DictConfig, OmegaConf

import chord_exp
from chord_exp.errors import ConfigError
from chord_exp.experiment.spec import ExperimentSpec
from chord_exp.experiment.study import StudySpec
from chord_exp.trinity_config.tracker_config import sweep_label
from chord_exp.utils.hub import SAMPLE_OF_HUB

CONFIG_MODULE = "chord_exp.conf"
CONFIG_NAME = "config"
SCHEMA_NAME = "experiment_schema"
ACTIONS = ("run", "plan", "export")
TINY_MODEL = "builtin:tiny"
SAMPLE = "sft_data"


@dataclass(frozen=True)
class Command:
    """What to do with the experiment: the keys that say nothing about the experiment itself."""

    # run, plan or export
    action: str
    # file that action=export writes
    export_to: str | None
    # run what the plan says does not fit into the GPUs' memory
    force: bool
    # show tracebacks
    debug: bool
    # what the sweep that this experiment belongs to compares, with which question; null: it is no study
    study: dict[str, Any] | None

    def __post_init__(self) -> None:
        StudySpec.read(self.study)
        if self.action not in ACTIONS:
            raise ConfigError(f"action={self.action} is not known", "action", f"use one of {', '.join(ACTIONS)}")
        if self.action == "export" and not self.export_to:
            raise ConfigError("action=export needs a file to write", "export_to", "add export_to=my.yaml")


def _mutable_twin(name: str, sources: Sequence[type]) -> type:
    """A dataclass with the fields of all `sources`, not frozen, without checks or values."""
    twins = []
    for source in sources:
        hints = typing.get_type_hints(source)
        for field in dataclasses.fields(source):
            kind = hints[field.name]
            if dataclasses.is_dataclass(kind):
                kind = _mutable_twin(cast(type, kind).__name__, [cast(type, kind)])
                twins.append((field.name, kind, dataclasses.field(default_factory=kind)))
                continue
            if typing.get_origin(kind) is not None and issubclass(typing.get_origin(kind), Mapping):
                kind = dict[str, Any]
            twins.append((field.name, kind, dataclasses.field(default=MISSING)))
    return dataclasses.make_dataclass(name, twins)


@cache
def schema() -> DictConfig:
    """Return keys and types of the whole configuration; every value comes from conf/."""
    root = OmegaConf.structured(_mutable_twin("the configuration", [ExperimentSpec, Command]))
    # Trinity's keys and a user's fields are not this package's to list: both take any key without a +
    for owner, name in ((root, "trinity"), (root.data, "map")):
        owner[name] = {}
        OmegaConf.set_struct(owner[name], False)
    return cast(DictConfig, root)


def register_schema() -> None:
    """Make the schema known to Hydra, under the name that conf/config.yaml starts its defaults list with."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(SCHEMA_NAME, schema())


def known_keys() -> list[str]:
    """Every dotted key of the configuration, groups of keys included."""

    def walk(cls: type, prefix: str) -> list[str]:
        hints = typing.get_type_hints(cls)
        found = []
        for field in dataclasses.fields(cls):
            found.append(prefix + field.name)
            if dataclasses.is_dataclass(hints[field.name]):
                found += walk(hints[field.name], f"{prefix}{field.name}.")
        return found

    return walk(ExperimentSpec, "") + walk(Command, "")


def read(config: DictConfig) -> tuple[ExperimentSpec, Command]:
    """Check a composed configuration and turn it into a specification with absolute paths.

    Raises:
        ConfigError: a value out of its range.
        omegaconf.errors.OmegaConfBaseException: an unknown key, a wrong type or a missing value.
    """
    values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    # composing lets `+model.typo=1` in; a merge into the schema does not
    checked = OmegaConf.merge(schema(), cast(dict, values))
    plain = cast(dict[str, Any], OmegaConf.to_container(checked, resolve=False, throw_on_missing=True))
    command = Command(**{field.name: plain.pop(field.name) for field in dataclasses.fields(Command)})
    plain["model"]["path"] = _model_path(plain["model"]["path"])
    data = plain["data"]
    data["input_dir"] = None if data["input_dir"] is None else _input_dir(data["input_dir"])
    data["eval_dir"] = None if data["eval_dir"] is None else _absolute(data["eval_dir"])
    data["out"] = None if data["out"] is None else _absolute(data["out"])
    return _build(ExperimentSpec, plain), command


def in_sweep(spec: ExperimentSpec, sweep_dir: Path) -> ExperimentSpec:
    """The specification of a trial: at a tracker the runs of a sweep form a group, unless the user named one."""
    monitor = spec.monitor
    group = monitor.group or sweep_label(sweep_dir)
    return dataclasses.replace(spec, monitor=dataclasses.replace(monitor, group=group))


def _build(cls: type, values: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(cls)
    return cls(
        **{
            key: _build(hints[key], value) if dataclasses.is_dataclass(hints[key]) else value
            for key, value in values.items()
        }
    )


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path.strip() else path


def _input_dir(path: str) -> str:
    """A folder made absolute, or a hub id as it is; `sft_data` is the sample of this package where there is no such
    folder here."""
    folder = Path(_absolute(path))
    if SAMPLE_OF_HUB.fullmatch(path) and not folder.parent.exists():
        return path
    if path == SAMPLE and not folder.exists():
        package = Path(chord_exp.__file__).parent
        # inside the package of a wheel, beside it in a checkout
        for sample in (package / SAMPLE, package.parent / SAMPLE):
            if sample.is_dir():
                return str(sample)
    return str(folder)


def _model_path(path: str) -> str:
    """The tiny model of this package, a folder made absolute, or a hub id as it is."""
    if path == TINY_MODEL:
        return str(Path(chord_exp.__file__).parent / "tiny" / "model")
    folder = Path(path).expanduser()
    if folder.is_dir():
        return str(folder.absolute())
    looks_local = path.startswith(("/", "./", "../", "~")) or path.count("/") > 1
    if looks_local:
        raise ConfigError(
            f"model.path={path} is no folder", "model.path", "give the folder of a checkpoint, or a hub id"
        )
    if path.strip() and "/" not in path:
        raise ConfigError(
            f"no folder {path} here; a hub id has the form owner/name",
            "model.path",
            "give the folder of a checkpoint, or a hub id such as Qwen/Qwen3-0.6B",
        )
    return path
