"""Memory of one GPU of an inference engine: vLLM takes its share of the card, and what is left of it is KV cache."""

from __future__ import annotations

from dataclasses import dataclass

from chord_exp.experiment.memory.architecture import Architecture
from chord_exp.experiment.memory.terms import GIB, Term

# what vLLM sets aside before it counts the KV cache; rough figures, as nobody has measured them here
BATCHED_TOKENS = 8192
SEQUENCES = 256
BESIDE_TORCH = 1.0 * GIB


@dataclass(frozen=True)
class EngineSetup:
    """What the memory of an engine's GPU depends on."""

    architecture: Architecture
    # GPUs of an engine
    tensor_parallel: int
    # share of the card
    utilization: float
    # bytes of a weight: 2, or 4 for float32
    width: int
    # tokens of the longest row
    window: int
    # parameters of the adapters that are served; 0 without
    adapters: int = 0


def fixed(setup: EngineSetup) -> tuple[Term, ...]:
    """Return what an engine takes besides its KV cache."""
    model, parts = setup.architecture, setup.tensor_parallel
    weights = setup.width * model.parameters / parts
    batch = BATCHED_TOKENS * setup.width * (3 * model.intermediate / parts + 4 * model.hidden)
    found = [
        Term("weights", weights, f"{setup.width}P / tensor parallel"),
        Term("a batch, CUDA graphs, sampling", batch + 12 * SEQUENCES * model.vocabulary + BESIDE_TORCH, "estimate"),
    ]
    if setup.adapters:
        found.append(Term("adapters", setup.width * setup.adapters / parts, "of LoRA"))
    return tuple(found)


def kv_bytes(setup: EngineSetup) -> float:
    """Return the bytes of one token in the KV cache of one GPU; a key head is never split."""
    model = setup.architecture
    return model.kv_bytes * setup.width / 2 / min(setup.tensor_parallel, model.kv_heads)


def kv_tokens(setup: EngineSetup, card: float) -> int:
    """Return how many tokens the KV cache holds on a card of so many bytes; negative where not even the weights fit."""
    left = setup.utilization * card - sum(term.size for term in fixed(setup))
    return int(left / kv_bytes(setup))


def most_kv_tokens(setup: EngineSetup, card: float) -> int:
    """Return the same if an engine took nothing but its weights: more than this it cannot hold."""
    return int((setup.utilization * card - fixed(setup)[0].size) / kv_bytes(setup))
