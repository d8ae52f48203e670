"""What Trinity's CHORD loss really weighs each side by (docs/losses.md has the derivation)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chord_exp.check.subject import ERROR, WARNING, Finding, Subject
from chord_exp.trinity_config.loss_arguments import STOCK_CHORD_LOSS, STOCK_DEFAULTS
from chord_exp.trinity_config.plugin_names import CHORD_LOSS
from chord_exp.trinity_config.user_overrides import LOSS_ARGUMENTS

# a ratio off by less than this is a matter of floats
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Weights:
    """Factors on the GRPO and the SFT term, summed over micro-batches and averaged over ranks; 1 is right."""

    usual: float
    expert: float
    # what the factors are still to be multiplied by: "" nothing, "K" the number of micro-batches of a rank, "b" the
    # rows of a micro-batch. K and b follow from the lengths of rows, so they change from step to step
    times: str = ""

    def effective_mu(self, mu: float) -> float:
        """The share of the SFT term in what is trained."""
        return mu * self.expert / ((1 - mu) * self.usual + mu * self.expert)

    def __str__(self) -> str:
        unit = f" x {self.times}" if self.times else ""
        return f"GRPO x {self.usual:.4g}{unit}, SFT x {self.expert:.4g}{unit}"


def stock_weights(
    arguments: Mapping[str, Any], usual: int, expert: int, data_parallel: int, *, verl_legacy: bool
) -> Weights:
    """The factors of Trinity's own CHORD loss.

    Args:
        arguments: policy_loss_fn_args; what is left out has the default of the class.
        usual: U, expert: E, data_parallel: D of the real batch and trainer.
        verl_legacy: verl < 0.8, which scales a micro-batch of b rows by b·D/T.

    Raises:
        ZeroDivisionError: an argument smaller than ngpus_trainer, as in the worker.
    """

    def whole(key: str) -> int:
        value = arguments.get(key)
        return int(STOCK_DEFAULTS[key] if value is None else value)

    ranks, mini = whole("ngpus_trainer"), whole("ppo_mini_batch_size")
    believed_usual, believed_expert = (
        whole("train_batch_size_usual") // ranks,
        whole("train_batch_size_expert") // ranks,
    )
    rows = usual + expert
    if arguments.get("use_dynamic_bsz"):
        # the class divides by the n rows of the micro-batch: 1/n = K·D/T on average; old verl multiplies by n·D/T
        scale, times = mini // ranks * data_parallel / rows, "" if verl_legacy else "K"
    else:
        scale, times = float(mini // whole("ppo_micro_batch_size_per_gpu")), ""
        if verl_legacy:
            scale, times = scale * data_parallel / rows, "b"
    return Weights(
        scale / believed_usual * usual / data_parallel, scale / believed_expert * expert / data_parallel, times
    )


def weight_rules(subject: Subject) -> Iterator[Finding]:
    """Sizes in the arguments of the loss against the real ones, and what they make of mu."""
    if not subject.is_chord:
        return
    if subject.policy_loss == CHORD_LOSS:
        yield from _exact_sizes(subject)
    elif subject.policy_loss == STOCK_CHORD_LOSS:
        yield from _stock_sizes(subject)
        yield from _stock_factors(subject)


def _exact_sizes(subject: Subject) -> Iterator[Finding]:
    real = {
        "usual_rows": (subject.batch_rows - subject.expert_rows, "train_batch_size - E"),
        "expert_rows": (subject.expert_rows, "ceil(expert_data_ratio x train_batch_size)"),
        "data_parallel_size": (subject.data_parallel_size, "trainer GPUs / sequence parallel size"),
    }
    yield from _differing(subject, real)


def _stock_sizes(subject: Subject) -> Iterator[Finding]:
    if subject.get(LOSS_ARGUMENTS) is None:
        return
    real = {
        "train_batch_size_usual": (subject.usual_rows, "batch_size x repeat_times"),
        "train_batch_size_expert": (subject.expert_rows, "ceil(expert_data_ratio x train_batch_size)"),
        "ngpus_trainer": (subject.data_parallel_size, "trainer GPUs / sequence parallel size"),
    }
    yield from _differing(subject, real)


def _differing(subject: Subject, real: Mapping[str, tuple[int | None, str]]) -> Iterator[Finding]:
    for name, (wanted, formula) in real.items():
        key = f"{LOSS_ARGUMENTS}.{name}"
        given = subject.get(key)
        if wanted is None or given == wanted:
            continue
        default = f", so the loss takes {STOCK_DEFAULTS[name]}" if name in STOCK_DEFAULTS else ""
        shown = f"is left out{default}" if given is None else f"is {given}"
        yield Finding(ERROR, key, f"{name} {shown}, and {formula} is {wanted}", f"set it to {wanted}")


def _stock_factors(subject: Subject) -> Iterator[Finding]:
    arguments = subject.section(LOSS_ARGUMENTS)
    usual, expert = subject.batch_rows - subject.expert_rows, subject.expert_rows
    ranks = subject.data_parallel_size
    if usual < 1 or expert < 1:
        return
    if ranks is None:
        # the believed number stands for the real one; the rule about the cluster says that it is unknown
        ranks = max(1, subject.whole(f"{LOSS_ARGUMENTS}.ngpus_trainer", 1))
    try:
        weights = stock_weights(arguments, usual, expert, ranks, verl_legacy=subject.verl_legacy)
        other = stock_weights(arguments, usual, expert, ranks, verl_legacy=not subject.verl_legacy)
    except ZeroDivisionError:
        yield Finding(
            ERROR,
            LOSS_ARGUMENTS,
            f"a size in the arguments is smaller than ngpus_trainer={arguments.get('ngpus_trainer', 1)}: the loss "
            "divides by its quotient, which is 0",
            f"set train_batch_size_usual={usual}, train_batch_size_expert={expert} and ngpus_trainer={ranks}",
        )
        return
    except (TypeError, ValueError):
        yield Finding(ERROR, LOSS_ARGUMENTS, "a size in the arguments is no whole number", "give whole numbers")
        return
    yield from _judged(subject, weights, other, usual, expert, ranks)


def _judged(
    subject: Subject, weights: Weights, other: Weights, usual: int, expert: int, ranks: int
) -> Iterator[Finding]:
    legacy = subject.verl_legacy
    here, there = ("verl < 0.8", "verl >= 0.8") if legacy else ("verl >= 0.8", "verl < 0.8")
    mu = subject.number(f"{LOSS_ARGUMENTS}.mu_peak", STOCK_DEFAULTS["mu_peak"])
    fix = (
        f"set use_dynamic_bsz: true, ppo_mini_batch_size: {usual + expert}"
        if legacy
        else "set use_dynamic_bsz: false, ppo_mini_batch_size: 1, ppo_micro_batch_size_per_gpu: 1"
    )
    fix += f", ngpus_trainer: {ranks}, train_batch_size_usual: {usual}, train_batch_size_expert: {expert}"
    if usual % ranks or expert % ranks:
        fix += f" with U and E that {ranks} divides (the loss rounds down)"
    numbers = f"U={usual}, E={expert}, D={ranks}, {here}: {weights}"
    if abs(weights.usual - weights.expert) > TOLERANCE * weights.usual:
        effective = weights.effective_mu(mu)
        yield Finding(
            ERROR, LOSS_ARGUMENTS, f"where mu is {mu:g} the loss trains as if it were {effective:.2f} ({numbers})", fix
        )
    elif weights.times == "K":
        yield Finding(
            WARNING,
            LOSS_ARGUMENTS,
            f"mu is kept, and both sides are multiplied by about {weights.usual:.3g} x K, K being the micro-batches "
            f"of a rank, so that a row's weight depends on its neighbours ({numbers}; on {there} {other}). Clipping, "
            "weight decay and the gradient norm feel that",
            fix,
        )
    elif weights.times or abs(weights.usual - 1) > TOLERANCE:
        yield Finding(
            WARNING,
            LOSS_ARGUMENTS,
            f"mu is kept, and the whole loss is off by one factor on both sides ({numbers}; on {there} {other}). "
            "Clipping, weight decay and the gradient norm feel that",
            fix,
        )
