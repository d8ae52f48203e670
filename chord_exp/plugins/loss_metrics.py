"""Logged values that stay true after verl has reduced them over micro-batches and data-parallel ranks.

verl >= 0.8 averages plain numbers over micro-batches, whatever they mean; `verl.utils.metric.Metric`
objects carry their own aggregation through it: SUM over micro-batches, then the mean over ranks, which is
exactly how gradients are combined. So each additive value is logged with the weight of its loss.

verl < 0.8 averages plain numbers over K micro-batches and D ranks. Values logged with the weight of their
loss there (B / b times the share) average to the truth when all micro-batches have the same number of rows,
as with `use_dynamic_bsz: false`; with dynamic batches they are estimates. The gradients are exact either
way.

`ppo_kl`, `pg_clipfrac` and `pg_clipfrac_lower` are averaged as the loss is: over tokens for `token-mean`,
else over rows, each row its token mean.

`actor/final_loss` is Trinity's own plain number: on verl >= 0.8 it reads 1/K of the truth. Use
`actor/loss`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def loggable(additive: Mapping[str, float], constant: Mapping[str, float], *, legacy_actor: bool) -> dict[str, Any]:
    """Wrap one micro-batch's values for the trainer.

    Args:
        additive: parts of full-batch values, already weighted as the loss is; they add up over micro-batches.
        constant: values that are the same in every micro-batch of a step.
        legacy_actor: true on verl < 0.8, which takes plain numbers.
    """
    if legacy_actor:
        return {**additive, **constant}
    from verl.utils.metric import AggregationType, Metric

    return {
        **Metric.from_dict(dict(additive), AggregationType.SUM),
        **Metric.from_dict(dict(constant), AggregationType.MEAN),
    }


def reduce_micro_batch_metrics(micro_batch_metrics: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Reduce the metrics of one step's micro-batches on one rank to numbers, as verl >= 0.8 does.

    Args:
        micro_batch_metrics: one dict a micro-batch, values plain numbers or `verl.utils.metric.Metric`. Plain
            numbers are averaged; a key that contains "max" or "min" takes that instead (verl's rule).

    Returns:
        Full-batch values by key; empty for no micro-batches.
    """
    from verl.utils.metric import reduce_metrics
    from verl.utils.py_functional import append_to_dict

    gathered: dict[str, Any] = {}
    for metrics in micro_batch_metrics:
        append_to_dict(gathered, dict(metrics))
    return {key: float(value) for key, value in reduce_metrics(gathered).items()}
