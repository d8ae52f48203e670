"""Trials as jobs of a Ray cluster, by its Jobs API: they go on without their launcher and are found again by name."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from typing import Any, TypeVar
from urllib.parse import urlsplit

from chord_exp.errors import ConfigError
from chord_exp.run_files.names import LOGS
from chord_exp.sweep.backends import ray_head, stop_file, worker
from chord_exp.sweep.backends.ray_head import WHOLE_TRIALS
from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.scheduling.backend import ClusterLost, Exit
from chord_exp.sweep.scheduling.resources import Footprint, Node
from chord_exp.sweep.scheduling.trial import Trial
from chord_exp.sweep.settings import AUTO, START, Settings

GIB = 2**30
# what a job tells everyone about itself
SWEEP_KEY, FOOTPRINT_KEY = "chord_exp_sweep", "chord_exp_footprint"
# a cluster that does not answer is asked again for so long, seconds
PATIENCE = 60.0
# a cluster that takes a question and does not answer it is given up on after so long, seconds
REQUEST_SECONDS = 30.0
# jobs are looked at at most so often, seconds
LOOK_SECONDS = 0.25
# what Ray says of a job that waited too long for its resources
NEVER_STARTED = "failed to start within"

T = TypeVar("T")


class RayJobs:
    """A `Backend` on a Ray cluster."""

    def __init__(
        self,
        client: Any,
        address: str,
        sweep_id: str,
        head: ray_head.Head | None = None,
        say: Callable[[str], None] = lambda text: print(f"chord_exp: {text}", file=sys.stderr),
        command: Callable[[Trial], list[str]] | None = None,
    ) -> None:
        """
        Args:
            client: a `JobSubmissionClient`.
            address: http address of the cluster's dashboard.
            sweep_id: unique among the sweeps of the cluster; part of the names of jobs.
            head: the cluster, if it is this sweep's own and is to end with it.
            say: prints a line for the user.
            command: the command line of a trial, which runs on a node of the cluster.
        """
        self._client, self._address, self._sweep, self._head = client, address, sweep_id, head
        self._command = command or worker_command
        self._orders = stop_file.Orders(self.now, self._kill)
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="ray-jobs")
        self._looked = 0.0
        self._whole = 0.0
        self._say = say
        self.nodes()
        if not self._whole and any(node.gpus for node in self.nodes()):
            say(
                f"warning: the cluster has no resource {WHOLE_TRIALS}, so sweeps started at the same moment may get in "
                f"each other's way: start its head with --resources='{{\"{WHOLE_TRIALS}\": NUMBER_OF_GPUS}}'"
            )

    @classmethod
    def connect(cls, settings: Settings, folder: SweepFolder, sweep_id: str) -> RayJobs:
        """Join the cluster that the settings name, or start one.

        Raises:
            ConfigError: none answers there.
        """
        address: str | None = settings.address
        if settings.address == START:
            address = settings.bind
        elif settings.address == AUTO:
            address = os.environ.get("RAY_ADDRESS")
        set_auth_mode(address or "localhost")
        head = None
        if settings.address == START:
            head = ray_head.find(folder) or ray_head.start(folder, settings)
            address = head.address
        try:
            client = make_client(address)
            return cls(client, client.get_address(), sweep_id, head)
        except Exception as error:  # Ray raises many kinds, RuntimeError and ConnectionError among them
            if head is not None:
                head.stop()
            first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ConfigError(
                f"no Ray cluster answers at {address or 'this machine'} ({first})",
                "hydra.launcher.address",
                "start one with `ray start --head`, or let the sweep do so: hydra.launcher.address=start. A remote "
                "cluster needs its http://HOST:8265, RAY_AUTH_MODE=token with its token, and this Python "
                "environment, the data and this folder under the same paths on its machines",
            ) from error

    def nodes(self) -> Sequence[Node]:
        """The cluster's living machines."""
        resources = self._call(lambda: ray_head.machines(self._address))
        self._whole = sum(has.get(WHOLE_TRIALS, 0.0) for has in resources.values())
        return [
            Node(name, int(has.get("GPU", 0)), has.get("CPU", 0.0), round(has.get("memory", 0.0) / GIB, 1))
            for name, has in sorted(resources.items())
        ]

    def others(self) -> Sequence[Footprint]:
        """What the trials of other sweeps hold or wait for."""
        jobs = self._call(self._client.list_jobs)
        found = []
        for job in jobs:
            metadata = job.metadata or {}
            if SWEEP_KEY in metadata and metadata[SWEEP_KEY] != self._sweep and not job.status.is_terminal():
                found.append(Footprint(**json.loads(metadata[FOOTPRINT_KEY])))
        return found

    def start(self, trial: Trial) -> str:
        """Submit the attempt's job; one that is there already is left as it is."""
        name = self._name(trial)
        (trial.run_dir / LOGS).mkdir(exist_ok=True)
        stop_file.order_path(trial.run_dir).unlink(missing_ok=True)
        footprint = trial.footprint
        wanted: dict[str, Any] = {}
        if footprint.gpus and self._whole >= footprint.gpus:
            wanted["entrypoint_resources"] = {WHOLE_TRIALS: footprint.gpus}
        if not footprint.joins:
            # its private Ray takes nothing from the cluster, so the job itself does
            wanted["entrypoint_num_cpus"] = footprint.cpus
            wanted["entrypoint_num_gpus"] = footprint.gpus or None
            wanted["entrypoint_memory"] = int(footprint.memory * GIB) or None

        def submit() -> None:
            try:
                self._client.submit_job(
                    entrypoint=f"exec {shlex.join(self._command(trial))}",
                    submission_id=name,
                    metadata={SWEEP_KEY: self._sweep, FOOTPRINT_KEY: json.dumps(asdict(footprint))},
                    **wanted,
                )
            except Exception as error:
                # asked twice: the answer to the first time was lost
                if "already exists" not in str(error):
                    raise

        self._call(submit)
        return name

    def attach(self, trial: Trial) -> bool:
        """Whether the cluster knows the attempt's job, ended or not."""
        return self._info(trial) is not None

    def ended(self, trials: Iterable[Trial]) -> list[tuple[Trial, Exit]]:
        """Trials whose job is over."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return []
        followed = list(trials)
        over = []
        for trial, info in zip(followed, self._threads.map(self._info, followed), strict=True):
            left = _exit_of(info)
            if left is None:
                self._orders.press(trial)
                continue
            self._orders.forget(trial)
            self._keep_log(trial)
            over.append((trial, left))
        self._looked = time.monotonic()
        return over

    def stop(self, trial: Trial, grace: float) -> None:
        """Ask the trial to save and end; a job that waits for resources is taken back."""
        self._orders.give(trial, grace)
        info = self._info(trial)
        if info is not None and str(info.status) == "PENDING":
            self._kill(trial)

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def now(self) -> float:
        """The wall clock."""
        return time.time()

    def close(self) -> None:
        """End the head, if it was started for this sweep."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._head is not None:
            self._head.stop()

    def _name(self, trial: Trial) -> str:
        return f"chord-{self._sweep}-{trial.number}-a{trial.attempt}"

    def _keep_log(self, trial: Trial) -> None:
        """Where the trial could not open its own log, what Ray kept of the job's output says why."""
        log = trial.run_dir / LOGS / worker.LOG
        if not log.exists():
            with suppress(Exception):  # only to help; the job may have never had a process
                log.write_text(str(self._client.get_job_logs(self._name(trial))))

    def _kill(self, trial: Trial) -> None:
        self._call(lambda: self._client.stop_job(self._name(trial)))

    def _info(self, trial: Trial) -> Any:
        def ask() -> Any:
            try:
                return self._client.get_job_info(self._name(trial))
            except RuntimeError as error:
                if "does not exist" in str(error):
                    return None
                raise

        return self._call(ask)

    def _call(self, ask: Callable[[], T]) -> T:
        """Ask the cluster, again where it does not answer.

        Raises:
            ClusterLost: it has not answered for `PATIENCE` seconds.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return ask()
            except Exception as error:
                if time.monotonic() > deadline or (self._head is not None and self._head.process() is None):
                    raise ClusterLost(
                        f"the Ray cluster at {self._address} does not answer: {' '.join(str(error).split())[:200]}",
                        "hydra.launcher.address",
                        "the trials' states are kept: python -m chord_exp.sweep resume goes on with them",
                    ) from error
                time.sleep(1.0)


def make_client(address: str | None) -> Any:
    """Ray's client of the Jobs API, which by itself waits for an answer for ever."""
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        def _do_request(self, *words: Any, **settings: Any) -> Any:
            # Ray hands what it does not know on to `requests`
            return super()._do_request(*words, **{"timeout": REQUEST_SECONDS, **settings})

    return Client(address)


def set_auth_mode(address: str) -> None:
    """Say how to prove who we are, before Ray is imported and unless the user has said.

    Never left to chance: a token file in the home folder would turn tokens on for one side only.
    """
    host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled" if ray_head.is_loopback(host) else "token")


def worker_command(trial: Trial) -> list[str]:
    """The command line of a trial on a node, where this environment lies at the same path."""
    module = worker.__name__
    return [sys.executable, "-m", module, str(trial.run_dir), "--attempt", str(trial.attempt)]


def _exit_of(info: Any) -> Exit | None:
    """How a job ended; None while it has not."""
    if info is None:
        return Exit(None, "the cluster does not know its job any more")
    if not info.status.is_terminal():
        return None
    message = " ".join(str(info.message or "").split())
    if str(info.status) == "SUCCEEDED":
        return Exit(0)
    if NEVER_STARTED in message:
        return Exit(None, "the cluster had no room for its job", counts=False)
    if info.driver_exit_code is not None:
        return Exit(info.driver_exit_code)
    return Exit(None, message[:200] or f"its job is {info.status}")
