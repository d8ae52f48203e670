"""A Ray of one's own: on loopback only, on ports that Ray finds free, gone with the process that started it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

# Ray's own processes, without either of which nothing works
ESSENTIAL = ("raylet", "gcs_server")

# must be set before Ray is imported, in the process that starts it and in all below
ENVIRONMENT = {
    # makes Ray take 127.0.0.1 for the node's address, so that nothing listens to a network
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # nothing else can reach it, and a token left in the home folder would lock us out
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def start(folder: Path, **options: Any) -> None:
    """Start it and connect.

    Args:
        folder: for Ray's sockets and logs; a short path, since a socket's path is limited to 107 bytes.
        options: further arguments of `ray.init`.
    """
    import ray

    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        _temp_dir=str(folder),
        **options,
    )


def lost() -> list[str]:
    """Names of Ray's own processes that this process started and that have died."""
    alive = set()
    for child in psutil.Process().children():
        try:
            if child.status() != psutil.STATUS_ZOMBIE:
                alive.add(child.name())
        except psutil.Error:
            continue
    return [name for name in ESSENTIAL if name not in alive]
