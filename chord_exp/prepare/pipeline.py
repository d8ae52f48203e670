"""The flow: inventory → read (in several processes) → assign → write, from a folder of raw rows to a prepared one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chord_exp.errors import ConfigError, DataError, RunFailed
from chord_exp.prepare.chunk_reader import ChunkReader
from chord_exp.prepare.columns import Columns
from chord_exp.prepare.folder import is_locked, locked, refuse_foreign, refuse_overlap, writing
from chord_exp.prepare.manifest import (
    Built,
    Manifest,
    content_of,
    differences,
    identity,
    load_manifest,
    row_bytes,
    save,
)
from chord_exp.prepare.options import Progress
from chord_exp.prepare.parallel import read_chunks, usable_workers
from chord_exp.prepare.read.chunks import chunks_of
from chord_exp.prepare.read.inventory import Inventory, take_inventory
from chord_exp.prepare.rejects import Reject, clip_bytes, reject_line
from chord_exp.prepare.report.card import write_card
from chord_exp.prepare.report.pii_scan import scan_sides
from chord_exp.prepare.report.tally import FileTally, Tally
from chord_exp.prepare.report.token_lengths import RowLimit
from chord_exp.prepare.report.warnings import refuse_unusable
from chord_exp.prepare.report.writer import LinesWriter, Spooled, write_sides
from chord_exp.prepare.rows.contamination import read_eval_prompts
from chord_exp.prepare.rows.dataset_info import declared_formats
from chord_exp.prepare.rows.key_index import with_first_index
from chord_exp.prepare.split.assign import Assigner, Assignment
from chord_exp.prepare.split.near_duplicates import Part
from chord_exp.prepare.split.sources import number_sources
from chord_exp.trinity_config.rows import FAILED_ANSWERS_FILE, MANIFEST_FILE, PREPARED_ROOT, REJECTS_FILE
from chord_exp.utils.split_settings import SplitSettings

READING, PLACING, WRITING = "reading", "placing", "writing"
# a chunk's results wait in memory until their turn: a few megabytes each
CHUNK_BYTES = 4 << 20
# of the digest, in a folder's name
_DIGITS = 12


def ensure_prepared(
    input_dir: str | os.PathLike[str],
    settings: SplitSettings,
    *,
    out: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] = PREPARED_ROOT,
    row_limit: RowLimit | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    on_wait: Callable[[], None] | None = None,
    before: Callable[[], None] | None = None,
) -> Manifest:
    """Prepare `input_dir` unless that has been done with the same inputs and arguments.

    Args:
        input_dir: folder of raw data.
        settings: what decides which row goes where; of a DataSpec too.
        out: folder to write; other content in it is replaced as a whole, and only when prepare wrote it. None for one
            below `root` that is named after input, settings and content (NAME-DIGEST) and never changes.
        row_limit: what `settings.drop_long` measures rows by.
        workers: processes that read; None for one a core. The output does not depend on it.
        progress: called while reading and writing.
        on_wait: called once when another process is writing the same folder.
        before: called before anything is written, unless all is there already; may raise.

    Raises:
        DataError: unusable data or arguments, or an output that is not ours or in use; nothing is written.
        RunFailed: the output cannot be written; the old one is as it was.
    """
    source = Path(input_dir).resolve()
    inputs = take_inventory(source)
    evals = None if settings.eval_dir is None else take_inventory(Path(settings.eval_dir).resolve())
    if not settings.drop_long:
        row_limit = None
    elif row_limit is None:
        key = settings.key("drop_long")
        raise ConfigError(f"{key} says nothing without a limit", key, "give --tokenizer FOLDER and --max-tokens N too")
    wanted = identity(settings, inputs, evals, row_limit)
    name = f"{source.name or 'data'}-{wanted['digest'][:_DIGITS]}"
    target = (Path(root) / name if out is None else Path(out)).resolve()
    refuse_overlap(source, target, settings.key("out"))
    try:
        refuse_foreign(target, settings.key("out"))
        if not is_locked(target) and (found := _finished(target, wanted)):
            return found
        if before is not None:
            before()
        with locked(target, on_wait or (lambda: None)):
            if found := _finished(target, wanted):
                return found
            replaced = _what_gives_way(target, wanted, settings.key("out"))
            with writing(target, settings.key("out")) as draft:
                tell = progress or (lambda what, done, total, rows: None)
                with _rejects_kept(draft, target):
                    _build(
                        draft, inputs, evals, settings, row_limit, wanted, usable_workers(workers, inputs.bytes), tell
                    )
            return load_manifest(target, up_to_date=False, replaced=replaced)
    except OSError as error:
        if error.filename and source in Path(os.fsdecode(error.filename)).parents:
            raise DataError(
                f"cannot read the input: {error.strerror}",
                where=os.fsdecode(error.filename),
                fix="check that the file is still there, and its permissions",
            ) from None
        raise RunFailed(
            f"cannot write the prepared data: {error.strerror or error}",
            where=str(error.filename or target),
            fix=f"free space or choose another {settings.key('out')}; what was there before is unchanged",
        ) from None


@contextmanager
def _rejects_kept(draft: Path, target: Path) -> Iterator[None]:
    """Where the data cannot be used, leave the list of rejects beside the folder that does not come to be."""
    kept = target.with_name(f"{target.name}.{REJECTS_FILE}")
    try:
        yield
    except DataError as error:
        rejects = draft / REJECTS_FILE
        if not rejects.exists() or not rejects.stat().st_size:
            raise
        rejects.replace(kept)
        raise DataError(error.what, error.where, f"look at {kept}; {error.fix}") from error
    kept.unlink(missing_ok=True)


def _finished(folder: Path, wanted: dict[str, Any]) -> Manifest | None:
    """The manifest of a folder that holds what is wanted, whole."""
    if not (folder / MANIFEST_FILE).exists():
        return None
    manifest = load_manifest(folder)
    return manifest if manifest.digest == wanted["digest"] and manifest.is_whole() else None


def _what_gives_way(folder: Path, wanted: dict[str, Any], key: str) -> str:
    """In what the content of a folder differs from what is wanted; "" where nothing was prepared.

    Raises:
        DataError: the folder holds files of others, or prepared ones that were changed by hand.
    """
    refuse_foreign(folder, key)
    if not (folder / MANIFEST_FILE).exists():
        return ""
    before = load_manifest(folder)
    before.refuse_changes(key)
    return differences(before.content, wanted)


@dataclass
class _Read:
    """What reading gave: the rows as columns, and where their text lies."""

    columns: Columns
    tally: Tally
    spools: list[Path] = field(default_factory=list)
    mentions: bytearray = field(default_factory=bytearray)
    signatures: list[Part] = field(default_factory=list)


def _build(
    draft: Path,
    inputs: Inventory,
    evals: Inventory | None,
    settings: SplitSettings,
    row_limit: RowLimit | None,
    wanted: dict[str, Any],
    workers: int,
    tell: Progress,
) -> None:
    with tempfile.TemporaryDirectory(dir=draft, prefix=".work-") as work, tempfile.TemporaryFile(dir=work) as store:
        read = _Read(Columns(store), Tally({file.name: FileTally() for file in inputs.files}))
        with LinesWriter(draft / REJECTS_FILE) as rejects, LinesWriter(draft / FAILED_ANSWERS_FILE) as failed:
            prompts = None if evals is None else read_eval_prompts(evals, Path(work), settings.map)
            reader = ChunkReader(settings, Path(work), prompts, declared_formats(inputs.folder), row_limit)
            _read_all(inputs, reader, Path(work), read, rejects, failed, workers, tell)
            rows = read.tally.total("read")
            tell(PLACING, 0, 1, rows)
            assigner = Assigner(read.columns, bytes(read.mentions), read.signatures, settings)
            usable, reasons = len(read.columns), assigner.reasons()
            refuse_unusable(inputs.folder, read.tally, usable, assigner.free, assigner.experts, reasons, settings)
            assignment = assigner.assign(number_sources([file.name for file in inputs.files]))
            read.tally.count_final(assignment, read.columns)
            with Spooled(read.columns, read.spools) as spooled:
                _write_late_rejects(assignment, read, spooled, rejects)
                tell(WRITING, 0, 1, rows)
                outputs = write_sides(draft, spooled, assignment.sides)
                personal = scan_sides(spooled, assignment.sides)
        outputs[REJECTS_FILE] = rejects.facts()
        if settings.answer_check:
            outputs[FAILED_ANSWERS_FILE] = failed.facts()
        else:
            (draft / FAILED_ANSWERS_FILE).unlink()
        built = Built(settings, inputs, evals, prompts, read.columns, read.tally, assignment, outputs, personal)
        content = content_of(wanted, built)
        write_card(draft, content, row_bytes(built))
        save(draft, content)
    inputs.refuse_changes()


def _read_all(
    inputs: Inventory,
    reader: ChunkReader,
    work: Path,
    read: _Read,
    rejects: LinesWriter,
    failed: LinesWriter,
    workers: int,
    tell: Progress,
) -> None:
    number_of = {file.name: number for number, file in enumerate(inputs.files)}
    spool_of: dict[str, int] = {}
    chunks = (chunk for file in inputs.files for chunk in with_first_index(chunks_of(file, CHUNK_BYTES, work)))
    done, rows = 0, 0
    for result in read_chunks(chunks, reader, workers):
        if result.spool not in spool_of:
            spool_of[result.spool] = len(spool_of)
            read.spools.append(Path(result.spool))
        before = len(read.columns)
        read.columns.append(result.packed, number_of[result.chunk.file.name], spool_of[result.spool])
        if result.signatures and len(read.columns) > before:
            read.signatures.append(Part(Path(result.signatures), result.first_signature, len(read.columns) - before))
        read.mentions += result.mentions
        read.tally.take(result)
        rejects.write(result.reject_lines, result.rejects.total())
        failed.write(result.failed_lines, result.failed)
        done, rows = done + result.chunk.bytes, rows + result.read
        tell(READING, min(done, inputs.bytes), inputs.bytes, rows)
    tell(READING, inputs.bytes, inputs.bytes, rows)


def _write_late_rejects(assignment: Assignment, read: _Read, spooled: Spooled, rejects: LinesWriter) -> None:
    """List the rows that only the whole data set left without a place."""
    names = list(read.tally.files)
    numbers, lines = read.columns.files(), read.columns.load("line")["line"]
    for reason, rows in assignment.late_rejects:
        for row, text in zip(rows.tolist(), spooled.texts(rows), strict=True):
            rejects.write(reject_line(names[numbers[row]], int(lines[row]), Reject(reason), clip_bytes(text)), 1)
