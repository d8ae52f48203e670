"""What an experiment is: types, units and ranges. Values live in conf/, and only there.

Field names are the configuration's keys. Lengths are in tokens, sizes in rows, learning rates per step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chord_exp.errors import ConfigError
from chord_exp.experiment.field_checks import check_min, finite, one_of, require, safe_name
from chord_exp.experiment.objective import check_mu_source, check_phi
from chord_exp.experiment.schedule import MuSchedule
from chord_exp.experiment.sections import ClusterSpec, DataSpec, ModelSpec, MonitorSpec

VARIANTS = ("mu", "phi", "sft", "grpo", "sft_then_grpo")
LOSSES = ("exact", "stock")


@dataclass(frozen=True)
class DataFacts:
    """Place and sizes of the prepared data, read from its manifest by the caller."""

    expert_rows: int
    rl_rows: int
    eval_rows: int
    # absolute; sft/, rl/ and eval/ lie below it
    folder: str = ""
    # of its inputs and split settings; empty when assumed
    digest: str = ""
    # longest prompt, and longest expert row (prompt and response), in tokens; None when nobody has counted
    prompt_tokens_max: int | None = None
    expert_tokens_max: int | None = None
    # prompts of the test set; 0: there is none
    test_rows: int = 0
    # some expert row teaches more than its last turn
    multi_turn: bool = False
    # workflows and rewards that the rows name
    scored_by: tuple[str, ...] = ()
    # the data is not there: sizes are a guess, fit for a plan only
    assumed: bool = False


@dataclass(frozen=True)
class ExperimentSpec:
    """One experiment, checked field by field; what fields imply together is `geometry.derive`'s to check.

    Raises:
        ConfigError: a value outside its range, with the value, the key and what to do.
    """

    # name of the experiment, a folder name
    name: str
    # project of the experiment, a folder name and the project at Weights & Biases
    project: str
    # seed of rollouts, of training, and of the order in which expert rows are read
    seed: int
    # trainer steps; null: from the data and data.epochs
    total_steps: int | None
    # prompts a step
    batch_size: int
    # rollouts a prompt
    repeat_times: int
    # rho: share of expert rows in a training batch
    expert_data_ratio: float
    # where μ comes from: schedule (the four keys below), reward, batch_gate or gac_estimate
    mu_source: str
    # mu_source=reward: μ = max(0, τ - mean reward of the step's rollouts); τ in [0, 1]
    reward_tau: float
    # mu_source=batch_gate: μ = share of the step's prompts whose mean reward is at most this, in [0, 1]
    gate_gamma: float
    # mu_source=gac_estimate: μ where neither side is noisy, in [0, 1]
    gac_alpha: float
    # mu_source=gac_estimate: share of the old in a moving average, in [0, 1)
    gac_beta: float
    # steps of linear warm-up of μ
    mu_warmup_steps: int
    # steps of cosine decay of μ after the warm-up
    mu_decay_steps: int
    # μ at the end of the warm-up, in [0, 1]
    mu_peak: float
    # μ after the decay, in [0, 1]
    mu_valley: float
    # factor on each expert token: none, pq (CHORD-φ: p(1 - p)), power, focal or luffy_shaping
    phi: str
    # phi=power: p to the power of this, 0 or more
    power_alpha: float
    # phi=focal: 1 - p to the power of this, 0 or more
    focal_gamma: float
    # phi=luffy_shaping: g p / (p + g)², g being this, above 0
    luffy_gamma: float
    # what is trained: mu, phi, sft, grpo or sft_then_grpo
    variant: str
    # learning rate of AdamW
    lr: float
    # the same, of steps that are SFT alone: variant=sft, and the first stage of sft_then_grpo
    sft_lr: float
    # share of total_steps that are SFT in sft_then_grpo, in (0, 1)
    sft_share: float
    # "exact": chord_exp's loss; "stock": Trinity's own with the arguments that make it exact
    loss: str
    # go on in a used run folder
    resume: bool
    # the model
    model: ModelSpec
    # the data
    data: DataSpec
    # the machines
    cluster: ClusterSpec
    # the metrics
    monitor: MonitorSpec
    # anything of Trinity's configuration, merged last
    trinity: Mapping[str, Any]

    def __post_init__(self) -> None:
        finite(self, "")
        safe_name("name", self.name)
        safe_name("project", self.project)
        one_of("variant", self.variant, VARIANTS)
        one_of("loss", self.loss, LOSSES)
        check_min(self, "", 1, "total_steps", "batch_size", "repeat_times")
        check_min(self, "", 0, "seed")
        for key in ("lr", "sft_lr"):
            rate = getattr(self, key)
            require(rate > 0, f"{key}={rate} trains nothing", key, "give a learning rate above 0, such as 1e-6")
        require(
            0 < self.sft_share < 1,
            f"sft_share={self.sft_share} leaves a stage of sft_then_grpo without steps",
            "sft_share",
            "give a share between 0 and 1, such as 0.5; for one stage alone use variant=sft or variant=grpo",
        )
        self._check_expert_ratio()
        self._check_groups()
        check_phi(self)
        check_mu_source(self)
        _ = self.mu  # checks the schedule

    @property
    def mu(self) -> MuSchedule:
        """The μ schedule."""
        return MuSchedule(self.mu_warmup_steps, self.mu_decay_steps, self.mu_peak, self.mu_valley)

    @property
    def effective_variant(self) -> str:
        """The variant by what is trained: variant=mu with phi=pq is CHORD-φ, with phi=power it is mu-power."""
        if self.uses_chord and self.phi in ("none", "pq"):
            return "mu" if self.phi == "none" else "phi"
        base = "mu" if self.uses_chord else self.variant
        return base if self.phi == "none" else f"{base}-{self.phi}"

    @property
    def uses_chord(self) -> bool:
        """Whether rollouts and expert rows are trained together."""
        return self.variant in ("mu", "phi")

    @property
    def uses_expert_rows(self) -> bool:
        """Whether any step trains on expert rows."""
        return self.variant != "grpo"

    @property
    def uses_rollouts(self) -> bool:
        """Whether any step trains on rollouts."""
        return self.variant != "sft"

    @property
    def serves_adapters(self) -> bool:
        """Whether vLLM is handed adapters; the local engine's rollout model gets them merged into its weights."""
        return self.model.uses_lora and self.cluster.engine != "local"

    def _check_expert_ratio(self) -> None:
        ratio = self.expert_data_ratio
        if self.uses_expert_rows and not 0 < ratio < 1:
            side = "expert rows" if ratio <= 0 else "rollouts"
            raise ConfigError(
                f"expert_data_ratio={ratio} leaves no {side} in a batch of variant={self.variant}",
                "expert_data_ratio",
                "give a share between 0 and 1, such as 0.25; for one side alone use variant=grpo or variant=sft",
            )
        require(0 <= ratio <= 1, f"expert_data_ratio={ratio} is not a share", "expert_data_ratio", "use [0, 1]")

    def _check_groups(self) -> None:
        require(
            self.repeat_times >= 2 or not self.uses_rollouts,
            f"repeat_times={self.repeat_times} gives no group to compare: GRPO's advantage needs at "
            "least 2 rollouts a prompt",
            "repeat_times",
            "set repeat_times=2 or more, or use variant=sft",
        )
