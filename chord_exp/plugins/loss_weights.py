"""What share of the full batch one micro-batch carries, and by what the trainer will scale it.

The objective of a step is for each of its terms (usual: rollouts; expert: SFT rows) a mean over the WHOLE batch:

| mode | L_term over the full batch |
|---|---|
| `token-mean` | sum over action tokens / number of action tokens of the term |
| `seq-mean-token-mean` | mean over the term's rows of each row's token mean |
| `seq-mean-token-sum` | mean over the term's rows of each row's token sum |

A row without action tokens counts as a row of loss 0.

A micro-batch sees only some rows, so its own mean is multiplied by the share of the term that it holds
(rows/U, rows/E or tokens/T) and by what undoes the trainer's scaling:

- verl >= 0.8 and the local engine call `backward()` on each micro-batch: gradients are SUMMED over
  micro-batches and averaged over the D data-parallel ranks. Undone by D.
- verl < 0.8 multiplies the loss of a micro-batch of b rows by b / (B / D), B being the rows of the whole
  batch, before it averages over ranks (`trinity/trainer/verl_legacy/dp_actor.py`, with Trinity's default
  `fix_actor_microbatch_loss_scale: false`). Undone by B / b; D cancels.

`seq-mean-token-sum-norm` divides by the padded width of the tensor it is given, which differs from trainer
to trainer and is no property of the batch: refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real

import torch

from chord_exp.trinity_config.plugin_names import MIX_SAMPLE_STRATEGY, SAMPLE_STRATEGY

TOKEN_MEAN = "token-mean"
ROW_MEAN = "seq-mean-token-mean"
EXACT_MODES = (TOKEN_MEAN, ROW_MEAN, "seq-mean-token-sum")


def positive_int(name: str, value: object) -> int:
    """Return `value` when it is a whole number above 0, else raise a ValueError naming the argument."""
    if value is None:
        raise ValueError(f"policy_loss_fn_args.{name} is missing: must be a whole number above 0")
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"policy_loss_fn_args.{name} is {value!r}: must be a whole number above 0")
    return int(value)


def exact_mode(name: str, mode: str) -> str:
    """Return `mode` when micro-batches can meet its full-batch mean exactly, else raise a ValueError."""
    if mode not in EXACT_MODES:
        raise ValueError(
            f"policy_loss_fn_args.{name} is {mode!r}: cannot be weighted exactly over micro-batches; "
            f"use one of {', '.join(EXACT_MODES)}"
        )
    return mode


def mu_arguments(
    warmup_steps: object, decay_steps: object, peak: object, valley: object
) -> tuple[int, int, float, float]:
    """Return the mu schedule's arguments in Trinity's order, or raise a ValueError naming the wrong one."""
    steps, levels = [], []
    for name, value in (("mu_warmup_steps", warmup_steps), ("mu_decay_steps", decay_steps)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
            raise ValueError(f"policy_loss_fn_args.{name} is {value!r}: must be a number of steps, 0 or more")
        steps.append(int(value))
    for name, value in (("mu_peak", peak), ("mu_valley", valley)):
        level = _number(value)
        if not 0 <= level <= 1:
            raise ValueError(f"policy_loss_fn_args.{name} is {value!r}: must be a weight from 0 to 1")
        levels.append(level)
    return steps[0], steps[1], levels[0], levels[1]


def _number(value: object) -> float:
    """The value as a float, NaN when it is no real number."""
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan


def clip_arguments(clip_range: object, low: object, high: object) -> dict[str, float]:
    """Return both ends of the PPO clip, or raise a ValueError when one is missing or negative."""
    ends = {
        "clip_range_low": clip_range if low is None else low,
        "clip_range_high": clip_range if high is None else high,
    }
    for name, value in ends.items():
        if not _number(value) >= 0:
            raise ValueError(
                f"policy_loss_fn_args.{name} is {value!r}: give clip_range (or both ends of it), 0 or more"
            )
    return {name: _number(value) for name, value in ends.items()}


@dataclass(frozen=True)
class BatchGeometry:
    """The trainer's batch: `rows` B in one optimiser step, over `data_parallel_size` D ranks.

    `legacy_actor` is true for the actor of verl < 0.8, which scales losses by itself.
    """

    rows: int
    data_parallel_size: int
    legacy_actor: bool

    def __post_init__(self) -> None:
        if self.rows % self.data_parallel_size:
            raise ValueError(
                f"{self.rows} rows in a batch (usual_rows + expert_rows) cannot be split evenly over "
                f"data_parallel_size={self.data_parallel_size} ranks"
            )

    def undo_trainer_scale(self, micro_batch_rows: int) -> float:
        """Return the factor that undoes the trainer's scaling of a micro-batch of that many rows."""
        if self.legacy_actor:
            return self.rows / micro_batch_rows
        return float(self.data_parallel_size)

    def check(self, dp_size: int | None, global_batch_size: int | None) -> None:
        """Raise ValueError when the sizes that verl >= 0.8 puts beside a micro-batch are not the given ones.

        None means that the trainer does not tell (verl < 0.8, the local engine).
        """
        if dp_size is not None and dp_size != self.data_parallel_size:
            raise ValueError(
                f"policy_loss_fn_args.data_parallel_size is {self.data_parallel_size} but the trainer runs "
                f"{dp_size} ranks (its GPUs / sequence-parallel size): the loss would be weighted wrongly"
            )
        if global_batch_size is not None and global_batch_size != self.rows:
            raise ValueError(
                f"policy_loss_fn_args.usual_rows + expert_rows is {self.rows} but the trainer steps on "
                f"{global_batch_size} rows: the loss would be weighted wrongly"
            )


def batch_share(mode: str, action_mask: torch.Tensor, rows: int, tokens_of_term: torch.Tensor | None) -> float:
    """Return the share of a term's full-batch mean that is held by the given rows of it.

    Args:
        mode: one of EXACT_MODES.
        action_mask: (b, response length), this micro-batch's rows of the term.
        rows: rows of the term in the full batch.
        tokens_of_term: (b,), each the action tokens of the term in the full batch; for `token-mean` only.
    """
    if mode != TOKEN_MEAN:
        return len(action_mask) / rows
    if tokens_of_term is None:
        raise ValueError(
            "token-mean over the full batch needs the number of action tokens of each term on its rows "
            f"(`tokens_of_term`), which the stock sample strategies do not write: set algorithm.sample_strategy to "
            f"{MIX_SAMPLE_STRATEGY}, for the baselines sft and grpo to {SAMPLE_STRATEGY}, or use {ROW_MEAN}"
        )
    # A term without any action token contributes nothing; the maximum only keeps 0 / 0 out.
    return float(action_mask.sum().item()) / max(float(tokens_of_term.max().item()), 1.0)
