"""The command line: Hydra composes and runs, this checks beforehand and says what is wrong in one line.

Hydra creates the run folder before it calls the program. So a run or a sweep is composed and checked once
beforehand, and only what passes reaches Hydra; what prints something (`--cfg`, `--info`, `--help`,
completion) goes to Hydra at once.
"""

from __future__ import annotations

import io
import os
import re
import sys
import traceback
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from chord_exp.config import compose
from chord_exp.errors import BAD_INPUT, INTERRUPTED, RUN_FAILED, SUCCEEDED, ChordExpError, ConfigError
from chord_exp.experiment.spec import ExperimentSpec
from chord_exp.run_files.names import RECORD
from chord_exp.sweep.folder import SweepFolder

VERSION_BASE = "1.3"
PROGRAM = "chord_exp"


@dataclass(frozen=True)
class Job:
    """One checked experiment of a command line, not started yet."""

    spec: ExperimentSpec
    command: compose.Command
    run_dir: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code: 0 done, 1 failed, 2 refused, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = _wants_debug(arguments)
    try:
        code = _exit_code(arguments, debug)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # whoever read the output, `head` say, has enough of it; Python would complain again when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return RUN_FAILED


def _exit_code(arguments: list[str], debug: bool) -> int:
    try:
        return _main(arguments, debug)
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else SUCCEEDED if stop.code is None else RUN_FAILED
    except BrokenPipeError:
        raise
    except Exception as error:
        return _report(error, debug)


def _wants_debug(arguments: Sequence[str]) -> bool:
    asked = any(re.fullmatch(r"\+{0,2}debug=(true|1|yes|on)", argument, re.IGNORECASE) for argument in arguments)
    return asked or os.environ.get("HYDRA_FULL_ERROR") == "1"


def _report(error: Exception, debug: bool) -> int:
    from chord_exp.config.hydra_errors import REFUSALS, translate

    if debug:
        traceback.print_exc()
    if isinstance(error, REFUSALS):
        error = translate(error)
    if isinstance(error, ChordExpError):
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_code
    text = " ".join(str(error).split())
    print(f"{PROGRAM}: unexpected {type(error).__name__}: {text} -> debug=true shows where", file=sys.stderr)
    return RUN_FAILED


def _main(arguments: list[str], debug: bool) -> int:
    compose.register_schema()
    flags, arguments = _parse(arguments)
    shows = flags.help or flags.hydra_help or flags.cfg or flags.info or flags.shell_completion
    if shows or flags.experimental_rerun or flags.config_path:
        return _hand_to_hydra(arguments, debug)
    jobs = _checked_jobs(flags)
    if jobs and all(job.command.action != "run" for job in jobs):
        # nothing trains: no run folder
        return max(_perform(job, []) for job in jobs)
    return _hand_to_hydra(arguments, debug)


def _parse(arguments: list[str]) -> tuple[Namespace, list[str]]:
    """Hydra's flags, and the arguments with all overrides first: Hydra takes `a=1 b=2 -m`, not `a=1 -m b=2`.

    Raises:
        ConfigError: an unknown option, or one with a wrong value.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            flags = get_args_parser().parse_intermixed_args(arguments)
    except SystemExit as stop:
        if not stop.code:
            raise
        what = said.getvalue().strip().rpartition("error: ")[2]
        raise ConfigError(what, "command line", "--hydra-help lists the options; values are set by key=value") from None
    options = list(arguments)
    for override in flags.overrides:
        options.remove(override)
    return flags, [*flags.overrides, *options]


def _perform(job: Job, overrides: Sequence[str]) -> int:
    from chord_exp import actions

    if job.command.action == "plan":
        return actions.plan(job.spec, job.run_dir)
    if job.command.action == "export":
        return actions.export(job.spec, job.run_dir, Path(str(job.command.export_to)))
    return actions.run(job.spec, job.run_dir, overrides)


def _checked_jobs(flags: Namespace) -> list[Job]:
    """Compose and check every experiment of the command line.

    Empty for a sweep that trains, of which only the first one is checked here, before Hydra makes its folder: the
    launcher composes and checks all before any starts. Empty too where only the sweeper knows the jobs.
    """
    from chord_exp import actions

    jobs = []
    with hydra.initialize_config_module("chord_exp.conf", version_base=VERSION_BASE, job_name=PROGRAM):
        for overrides, number in _expand(flags):
            job = _job(flags, overrides, number)
            actions.check(job.spec, job.run_dir)
            if number is not None and job.command.action == "run" and not _sweeps("action", flags):
                return []
            jobs.append(job)
    if all(job.command.action == "run" for job in jobs):
        for job in jobs:
            _prepare_run(job)
    return jobs


def _sweeps(key: str, flags: Namespace) -> bool:
    return any(override.lstrip("+").startswith(f"{key}=") and "," in override for override in flags.overrides)


def _prepare_run(job: Job) -> None:
    from chord_exp import actions

    facts = actions.read_facts(job.spec, required=True)
    actions.to_trinity(job.spec, facts, actions.run_folders(job.spec, job.run_dir))


def _compose(flags: Namespace, overrides: Sequence[str]) -> DictConfig:
    extra = [f"hydra.searchpath=[file://{Path(flags.config_dir).absolute()}]"] if flags.config_dir else []
    name = flags.config_name or compose.CONFIG_NAME
    return hydra.compose(name, overrides=[*overrides, *extra], return_hydra_config=True)


def _expand(flags: Namespace) -> Iterator[tuple[list[str], int | None]]:
    """The overrides of each job of the command line, and its number in the sweep; None for a single run."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    loader = GlobalHydra.instance().config_loader()
    parser = OverridesParser.create(config_loader=loader)
    parsed = parser.parse_overrides(flags.overrides)
    base = _compose(flags, [str(override.input_line) for override in parsed if not override.is_sweep_override()])
    if not flags.multirun and base.hydra.mode != RunMode.MULTIRUN:
        yield flags.overrides, None
    elif str(base.hydra.sweeper._target_).endswith((".BasicSweeper", ".GridSweeper")):
        params = [f"{key}={value}" for key, value in (base.hydra.sweeper.params or {}).items()]
        swept = parser.parse_overrides([*params, *flags.overrides])
        (jobs,) = BasicSweeper.split_arguments(swept, max_batch_size=None)
        yield from ((list(overrides), number) for number, overrides in enumerate(jobs))


