"""Trials as jobs of a Ray cluster, by its Jobs API: they go on without their launcher and are found again by name."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, fields
from typing import Any, TypeVar

from chord_exp.errors import ConfigError, RunFailed
from chord_exp.launch.cluster import private_ray
from chord_exp.launch.cluster.machines import visible_gpus
from chord_exp.launch.cluster.private_ray import Head
from chord_exp.launch.stop_file import clear_stop_file
from chord_exp.run_files.names import LOGS
from chord_exp.sweep.backends import stop_file, worker
from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.scheduling.backend import ClusterLost, Exit
from chord_exp.sweep.scheduling.resources import Footprint, Node
from chord_exp.sweep.scheduling.trial import Trial
from chord_exp.sweep.settings import AUTO, START, Settings

GIB = 2**30
# a resource of the head that stands for the cluster's GPUs: the job of a trial takes all that it will need, so that
# two sweeps never let in two trials that would each hold half
WHOLE_TRIALS = "chord_gpu"
# what a job tells everyone about itself
SWEEP_KEY, FOOTPRINT_KEY = "chord_exp_sweep", "chord_exp_footprint"
# a cluster that does not answer is asked again for so long, seconds
PATIENCE = 60.0
# one that answers that it is still starting is there, and its agents take minutes to start on a busy machine, seconds
START_PATIENCE = 300.0
STARTING = "No available agent"
# a cluster that takes a question and does not answer it is given up on after so long, seconds
REQUEST_SECONDS = 30.0
# jobs are looked at at most so often, seconds
LOOK_SECONDS = 0.25
# what Ray says of a job that waited too long for its resources
NEVER_STARTED = "failed to start within"
# what Ray's client says of a question that it would refuse again
REFUSED = re.compile(r"status code 4(?!08|29)\d\d")

T = TypeVar("T")


class RayJobs:
    """A `Backend` on a Ray cluster."""

    def __init__(
        self,
        client: Any,
        address: str,
        sweep_id: str,
        head: Head | None = None,
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
        self._stop_requests = stop_file.StopRequests(self.now, self._kill)
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="ray-jobs")
        self._looked = 0.0
        # trials may go on that we know nothing of
        self._lost = False
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
            RunFailed: the one that an earlier process started for the sweep does not answer.
        """
        address: str | None = settings.address
        if settings.address == START:
            address = settings.bind
        elif settings.address == AUTO:
            address = os.environ.get("RAY_ADDRESS")
        private_ray.set_up_client(address or "localhost")
        head = started = None
        if settings.address == START:
            head = private_ray.find_head(folder.path)
            if head is None:
                head = started = start_head(folder, settings)
            address = head.address
        try:
            client = make_client(address)
            return cls(client, client.get_address(), sweep_id, head)
        except Exception as error:  # Ray raises many kinds, RuntimeError and ConnectionError among them
            first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            if started is not None:
                started.stop()
            elif head is not None:
                # its trials may go on, and it may answer the next time
                raise RunFailed(
                    f"the sweep's own Ray head, process {head.pid}, does not answer ({first})",
                    str(folder.path),
                    f"try again later, or end it with `kill {head.pid}`: then resume starts another",
                ) from error
            raise ConfigError(
                f"no Ray cluster answers at {address or 'this machine'} ({first})",
                "hydra.launcher.address",
                "start one with `ray start --head`, or let the sweep do so: hydra.launcher.address=start. A remote "
                "cluster needs its http://HOST:8265, RAY_AUTH_MODE=token with its token, and this Python "
                "environment, the data and this folder under the same paths on its machines",
            ) from error

    def nodes(self) -> Sequence[Node]:
        """Return the cluster's living machines."""
        resources = self._call(lambda: private_ray.machines(self._address))
        self._whole = sum(has.get(WHOLE_TRIALS, 0.0) for has in resources.values())
        return [
            Node(name, int(has.get("GPU", 0)), has.get("CPU", 0.0), round(has.get("memory", 0.0) / GIB, 1))
            for name, has in sorted(resources.items())
        ]

    def external(self) -> Sequence[Footprint]:
        """Return what the trials of other sweeps hold or wait for."""
        jobs = self._call(self._client.list_jobs)
        found = []
        for job in jobs:
            metadata = job.metadata or {}
            if SWEEP_KEY in metadata and metadata[SWEEP_KEY] != self._sweep and not job.status.is_terminal():
                found.append(_footprint_of(metadata.get(FOOTPRINT_KEY, "")))
        return [footprint for footprint in found if footprint is not None]

    def start(self, trial: Trial) -> str:
        """Submit the attempt's job; one that is there already is left as it is."""
        name = self._name(trial)
        clear_stop_file(trial.run_dir)
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
        """Return whether the cluster knows the attempt's job, ended or not."""
        return self._info(trial) is not None

    def ended(self, trials: Iterable[Trial]) -> list[tuple[Trial, Exit]]:
        """Return the trials whose job is over."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return []
        followed = list(trials)
        over = []
        for trial, info in zip(followed, self._threads.map(self._info, followed), strict=True):
            left = _exit_of(info)
            if left is None:
                self._stop_requests.escalate(trial)
                continue
            self._stop_requests.clear(trial)
            self._keep_log(trial)
            over.append((trial, left))
        self._looked = time.monotonic()
        return over

    def stop(self, trial: Trial, grace: float) -> None:
        """Ask the trial to save and end; a job that waits for resources is taken back."""
        self._stop_requests.send(trial, grace)
        info = self._info(trial)
        if info is not None and str(info.status) == "PENDING":
            self._kill(trial)

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def now(self) -> float:
        """Return the time, seconds since the epoch."""
        return time.time()

    def close(self, *, keep_head: bool = False) -> None:
        """End the head, if it was started for this sweep and its trials are known to have ended.

        Args:
            keep_head: they have not.
        """
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._head is not None and not self._lost and not keep_head:
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
        self._ask_of_job(self._client.stop_job, trial)

    def _info(self, trial: Trial) -> Any:
        return self._ask_of_job(self._client.get_job_info, trial)

    def _ask_of_job(self, method: Callable[[str], Any], trial: Trial) -> Any:
        """Ask the cluster about the attempt's job; None if it knows none."""

        def ask() -> Any:
            try:
                return method(self._name(trial))
            except RuntimeError as error:
                if "does not exist" in str(error):
                    return None
                raise

        return self._call(ask)

    def _call(self, ask: Callable[[], T]) -> T:
        """Ask the cluster, again where it does not answer.

        Raises:
            ClusterLost: it has not answered for `PATIENCE` seconds, `START_PATIENCE` while it starts, or it
                answered that it will not.
        """
        from ray.exceptions import RayError
        from ray.util.state.exception import RayStateApiException

        began = time.monotonic()
        while True:
            try:
                return ask()
            # what requests, Ray's client and its state API raise; anything else is a fault of ours
            except (OSError, RuntimeError, RayError, RayStateApiException) as error:
                refused = isinstance(error, RayError) or REFUSED.search(str(error)) is not None
                gone = self._head is not None and self._head.process() is None
                patience = START_PATIENCE if STARTING in str(error) else PATIENCE
                if refused or gone or time.monotonic() - began > patience:
                    self._lost = not gone
                    said = " ".join(str(error).split())[:200]
                    raise ClusterLost(
                        f"the Ray cluster at {self._address} {'refuses' if refused else 'does not answer'}: {said}",
                        "hydra.launcher.address",
                        "the trials' states are kept: python -m chord_exp.runs resume goes on with them",
                    ) from error
                time.sleep(1.0)


