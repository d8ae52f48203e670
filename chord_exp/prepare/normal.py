"""When two texts count as the same: equal after NFKC, white space folding and case folding."""

from __future__ import annotations

import unicodedata
from hashlib import blake2b

DIGEST_BYTES = 16


def normalise(text: str) -> str:
    """The form in which texts are compared; never what is written out."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.split()).casefold()


def group_digest(normal_prompt: str, seed: int) -> bytes:
    """Keyed hash of a prompt group, from its normalised text. Its two halves rank the group for the split and
    for the held-out prompts, whatever the file order."""
    key = str(seed).encode()[:64]
    return blake2b(normal_prompt.encode(), digest_size=DIGEST_BYTES, key=key, person=b"prompt group").digest()


def content_digest(normal_texts: list[str]) -> bytes:
    """Hash of a conversation, from its normalised texts; equal for exact duplicates."""
    joined = "\x1f".join(normal_texts)
    return blake2b(joined.encode(), digest_size=DIGEST_BYTES, person=b"conversation").digest()


def short_hash(data: bytes) -> int:
    """64-bit hash."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")
