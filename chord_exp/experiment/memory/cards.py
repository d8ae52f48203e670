"""Memory of GPUs by name, for a plan that is made away from them."""

from __future__ import annotations

import re

from chord_exp.errors import ConfigError
from chord_exp.utils.text import did_you_mean

# GiB that nvidia-smi shows as memory.total, rounded down to a tenth
CARDS = {
    "A10": 22.4,
    "A100-40G": 40.0,
    "A100-80G": 80.0,
    "A30": 24.0,
    "A40": 44.9,
    "A6000": 47.9,
    "A800-80G": 80.0,
    "B200": 179.0,
    "H100": 79.6,
    "H100-NVL": 93.5,
    "H20": 95.5,
    "H200": 140.4,
    "H800": 79.6,
    "L20": 44.9,
    "L4": 22.4,
    "L40S": 44.9,
    "RTX3090": 24.0,
    "RTX4090": 23.9,
    "RTX5090": 31.8,
    "RTX6000-Ada": 47.9,
    "T4": 15.0,
    "V100-16G": 15.7,
    "V100-32G": 31.7,
}
KEY = "cluster.gpu_memory_gib"


def gib_of(card: float | str) -> float:
    """Return the memory of a GPU, GiB, given as a number or as a card's name.

    Raises:
        ConfigError: a name that is not known, or no memory.
    """
    if isinstance(card, str):
        plain = {_plain(name): size for name, size in CARDS.items()}
        if _plain(card) not in plain:
            near = did_you_mean(card, list(CARDS))
            raise ConfigError(
                f"{KEY}={card} is neither GiB nor a card that is known{near and '; '}{near}",
                KEY,
                f"give the GiB that nvidia-smi shows, or one of {', '.join(CARDS)}",
            )
        return plain[_plain(card)]
    if card <= 0:
        raise ConfigError(f"{KEY}={card:g} is no memory", KEY, "give the GiB that nvidia-smi shows")
    return float(card)


def _plain(name: str) -> str:
    return re.sub(r"nvidia|[\s_-]", "", name.lower()).removesuffix("b")
