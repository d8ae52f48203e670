"""A process that has imported everything a run without GPUs needs, and forks each run from itself.

    with warm_server():
        ...  # runs started here, by this process and those below it, begin seconds earlier

A run forked here is the run that a fresh process would have been: it has a session, an environment, a folder, streams
and a log of its own, and its watcher stops it and learns its end through `fork_client` as if it were its child. Where
anything that a process takes from its parent, or that imports may have looked at, is not as the server's, the server
declines and the run starts afresh. The server ends with its owner; when it is killed, its runs go on.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from chord_exp.errors import RUN_FAILED, RunFailed
from chord_exp.launch import processes
from chord_exp.launch.cluster import private_ray
from chord_exp.launch.driver import run_process
from chord_exp.launch.forking import forkserver
from chord_exp.launch.forking.fork_client import process_state
from chord_exp.launch.start import MODULE, WARM_ENV, run_environment

SOCKET = "warm.sock"
# variables that may differ between server and run: nothing that is imported looks at them
OWN_TO_A_RUN = {processes.MARK, WARM_ENV, "TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "PWD", "OLDPWD", "SHLVL", "_"}
OWN_TO_A_RUN |= {"COLUMNS", "LINES", "CHORD_PYTHON", "PYTEST_CURRENT_TEST", *forkserver.RAY_ENVIRONMENT}


@contextmanager
def warm_server(log: Path | None = None, engine: str = "local") -> Iterator[int | None]:
    """Have a warm server for the runs of this process and of those it starts.

    Returns at once: a run that comes before the server is ready waits for it.

    Args:
        log: where the server prints; nowhere by default.
        engine: of the runs: local or real_cpu. Others start afresh.

    Yields:
        The server's process number; None if it could not be started, which costs only speed.
    """
    with ExitStack() as at_exit:
        try:
            pid = _start(at_exit, log, engine)
        except (OSError, RunFailed):
            pid = None
        yield pid


def _start(at_exit: ExitStack, log: Path | None, engine: str) -> int:
    folder = private_ray.make_temp_dir()
    at_exit.callback(shutil.rmtree, folder, ignore_errors=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    environment = {**os.environ, **run_environment(engine, "local"), processes.MARK: processes.NO_RUN}
    # what imports leave there goes with the folder
    environment["TMPDIR"] = str(folder)
    with open(log or os.devnull, "ab") as output, listener:
        listener.bind(str(folder / SOCKET))
        listener.listen(64)
        words = [str(listener.fileno()), str(os.getpid()), str(folder), engine]
        server = subprocess.Popen(
            [sys.executable, "-m", "chord_exp.launch.driver.warm_server", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
    at_exit.callback(server.wait)
    at_exit.callback(server.kill)  # its runs go on
    before = os.environ.get(WARM_ENV)
    at_exit.callback(_restore, before)
    os.environ[WARM_ENV] = str(folder / SOCKET)
    return server.pid


def _restore(before: str | None) -> None:
    del os.environ[WARM_ENV]
    if before is not None:
        os.environ[WARM_ENV] = before


def main(descriptor: int, owner: int, folder: Path, engine: str) -> None:
    """Import, then fork a run for each request, until the owner ends."""
    environment, state = dict(os.environ), process_state()
    processes.end_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        if os.getppid() != owner:  # it died before the kernel was asked
            return
        forkserver.set_up_environment()
        run_process.preload(engine)
        if not forkserver.can_serve():
            return
        with socket.socket(fileno=descriptor) as listener:
            why_not = partial(reason_to_decline, environment, state, Path.cwd())
            loop = forkserver.ForkLoop(listener, why_not, _run, kill_orphans=False)
            while True:
                loop.turn()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def reason_to_decline(
    environment: Mapping[str, str], state: Mapping[str, Any], folder: Path, request: Mapping[str, Any]
) -> str:
    """Return why a request must be served by a fresh process, the empty string if it need not.

    Args:
        environment, state, folder: what the server was started with: its variables, its `process_state`, its folder.
    """
    if request["argv"][:2] != ["-m", MODULE]:
        return "not a run"
    given = request["env"]
    for name in sorted((environment.keys() | given.keys()) - OWN_TO_A_RUN):
        if environment.get(name) != given.get(name):
            return f"the variable {name} differs"
    for name, value in state.items():
        if request["state"].get(name) != value:
            return f"its {name} differ"
    here = Path(request["cwd"])
    if here != folder:
        # a fresh process would import these from there
        with suppress(OSError):
            imported = {name.partition(".")[0] for name in sys.modules}
            if shadowing := sorted(imported & {Path(name).stem for name in os.listdir(here)}):
                return f"{here} holds {shadowing[0]}, which is imported already"
    return ""


def _run(request: dict[str, Any], client: socket.socket) -> int:
    """In the forked process: become the run."""
    os.setsid()
    started_in = os.getcwd()
    own = {name: os.environ[name] for name in forkserver.RAY_ENVIRONMENT}
    forkserver.take_over(request)
    os.environ.update(own)
    if sys.path[0] == started_in:  # where `python -m` puts the folder that it is started in
        sys.path[0] = request["cwd"]
    sys.argv = [run_process.__file__, *request["argv"][2:]]
    tempfile.tempdir = None
    # imported by `preload`
    sys.modules["numpy"].random.seed()
    sys.modules["torch"].default_generator.seed()
    processes.mark_this_process(request["env"][processes.MARK])
    # whoever ends the run by its mark may have looked before it was there, and killed the client
    with suppress(BlockingIOError):
        if not client.recv(1, socket.MSG_DONTWAIT):
            return RUN_FAILED
    return run_process.main(Path(sys.argv[1]), client)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
