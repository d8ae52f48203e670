"""Which files are one source: shards of one data set count as one, whatever their number."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_SHARD = re.compile(r"[-_. ](?:part|shard)?[-_. ]?[0-9]+(?:[-_. ]of[-_. ][0-9]+)?(?=\.[^/]*$|$)", re.IGNORECASE)


def source_of(name: str) -> str:
    """The source of a file: its path without the number of a shard. `math/train-00001-of-00100.parquet` is
    `math/train.parquet`."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{_SHARD.sub('', file, count=1)}"


def number_sources(names: list[str]) -> np.ndarray[Any, Any]:
    """A number for the source of each file, shape (files,)."""
    import numpy as np

    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(source_of(name), len(numbers)) for name in names], np.int64)
