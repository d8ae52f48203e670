"""Each place upstream that the rehearsal exchanges is where it was seen."""

from __future__ import annotations

from importlib.machinery import PathFinder

import pytest

from chord_exp.engine import real_cpu
from chord_exp.engine.real_cpu.places import PLACES
from chord_exp.engine.real_cpu.rewrite import exchanged


def source_of(module: str) -> str:
    """The source of an installed module, without importing its packages."""
    path = None
    for part in module.split("."):
        spec = PathFinder.find_spec(part, path)
        assert spec is not None and spec.origin is not None, module
        path = spec.submodule_search_locations
    with open(spec.origin, encoding="utf-8") as stream:
        return stream.read()


def test_the_installed_versions_are_those_of_the_lock() -> None:
    assert real_cpu.missing() is None


@pytest.mark.parametrize("module", PLACES)
def test_every_place_is_there_and_what_is_read_in_its_stead_compiles(module: str) -> None:
    text = exchanged(module, source_of(module))
    compile(text, module, "exec")
    for old, _ in PLACES[module]:
        assert old not in text


def test_a_place_that_is_gone_stops_the_import() -> None:
    with pytest.raises(ImportError, match=r"verl\.utils\.device"):
        exchanged("verl.utils.device", "nothing of it")
