"""One chunk of an input file, read into packed rows and spooled text: the work that several processes share."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import orjson

from chord_exp.prepare.columns import PACKED
from chord_exp.prepare.read.chunks import Chunk, read_chunk
from chord_exp.prepare.read.raw_rows import RawRow
from chord_exp.prepare.rejects import Reject, clip, clip_bytes, failed_answer_line, reject_line
from chord_exp.prepare.report.token_lengths import RowLimit, TokenCounter
from chord_exp.prepare.rows.build import Row, RowBuilder
from chord_exp.prepare.rows.contamination import EvalPrompts
from chord_exp.prepare.rows.formats import Format
from chord_exp.prepare.split.near_duplicates import signatures
from chord_exp.trinity_config.rows import MESSAGES_KEY, TOOLS_KEY
from chord_exp.utils.split_settings import SplitSettings

_ROWS_A_SIGNATURE_BATCH = 256


@dataclass
class ChunkResult:
    """What a chunk holds.

    Args:
        chunk: as it was asked for.
        packed: its usable rows, as `columns.PACKED` packs them.
        spool: file that holds their text.
        signatures: file that holds their MinHash signatures in the same order; "" without near dedup.
        first_signature: where the first of them lies in it, bytes.
        mentions: digests of the prompt groups of later user turns, one after the other.
        reject_lines: JSON lines for the list of rejects.
        examples: the first reject of each reason, with its place.
        failed_lines: JSON lines, as many as `failed`: rows whose own answer the reward does not score.
        read: rows, of any kind.
        unused: columns that usable rows fill and no format reads, with the rows that have them.
    """

    chunk: Chunk
    packed: bytes = b""
    spool: str = ""
    signatures: str = ""
    first_signature: int = 0
    mentions: bytes = b""
    reject_lines: bytes = b""
    failed_lines: bytes = b""
    failed: int = 0
    read: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    formats: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)


class ChunkReader:
    """Reads chunks one after the other; one in each process.

    Args:
        settings: of the preparation.
        folder: where the spools lie.
        evals: prompts that must not be trained on; None for none.
        row_limit: what a longer row than is left out; None for any length.
        declared: formats that the input folder declares, by file.
    """

    def __init__(
        self,
        settings: SplitSettings,
        folder: Path,
        evals: EvalPrompts | None,
        declared: Mapping[str, Format] | None = None,
        row_limit: RowLimit | None = None,
    ) -> None:
        self._row_limit = row_limit
        self._settings = settings
        self._declared = declared
        self._folder = folder
        self._evals = evals
        self._spool: BinaryIO | None = None
        self._signatures: BinaryIO | None = None

    def __enter__(self) -> ChunkReader:
        name = f"spool-{os.getpid()}"
        self._spool = (self._folder / name).open("wb", buffering=1 << 20)
        if self._settings.near_dedup is not None:
            self._signatures = (self._folder / f"{name}.signatures").open("wb", buffering=1 << 20)
        self._counter = None if self._row_limit is None else TokenCounter(self._row_limit.chat)
        self._builder = RowBuilder(self._settings, self._evals, self._declared)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._spool, self._signatures):
            if file is not None:
                file.close()

    def read(self, chunk: Chunk) -> ChunkResult:
        """Read one chunk; its text is in the spool when this returns.

        Raises:
            OSError: the input cannot be read or the spool not written.
        """
        assert self._spool is not None
        # without the rows it may carry: the result goes to another process
        result = ChunkResult(replace(chunk, rows=None), spool=self._spool.name)
        rows: list[bytes] = []
        mentions: list[bytes] = []
        rejects: list[bytes] = []
        failed: list[bytes] = []
        texts: list[tuple[str, str]] = []
        offset = self._spool.tell()
        if self._signatures is not None:
            result.signatures, result.first_signature = self._signatures.name, self._signatures.tell()
        build, write = self._builder.build, self._spool.write
        for raw in read_chunk(chunk):
            result.read += 1
            try:
                if raw.fault is not None:
                    raise raw.fault
                row = build(raw, chunk.file.name, chunk.first_index)
                if self._counter is not None and row.sft_line:
                    self._refuse_long(row, self._counter)
            except Reject as reject:
                result.rejects[reject.reason] += 1
                if reject.reason not in result.examples:
                    place = f"{chunk.file.name}:{raw.line}"
                    result.examples[reject.reason] = f"{place}: {reject.detail}: {clip(_shown(raw), 80)}".rstrip(": ")
                rejects.append(reject_line(chunk.file.name, raw.line, reject, _shown(raw)))
                continue
            result.formats[row.format] += 1
            if row.unused:
                result.unused.update(row.unused)
            if row.failed:
                result.failed += 1
                failed.append(failed_answer_line(chunk.file.name, raw.line, row.failed, _shown(raw)))
            rows.append(_packed(row, offset, raw.line))
            write(row.sft_line)
            write(row.rl_line)
            offset += len(row.sft_line) + len(row.rl_line)
            mentions.append(row.mentions)
            if self._signatures is not None:
                texts.append((row.normal_prompt, row.normal_response))
                if len(texts) == _ROWS_A_SIGNATURE_BATCH:
                    self._sign(texts)
        self._sign(texts)
        self._spool.flush()
        result.packed, result.mentions = b"".join(rows), b"".join(mentions)
        result.reject_lines, result.failed_lines = b"".join(rejects), b"".join(failed)
        return result

    def _refuse_long(self, row: Row, counter: TokenCounter) -> None:
        assert self._row_limit is not None
        # a byte-level tokenizer never makes more tokens than bytes, and escapes and names outweigh the template's own
        if len(row.sft_line) > self._row_limit.tokens:
            said = orjson.loads(row.sft_line)
            tokens = counter.count(orjson.loads(said[MESSAGES_KEY]), said[TOOLS_KEY], False)
            if tokens > self._row_limit.tokens:
                raise Reject("over_window", f"{tokens:,} tokens, at most {self._row_limit.tokens:,}")

    def _sign(self, texts: list[tuple[str, str]]) -> None:
        if self._signatures is not None:
            if texts:
                self._signatures.write(signatures(texts))
                texts.clear()
            self._signatures.flush()


def _packed(row: Row, offset: int, line: int) -> bytes:
    return PACKED.pack(
        *row.digest,
        row.rank,
        *row.group,
        row.value,
        offset,
        len(row.sft_line),
        len(row.rl_line),
        line,
        *row.lengths,
        row.kind,
        row.reason,
        row.language,
        row.flags,
        row.scoring,
    )


def _shown(raw: RawRow) -> str:
    """The start of a row, for the list of rejects."""
    if raw.record is None:
        return clip_bytes(raw.data)
    return clip(" ".join(f"{name}: {value}" for name, value in raw.record.items()))
