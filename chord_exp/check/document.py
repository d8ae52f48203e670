"""A YAML file as Trinity reads it, with the line of every key, and a look at the data that it names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from chord_exp.check.buffers import path_keys
from chord_exp.check.subject import Rows, Subject
from chord_exp.errors import ConfigError
from chord_exp.trinity_config.rows import SPLIT

FILE_SUFFIXES = (".json", ".jsonl", ".parquet", ".csv", ".arrow", ".txt")


@dataclass(frozen=True)
class Document:
    """A configuration file."""

    # interpolations resolved
    values: dict[str, Any]
    # line of each dotted key, counted from 1
    lines: Mapping[str, int]

    def line_of(self, key: str) -> int | None:
        """The line of a key, or of the nearest section around it that the file has."""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return self.lines.get(key)


def read(path: Path) -> Document:
    """Read a file.

    Raises:
        ConfigError: it cannot be read, is no YAML, or has an interpolation that cannot be resolved.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error.reason}", str(path), "save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", str(path), "check the name") from None
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        loaded = OmegaConf.create(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{path} is no valid YAML: {problem}", where, "look at that line and the one above") from None
    if not OmegaConf.is_dict(loaded) or tree is None:
        raise ConfigError(f"{path} holds no keys", str(path), "give a configuration for `trinity run`")
    lines = dict(_lines(tree))
    try:
        values = cast(dict[str, Any], OmegaConf.to_container(loaded, resolve=True))
    except OmegaConfBaseException as error:
        key = str(error.full_key or "")
        where = f"{path}:{lines[key]}" if key in lines else str(path)
        what = str(error).splitlines()[0]
        raise ConfigError(
            f"{key}: {what}", where, "set the variable, or give a default: ${oc.env:NAME,default}"
        ) from None
    return Document(values, lines)


def _lines(node: yaml.Node, prefix: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = f"{prefix}{key.value}"
            yield path, key.start_mark.line + 1
            yield from _lines(value, f"{path}.")
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield f"{prefix}{index}", item.start_mark.line + 1
            yield from _lines(item, f"{prefix}{index}.")


def look_at_data(values: Mapping[str, Any]) -> dict[str, Rows]:
    """What can be seen of each folder that the configuration reads, by dotted key of its path."""
    found = {key: _look_at(str(path)) for key, path in path_keys(values) if path}
    for index, stage in enumerate(Subject(values).members("stages")):
        stage = stage if isinstance(stage, Mapping) else {}
        found |= {f"stages.{index}.{key}": _look_at(str(path)) for key, path in path_keys(stage) if path}
    return found


def _look_at(path: str) -> Rows:
    place = Path(path).expanduser()
    relative = not place.is_absolute()
    if path.endswith(FILE_SUFFIXES) or place.is_file():
        return Rows(None, None, is_file=True, relative=relative)
    if not place.is_dir():
        # owner/name is a data set of the hub
        is_hub = relative and path.count("/") <= 1 and not path.startswith(".")
        return Rows(None, None, missing=not is_hub)
    files = _data_files(place)
    count, keys = _count(files)
    return Rows(count, keys, relative=relative, files=tuple(file.name for file in files))


def _data_files(folder: Path) -> list[Path]:
    """The files that Hugging Face's `load_dataset(folder, split="train")` takes: those named so, or else all."""
    files = sorted(file for file in folder.iterdir() if file.name.endswith(FILE_SUFFIXES))
    return [file for file in files if file.name.startswith(SPLIT)] or files


def _count(files: list[Path]) -> tuple[int | None, tuple[str, ...] | None]:
    """Rows of all files and keys of the first row; None where a file is no JSON lines."""
    if not files or any(file.suffix != ".jsonl" for file in files):
        return None, None
    count, keys = 0, None
    for file in files:
        with file.open("rb") as rows:
            first = rows.readline()
            count += sum(1 for line in rows if line.strip()) + bool(first.strip())
        keys = keys or _keys(first)
    return count, keys


def _keys(line: bytes) -> tuple[str, ...] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return tuple(row) if isinstance(row, dict) else None
