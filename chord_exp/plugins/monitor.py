"""The monitor of a run: every metric as a line of JSON, at once; a tracker and TensorBoard beside it on request.

A Trinity monitor by dotted path (`monitor.monitor_type: chord_exp.plugins.monitor.RunMonitor`). Explorer and trainer
each make one; both append to one file, a whole line in one write under a lock: on two machines that share the folder by
NFS appends alone would overwrite each other.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
from trinity.common.config import Config
from trinity.utils.monitor import Monitor

from chord_exp.plugins.trackers import writer_class
from chord_exp.plugins.trackers.writer import TrackerWriter
from chord_exp.run_files.metrics import WALL_TIME

log = logging.getLogger(__name__)


def metric_line(step: int, source: str, metrics: dict[str, Any], stage: str = "") -> bytes:
    """Return one line of `metrics.jsonl`: `{"step": 3, "source": "trainer", "actor/mu": 0.4}`, with the stage if any.

    Numbers that JSON has no word for become the strings "NaN", "Infinity" and "-Infinity": a reader must see them.
    """
    row: dict[str, Any] = {"step": int(step), "source": source}
    if stage:
        row["stage"] = stage
    for key, value in metrics.items():
        number = value.item() if hasattr(value, "item") else value
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            continue
        if isinstance(number, float) and not math.isfinite(number):
            number = "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
        row[key] = number
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


class RunMonitor(Monitor):
    """Writes metrics to the places named in `monitor.monitor_args`.

    The JSON lines are the record, and a run that cannot write them fails. Tracker and TensorBoard are copies: a fault
    of theirs is a warning in the logs.

    Args of `monitor_args`:
        metrics_path: the JSON-lines file.
        tracker: what `chord_exp.trinity_config.tracker_config.tracker_args` made, or null for none. Its files go beside
            `metrics_path`.
        tensorboard_dir: a folder, or null.
    """

    def __init__(self, project: str, group: str, name: str, role: str, config: Config) -> None:
        super().__init__(project, name, role, config)
        # Trinity names the stages of a run NAME/STAGE
        run_name, _, self._stage = name.partition("/")
        args = dict(config.monitor.monitor_args or {})
        path = Path(args["metrics_path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._tracker: TrackerWriter | None = None
        if given := args.get("tracker"):
            writer = writer_class(given["name"])
            if not writer.is_forbidden():
                # the folder says which run of that name, and in a sweep which trial
                shown = f"{run_name}-{path.parent.name}"
                self._tracker = writer(path.parent, project, shown, self._stage, role, given)
        self._tensorboard = _start_tensorboard(args.get("tensorboard_dir"), role)

    def log(self, data: dict, step: int, commit: bool = False) -> None:
        """Append one line, then hand the same numbers to the tracker and TensorBoard.

        Raises:
            OSError: the line could not be written; a run whose record is lost must not go on.
        """
        if self._file is None:
            return
        line = metric_line(step, self.role, {WALL_TIME: round(time.time(), 3), **data}, self._stage)
        with _locked(self._file):
            written = os.write(self._file, line)
        if written != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.jsonl")
        numbers = {key: value for key, value in orjson.loads(line).items() if isinstance(value, (int, float))}
        del numbers[WALL_TIME]  # both keep the time by themselves
        if self._tracker is not None:
            self._tracker.log(numbers, step)
        if self._tensorboard is not None:
            try:
                for key, value in numbers.items():
                    self._tensorboard.add_scalar(key, value, step)
            except Exception as error:  # its writer thread hands on whatever the disk said
                log.warning("TensorBoard stopped recording %s: %s", self.role, error)
                self._tensorboard = None

    def close(self) -> None:
        """Close everything; safe to call again."""
        # `__init__` may have failed before the attributes existed, and Trinity closes a monitor when it is collected
        file, self._file = getattr(self, "_file", None), None
        if file is not None:
            os.close(file)
        for name in ("_tracker", "_tensorboard"):
            writer = getattr(self, name, None)
            setattr(self, name, None)
            if writer is not None:
                try:
                    writer.close()
                except Exception as error:
                    log.warning("closing %s failed: %s", name.strip("_"), error)


@contextmanager
def _locked(file: int) -> Iterator[None]:
    # a file system without locks is as good as appending is on it
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)


def _start_tensorboard(folder: str | None, role: str) -> Any:
    if not folder:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(os.path.join(folder, role))
    except Exception as error:
        log.warning("TensorBoard did not start for %s, metrics.jsonl still records everything: %s", role, error)
        return None
