"""The settings that the forecast is held against: models x trainer GPUs x tokens x offload x LoRA, and more.

Few layers, for speed: each adds the same. Whole models at the end.
"""

from __future__ import annotations

from chord_exp.experiment.memory.architecture import KNOWN
from tools.check_memory.step import SDPA, Point

LAYERS = 4
# words of a vocabulary so small that logits do not hide the layers
FEW = 1024
MODELS = (
    "Qwen3-0.6B",
    "Qwen3-1.7B",
    "Qwen3-4B",
    "Qwen3-8B",
    "Qwen3-14B",
    "Qwen2.5-1.5B",
    "Qwen2.5-7B",
    "Llama-3.2-3B",
)
FIVE = ("Qwen3-0.6B", "Qwen3-4B", "Qwen3-8B", "Qwen2.5-7B", "Llama-3.2-3B")

POINTS: tuple[Point, ...] = (
    *(
        Point(model, LAYERS, ranks, tokens)
        for model in MODELS
        for ranks, tokens in ((1, 2048), (2, 10240), (4, 512), (8, 32768))
    ),
    *(
        Point(model, LAYERS, ranks, tokens, offload_policy=True)
        for model in FIVE
        for ranks, tokens in ((2, 1024), (4, 16384))
    ),
    *(
        Point(model, LAYERS, ranks, tokens, lora_rank=rank)
        for model in FIVE
        for ranks, tokens, rank in ((1, 4096, 32), (4, 256, 64))
    ),
    *(Point(model, LAYERS, 2, 2048, offload_policy=True, lora_rank=32) for model in ("Qwen3-4B", "Qwen3-8B")),
    *(Point(model, LAYERS, 4, 8192, sequence=size) for model in ("Qwen3-4B", "Qwen2.5-7B") for size in (2, 4)),
    *(Point(model, 2, 2, 256, attention=SDPA) for model in ("Qwen3-0.6B", "Qwen2.5-7B")),
    *(
        Point(model, 3, 4, 16384, vocabulary=FEW)
        for model in ("Qwen3-0.6B", "Qwen3-8B", "Qwen2.5-1.5B", "Qwen2.5-7B", "Llama-3.2-3B")
    ),
    Point("Qwen3-4B", 3, 4, 16384, lora_rank=32, vocabulary=FEW),
    Point("Qwen3-4B", 3, 4, 8192, sequence=2, vocabulary=FEW),
    Point("Qwen3-4B", 3, 4, 16384, offload_policy=True, vocabulary=FEW),
    Point("Qwen3-4B", 3, 2, 1024, attention=SDPA, vocabulary=FEW),
    Point("Qwen3-0.6B", KNOWN["Qwen3-0.6B"].layers, 2, 10240),
    Point("Qwen3-4B", KNOWN["Qwen3-4B"].layers, 4, 10240),
    Point("Qwen3-4B", KNOWN["Qwen3-4B"].layers, 1, 2048, lora_rank=32),
    Point("Qwen3-8B", KNOWN["Qwen3-8B"].layers, 8, 1024),
)
