"""The schedule of mu, and what else belongs to the loss."""

from __future__ import annotations

from collections.abc import Iterator

from chord_exp.check.subject import ERROR, WARNING, Finding, Subject
from chord_exp.errors import ConfigError
from chord_exp.experiment.schedule import MuSchedule, warnings_of
from chord_exp.trinity_config.loss_arguments import STOCK_CHORD_LOSS, STOCK_DEFAULTS
from chord_exp.trinity_config.plugin_names import CHORD_LOSS
from chord_exp.trinity_config.user_overrides import LOSS_ARGUMENTS

# the coefficients that Trinity's classes have by default
DEFAULT_KL_COEF = 0.001


def mu_rules(subject: Subject) -> Iterator[Finding]:
    """Arguments of the CHORD loss other than sizes."""
    if not subject.is_chord or subject.policy_loss not in (STOCK_CHORD_LOSS, CHORD_LOSS):
        return
    yield from _clip_range(subject)
    yield from _left_out(subject)
    yield from _schedule(subject)
    yield from _extra_terms(subject)


def _clip_range(subject: Subject) -> Iterator[Finding]:
    if subject.get(LOSS_ARGUMENTS) is None:
        return
    both = all(subject.get(f"{LOSS_ARGUMENTS}.clip_range_{side}") is not None for side in ("low", "high"))
    if subject.get(f"{LOSS_ARGUMENTS}.clip_range") is None and not both:
        yield Finding(
            ERROR,
            LOSS_ARGUMENTS,
            "clip_range is missing: given arguments are not completed by defaults, and the worker fails on it",
            "add clip_range: 0.2",
        )


def _left_out(subject: Subject) -> Iterator[Finding]:
    if subject.policy_loss != STOCK_CHORD_LOSS:
        return
    names = ("mu_warmup_steps", "mu_decay_steps", "mu_peak", "mu_valley")
    missing = [name for name in names if subject.get(f"{LOSS_ARGUMENTS}.{name}") is None]
    if missing:
        shown = ", ".join(f"{name}={STOCK_DEFAULTS[name]}" for name in missing)
        yield Finding(
            WARNING, LOSS_ARGUMENTS, f"left out, so Trinity takes {shown}", "write the schedule that you mean"
        )
    if subject.get(f"{LOSS_ARGUMENTS}.enable_phi_function") is None:
        yield Finding(
            WARNING,
            LOSS_ARGUMENTS,
            "enable_phi_function is left out, so Trinity takes true: this is CHORD-phi",
            "write enable_phi_function: true for CHORD-phi, false for CHORD-mu",
        )


def _schedule(subject: Subject) -> Iterator[Finding]:
    def argument(name: str) -> str:
        return f"{LOSS_ARGUMENTS}.{name}"

    try:
        schedule = MuSchedule(
            subject.whole(argument("mu_warmup_steps"), STOCK_DEFAULTS["mu_warmup_steps"]),
            subject.whole(argument("mu_decay_steps"), STOCK_DEFAULTS["mu_decay_steps"]),
            subject.number(argument("mu_peak"), STOCK_DEFAULTS["mu_peak"]),
            subject.number(argument("mu_valley"), STOCK_DEFAULTS["mu_valley"]),
        )
    except ConfigError as error:
        yield Finding(ERROR, argument(error.where), error.what, error.fix)
        return
    for name, what in warnings_of(schedule, subject.steps):
        yield Finding(WARNING, argument(name), what.replace("μ", "mu"), "write the schedule that you mean")


def _extra_terms(subject: Subject) -> Iterator[Finding]:
    kl, entropy = subject.get("algorithm.kl_loss_fn", "k2"), subject.get("algorithm.entropy_loss_fn", "mix")
    kl_coef = subject.number("algorithm.kl_loss_fn_args.kl_coef", DEFAULT_KL_COEF)
    if kl != "none" and kl_coef:
        yield Finding(
            WARNING,
            "algorithm.kl_loss_fn",
            f"a KL loss ({kl}, kl_coef={kl_coef:g}) is added outside of the weighting by 1 - mu and mu",
            'set kl_loss_fn: "none"',
        )
    entropy_coef = subject.number("algorithm.entropy_loss_fn_args.entropy_coef", 0.0)
    if entropy != "none" and entropy_coef:
        yield Finding(
            WARNING,
            "algorithm.entropy_loss_fn",
            f"an entropy term (entropy_coef={entropy_coef:g}) is added outside of the weighting by 1 - mu and mu",
            'set entropy_loss_fn: "none"',
        )
