"""`cluster=auto`: the words that stand for the machines that are there."""

from __future__ import annotations

from collections.abc import Sequence

GROUP, OPTION = "cluster", "auto"


def words_for(gpus: Sequence[int], *, ray_runs: bool) -> list[str]:
    """Return the overrides that take most GPUs: Trinity wants the same number of each machine.

    Args:
        gpus: of each machine; [] or zeros for none.
        ray_runs: they are those of a Ray cluster that runs; otherwise a run starts a Ray of its own.
    """
    share, machines = max(
        ((share, sum(has >= share for has in gpus)) for share in set(gpus) if share),
        # of equal sums the one on fewer machines
        key=lambda taken: (taken[0] * taken[1], taken[0]),
        default=(0, 0),
    )
    if share * machines == 0:
        return ["cluster=local"]
    if share * machines == 1:
        return ["cluster=gpu_1"]
    if machines == 1:
        found = ["cluster=gpu_2", f"cluster.gpu_per_node={share}", f"cluster.name=gpu_{share}"]
        return found if ray_runs else [*found, "cluster.ray_address=local"]
    name = f"cluster.name=gpu_{machines}x{share}"
    return ["cluster=multi_node", f"cluster.node_num={machines}", f"cluster.gpu_per_node={share}", name]
