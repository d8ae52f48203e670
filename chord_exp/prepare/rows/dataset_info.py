"""`dataset_info.json` of LLaMA-Factory and ms-swift: which columns of which file hold what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from chord_exp.errors import DataError
from chord_exp.prepare.read.files import DATASET_INFO
from chord_exp.prepare.rows.formats import Format

_PREFERENCE = ("preference", "ranked answers, as dataset_info.json says")
_MEDIA = ("field_lost", "images, videos or sounds, as dataset_info.json says")
# what LLaMA-Factory reads where a declaration names no columns
_ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}
_SHAREGPT = {"messages": "conversations"}


def declared_formats(folder: Path) -> dict[str, Format]:
    """Return the formats that a folder and its subfolders declare, by the path of the file below it.

    Raises:
        DataError: a declaration cannot be read.
    """
    found: dict[str, Format] = {}
    for path in sorted(folder.rglob(DATASET_INFO)):
        try:
            declared = _formats(orjson.loads(path.read_bytes()))
            found |= {(path.parent / name).relative_to(folder).as_posix(): known for name, known in declared}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise DataError(
                f"it cannot be read as a declaration of data sets ({error})",
                where=str(path),
                fix="mend it, or take it out of the folder",
            ) from None
    return found


def _formats(content: Any) -> Iterator[tuple[str, Format]]:
    # LLaMA-Factory: data sets by name; ms-swift: a list of them; datasets' own file of that name: neither
    for one in content.values() if isinstance(content, dict) else content:
        name = one.get("file_name") or one.get("dataset_path") if isinstance(one, dict) else None
        if isinstance(name, str):
            known = _llama_factory(one) if "file_name" in one else _swift(one)
            if known is not None:
                yield name.removeprefix("./"), known


def _llama_factory(one: Mapping[str, Any]) -> Format | None:
    formatting, columns = one.get("formatting", "alpaca"), one.get("columns") or {}
    if one.get("ranking"):
        return Format("llama_factory", turns=("chosen",), refused=_PREFERENCE)
    if any(columns.get(media) for media in ("images", "videos", "audios")):
        return Format("llama_factory", turns=("images",), refused=_MEDIA)
    if formatting == "alpaca":
        names = columns or _ALPACA
        if "prompt" not in names or "response" not in names:
            return None
    else:
        names = {**_SHAREGPT, **columns}

    def column(name: str) -> tuple[str, ...]:
        return (names[name],) if names.get(name) else ()

    return Format(
        "llama_factory",
        turns=() if formatting == "alpaca" else column("messages"),
        prompt=column("prompt"),
        below=column("query"),
        reply=column("response"),
        **_beside({name: column(name) for name in ("system", "tools", "history")}),
        verdict=column("kto_tag") or ("label",),
        tags=one.get("tags") or {},
        by_hand=True,
    )


def _swift(one: Mapping[str, Any]) -> Format | None:
    columns = {ours: (theirs,) for theirs, ours in (one.get("columns") or {}).items()}
    if not columns:
        return None
    beside = _beside(columns)
    if "messages" in columns:
        return Format("ms_swift", turns=columns["messages"], by_hand=True, **beside)
    query, response = columns.get("query", ("query",)), columns.get("response", ("response",))
    return Format("ms_swift", prompt=query, reply=response, by_hand=True, **beside)


def _beside(columns: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    return {part: columns.get(part) or (part,) for part in ("system", "tools", "history")}
