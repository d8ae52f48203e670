"""Metrics to Weights & Biases from a thread of their own: whatever happens to WandB, training does not wait for it.

WandB blocks when its network does: `init` for the server's answer, `finish` until everything is uploaded. Here all of
it happens in one daemon thread behind a bounded queue; giving numbers costs microseconds, and closing has a deadline.
"""

from __future__ import annotations

import logging
import netrc
import os
import queue
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from chord_exp.run_files import metrics
from chord_exp.run_files.wandb_sync import FOLDER, UNSENT_FILE

log = logging.getLogger(__name__)

# rows that wait while WandB is slow; more are left out there, metrics.jsonl has them all
QUEUE_ROWS = 10_000
# how long a server may take to answer at the start, and to take the rest at the end, seconds
INIT_SECONDS, FINISH_SECONDS = 20, 15
# how long `close` waits in all; below the launcher's patience with actors that shut down
CLOSE_SECONDS = 20
# where `wandb login` leaves the key of the public server, whatever address wandb reaches it by
PUBLIC_HOST = "api.wandb.ai"


def has_key(base_url: str) -> bool:
    """Return whether a key for the server is configured in this process's environment or in netrc."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    hosts = [urlsplit(base_url).netloc]
    if not os.environ.get("WANDB_BASE_URL"):
        hosts.append(PUBLIC_HOST)
    try:
        file = netrc.netrc(os.environ.get("NETRC") or None)
    except (OSError, netrc.NetrcParseError):
        return False
    return any(found[2] for host in hosts if (found := file.authenticators(host)))


class WandbWriter:
    """One WandB run.

    Args:
        folder: of the run; WandB's files go to `wandb/` in it.
        name: of the run for a reader, without stage and role.
        stage: of a staged run, else empty; each stage is a WandB run of its own.
        role: explorer or trainer; WandB's job type.
        given: `mode` (online or offline), `group`, `tags` and `config`, as in `chord_exp.trinity_config.wandb_config`.
    """

    def __init__(self, folder: Path, project: str, name: str, stage: str, role: str, given: Mapping[str, Any]) -> None:
        self._folder, self._project, self._name, self._stage, self._role = folder, project, name, stage, role
        self._given = given
        # rows, then None for the end
        self._rows: queue.Queue[dict[str, Any] | None] = queue.Queue(QUEUE_ROWS)
        self._lost = 0
        self._online = False
        self._done = False
        self._thread = threading.Thread(target=self._work, name=f"wandb-{role}", daemon=True)
        self._thread.start()

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Hand over the numbers of a step; returns at once, and raises nothing."""
        if self._done:
            return
        try:
            self._rows.put_nowait({"step": step, **numbers})
        except queue.Full:
            self._lost += 1

    def close(self) -> None:
        """Let WandB finish, but not for ever."""
        if self._rows.full():  # the end needs the place more than one row does
            with suppress(queue.Empty):
                self._rows.get_nowait()
                self._lost += 1
        self._rows.put(None)
        self._thread.join(CLOSE_SECONDS)
        if self._lost:
            log.warning("WandB was too slow for %d rows of %s; metrics.jsonl has them", self._lost, self._role)
        if not self._done:
            log.warning("WandB did not finish in %d s for %s", CLOSE_SECONDS, self._role)
            self._mark_unsent()

    def _work(self) -> None:
        try:
            run = self._start()
            while (row := self._rows.get()) is not None:
                run.log(row)
            run.finish()
        except Exception as error:  # WandB raises many kinds; training is worth more than any of them
            log.warning("WandB stopped recording %s, metrics.jsonl still records everything: %s", self._role, error)
            self._mark_unsent()
        self._done = True
        _end_service()

    def _mark_unsent(self) -> None:
        if self._online:
            try:
                (self._folder / UNSENT_FILE).touch()
            except OSError as error:
                log.warning("cannot note what WandB did not upload: %s", error)

    def _start(self) -> Any:
        import wandb

        wanted = self._given["mode"] == "online" and os.environ.get("WANDB_MODE") not in ("offline", "dryrun")
        if wanted and has_key(wandb.setup().settings.base_url):
            try:
                run = self._init("online")
                self._online = True
                return run
            except Exception as error:
                log.warning("WandB does not answer, %s is kept for `wandb sync`: %s", self._role, error)
                # its service still holds the id of the run that did not start
                _end_service()
        return self._init("offline")

    def _init(self, mode: Literal["online", "offline"]) -> Any:
        import wandb

        settings = wandb.Settings(
            silent=True,
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            finish_timeout_raises=True,
            # nothing beyond the numbers: logs may quote prompts, the command line of a Ray worker holds Ray's password,
            # and the address of a git remote may hold a token
            console="off",
            x_disable_meta=True,
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
        )
        run = wandb.init(
            project=self._project,
            group=self._given["group"],
            name="-".join(filter(None, (self._name, self._stage, self._role))),
            job_type=self._role,
            tags=self._given["tags"],
            config=dict(self._given["config"]),
            id="-".join(filter(None, (_stable_id(self._folder, self._role), self._stage, self._role))),
            resume="allow",
            dir=str(self._folder),
            mode=mode,
            settings=settings,
        )
        # WandB's own step only rises; a resumed run may log a step again
        run.define_metric("*", step_metric="step")
        for key, higher in metrics.HIGHER_IS_BETTER.items():
            run.define_metric(key, step_metric="step", summary="max" if higher else "min")
        return run


def _end_service() -> None:
    """End WandB's own process: only then is its file whole, and this process may be killed at any moment from here."""
    import wandb

    try:
        wandb.teardown()
    except Exception as error:
        log.warning("WandB's service did not end: %s", error)


def _stable_id(folder: Path, role: str) -> str:
    """What the ids of a role's WandB runs in this folder begin with: random, and kept in the folder for a resume.

    Not the folder's path: two machines may use one path, and a folder may be removed and used again.
    """
    file = folder / FOLDER / f"{role}.id"
    if not (file.exists() and file.read_text(encoding="utf-8")):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(secrets.token_hex(6), encoding="utf-8")
    return file.read_text(encoding="utf-8")
