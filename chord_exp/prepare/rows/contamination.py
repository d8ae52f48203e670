"""Prompts of an evaluation set must not be trained on: they are found by hash, and by a run of words in common."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import xxhash

from chord_exp.errors import DataError
from chord_exp.prepare.read.chunks import chunks_of, read_chunk
from chord_exp.prepare.read.inventory import Inventory
from chord_exp.prepare.read.raw_rows import RawRow, parse_row
from chord_exp.prepare.rejects import Reject, clip
from chord_exp.prepare.rows.conversation import USER
from chord_exp.prepare.rows.field_map import FindReading, readings_of
from chord_exp.prepare.rows.formats import QUERY_COLUMNS
from chord_exp.prepare.rows.reading import lookup, lowered
from chord_exp.prepare.rows.text_keys import group_digest, normalise

NGRAM = 13
"""Words in a row that count as a leak, as in the contamination check of GPT-3 (arXiv 2005.14165, appendix C). A letter
of a script without spaces is a word of its own."""

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]|[^\W_]+")
_SEED = 0
_CHUNK_BYTES = 4 << 20


class EvalPrompts:
    """What an evaluation set asks.

    Args:
        prompts: its prompts, normalised.
        rows: how many rows it has.
        unread: rows of which no prompt could be read: nothing is checked against them.
    """

    def __init__(self, prompts: Iterable[str], rows: int, unread: int) -> None:
        self.rows, self.unread = rows, unread
        self._exact: set[tuple[int, int]] = set()
        self._ngrams: set[int] = set()
        for prompt in prompts:
            self._exact.add(group_digest(prompt, _SEED))
            self._ngrams.update(_ngrams(prompt))

    def __len__(self) -> int:
        return len(self._exact)

    def refuse(self, prompt: str) -> None:
        """Refuse a prompt that the evaluation set holds, wholly or in a run of NGRAM words.

        Args:
            prompt: normalised.

        Raises:
            Reject: it does.
        """
        if group_digest(prompt, _SEED) in self._exact:
            raise Reject("leaks_eval", "the whole prompt")
        if not self._ngrams.isdisjoint(_ngrams(prompt)):
            raise Reject("leaks_eval", f"{NGRAM} words in a row of: {clip(prompt, 60)}")


def _ngrams(prompt: str) -> Iterable[int]:
    words = _WORD.findall(prompt)
    if len(words) < NGRAM:
        return
    for start in range(len(words) - NGRAM + 1):
        yield xxhash.xxh3_64_intdigest("\0".join(words[start : start + NGRAM]).encode())


def read_eval_prompts(evals: Inventory, scratch: Path, mapping: Mapping[str, str]) -> EvalPrompts:
    """Read the prompts of an evaluation set: every user turn of every row that has one, whatever its answer.

    Args:
        evals: the evaluation set.
        scratch: folder for plain copies of compressed files.
        mapping: columns named by hand, of the training data; rows of the evaluation set may have them too.

    Raises:
        DataError: not one row of it can be read.
    """
    prompts: list[str] = []
    find, asked = readings_of(mapping), mapping.get("prompt", "")
    rows, unread = 0, 0
    for file in evals.files:
        for chunk in chunks_of(file, _CHUNK_BYTES, scratch):
            for raw in read_chunk(chunk):
                found = prompts_of(raw, find, asked)
                rows, unread = rows + 1, unread + (not found)
                prompts += found
    if not prompts:
        raise DataError(
            "the evaluation data holds no prompt that can be read",
            where=str(evals.folder),
            fix="give rows with a prompt, question, problem or messages; or leave --eval-dir out",
        )
    return EvalPrompts(prompts, rows, unread)


def prompts_of(raw: RawRow, find: FindReading, asked: str) -> list[str]:
    """Return the normalised user turns of a raw row; [] of one that cannot be read.

    Args:
        find: finds the row's format.
        asked: the column that holds the prompt, where a user named one.
    """
    texts: list[Any] = []
    try:
        if raw.fault is not None:
            return []
        record = parse_row(raw.data) if raw.record is None else raw.record
        # an evaluation set needs no answer
        names = {asked, *QUERY_COLUMNS}
        texts = [lookup(record, name) for name in names]
        texts += [value for name, value in zip(lowered(tuple(record)), record.values(), strict=True) if name in names]
        reading, record = find(record)
        read = [message["content"] for message in reading.read(record).messages if message["role"] == USER]
        texts = [text for text in read if isinstance(text, str)] or texts
    except (Reject, KeyError, TypeError):
        pass
    return [normalise(text) for text in texts if isinstance(text, str) and text.strip()]
