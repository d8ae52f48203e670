"""When two texts count as the same: equal after NFKC, white space folding and case folding.

Hashes are xxh3: a million texts collide in 128 bits with a chance below 1e-26, and nothing here is an attacker's to
choose. Each use has a seed of its own.
"""

from __future__ import annotations

import unicodedata

import xxhash

from chord_exp.prepare.rows.conversation import Message

# prompt groups take the user's seed; the others must not move with it
_CONTENT, _SHORT = 0x636F6E74, 0x73686F72
_HALF = 1 << 64
_MASK = _HALF - 1
# between the texts of a conversation: no text holds one (turns.py), and normalising keeps it
_SEPARATOR = "\0"


def normalise(text: str) -> str:
    """Return the form in which texts are compared; never what is written out."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.split()).casefold()


def group_digest(normal_prompt: str, seed: int) -> tuple[int, int]:
    """Return the seeded hash of a prompt group, from its normalised text.

    Its two halves rank the group for the split and for the held-out prompts, whatever the file order.
    """
    return divmod(xxhash.xxh3_128_intdigest(normal_prompt.encode(), seed & _MASK), _HALF)


def content_digest(messages: list[Message], normal_texts: list[str], tools: str) -> tuple[int, int]:
    """Return the hash of a conversation: roles, normalised texts, tool calls and tools; equal for exact duplicates."""
    parts = [tools, *normal_texts]
    for message in messages:
        parts.append(message["role"])
        if len(message) > 2:
            parts.append(str(sorted(message.items(), key=_first)))
    return divmod(xxhash.xxh3_128_intdigest(_SEPARATOR.join(parts).encode(), _CONTENT), _HALF)


def _first(item: tuple[str, object]) -> str:
    return item[0]


def short_hash(data: bytes) -> int:
    """Return a 64-bit hash."""
    return xxhash.xxh3_64_intdigest(data, _SHORT)
