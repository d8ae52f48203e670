"""Prompts of an evaluation set must not be trained on: they are found by hash, and by a run of words in common."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import xxhash

from chord_exp.errors import DataError
from chord_exp.prepare.read.chunks import RawRow, chunks_of, parse_row, read_chunk
from chord_exp.prepare.read.survey import Survey
from chord_exp.prepare.rejects import Reject, clip
from chord_exp.prepare.rows.conversation import USER
from chord_exp.prepare.rows.formats import QUERY_FIELDS, detect
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
    """

    def __init__(self, prompts: Iterable[str]) -> None:
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


def read_eval_prompts(evals: Survey, scratch: Path) -> EvalPrompts:
    """The prompts of an evaluation set: every user turn of every row that has one, whatever its answer.

    Args:
        scratch: folder for plain copies of compressed files.

    Raises:
        DataError: not one row of it can be read.
    """
    prompts: list[str] = []
    for file in evals.files:
        for chunk in chunks_of(file, _CHUNK_BYTES, scratch):
            for raw in read_chunk(chunk):
                with suppress(Reject):
                    prompts += prompts_of(raw)
    if not prompts:
        raise DataError(
            "the evaluation data holds no prompt that can be read",
            where=str(evals.folder),
            fix="give rows with a prompt, question, problem or messages; or leave --eval-dir out",
        )
    return EvalPrompts(prompts)


def prompts_of(raw: RawRow) -> list[str]:
    """The normalised user turns of a raw row.

    Raises:
        Reject: it cannot be read.
    """
    if raw.fault is not None:
        raise raw.fault
    record = parse_row(raw.data) if raw.record is None else raw.record
    try:
        messages = detect(record).read(record).messages
        texts = [message["content"] for message in messages if message["role"] == USER]
    except (Reject, KeyError, TypeError):
        # an evaluation set needs no answer
        texts = [record[field] for field in QUERY_FIELDS if field in record]
    return [normalise(text) for text in texts if isinstance(text, str) and text.strip()]
