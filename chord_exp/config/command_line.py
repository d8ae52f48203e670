"""The words of a command line: Hydra's flags, and overrides. Light: the completion of a shell runs it at each TAB."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from chord_exp import __version__
from chord_exp.errors import ConfigError

# keys of Hydra's that name the folder of a run and of a sweep
RUN_DIR, SWEEP_DIR = "hydra.run.dir", "hydra.sweep.dir"
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


@dataclass(frozen=True)
class CommandLine:
    """What was asked for. Overrides may stand before, after and between flags."""

    # as typed
    words: tuple[str, ...]
    overrides: tuple[str, ...]
    # the flags and their values, in order
    flags: tuple[str, ...]
    multirun: bool
    # whether Hydra is only to print something: help, a configuration, its own state, a shell's completions
    prints: bool
    # the primary configuration, and folders of more of them
    config_name: str | None
    config_path: str | None
    config_dir: str | None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, "command line", "--hydra-help lists the options; values are set by key=value")


def parse(words: Sequence[str]) -> CommandLine:
    """Take a command line apart.

    Raises:
        ConfigError: an unknown option, or one with a wrong value.
    """
    given = _parser().parse_intermixed_args(words)
    if given.experimental_rerun:
        raise ConfigError(
            "--experimental-rerun is not supported: a run repeats from words, not from a pickle",
            "command line",
            "give the words of the run's .hydra/overrides.yaml again, or go on with it by resume=true",
        )
    for flag, folder in (("--config-dir", given.config_dir), ("--config-path", given.config_path)):
        if folder is not None and not Path(folder).is_dir():
            raise ConfigError(f"{flag} {folder} is no folder", flag, "give the folder of your own option files")
    flags = list(words)
    for override in given.overrides:
        flags.remove(override)
    return CommandLine(
        words=tuple(words),
        overrides=tuple(given.overrides),
        flags=tuple(flags),
        multirun=given.multirun,
        prints=bool(given.help or given.hydra_help or given.cfg or given.info or given.shell_completion),
        config_name=given.config_name,
        config_path=given.config_path,
        config_dir=given.config_dir,
    )


def _parser() -> argparse.ArgumentParser:
    """Hydra's own flags; what they mean is printed by `--hydra-help`."""
    parser = _Parser(prog="chord_exp", add_help=False)
    parser.add_argument("overrides", nargs="*")
    for name, short in (("help", "h"), ("resolve", None), ("run", "r"), ("multirun", "m"), ("shell-completion", "sc")):
        parser.add_argument(f"--{name}", *([f"-{short}"] if short else []), action="store_true")
    for name, short in (("package", "p"), ("config-path", "cp"), ("config-name", "cn"), ("config-dir", "cd")):
        parser.add_argument(f"--{name}", f"-{short}")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("--version", action="version", version=f"chord_exp {__version__}")
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"))
    parser.add_argument("--info", "-i", const="all", nargs="?", choices=INFO)
    parser.add_argument("--experimental-rerun")
    return parser