def _footprint_of(text: str) -> Footprint | None:
    """What a job said of itself; None where nothing can be made of it. Another version may have said more or less."""
    known = {entry.name for entry in fields(Footprint)}
    try:
        return Footprint(**{key: value for key, value in json.loads(text).items() if key in known})
    except (ValueError, AttributeError):
        return None


def make_client(address: str | None) -> Any:
    """Ray's client of the Jobs API, which by itself waits for an answer for ever."""
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        def _do_request(self, *words: Any, **settings: Any) -> Any:
            # Ray hands what it does not know on to `requests`
            return super()._do_request(*words, **{"timeout": REQUEST_SECONDS, **settings})

    return Client(address)


def start_head(folder: SweepFolder, settings: Settings) -> Head:
    """Start a Ray head of a sweep's own.

    Raises:
        ConfigError: it cannot listen where it should.
        RunFailed: it does not come up.
    """
    gpus = len(visible_gpus()) if settings.num_gpus is None else settings.num_gpus
    try:
        private_ray.free_ports(settings.bind, 1)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.bind}: {error.strerror}",
            "hydra.launcher.bind",
            "give an address of this machine",
        ) from error
    return private_ray.start_head(
        folder.path, settings.bind, num_gpus=gpus, num_cpus=settings.num_cpus, resources={WHOLE_TRIALS: gpus}
    )


def worker_command(trial: Trial) -> list[str]:
    """Return the command line of a trial on a node, where this environment lies at the same path."""
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
        return Exit(None, "the cluster had no room for its job", charge_retry=False)
    if info.driver_exit_code is not None:
        return Exit(info.driver_exit_code)
    return Exit(None, message[:200] or f"its job is {info.status}")
