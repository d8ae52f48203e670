"""Two choices about the loss besides its schedule: the factor on each expert token, and where μ comes from.

The formulas and where they are from stand with the code that computes them: `chord_exp.plugins.token_weight` and
`chord_exp.plugins.mu_source`. Here is which there are, which keys go with which, and with what else they fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from chord_exp.experiment.field_checks import check_min, one_of, require

if TYPE_CHECKING:
    from chord_exp.experiment.spec import ExperimentSpec

NO_PHI, CHORD_PHI, SCHEDULE, GAC_ESTIMATE = "none", "pq", "schedule", "gac_estimate"
# each phi, with the keys that are read with it
PHI_KEYS: Mapping[str, tuple[str, ...]] = {
    NO_PHI: (),
    CHORD_PHI: (),
    "power": ("power_alpha",),
    "focal": ("focal_gamma",),
    "luffy_shaping": ("luffy_gamma",),
}
# each rule that mu may follow in place of a schedule, with its keys and what it says
MU_KEYS: Mapping[str, tuple[str, ...]] = {
    "reward": ("reward_tau",),
    "batch_gate": ("gate_gamma",),
    GAC_ESTIMATE: ("gac_alpha", "gac_beta"),
}
MU_RULES: Mapping[str, str] = {
    "reward": "max(0, tau - mean reward of the step's rollouts)",
    "batch_gate": "share of the step's prompts whose mean reward is gamma or less",
    GAC_ESTIMATE: "from the noise of both sides in the steps before",
}


def check_phi(spec: ExperimentSpec) -> None:
    """Refuse a factor that is not known or that nothing would read.

    Raises:
        ConfigError: naming the key.
    """
    one_of("phi", spec.phi, tuple(PHI_KEYS))
    check_min(spec, "", 0, "power_alpha", "focal_gamma")
    require(spec.luffy_gamma > 0, f"luffy_gamma={spec.luffy_gamma} is not above 0", "luffy_gamma", "give 0.1")
    require(
        spec.uses_expert_rows or spec.phi == NO_PHI,
        f"phi={spec.phi} does nothing with variant={spec.variant}, which has no expert rows",
        "phi",
        "leave it out, or use variant=phi",
    )
    require(
        spec.variant != "phi" or spec.phi != NO_PHI,
        "variant=phi and phi=none contradict each other",
        "phi",
        "leave it out, or use variant=mu",
    )
    require(
        spec.loss == "exact" or spec.phi == NO_PHI or (spec.phi == CHORD_PHI and spec.uses_chord),
        f"loss=stock has no phi={spec.phi} for variant={spec.variant}",
        "phi",
        "use loss=exact",
    )


def check_mu_source(spec: ExperimentSpec) -> None:
    """Refuse a rule for μ that is not known or that nothing would follow.

    Raises:
        ConfigError: naming the key.
    """
    one_of("mu_source", spec.mu_source, (SCHEDULE, *MU_KEYS))
    for keys in MU_KEYS.values():
        for key in keys:
            value = getattr(spec, key)
            require(0 <= value <= 1, f"{key}={value} is not in [0, 1]", key, "give a number from 0 to 1")
    if spec.mu_source == SCHEDULE:
        return
    source = f"mu_source={spec.mu_source}"
    require(
        spec.uses_chord,
        f"{source} does nothing with variant={spec.variant}, which has no mu",
        "mu_source",
        "leave it out, or use variant=mu",
    )
    require(spec.loss == "exact", f"loss=stock has no {source}", "mu_source", "use loss=exact")