def _job(flags: Namespace, overrides: Sequence[str], number: int | None) -> Job:
    numbered = [] if number is None else [f"hydra.job.num={number}"]
    config = _compose(flags, [*overrides, *numbered])
    spec, command = compose.read(_without_hydra(config))
    if number is not None and spec.resume:
        raise ConfigError(
            "resume=true goes on with one run, and -m asks for a sweep",
            "resume",
            "go on with a sweep by python -m chord_exp.sweep resume SWEEP_DIR",
        )
    key = "hydra.run.dir" if number is None else "hydra.sweep.dir"
    chosen = any(str(override).lstrip("+").startswith(f"{key}=") for override in config.hydra.overrides.hydra)
    if not chosen and command.action != "run":
        # an exported file must not change with the clock
        return Job(spec, command, Path("outputs", spec.name, "exported").absolute())
    folder = Path(OmegaConf.select(config, key)).absolute()
    run_dir = folder if number is None else folder / str(config.hydra.sweep.subdir)
    if number is not None:
        spec = compose.in_sweep(spec, folder)
    if command.action == "run":
        if spec.resume:
            _check_resumed(folder, key, chosen)
        elif (run_dir / RECORD).exists():
            raise ConfigError(
                f"{run_dir} already holds a run",
                key,
                "add resume=true to go on with it, or give another folder",
            )
        if number is not None:
            SweepFolder(folder).refuse_used()
    return Job(spec, command, run_dir)


def _without_hydra(config: DictConfig) -> DictConfig:
    job = config.copy()
    OmegaConf.set_struct(job, False)
    job.pop("hydra", None)
    return job


def _check_resumed(folder: Path, key: str, chosen: bool) -> None:
    """Refuse to resume where nothing is, before Hydra makes the folder.

    Args:
        folder: of the run.
        key: Hydra's key that names the folder.
        chosen: whether the user gave it.
    """
    if not chosen:
        raise ConfigError("resume=true does not say which run to go on with", "resume", f"add {key}=FOLDER of that run")
    if not (folder / RECORD).exists():
        raise ConfigError(
            f"{folder} holds nothing to resume: no {RECORD}",
            key,
            "leave resume out, or name the folder of a run",
        )


def _hand_to_hydra(arguments: list[str], debug: bool) -> int:
    compose.register_plugins()
    codes: list[int] = []

    def task(config: DictConfig) -> None:
        try:
            spec, command = compose.read(config)
            settings = HydraConfig.get()
            if settings.mode == RunMode.MULTIRUN:
                spec = compose.in_sweep(spec, Path(settings.sweep.dir))
            job = Job(spec, command, Path(settings.runtime.output_dir))
            codes.append(_perform(job, list(settings.overrides.task)))
        except KeyboardInterrupt:
            codes.append(INTERRUPTED)
        except Exception as error:  # one bad job of a sweep must not hide the others
            codes.append(_report(error, debug))
        if codes[-1] == INTERRUPTED:
            raise SystemExit(INTERRUPTED)

    start = hydra.main(version_base=VERSION_BASE, config_path=compose.CONFIG_PATH, config_name=compose.CONFIG_NAME)(
        task
    )
    with _command_line(arguments):
        start()
    failed = {code for code in codes if code != SUCCEEDED}
    return SUCCEEDED if not failed else BAD_INPUT if failed == {BAD_INPUT} else RUN_FAILED


@contextmanager
def _command_line(arguments: list[str]) -> Iterator[None]:
    """Hydra reads sys.argv, and prints tracebacks and exits by itself unless this variable makes it raise."""
    before, sys.argv = sys.argv, [sys.argv[0], *arguments]
    had = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = before
        if had is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = had
