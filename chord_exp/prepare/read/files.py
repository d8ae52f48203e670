"""Which files of a folder are data, and of which kind."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from chord_exp.errors import DataError
from chord_exp.utils.hub import SAMPLE_OF_HUB

LINES, JSON, CSV, TSV, PARQUET, ARROW, SAVED = "lines", "json", "csv", "tsv", "parquet", "arrow", "saved"
_KINDS = {
    ".jsonl": LINES,
    ".ndjson": LINES,
    ".json": JSON,
    ".csv": CSV,
    ".tsv": TSV,
    ".parquet": PARQUET,
    ".arrow": ARROW,
}
COMPRESSED = (".gz", ".zst")
TEXT_KINDS = (LINES, JSON, CSV, TSV)
_SAVED_STATE, _SAVED_SPLITS = "state.json", "dataset_dict.json"
_TRAIN = "train"
# of the sample that owner/name[N] names
SAMPLE_SEED = 42
DATASET_INFO = "dataset_info.json"
"""LLaMA-Factory's and ms-swift's declaration of the files beside it: no data."""


@dataclass(frozen=True)
class InputFile:
    """One input: a file, or a folder that `datasets` saved.

    Args:
        path: where it lies.
        name: path below the input folder, printable even when it is not UTF-8.
        kind: one of LINES, JSON, CSV, TSV, PARQUET, ARROW, SAVED.
        compression: ".gz", ".zst" or "".
    """

    path: Path
    name: str
    kind: str
    compression: str = ""

    @property
    def arrow_files(self) -> list[Path]:
        """The files of a saved data set, in their order."""
        state = json.loads((self.path / _SAVED_STATE).read_bytes())
        return [self.path / str(part["filename"]) for part in state["_data_files"]]


def find_files(input_dir: Path) -> tuple[list[InputFile], list[str]]:
    """Inputs below a folder in a fixed order, and the names of what is left out.

    Of a saved DatasetDict the split `train` is read where there is one, for the others are not for training.

    Raises:
        DataError: no such folder, or nothing readable in it.
    """
    if not input_dir.is_dir():
        what = "the input is a file, not a folder" if input_dir.exists() else "the input folder does not exist"
        raise DataError(what, where=str(input_dir), fix="name a folder of data files")
    found: list[InputFile] = []
    skipped: list[str] = []
    for folder, subfolders, names in os.walk(input_dir, onerror=_refuse_unreadable):
        here = Path(folder)
        if _SAVED_STATE in names and any(name.endswith(".arrow") for name in names):
            subfolders[:] = []
            found.append(InputFile(here, shown_name(here, input_dir), SAVED))
            continue
        if _SAVED_SPLITS in names and _TRAIN in subfolders:
            skipped += [shown_name(here / name, input_dir) for name in subfolders if name != _TRAIN]
            subfolders[:] = [_TRAIN]
            names = [name for name in names if name != _SAVED_SPLITS]
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        # a linked folder is not walked: it may lead back here
        skipped += [shown_name(here / name, input_dir) for name in subfolders if (here / name).is_symlink()]
        for name in names:
            if name.startswith(".") or name in (_SAVED_SPLITS, DATASET_INFO):
                continue
            file = _input_file(here / name, input_dir)
            if file is None:
                skipped.append(shown_name(here / name, input_dir))
            else:
                found.append(file)
    if not found:
        seen = f"; it holds {', '.join(sorted(skipped)[:5])}" if skipped else ""
        kinds = ", ".join(_KINDS)
        raise DataError(
            f"the input folder has no data file ({kinds}; the text kinds also as {' or '.join(COMPRESSED)}){seen}",
            where=str(input_dir),
            fix="put the data there",
        )
    return sorted(found, key=lambda file: file.name), sorted(skipped)


def _input_file(path: Path, input_dir: Path) -> InputFile | None:
    suffix, compression = path.suffix.lower(), ""
    if suffix in COMPRESSED:
        suffix, compression = Path(path.stem).suffix.lower(), suffix
    kind = _KINDS.get(suffix)
    if kind is None or not path.is_file() or (compression and kind not in TEXT_KINDS):
        return None
    return InputFile(path, shown_name(path, input_dir), kind, compression)


def _refuse_unreadable(error: OSError) -> None:
    raise error


def shown_name(path: Path, input_dir: Path) -> str:
    """Path inside the input folder, printable even when the name is not UTF-8; of the folder itself, its name."""
    inside = path.relative_to(input_dir).as_posix()
    return (path.name if inside == "." else inside).encode("utf-8", "backslashreplace").decode()


def resolve_input(text: str) -> Path:
    """The folder that `--input-dir` or `data.input_dir` means: a folder, or the hub id of a data set, which is fetched.

    A hub id has the form owner/name and no folder of that name lies here. It is saved below outputs/hub once, its split
    `train` where it has one. Of owner/name[N] N rows are saved, the same ones each time.

    Raises:
        DataError: the data set cannot be had.
    """
    path = Path(text)
    asked = SAMPLE_OF_HUB.fullmatch(text)
    if path.parent.exists() or asked is None:
        return path
    hub_id, rows = asked[1], int(asked[2]) if asked[2] else None
    saved = Path("outputs", "hub", hub_id.replace("/", "--") + ("" if rows is None else f"-{rows}"))
    if not saved.is_dir():
        _fetch(hub_id, rows, saved)
    return saved


def _fetch(hub_id: str, rows: int | None, target: Path) -> None:
    from datasets import load_dataset

    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        loaded = load_dataset(hub_id)
        if rows is not None:
            whole = loaded[_TRAIN if _TRAIN in loaded else next(iter(loaded))]
            loaded = whole.shuffle(seed=SAMPLE_SEED).select(range(min(rows, len(whole))))
        loaded.save_to_disk(str(draft))
        os.replace(draft, target)
    except Exception as error:
        # the hub client raises dozens of kinds, offline ones among them
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(
            f"no folder {hub_id} here, and the data set of that id cannot be fetched: {first}",
            where=hub_id,
            fix="name a folder of data files; or connect to the network (HF_ENDPOINT names a mirror, HF_TOKEN a login)",
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
