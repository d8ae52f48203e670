"""What a step costs in arithmetic and a run in disk space."""

from __future__ import annotations

from chord_exp.experiment.memory.architecture import Architecture


def training_flops(architecture: Architecture, rows: int, tokens: int, lora: bool = False) -> float:
    """FLOPs of forward, forward again (checkpointing) and backward of `rows` rows of `tokens` tokens each.

    2 for each parameter of a matrix and token in a forward pass, twice that in a backward pass (Kaplan et al.,
    arXiv 2001.08361); attention adds 2 x 2 x width x tokens / 2 a token and layer, for the causal half.
    """
    # frozen weights have no gradient, and adapters next to none
    return (3 if lora else 4) * _forward(architecture, tokens) * rows


def rollout_flops(architecture: Architecture, rows: int, tokens: int) -> float:
    """FLOPs of generating `rows` rows of `tokens` tokens each, prompt included."""
    return _forward(architecture, tokens) * rows


def _forward(architecture: Architecture, tokens: int) -> float:
    matrices = architecture.layers * architecture.layer_parameters + architecture.embedding_parameters
    attention = 2 * architecture.layers * architecture.query_width * tokens
    return float(tokens) * (2 * matrices + attention)


def checkpoint_bytes(architecture: Architecture, adapters: int) -> int:
    """Bytes of one checkpoint to go on from: 32-bit parameters and both moments of AdamW, as verl saves them.

    Args:
        adapters: parameters of LoRA's adapters: then only they have moments, and all three are in 16-bit numbers.
    """
    if not adapters:
        return 12 * architecture.parameters
    return 4 * architecture.parameters + 6 * adapters


def model_bytes(architecture: Architecture) -> int:
    """Bytes of the trained model as Hugging Face loads it, in 32-bit numbers as verl writes it."""
    return 4 * architecture.parameters
