"""Trials as processes of this machine, which end when their launcher does: each finishes its step and saves."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass

import psutil

from chord_exp.errors import RunFailed
from chord_exp.launch.cluster.machines import visible_gpus
from chord_exp.launch.driver.warm_server import warm_server
from chord_exp.launch.launch_spec import LaunchSpec
from chord_exp.launch.start import WARM_ENV
from chord_exp.launch.stop_file import clear_stop_file
from chord_exp.run_files.names import LOGS
from chord_exp.sweep.backends import stop_file, worker
from chord_exp.sweep.scheduling.backend import Exit
from chord_exp.sweep.scheduling.resources import Footprint, Node
from chord_exp.sweep.scheduling.scheduler import GRACE
from chord_exp.sweep.scheduling.trial import Trial

GIB = 2**30
HERE = "this machine"
# what the server printed that trials are forked from, in the sweep's folder
WARM_LOG = "warm_server.log"


def worker_command(trial: Trial) -> list[str]:
    """Return the command line of a trial's process."""
    words = [
        sys.executable,
        "-m",
        "chord_exp.sweep.backends.worker",
        str(trial.run_dir),
        "--attempt",
        str(trial.attempt),
    ]
    return [*words, "--parent", str(os.getpid())]


class LocalProcesses:
    """A `Backend` of processes below this one."""

    def __init__(self, command: Callable[[Trial], list[str]] | None = None, node: Node | None = None) -> None:
        """
        Args:
            command: the command line of a trial, `worker_command` by default; it must hold the worker's lock of the
                trial's folder.
            node: what this machine has to give; counted by default.
        """
        self._command = command or worker_command
        self._node = node or this_machine()
        self._gpus = visible_gpus()
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._pidfds: dict[int, int] = {}
        # processes that another launcher started, with what is known of them
        self._attached: dict[int, _Handle | None] = {}
        # by trial, those that processes were told to use
        self._gpus_held: dict[int, list[str]] = {}
        # ends what was started beside the trials
        self._beside = ExitStack()
        self._stop_requests = stop_file.StopRequests(self.now, self._kill)

    def nodes(self) -> Sequence[Node]:
        """Return this machine."""
        return [self._node]

    def external(self) -> Sequence[Footprint]:
        """Return nothing: there is no place where processes of several users register."""
        return []

    def start(self, trial: Trial) -> str:
        """Start the trial's process and return a handle that says which it is and what GPUs are its own."""
        clear_stop_file(trial.run_dir)
        self._warm_up_for(trial)
        gpus = self._choose_gpus(trial)
        try:
            with open(trial.run_dir / LOGS / worker.LOG, "ab") as log:
                process = subprocess.Popen(
                    self._command(trial),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **({"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {})},
                    start_new_session=True,
                )
        except OSError as error:
            raise RunFailed(f"cannot start a process: {error.strerror}", str(trial.run_dir)) from error
        self._children[trial.number] = process
        self._gpus_held[trial.number] = gpus
        with suppress(OSError):  # without it the end is seen at the next look
            self._pidfds[trial.number] = os.pidfd_open(process.pid)
        return _Handle(process.pid, psutil.Process(process.pid).create_time(), gpus).text()

    def attach(self, trial: Trial) -> bool:
        """Return whether the process of a killed launcher's trial is still saving; from now on it has a deadline."""
        if not worker.is_alive(trial.run_dir):
            return False
        handle = _Handle.parse(trial.handle)
        self._attached[trial.number] = handle
        self._gpus_held[trial.number] = handle.gpus if handle is not None else []
        self._stop_requests.set_deadline(trial, GRACE)
        return True

    def ended(self, trials: Iterable[Trial]) -> list[tuple[Trial, Exit]]:
        """Return the trials whose process is gone."""
        over = []
        for trial in trials:
            child = self._children.get(trial.number)
            if child is not None and (code := child.poll()) is not None:
                del self._children[trial.number]
                if trial.number in self._pidfds:
                    os.close(self._pidfds.pop(trial.number))
                over.append((trial, Exit(code)))
            elif trial.number in self._attached and not worker.is_alive(trial.run_dir):
                del self._attached[trial.number]
                over.append((trial, Exit(None, "its launcher died")))
            else:
                self._stop_requests.escalate(trial)
                continue
            self._stop_requests.clear(trial)
            self._gpus_held.pop(trial.number, None)
        return over

    def stop(self, trial: Trial, grace: float) -> None:
        """Ask the trial to save and end."""
        if trial.number in self._attached and grace > 0:
            # its launcher's death has asked it already, and to be asked twice means at once
            self._stop_requests.set_deadline(trial, grace)
        else:
            self._stop_requests.send(trial, grace)

    def wait(self, seconds: float) -> None:
        """Sleep until a child ends, at most so long."""
        poll = select.poll()
        for descriptor in self._pidfds.values():
            poll.register(descriptor, select.POLLIN)
        poll.poll(seconds * 1000)

    def now(self) -> float:
        """Return the time, seconds since the epoch: attempts are compared across processes."""
        return time.time()

    def close(self) -> None:
        """End what was started beside the trials."""
        self._beside.close()

    def _warm_up_for(self, trial: Trial) -> None:
        """Before the first trial without GPUs: import once for all of them what their runs need."""
        on_gpus = trial.footprint.gpus or trial.footprint.joins
        if WARM_ENV not in os.environ and not on_gpus and self._command is worker_command:
            engine = LaunchSpec.load(trial.run_dir).engine
            self._beside.enter_context(warm_server(trial.run_dir.parent / WARM_LOG, engine))

    def _kill(self, trial: Trial) -> None:
        child, handle = self._children.get(trial.number), self._attached.get(trial.number)
        if child is not None:
            child.kill()
        elif handle is not None:
            handle.kill()
        stop_file.end_leftovers(trial.run_dir)

    def _choose_gpus(self, trial: Trial) -> list[str]:
        """GPUs of its own for a trial with a private Ray: two of those would both begin with the first GPU."""
        if not trial.footprint.gpus or trial.footprint.joins:
            return []
        taken = {gpu for gpus in self._gpus_held.values() for gpu in gpus}
        mine = [gpu for gpu in self._gpus if gpu not in taken][: trial.footprint.gpus]
        return mine if len(mine) == trial.footprint.gpus else []


@dataclass(frozen=True)
class _Handle:
    """What a later launcher must know of a trial's process."""

    pid: int
    # seconds since the epoch: process numbers come back
    created: float
    # names of the GPUs that are its own
    gpus: list[str]

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> _Handle | None:
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):  # its launcher was killed before it could write it
            return None

    def kill(self) -> None:
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.created) < 1.0:
                process.kill()


def this_machine() -> Node:
    """Return what this machine has to give now: its cores, its GPUs, and the memory that is not in use."""
    memory = psutil.virtual_memory().available / GIB
    return Node(HERE, len(visible_gpus()), len(os.sched_getaffinity(0)), round(memory, 1))
