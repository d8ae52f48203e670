"""The language of a text as far as its script tells: enough to keep both sides of a split alike, without a model."""

from __future__ import annotations

import re

LATIN, OTHER = "latin", "other"
_SCRIPTS = {
    "zh": r"\u3400-\u9fff\uf900-\ufaff",
    "ja": r"\u3040-\u30ff",
    "ko": r"\uac00-\ud7af\u1100-\u11ff",
    "cyrillic": r"\u0400-\u052f",
    "arabic": r"\u0600-\u06ff\u0750-\u077f",
    "devanagari": r"\u0900-\u097f",
    "hebrew": r"\u0590-\u05ff",
    "thai": r"\u0e00-\u0e7f",
    "greek": r"\u0370-\u03ff",
    LATIN: r"A-Za-z\u00c0-\u024f",
}
LANGUAGES = (*_SCRIPTS, OTHER)
"""What `language` returns: scripts; Japanese is told from Chinese by its kana."""

_RUNS = {name: re.compile(f"[{span}]+") for name, span in _SCRIPTS.items()}
_LOOKED_AT = 200
# formulas and names bring Latin and Greek letters into texts of any language
_OWN_SHARE = 0.2


def language(text: str) -> str:
    """Return the script of the start of a text, one of LANGUAGES; `latin` for plain ASCII without looking closer."""
    if text.isascii():
        return LATIN
    start = text[:_LOOKED_AT]
    counts: dict[str, int] = {}
    for name, runs in _RUNS.items():
        count = sum(map(len, runs.findall(start)))
        if count > len(start) // 2 and name not in ("zh", "greek"):
            return name
        counts[name] = count
        if name == "ja" and count + counts["zh"] > _OWN_SHARE * len(start):
            return "ja" if count > _OWN_SHARE * counts["zh"] else "zh"
    letters = sum(counts.values())
    if not letters:
        return OTHER
    own = {name: count for name, count in counts.items() if name not in (LATIN, "greek")}
    name = max(own, key=own.__getitem__)
    if own[name] >= _OWN_SHARE * letters:
        return name
    return "greek" if counts["greek"] > counts[LATIN] else LATIN
