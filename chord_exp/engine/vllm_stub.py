"""A stub of the five vLLM names that Trinity imports whether or not vLLM is used.

`trinity.common.models.mm_utils` imports them at its top, and the explorer, the SFT reader and most workflows import
it. Only multi-modal prompts ever use them. Where vLLM is installed this module does nothing.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

NAMES = {
    "vllm": (),
    "vllm.config": ("ModelConfig",),
    "vllm.entrypoints": (),
    "vllm.entrypoints.chat_utils": (
        "ChatTemplateContentFormat",
        "ConversationMessage",
        "parse_chat_messages",
        "parse_chat_messages_async",
    ),
    "vllm.inputs": ("MultiModalDataDict",),
}


class _NeedsVllm:
    """Stands for a vLLM class or function; using it says what is missing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ModuleNotFoundError("multi-modal prompts need vLLM: install constraints/gpu.txt on a GPU machine")


def install() -> None:
    """Make the names importable in this process if vLLM is not installed; safe to call again."""
    if "vllm" in sys.modules or importlib.util.find_spec("vllm") is not None:
        return
    for module_name, attributes in NAMES.items():
        module = ModuleType(module_name)
        module.__path__ = []
        for attribute in attributes:
            setattr(module, attribute, type(attribute, (_NeedsVllm,), {}))
        sys.modules[module_name] = module
        parent, _, leaf = module_name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, module)
