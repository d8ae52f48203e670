"""Hydra-configured CHORD (mixed SFT and RL) experiments on Trinity-RFT."""

__version__ = "0.1.0"
