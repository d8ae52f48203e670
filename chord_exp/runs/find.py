"""Which folder a word means: a run, a trial of a sweep, or a sweep."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chord_exp.errors import ConfigError
from chord_exp.report.read.folders import RUN_ROOT, SWEEP_ROOT, newest
from chord_exp.run_files.names import LAUNCH, RECORD
from chord_exp.sweep.folder import SWEEP, SweepFolder
from chord_exp.sweep.job import JOB
from chord_exp.sweep.scheduling.trial import TRIAL

RUN, TRIAL_OF_SWEEP, JOB_RUN, SWEEP_OF_RUNS = "run", "trial", "job", "sweep"
# folders below a root that runs lie in: outputs/NAME/TIME
DEEPEST = 3
ROOTS = (RUN_ROOT, SWEEP_ROOT)


@dataclass(frozen=True)
class Found:
    """A folder with what is in it."""

    path: Path
    # RUN, TRIAL_OF_SWEEP, JOB_RUN or SWEEP_OF_RUNS
    kind: str

    @property
    def sweep(self) -> SweepFolder:
        """The folder as a sweep's; of a trial, the sweep that it belongs to."""
        return SweepFolder(self.path.parent if self.kind == TRIAL_OF_SWEEP else self.path)


def look_at(folder: Path) -> Found | None:
    """Return what a folder is; None for neither run nor sweep."""
    path = folder.absolute()
    if (path / SWEEP).is_file():
        return Found(path, SWEEP_OF_RUNS)
    if (path / JOB).is_file():
        return Found(path, JOB_RUN)
    if (path / TRIAL).is_file():
        return Found(path, TRIAL_OF_SWEEP)
    return Found(path, RUN) if (path / RECORD).is_file() or (path / LAUNCH).is_file() else None


def below(folder: Path, depth: int = DEEPEST) -> Iterator[Found]:
    """Yield the runs and sweeps in a folder; the trials of a sweep are part of it."""
    if (found := look_at(folder)) is not None:
        yield found
    elif depth:
        try:
            inner = sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
        except OSError:  # not there, or not for us to read
            return
        for one in inner:
            yield from below(one, depth - 1)


def named(word: str | None, here: Path) -> Found:
    """Return the run or sweep that a word names: a folder, or the end of the path of one below outputs/ or multirun/.

    Args:
        word: None for the newest.

    Raises:
        ConfigError: nothing has that name, or several do.
    """
    if word is None:
        word = str(newest(here))
    if (found := look_at(Path(word).expanduser())) is not None:
        return found
    tail = Path(word).parts
    there = [found for root in ROOTS for found in below(here / root)]
    ends = [found for found in there if tail and found.path.parts[-len(tail) :] == tail]
    ends += [found for found in there if found.path.parent.parts[-len(tail) :] == tail]
    if len(ends) == 1:
        return ends[0]
    if not ends:
        raise ConfigError(
            f"{word} is neither a run nor a sweep",
            "RUN",
            "give the folder that it printed, or the end of its path; python -m chord_exp.runs list names all",
        )
    names = ", ".join(str(found.path.relative_to(here.absolute())) for found in ends[:4])
    raise ConfigError(f"{word} may be {names}{', ...' if len(ends) > 4 else ''}", "RUN", "give more of the path")
