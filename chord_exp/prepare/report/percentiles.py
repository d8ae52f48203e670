"""How long rows are, in a few numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_PERCENTILES = (50, 90, 99)


def percentiles(values: Array) -> dict[str, int]:
    """Nearest-rank percentiles and the maximum of a non-empty array."""
    import numpy as np

    ordered = np.sort(values)
    ranks = {f"p{share}": int(ordered[max(0, -(-share * len(ordered) // 100) - 1)]) for share in _PERCENTILES}
    return {**ranks, "max": int(ordered[-1])}
