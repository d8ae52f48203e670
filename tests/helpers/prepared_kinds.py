"""A prepared folder that mixes every kind of row, and a tiny model whose chat template knows tools."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import orjson

import chord_exp.tiny
from chord_exp.prepare.answers.find import find_answer
from chord_exp.prepare.answers.scoring import expert_row, response_text, rollout_row
from chord_exp.utils.split_settings import CHRF

TINY = Path(chord_exp.tiny.__file__).parent / "model"
TOOL = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}
TOOLS = json.dumps([TOOL])

# ChatML as of the tiny model, with tool schemas in the system turn and calls in tags, as Qwen's template has them
TEMPLATE = (
    "{%- if tools %}{{- '<|im_start|>system\\n' + (tools | tojson) + '<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{%- if not loop.first %}{{- '\\n' }}{%- endif %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content }}"
    "{%- for call in message.tool_calls or [] %}"
    "{{- '<tool_call>' + (call.function | tojson) + '</tool_call>' }}"
    "{%- endfor %}{{- '<|im_end|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '\\n<|im_start|>assistant\\n' }}{%- endif %}"
)


def tool_model(folder: Path) -> Path:
    """The tiny model with TEMPLATE."""
    shutil.copytree(TINY, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings.pop("chat_template", None)
    path.write_text(json.dumps(settings), encoding="utf-8")
    return folder


def _turns(*texts: str, system: str = "") -> list[dict[str, Any]]:
    turns = [{"role": "assistant" if at % 2 else "user", "content": text} for at, text in enumerate(texts)]
    return [{"role": "system", "content": system}, *turns] if system else turns


def conversations(number: int) -> dict[str, tuple[list[dict[str, Any]], str]]:
    """By name: messages and tools of one row of each sort; other numbers give other prompts."""
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": number}}}
    turns = _turns(f"add {number}?", "")
    turns[-1]["tool_calls"] = [call]
    after = [*_turns(f"add {number} to 1", ""), {"role": "tool", "content": str(number + 1)}]
    after[1]["tool_calls"] = [call]
    return {
        "number": (_turns(f"{number}+1?", f"It is \\boxed{{{number + 1}}}"), ""),
        "latex": (_turns(f"half of {number} x?", f"So \\boxed{{\\frac{{{number}x}}{{2}}}}"), ""),
        "choice": (_turns(f"{number}: A or B?", "\\boxed{B}"), ""),
        "multi_turn": (_turns("Hi", "Hello", f"{number}+2?", f"\\boxed{{{number + 2}}}"), ""),
        "own_system": (_turns(f"{number}+3?", f"\\boxed{{{number + 3}}}", system="Be brief."), ""),
        "tool_call": (turns, TOOLS),
        "after_tool": ([*after, {"role": "assistant", "content": f"\\boxed{{{number + 1}}}"}], TOOLS),
    }


def free_texts(number: int) -> dict[str, tuple[list[dict[str, Any]], str]]:
    """The same for a row that no rule scores."""
    return {"free_text": (_turns(f"What is thing {number}?", "It is a useful thing."), "")}


def rows_of(messages: list[dict[str, Any]], tools: str, free_text: str = CHRF) -> dict[str, dict[str, str]]:
    """The row of each side that a conversation gives."""
    last = messages[-1]
    answer = find_answer(None, response_text(last), tool_calls=last.get("tool_calls"))
    options = {"system_prompt": "", "free_text": free_text}
    return {
        "sft": expert_row(messages, tools),
        "rl": rollout_row(messages, answer, tools, **options),
        "eval": rollout_row(messages, answer, tools, **options, evaluation=True),
    }


def write_prepared(out: Path, makers: list[Any], *, each: int = 4, free_text: str = CHRF) -> Path:
    """A prepared folder with `each` rows of every sort on every side, and the manifest that a run reads."""
    sides: dict[str, list[dict[str, str]]] = {"sft": [], "rl": [], "eval": []}
    for side_at, (side, rows) in enumerate(sides.items()):
        for at in range(each):
            for maker in makers:
                for messages, tools in maker(10 * side_at + at).values():
                    rows.append(rows_of(messages, tools, free_text)[side])
        (out / side).mkdir(parents=True)
        (out / side / "train.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    names = {row[key] for side in ("rl", "eval") for row in sides[side] for key in ("workflow", "reward")} - {""}

    manifest = {
        "digest": "made for a test",
        "rows": {"test": 0, **{side: len(rows) for side, rows in sides.items()}},
        "warnings": [],
        "arguments": {"system_prompt": ""},
        "multi_turn": True,
        "scored_by": sorted(names),
    }
    (out / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return out
