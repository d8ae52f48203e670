"""The command line: compose once, then print, export, run, or start a sweep; say what is wrong in one line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chord_exp.config.command_line import CommandLine, parse
from chord_exp.errors import RUN_FAILED, SUCCEEDED
from chord_exp.utils.program import run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return the exit code: 0 done, 1 failed, 2 refused, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    return run_program("chord_exp", lambda: _exit_code(words), debug=_wants_debug(words), hint="debug=true")


def _exit_code(words: list[str]) -> int:
    try:
        return _main(parse(words))
    except SystemExit as stop:  # Hydra ends the process where it has printed
        return stop.code if isinstance(stop.code, int) else SUCCEEDED if stop.code is None else RUN_FAILED


def _wants_debug(words: Sequence[str]) -> bool:
    return any(re.fullmatch(r"\+{0,2}debug=(true|1|yes|on)", word, re.IGNORECASE) for word in words)


def _main(asked: CommandLine) -> int:
    if asked.prints:
        return _print(asked)
    if sys.stderr.isatty():
        # for somebody who waits; files and pipes hold results and errors only
        print("chord_exp: reading the configuration", file=sys.stderr, flush=True)
    from chord_exp import actions
    from chord_exp.config.composer import composing

    with composing(asked, actions.cluster_words) as composer:
        # for this process and those that it starts
        os.environ.update({str(name): str(value) for name, value in composer.base.hydra.job.env_set.items()})
        if composer.sweeps:
            from chord_exp.sweep.command import run_sweep

            return run_sweep(composer)
        if composer.submits:
            from chord_exp.sweep.job import run_as_job

            return run_as_job(composer)
        return actions.perform(composer.run())


def _print(asked: CommandLine) -> int:
    """Let Hydra print: help, a configuration, its own state, or a shell's completions."""
    import hydra

    from chord_exp.config import compose, composer
    from chord_exp.config.hydra_errors import hydra_errors_in_one_line

    compose.register_schema()
    decorate = hydra.main(f"pkg://{compose.CONFIG_MODULE}", compose.CONFIG_NAME, composer.VERSION_BASE)
    flags = asked.flags
    if asked.config_path:  # Hydra would take it from this file's folder
        flags = tuple(flag.replace(asked.config_path, str(Path(asked.config_path).absolute())) for flag in flags)
    # Hydra takes `a=1 b=2 -c job`, not `a=1 -c job b=2`
    with _command_line([*asked.overrides, *flags]), hydra_errors_in_one_line():
        decorate(lambda config: None)()
    return SUCCEEDED


@contextmanager
def _command_line(words: Sequence[str]) -> Iterator[None]:
    """Hydra reads sys.argv, and prints tracebacks and exits by itself unless this variable makes it raise."""
    before, sys.argv = sys.argv, [sys.argv[0], *words]
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
