"""The sizes of a model that its memory follows from: from its config.json, or by name for the models of conf/model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# every linear layer but the output projection, in PEFT's words
ALL_LINEAR = "all-linear"
# decoder-only models with RMSNorm and a gated MLP; the flags are (biases of q, k and v; norms of q and k)
FAMILIES = {"qwen2": (True, False), "qwen3": (False, True), "llama": (False, False)}


@dataclass(frozen=True)
class Architecture:
    """A dense decoder-only transformer."""

    # of transformers: qwen2, qwen3 or llama
    model_type: str
    # width of the residual stream
    hidden: int
    layers: int
    # query heads
    heads: int
    # key and value heads
    kv_heads: int
    head_dim: int
    # width of the MLP
    intermediate: int
    vocabulary: int
    # embedding and output projection are one matrix
    tied: bool

    @property
    def query_width(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all key heads, or all value heads."""
        return self.kv_heads * self.head_dim

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """The linear layers of one decoder layer: name -> (inputs, outputs)."""
        hidden, queries, keys, wide = self.hidden, self.query_width, self.kv_width, self.intermediate
        return {
            "q_proj": (hidden, queries),
            "k_proj": (hidden, keys),
            "v_proj": (hidden, keys),
            "o_proj": (queries, hidden),
            "gate_proj": (hidden, wide),
            "up_proj": (hidden, wide),
            "down_proj": (wide, hidden),
        }

    @property
    def layer_parameters(self) -> int:
        """Parameters of one decoder layer."""
        biases, head_norms = FAMILIES[self.model_type]
        count = sum(inputs * outputs for inputs, outputs in self.matrices.values()) + 2 * self.hidden
        count += (self.query_width + 2 * self.kv_width) if biases else 0
        return count + (2 * self.head_dim if head_norms else 0)

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding, and as many of the output projection where it has its own."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters."""
        embeddings = self.embedding_parameters * (1 if self.tied else 2)
        return embeddings + self.layers * self.layer_parameters + self.hidden

    def lora_parameters(self, rank: int, targets: str) -> int:
        """Parameters of the adapters in one decoder layer.

        Args:
            rank: 0 for none.
            targets: all-linear, or a regular expression that matches whole names of linear layers, as for PEFT.
        """
        parts = {"gate_proj": "mlp", "up_proj": "mlp", "down_proj": "mlp"}
        names = {name: f"model.layers.0.{parts.get(name, 'self_attn')}.{name}" for name in self.matrices}
        chosen = [name for name in names if targets == ALL_LINEAR or re.fullmatch(targets, names[name])]
        return rank * sum(sum(self.matrices[name]) for name in chosen)

    @property
    def kv_bytes(self) -> int:
        """Bytes of one token in the KV cache of an engine, in 16-bit numbers."""
        return 2 * self.layers * self.kv_width * 2


def from_config(config: Mapping[str, Any]) -> Architecture | None:
    """Read a config.json; None for a kind of model that the forecast does not know, experts or vision say."""
    if config.get("model_type") not in FAMILIES or "quantization_config" in config:
        return None
    try:
        heads = int(config["num_attention_heads"])
        return Architecture(
            model_type=str(config["model_type"]),
            hidden=int(config["hidden_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or config["hidden_size"] // heads),
            intermediate=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
        )
    except (KeyError, TypeError, ValueError):
        return None


def to_config(architecture: Architecture) -> dict[str, Any]:
    """Return what transformers needs to build such a model."""
    return {
        "model_type": architecture.model_type,
        "hidden_size": architecture.hidden,
        "num_hidden_layers": architecture.layers,
        "num_attention_heads": architecture.heads,
        "num_key_value_heads": architecture.kv_heads,
        "head_dim": architecture.head_dim,
        "intermediate_size": architecture.intermediate,
        "vocab_size": architecture.vocabulary,
        "tie_word_embeddings": architecture.tied,
    }


# name at the hub, without owner and suffix: (hidden, layers, heads, kv_heads, head_dim, intermediate, vocabulary, tied)
_SIZES: dict[str, dict[str, tuple[int, int, int, int, int, int, int, bool]]] = {
    "qwen3": {
        "Qwen3-0.6B": (1024, 28, 16, 8, 128, 3072, 151936, True),
        "Qwen3-1.7B": (2048, 28, 16, 8, 128, 6144, 151936, True),
        "Qwen3-4B": (2560, 36, 32, 8, 128, 9728, 151936, True),
        "Qwen3-8B": (4096, 36, 32, 8, 128, 12288, 151936, False),
        "Qwen3-14B": (5120, 40, 40, 8, 128, 17408, 151936, False),
        "Qwen3-32B": (5120, 64, 64, 8, 128, 25600, 151936, False),
    },
    "qwen2": {
        "Qwen2.5-0.5B": (896, 24, 14, 2, 64, 4864, 151936, True),
        "Qwen2.5-1.5B": (1536, 28, 12, 2, 128, 8960, 151936, True),
        "Qwen2.5-3B": (2048, 36, 16, 2, 128, 11008, 151936, True),
        "Qwen2.5-7B": (3584, 28, 28, 4, 128, 18944, 152064, False),
        "Qwen2.5-14B": (5120, 48, 40, 8, 128, 13824, 152064, False),
        "Qwen2.5-32B": (5120, 64, 40, 8, 128, 27648, 152064, False),
    },
    "llama": {
        "Llama-3.2-1B": (2048, 16, 32, 8, 64, 8192, 128256, True),
        "Llama-3.2-3B": (3072, 28, 24, 8, 128, 8192, 128256, True),
        "Llama-3.1-8B": (4096, 32, 32, 8, 128, 14336, 128256, False),
    },
}
KNOWN: dict[str, Architecture] = {
    name: Architecture(model_type, *sizes) for model_type, models in _SIZES.items() for name, sizes in models.items()
}
# what may follow a name without other sizes
_VARIANTS = ("", "-Instruct", "-Base", "-Instruct-2507", "-Thinking-2507")


def by_name(path: str) -> Architecture | None:
    """Return the sizes of a known model by its hub id, such as Qwen/Qwen3-4B-Base."""
    name = path.rsplit("/", 1)[-1]
    for known, architecture in KNOWN.items():
        if name.startswith(known) and name[len(known) :] in _VARIANTS:
            return architecture
    return None
