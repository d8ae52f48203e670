"""What is installed here that a configuration depends on."""

from __future__ import annotations

from importlib import metadata, util


def verl_is_legacy() -> bool:
    """Return whether the installed verl is older than 0.8; false without verl, as for the version that is locked."""
    try:
        major, minor = metadata.version("verl").split(".")[:2]
    except metadata.PackageNotFoundError:
        return False
    return (int(major), int(minor)) < (0, 8)


def verl_keeps_outputs() -> bool:
    """Return whether the installed verl keeps every micro-batch's outputs until an update ends: 0.9 drops them itself
    (verl issues 6696 and 6698)."""
    try:
        return metadata.version("verl").startswith("0.8.")
    except metadata.PackageNotFoundError:
        return False


def has_flash_attention() -> bool:
    """Return whether flash-attn is installed; it is not imported, which takes a GPU."""
    return util.find_spec("flash_attn") is not None
