"""What a forecast is made of: terms, summed up in the phases of a step; the phase that needs most is the peak."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Term:
    """One thing that takes memory."""

    what: str
    # bytes
    size: float
    # how it is counted
    formula: str


@dataclass(frozen=True)
class Phase:
    """What is in memory at one moment of a step."""

    what: str
    terms: tuple[Term, ...]

    @property
    def size(self) -> float:
        """Bytes in all."""
        return sum(term.size for term in self.terms)

    @property
    def dominating(self) -> Term:
        """The term that takes most."""
        return max(self.terms, key=lambda term: term.size)
