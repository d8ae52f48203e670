"""Trinity's algorithm types without a reference model: plug-ins by dotted path (`algorithm.algorithm_type`).

Trinity's own types of CHORD and GRPO always load a reference model and run it in every step, which only a KL term
reads. Without one it is a second copy of the weights and about one of five forward passes of an update for nothing.
"""

from __future__ import annotations

from trinity.algorithm.algorithm import GRPOAlgorithm, MIXCHORDAlgorithm


class CHORDAlgorithm(MIXCHORDAlgorithm):
    """Trinity's `mix_chord` for a configuration without a KL term."""

    use_reference: bool = False


class PlainGRPOAlgorithm(GRPOAlgorithm):
    """Trinity's `grpo` for a configuration without a KL term."""

    use_reference: bool = False
