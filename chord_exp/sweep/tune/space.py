"""The space of a tuned sweep, from Hydra's own sweep words.

lr=tag(log,interval(1e-6,1e-4))     a number between the two, on a log scale
batch_size=interval(2,8)            a whole number, as the configuration's value is one
mu_peak=0.2,0.4  choice(0.2,0.4)    one of these
total_steps=range(20,80,20)         20, 40 or 60
lr=tag(scale,interval(0.3,3))       the tag `scale`: multiples of the value that the configuration has
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep

from chord_exp.errors import ConfigError

LOG, SCALE = "log", "scale"
TAGS = {LOG, SCALE}


class Suggests(Protocol):
    """What is asked of an Optuna trial."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number, both ends included."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number, both ends included."""


@dataclass(frozen=True)
class Dimension:
    """One key of the space: choices, or a range of numbers with both ends included."""

    # as an override writes it, with a leading + if it has one
    key: str
    # override values, for a dimension without order
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    # between the numbers of a range; None: any number between
    step: float | None = None
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Suggests) -> str:
        """Ask for a value, as an override writes it."""
        if self.choices:
            return str(trial.suggest_categorical(self.key, self.choices))
        if self.whole:
            step = int(self.step or 1)
            return str(trial.suggest_int(self.key, int(self.low), int(self.high), step=step, log=self.log))
        return repr(trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log))

    def grid(self) -> list[Any]:
        """Return all its values, as Optuna keeps them.

        Raises:
            ConfigError: they have no end.
        """
        if self.choices:
            return list(self.choices)
        if self.step is None and not self.whole:
            raise ConfigError(
                f"{self.key}: an interval has no grid",
                f"hydra.sweeper.params.{self.key}",
                "use choice() or range(), or another hydra.sweeper.sampler",
            )
        step = self.step or 1
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        values = [self.low + index * step for index in range(count)]
        return [int(value) for value in values] if self.whole else values

    def describe(self) -> str:
        """Describe it in a few words, the same for the same dimension."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        shape = ", ".join(
            [*(["whole"] if self.whole else []), *(["log"] if self.log else [])]
            + ([f"in steps of {self.step:g}"] if self.step is not None else [])
        )
        return f"{self.low:g} to {self.high:g}" + (f" ({shape})" if shape else "")


def dimension(override: Override, base: Callable[[str], Any]) -> Dimension:
    """Make the dimension of a swept override.

    Args:
        base: the configuration's own value of a key.

    Raises:
        ConfigError: it makes no dimension.
    """
    key, value = str(override.get_key_element()), override.value()
    tags = set(getattr(value, "tags", ()))
    if isinstance(value, Glob) or not isinstance(value, (ChoiceSweep, RangeSweep, IntervalSweep)):
        raise _refusal(key, "it is no choice, range or interval", "write choice(a,b), range(a,b) or interval(a,b)")
    if unknown := sorted(tags - TAGS):
        raise _refusal(key, f"the tag {unknown[0]!r} is not known", f"the tags are {', '.join(sorted(TAGS))}")
    own = base(override.key_or_group)
    whole = isinstance(own, int) and not isinstance(own, bool)
    factor: float = 1
    if SCALE in tags:
        if isinstance(own, bool) or not isinstance(own, (int, float)):
            raise _refusal(key, f"the tag scale needs a number to multiply, and {key} is {own!r}", "leave the tag out")
        factor = own
    if isinstance(value, ChoiceSweep):
        return Dimension(key, choices=_choices(key, override, value, factor if SCALE in tags else None, whole))
    return _numbers(key, value, factor, whole, LOG in tags)


def grid(dimensions: Sequence[Dimension]) -> list[dict[str, Any]]:
    """Return every point of the space, the last key moving first."""
    values = [dimension.grid() for dimension in dimensions]
    keys = [dimension.key for dimension in dimensions]
    return [dict(zip(keys, point, strict=True)) for point in itertools.product(*values)]


def _choices(key: str, override: Override, value: ChoiceSweep, factor: float | None, whole: bool) -> tuple[str, ...]:
    if factor is None:
        return tuple(dict.fromkeys(str(text) for text in override.sweep_string_iterator()))
    numbers = [number for number in value.list if isinstance(number, (int, float)) and not isinstance(number, bool)]
    if len(numbers) < len(value.list):
        raise _refusal(key, "the tag scale multiplies numbers only", "leave the tag out")
    return tuple(_unique(_number(number * factor, whole) for number in numbers))


def _numbers(key: str, value: RangeSweep | IntervalSweep, factor: float, whole: bool, log: bool) -> Dimension:
    step = None
    if isinstance(value, RangeSweep):
        step, low, high = float(value.step), float(value.start or 0), float(value.stop or 0)
        if step <= 0 or low >= high:
            raise _refusal(key, f"range({low:g},{high:g},{step:g}) is empty", "give start < stop and step > 0")
        # Hydra's ranges end before their stop
        high = low + (math.ceil((high - low) / step - 1e-9) - 1) * step
    else:
        low, high = float(value.start or 0), float(value.end or 0)
        whole = whole or (isinstance(value.start, int) and isinstance(value.end, int))
    low, high, step = low * factor, high * factor, None if step is None else step * factor
    if whole:
        least = 1 if low > 0 else 0
        low, high = max(least, round(low)), max(least, round(high))
        step = None if step is None else max(1, round(step))
        high = low + (high - low) // (step or 1) * (step or 1)
    if not (math.isfinite(low) and math.isfinite(high)) or low > high:
        raise _refusal(key, f"there is nothing between {low:g} and {high:g}", "give the smaller number first")
    if log and (low <= 0 or step is not None):
        raise _refusal(key, f"no log scale from {low:g}", "begin above 0, with an interval, or leave the tag out")
    return Dimension(key, low=low, high=high, step=step, log=log, whole=whole)


def _number(value: float, whole: bool) -> str:
    return str(max(1, round(value)) if value > 0 else round(value)) if whole else repr(float(f"{value:.12g}"))


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _refusal(key: str, what: str, fix: str) -> ConfigError:
    return ConfigError(f"{key} cannot be tuned: {what}", f"hydra.sweeper.params.{key}", fix)
