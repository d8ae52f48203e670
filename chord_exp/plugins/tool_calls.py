"""Tool calls as one text that is equal for equal calls. Standard library only: the reward uses it too."""

from __future__ import annotations

import json
import re
from typing import Any

_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def tool_call_truth(calls: list[Any]) -> str:
    """JSON text of [{"name", "arguments"}], in one order; "" when a call has no name, no arguments object, or cannot be
    written as JSON."""
    plain = [_plain(call) for call in calls]
    if not plain or any(call is None for call in plain):
        return ""
    try:
        texts = sorted(json.dumps(call, sort_keys=True, ensure_ascii=False) for call in plain)
    except (TypeError, ValueError, RecursionError):
        return ""
    return f"[{', '.join(texts)}]"


def calls_in(response: str) -> list[Any]:
    """The calls that a response makes, in the forms that chat templates teach: each, or a list of them, as JSON in
    `<tool_call>` tags (Qwen, Hermes), or the whole response as JSON (Llama). [] for none, or for broken JSON."""
    reply = response.rpartition("</think>")[2]
    texts = _CALL.findall(reply) or [reply]
    calls: list[Any] = []
    for text in texts:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return []
        calls.extend(value if isinstance(value, list) else [value])
    return calls


def _plain(call: Any) -> dict[str, Any] | None:
    if not isinstance(call, dict):
        return None
    function = call.get("function", call)
    if not isinstance(function, dict):
        return None
    name, arguments = function.get("name"), function.get("arguments", function.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            return None
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return None
    return {"name": name, "arguments": arguments}
