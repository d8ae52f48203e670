"""Read the listed modules with their places exchanged, while they are imported."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import CodeType, ModuleType

from chord_exp.engine.real_cpu.places import PLACES


def exchanged(module: str, text: str) -> str:
    """The source of a module with its places exchanged.

    Raises:
        ImportError: a place is gone; half of them exchanged would be worse than none.
    """
    for old, new in PLACES[module]:
        if old not in text:
            raise ImportError(f"cluster.engine=real_cpu: {module} holds {old!r} no longer", name=module)
        text = text.replace(old, new)
    return text


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        text = exchanged(fullname, self.get_data(path).decode())
        return compile(text, path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in PLACES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin:
            spec.loader = _Loader(fullname, spec.origin)
        return spec


def install(too_late: tuple[str, ...] = ("",)) -> None:
    """Put the finder first.

    Args:
        too_late: prefixes of the listed modules that must not have been imported before.

    Raises:
        ImportError: one was.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    late = sorted(name for name in PLACES if name in sys.modules and name.startswith(too_late))
    if late:
        raise ImportError(f"cluster.engine=real_cpu: {late[0]} was imported before its places could be exchanged")
    sys.meta_path.insert(0, _Finder())
