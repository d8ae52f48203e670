"""What a run takes while it runs: GPUs, CPU cores and memory."""

from __future__ import annotations

import math
from pathlib import Path

from chord_exp.experiment.geometry import stage_kinds
from chord_exp.experiment.gpu_split import split_gpus
from chord_exp.experiment.spec import ExperimentSpec
from chord_exp.launch.cluster.private_ray import CPUS_PER_ENGINE, CPUS_PER_TRAINER_GPU, CPUS_TO_PLACE
from chord_exp.sweep.scheduling.resources import Footprint

# of a local run without its model: a Ray and the processes of the loop, which share most of it (1.5 measured), GiB
LOCAL_BASE = 2.0
# float32: the trainer's weights, gradients and both moments of AdamW, the rollout model, weights on their way
LOCAL_BYTES_PER_PARAMETER = 24
# of a checkpoint that does not say how many parameters it has
LEAST_BYTES_PER_PARAMETER = 2
# of the real stack on a CPU, with the tiny model: 6 measured for one engine and one trainer rank, GiB
REAL_BASE, REAL_PER_PROCESS = 3.0, 1.5
# the run's own process, its explorer and its trainer
CPUS_OF_DRIVERS = 2


def footprint_of(spec: ExperimentSpec, cpus: float | None = None, memory: float | None = None) -> Footprint:
    """Everything that a run of the experiment will ask for.

    Args:
        cpus: CPU cores, in place of the estimate.
        memory: GiB, in place of the estimate.
    """
    cluster = spec.cluster
    joins = cluster.ray_address != "local"
    if cluster.engine == "local":
        parameters = parameters_in(Path(spec.model.path)) or spec.model.parameters_b * 1e9
        taken = cluster.threads + (CPUS_PER_ENGINE + CPUS_TO_PLACE if joins else 0)
        return Footprint(
            gpus=0,
            cpus=float(taken) if cpus is None else cpus,
            memory=LOCAL_BASE + parameters * LOCAL_BYTES_PER_PARAMETER / 2**30 if memory is None else memory,
            joins=joins,
        )
    splits = [split_gpus(cluster, kind, spec.batch_size * spec.repeat_times) for kind in stage_kinds(spec.variant)]
    if cluster.engine == "real_cpu" and not joins:
        # its GPUs are believed in by a Ray of its own
        busy = max(split.trainer + split.engine_num for split in splits)
        return Footprint(
            gpus=0,
            cpus=float(busy) if cpus is None else cpus,
            memory=REAL_BASE + REAL_PER_PROCESS * busy if memory is None else memory,
            joins=False,
        )
    wanted = max(CPUS_PER_TRAINER_GPU * split.trainer + CPUS_PER_ENGINE * split.engine_num for split in splits)
    return Footprint(
        gpus=cluster.node_num * cluster.gpu_per_node,
        cpus=float(wanted + CPUS_OF_DRIVERS) if cpus is None else cpus,
        memory=memory or 0.0,
        nodes=cluster.node_num,
        joins=joins,
    )


def parameters_in(model: Path) -> int | None:
    """Count the parameters of a checkpoint; None where there is none to count, as of a model hub's."""
    from safetensors import SafetensorError, safe_open

    try:
        count = 0
        for file in model.glob("*.safetensors"):
            with safe_open(file, framework="np") as tensors:
                count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        return count or sum(file.stat().st_size for file in model.glob("*.bin")) // LEAST_BYTES_PER_PARAMETER or None
    except (OSError, SafetensorError):  # the run itself says what is wrong with it
        return None
