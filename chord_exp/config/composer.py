"""Compose the experiments of one command line, each once. Hydra composes; it runs nothing and writes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write

from chord_exp.config import auto_cluster, compose
from chord_exp.config.command_line import RUN_DIR, SWEEP_DIR, CommandLine
from chord_exp.config.hydra_errors import groups, hydra_errors_in_one_line
from chord_exp.errors import ConfigError
from chord_exp.experiment.spec import ExperimentSpec

VERSION_BASE = "1.3"
JOB = "chord_exp"
SWEEP_SUBDIR = "hydra.sweep.subdir"


@dataclass(frozen=True)
class ComposedExperiment:
    """An experiment of a command line, checked as far as its own values go."""

    spec: ExperimentSpec
    command: compose.Command
    # where it runs; absolute
    run_dir: Path
    # whether the user named that folder
    run_dir_chosen: bool
    # as Hydra composed it, with Hydra's own node
    config: DictConfig
    # the text of the same composition without any override; empty where it has no value for a key
    defaults: Callable[[], str]

    @property
    def overrides(self) -> list[str]:
        """The overrides of the experiment, as the user typed them."""
        return _words(self.config.hydra.overrides.task)

    def hydra_files(self, run_dir: Path) -> dict[str, str]:
        """Return what Hydra would leave in a run's folder, by path below it: the configuration and the overrides.

        Beside them the defaults, so that a reader sees what differs.
        """
        folder = self.config.hydra.output_subdir
        if folder is None:
            return {}
        node = OmegaConf.masked_copy(self.config, "hydra")
        with read_write(node.hydra):
            node.hydra.runtime.output_dir = str(run_dir)
        return {
            f"{folder}/config.yaml": OmegaConf.to_yaml(_without_hydra(self.config)),
            f"{folder}/defaults.yaml": self.defaults(),
            f"{folder}/hydra.yaml": OmegaConf.to_yaml(node),
            f"{folder}/overrides.yaml": OmegaConf.to_yaml(self.config.hydra.overrides.task),
        }


class Composer:
    """Composes what one command line asks for; made by `composing`."""

    def __init__(self, asked: CommandLine, look: Callable[[], Sequence[str]] | None) -> None:
        """
        Args:
            look: returns the overrides that `cluster=auto` stands for; without it that option is what its file says.

        Raises:
            ConfigError: an override that Hydra cannot read.
        """
        self.asked = asked
        self._look = None if look is None else cache(look)
        self._parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        self._typed = self.parse(asked.overrides)
        for override in self._typed:
            options = groups().get(override.key_or_group)
            if options and override.value() is None and not override.is_delete():
                key = override.key_or_group
                fix = f"leave it out, or use one of {', '.join(options)}"
                raise ConfigError(f"{override.input_line}: a group takes one of its options", key, fix)
        self._extra = [f"hydra.searchpath=[file://{Path(asked.config_dir).absolute()}]"] if asked.config_dir else []
        if self._extra and any(override.key_or_group == "hydra.searchpath" for override in self._typed):
            raise ConfigError("both --config-dir and hydra.searchpath are given", "command line", "name all in one")

    @hydra_errors_in_one_line()
    def parse(self, words: Sequence[str]) -> list[Override]:
        """Take overrides apart.

        Raises:
            ConfigError: naming the word to type.
        """
        return self._parser.parse_overrides(list(words))

    @hydra_errors_in_one_line()
    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Compose a configuration, with Hydra's node.

        Raises:
            ConfigError: an unknown key or option, or a value of the wrong type.
        """
        name, words = self.asked.config_name or compose.CONFIG_NAME, [*overrides, *self._extra]
        config = hydra.compose(name, words, return_hydra_config=True)
        if self._look is None or config.hydra.runtime.choices.get(auto_cluster.GROUP) != auto_cluster.OPTION:
            return config
        # what was typed comes later, and so has the last word
        typed = [word for word in words if word != f"{auto_cluster.GROUP}={auto_cluster.OPTION}"]
        return hydra.compose(name, [*self._look(), *typed], return_hydra_config=True)

    @cached_property
    def base(self) -> DictConfig:
        """The configuration of the command line without what is swept.

        Raises:
            ConfigError: see `compose`; or several values are given to one run.
        """
        swept = [override for override in self._typed if override.is_sweep_override()]
        base = self.compose([str(override.input_line) for override in self._typed if override not in swept])
        if self.asked.multirun:
            base.hydra.mode = RunMode.MULTIRUN
        if base.hydra.mode is None:
            base.hydra.mode = RunMode.RUN
        if swept and base.hydra.mode == RunMode.RUN:
            raise ConfigError(
                f"{swept[0].input_line} gives several values to one run",
                "command line",
                "add -m to run each, or quote a text with commas",
            )
        if base.hydra.callbacks:
            raise ConfigError("hydra.callbacks are not called", "hydra.callbacks", "leave them out")
        return base

    @cached_property
    def defaults(self) -> str:
        """The text of the configuration without any override; empty where that does not compose."""
        try:
            return OmegaConf.to_yaml(_without_hydra(self.compose([])))
        except ConfigError:
            return ""

    @property
    def sweeps(self) -> bool:
        """Whether it is a sweep that is asked for."""
        return bool(self.base.hydra.mode == RunMode.MULTIRUN)

    @property
    def submits(self) -> bool:
        """Whether what is asked for, a run or a sweep, is to go to a Ray cluster as jobs."""
        return bool(OmegaConf.select(self.base, "hydra.launcher.backend") == "ray")

    def overrides(self, params: Sequence[str]) -> list[Override]:
        """Return the overrides of a sweep, one for each key; those of the command line replace the sweeper's own.

        Raises:
            ConfigError: one sweeps over Hydra's own keys.
        """
        found = {str(override.get_key_element()).lstrip("+"): override for override in self.parse(params)}
        found |= {str(override.get_key_element()).lstrip("+"): override for override in self._typed}
        for override in found.values():
            if override.is_sweep_override() and override.is_hydra_override():
                raise ConfigError(
                    f"{override.input_line}: Hydra's own keys cannot be swept", "command line", "give one value"
                )
        return list(found.values())

    @hydra_errors_in_one_line()
    def grid(self) -> list[list[str]]:
        """Return the overrides of each job of a grid sweep, the last key moving first.

        Raises:
            ConfigError: a key takes no value, or any value between two.
        """
        values, where = [], "command line"
        params = self.base.hydra.sweeper.params or {}
        for override in self.overrides([f"{key}={value}" for key, value in params.items()]):
            key, word = override.get_key_element(), str(override.input_line)
            if not override.is_sweep_override():
                values.append([word])
                continue
            if not override.is_discrete_sweep():
                raise ConfigError(f"{word}: an interval has no grid", where, "add hydra/sweeper=optuna to tune")
            values.append([f"{key}={value}" for value in override.sweep_string_iterator()])
            if not values[-1]:
                raise ConfigError(f"{word} gives no value: the sweep would be empty", where, "give one or more")
        return [list(job) for job in itertools.product(*values)]

    def run(self) -> ComposedExperiment:
        """Return the one experiment of a command line that sweeps nothing.

        Raises:
            ConfigError: see `compose.read`.
        """
        config = self.base
        with _resolving(config):
            chosen = _is_given(config, RUN_DIR)
            run_dir = Path(str(OmegaConf.select(config, RUN_DIR))).expanduser().absolute()
            spec, command = _read(config, run_dir)
        if command.action != "run" and not chosen:
            run_dir = _exported(spec)
        return ComposedExperiment(spec, command, run_dir, chosen, config, lambda: self.defaults)

    def sweep_dir(self) -> tuple[Path, bool]:
        """Return the folder of the sweep, and whether the user named it."""
        with _resolving(self.base):
            folder = Path(str(OmegaConf.select(self.base, SWEEP_DIR))).expanduser().absolute()
        return folder, _is_given(self.base, SWEEP_DIR)

    def trial(self, overrides: Sequence[str], number: int, folder_name: str, sweep_dir: Path) -> ComposedExperiment:
        """Compose one experiment of a sweep.

        Args:
            overrides: all of them, those that every trial has included.
            number: place in the sweep, from 0.
            folder_name: what sets its folder apart, added to `hydra.sweep.subdir` unless the user named that.
            sweep_dir: folder of the sweep.

        Raises:
            ConfigError: see `compose` and `compose.read`.
        """
        config = self.compose(overrides)
        # `now` is the same for all trials
        OmegaConf.copy_cache(from_config=self.base, to_config=config)
        with open_dict(config):
            config.hydra.mode = RunMode.MULTIRUN
            config.hydra.job.id = config.hydra.job.num = number
            config.hydra.sweep.dir = str(sweep_dir)
        with _resolving(config):
            subdir = str(OmegaConf.select(config, SWEEP_SUBDIR)).replace("/", "-")
            chosen = _is_given(config, SWEEP_SUBDIR)
            run_dir = sweep_dir / (subdir if chosen or not folder_name else f"{subdir}_{folder_name}")
            spec, command = _read(config, run_dir)
        if spec.resume:
            raise ConfigError(
                "resume=true goes on with one run, and -m asks for a sweep",
                "resume",
                "go on with a sweep by python -m chord_exp.runs resume SWEEP_DIR",
            )
        if command.action != "run" and not self.sweep_dir()[1]:
            run_dir = _exported(spec)
        return ComposedExperiment(
            compose.in_sweep(spec, sweep_dir), command, run_dir, chosen, config, lambda: self.defaults
        )


