"""The monitor of a run: every metric as a line of JSON, at once; WandB and TensorBoard beside it on request.

A Trinity monitor by dotted path (`monitor.monitor_type: chord_exp.monitor.RunMonitor`). Explorer and trainer each make
one; both append to one file, a whole line in one write.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import os
from pathlib import Path
from typing import Any

import orjson
from trinity.common.config import Config
from trinity.utils.monitor import Monitor

log = logging.getLogger(__name__)


def metric_line(step: int, source: str, metrics: dict[str, Any], stage: str = "") -> bytes:
    """One line of `metrics.jsonl`: `{"step": 3, "source": "trainer", "actor/mu": 0.4}`, with the stage's name if any.

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

    Args of `monitor_args`:
        metrics_path: the JSON-lines file.
        wandb: keyword arguments of `wandb.init`, or null for no WandB. A fault of WandB is logged once and never stops
            training. The mode is the caller's choice; no key is read from here. Files go beside `metrics_path`, and the
            run's id follows from that path, so that a resumed run goes on in the same place.
        tensorboard_dir: a folder, or null.
    """

    def __init__(self, project: str, group: str, name: str, role: str, config: Config) -> None:
        super().__init__(project, name, role, config)
        # Trinity names the stages of a run NAME/STAGE
        self._stage = name.partition("/")[2]
        args = dict(config.monitor.monitor_args or {})
        path = Path(args["metrics_path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._wandb = _start_wandb(args.get("wandb"), path, project, group, name, role, config)
        self._tensorboard = _start_tensorboard(args.get("tensorboard_dir"), role)

    def log(self, data: dict, step: int, commit: bool = False) -> None:
        """Append one line, then hand the same numbers to WandB and TensorBoard.

        Raises:
            OSError: the line could not be written; a run whose record is lost must not go on.
        """
        if self._file is None:
            return
        line = metric_line(step, self.role, data, self._stage)
        if os.write(self._file, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.jsonl")
        numbers = {key: value for key, value in orjson.loads(line).items() if isinstance(value, (int, float))}
        if self._wandb is not None:
            try:
                self._wandb.log(numbers, step=step)
            except Exception as error:  # WandB raises many kinds; training is worth more than any of them
                log.warning("WandB stopped recording %s: %s", self.role, error)
                self._wandb = None
        if self._tensorboard is not None:
            for key, value in numbers.items():
                self._tensorboard.add_scalar(key, value, step)

    def close(self) -> None:
        """Close everything; safe to call again."""
        # `__init__` may have failed before the attributes existed, and Trinity closes a monitor when it is collected
        file, self._file = getattr(self, "_file", None), None
        if file is not None:
            os.close(file)
        for name, end in (("_wandb", "finish"), ("_tensorboard", "close")):
            writer = getattr(self, name, None)
            setattr(self, name, None)
            if writer is not None:
                try:
                    getattr(writer, end)()
                except Exception as error:
                    log.warning("closing %s failed: %s", name.strip("_"), error)


def _start_wandb(given: dict | None, path: Path, project: str, group: str, name: str, role: str, config: Config) -> Any:
    if not given:
        return None
    import wandb

    place = hashlib.blake2b(str(path).encode(), digest_size=6).hexdigest()
    try:
        return wandb.init(
            **{
                "project": project,
                "group": group or name.partition("/")[0],
                "name": f"{name.replace('/', '_')}_{role}",
                "job_type": role,
                "id": f"{place}-{name.replace('/', '_')}-{role}",
                "resume": "allow",
                "dir": str(path.parent),
                "config": config.flatten(),
                **given,
            }
        )
    except Exception as error:
        log.warning("WandB did not start for %s, metrics.jsonl still records everything: %s", role, error)
        return None


def _start_tensorboard(folder: str | None, role: str) -> Any:
    if not folder:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(os.path.join(folder, role))
