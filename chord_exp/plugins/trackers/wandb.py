"""Metrics to Weights & Biases."""

from __future__ import annotations

import logging
import netrc
import os
import secrets
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from chord_exp.plugins.trackers.writer import TrackerWriter
from chord_exp.run_files import metrics
from chord_exp.run_files.tracker_sync import FOLDER, UNSENT_FILE

log = logging.getLogger(__name__)

# how long a server may take to answer at the start, and to take the rest at the end, seconds
INIT_SECONDS, FINISH_SECONDS = 20, 15
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


class WandbWriter(TrackerWriter):
    """One WandB run; its files go to `wandb/` in the run's folder, and the role is WandB's job type."""

    title = "WandB"
    _online = False

    @classmethod
    def is_forbidden(cls) -> bool:
        """Return whether the environment turns WandB off; it has the last word."""
        return os.environ.get("WANDB_MODE") == "disabled"

    def _log(self, run: Any, row: dict[str, Any]) -> None:
        run.log(row)

    def _finish(self, run: Any) -> None:
        run.finish()

    def _gave_up(self) -> None:
        if self._online:
            try:
                (self._folder / UNSENT_FILE).touch()
            except OSError as error:
                log.warning("cannot note what WandB did not upload: %s", error)

    def _release(self) -> None:
        _end_service()

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
            name=self._shown_name,
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