@contextmanager
def composing(asked: CommandLine, look: Callable[[], Sequence[str]] | None = None) -> Iterator[Composer]:
    """Set Hydra up for a command line, and take it down again.

    Args:
        look: see `Composer`.

    Raises:
        ConfigError: an override that Hydra cannot read.
    """
    compose.register_schema()
    with _search_path(asked.config_path):
        yield Composer(asked, look)


def _search_path(folder: str | None) -> hydra.initialize_config_module | hydra.initialize_config_dir:
    """Where the primary configuration is looked for: in conf/ of this package, or in a folder of the user's."""
    if folder is None:
        return hydra.initialize_config_module(compose.CONFIG_MODULE, version_base=VERSION_BASE, job_name=JOB)
    return hydra.initialize_config_dir(str(Path(folder).absolute()), version_base=VERSION_BASE, job_name=JOB)


@contextmanager
def _resolving(config: DictConfig) -> Iterator[None]:
    """Let `${hydra:...}` mean this configuration."""
    before = HydraConfig.instance().cfg
    try:
        HydraConfig.instance().set_config(config)
        with hydra_errors_in_one_line():
            yield
    finally:
        HydraConfig.instance().cfg = before


def _read(config: DictConfig, run_dir: Path) -> tuple[ExperimentSpec, compose.Command]:
    with read_write(config.hydra):
        config.hydra.runtime.output_dir = str(run_dir)
    HydraConfig.instance().set_config(config)
    return compose.read(_without_hydra(config))


def _without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def _exported(spec: ExperimentSpec) -> Path:
    """The run's folder that an exported file names: it must not change with the clock."""
    return Path("outputs", spec.name, "exported").absolute()


def _is_given(config: DictConfig, key: str) -> bool:
    return any(word.lstrip("+").startswith(f"{key}=") for word in _words(config.hydra.overrides.hydra))


def _words(overrides: ListConfig) -> list[str]:
    """Overrides as typed: a `${...}` in them is not resolved."""
    return [str(word) for word in cast(list, OmegaConf.to_container(overrides, resolve=False))]
