"""Which of the two loss protocols of verl is installed."""

from __future__ import annotations

from importlib import metadata


def verl_is_legacy() -> bool:
    """Whether the installed verl is older than 0.8; false without verl, as for the version that is locked."""
    try:
        major, minor = metadata.version("verl").split(".")[:2]
    except metadata.PackageNotFoundError:
        return False
    return (int(major), int(minor)) < (0, 8)
