"""How the GPUs of a cluster are shared by inference engines and trainer.

D is the trainer's data-parallel size: its GPUs over the sequence-parallel size.
"""

from __future__ import annotations

from dataclasses import dataclass

from chord_exp.errors import ConfigError
from chord_exp.experiment.sections import ClusterSpec

# most of a GPU's memory that Trinity gives to an engine that shares it with the trainer
COLOCATE_MEMORY = 0.25


@dataclass(frozen=True)
class GpuSplit:
    """How Trinity divides the GPUs of one stage."""

    # Trinity's mode: both, colocate or train
    mode: str
    total: int
    engine_num: int
    gpu_per_engine: int
    # GPUs of the inference engines together; 0 without rollouts
    rollout: int
    # GPUs of the trainer
    trainer: int
    # D
    data_parallel_size: int


def split_gpus(cluster: ClusterSpec, kind: str, usual_rows: int = 0) -> GpuSplit:
    """Divide the GPUs as Trinity does: the trainer gets what the engines leave.

    Args:
        kind: chord, sft or grpo; sft has no engines.
        usual_rows: U; where the number of engines is free, one is preferred whose D divides U.

    Raises:
        ConfigError: the GPUs cannot be divided so.
    """
    total = cluster.node_num * cluster.gpu_per_node
    _check_attention(cluster)
    tensor, sequence = cluster.tensor_parallel_size, cluster.ulysses_sequence_parallel_size
    if cluster.engine == "local":
        _check_local(cluster, total)
        mode, engines = ("train", 0) if kind == "sft" else ("both", 1)
        return GpuSplit(mode, total, engines, engines, engines, total - engines, 1)
    if kind == "sft":
        return GpuSplit("train", total, 0, 0, 0, total, _data_parallel(total, sequence))
    if total == 1:
        _check_colocate(cluster)
        return GpuSplit("colocate", 1, 1, 1, 1, 1, 1)
    if tensor > cluster.gpu_per_node and tensor % cluster.gpu_per_node:
        raise ConfigError(
            f"cluster.tensor_parallel_size={tensor} is no whole number of machines of "
            f"cluster.gpu_per_node={cluster.gpu_per_node}",
            "cluster.tensor_parallel_size",
            f"use {cluster.gpu_per_node} or a multiple of it, or less than it",
        )
    engines = cluster.engine_num or _choose_engines(cluster, total, usual_rows)
    rollout = engines * tensor
    trainer = total - rollout
    check_split(total, cluster.gpu_per_node, rollout, sequence, tensor)
    return GpuSplit("both", total, engines, tensor, rollout, trainer, _data_parallel(trainer, sequence))


def _check_attention(cluster: ClusterSpec) -> None:
    """verl shares a row between GPUs inside of flash attention only: sdpa would train on wrong log-probabilities."""
    sequence, on_cpu = cluster.ulysses_sequence_parallel_size, cluster.engine == "real_cpu"
    if on_cpu and cluster.attention == "flash_attention_2":
        raise ConfigError("cluster.attention=flash_attention_2 needs a GPU", "cluster.attention", "use sdpa or auto")
    if (cluster.attention == "sdpa" or on_cpu) and sequence > 1:
        raise ConfigError(
            f"cluster.attention=sdpa and cluster.ulysses_sequence_parallel_size={sequence}: verl shares a row between "
            "GPUs in flash attention only, and would train on wrong numbers without a word",
            "cluster.attention",
            "install flash-attn on a GPU cluster and use flash_attention_2 or auto, or set "
            "cluster.ulysses_sequence_parallel_size=1",
        )


def _check_local(cluster: ClusterSpec, total: int) -> None:
    given = {"tensor_parallel_size": 1, "ulysses_sequence_parallel_size": 1}
    for key, only in given.items():
        if getattr(cluster, key) != only:
            raise ConfigError(
                f"cluster.{key}={getattr(cluster, key)}: the local engine runs one model on one device",
                f"cluster.{key}",
                "use 1, or a GPU cluster such as cluster=gpu_4",
            )
    _check_sync_method(cluster, ("memory",), "the local engine hands weights over in memory")
    if total != 2 or cluster.engine_num not in (None, 1):
        raise ConfigError(
            f"cluster.node_num={cluster.node_num}, gpu_per_node={cluster.gpu_per_node}, "
            f"engine_num={cluster.engine_num}: "
            "the local engine's logical cluster is one machine with one engine and one trainer",
            "cluster",
            "use node_num=1 gpu_per_node=2 engine_num=1, or a GPU cluster such as cluster=gpu_4",
        )


def _check_colocate(cluster: ClusterSpec) -> None:
    for key in ("engine_num", "tensor_parallel_size", "ulysses_sequence_parallel_size"):
        if getattr(cluster, key) not in (None, 1):
            raise ConfigError(
                f"cluster.{key}={getattr(cluster, key)} does not fit on 1 GPU, which engine and trainer share",
                f"cluster.{key}",
                f"set cluster.{key}=1, or use more GPUs (cluster=gpu_2)",
            )

    _check_sync_method(cluster, ("memory", "checkpoint"), "NCCL needs a GPU for each side, and there is 1")
    if cluster.gpu_memory_utilization > COLOCATE_MEMORY:
        raise ConfigError(
            f"cluster.gpu_memory_utilization={cluster.gpu_memory_utilization} on 1 GPU, which engine and trainer "
            f"share: Trinity lowers it to {COLOCATE_MEMORY}",
            "cluster.gpu_memory_utilization",
            f"give {COLOCATE_MEMORY} or less, or use more GPUs (cluster=gpu_2)",
        )


def _check_sync_method(cluster: ClusterSpec, possible: tuple[str, ...], why: str) -> None:
    if cluster.sync_method not in (None, *possible):
        raise ConfigError(
            f"cluster.sync_method={cluster.sync_method}: {why}",
            "cluster.sync_method",
            f"use {' or '.join(possible)}, or null",
        )


def check_split(total: int, node: int, engine_gpus: int, sequence: int, gpus_per_engine: int = 1) -> None:
    """Refuse engines that leave the trainer no GPU, a part of a node, or a number that cannot share rows.

    Args:
        total: GPUs of the cluster, `node` of them on each machine.
        engine_gpus: GPUs of all inference engines.
        sequence: trainer GPUs that share one row.
        gpus_per_engine: for the remedy.
    """
    trainer = total - engine_gpus
    taken = f"engines take {engine_gpus} of {total} GPUs"
    if trainer < 1:
        raise ConfigError(
            f"{taken} and leave none for the trainer",
            "cluster.engine_num",
            f"use at most {(total - 1) // gpus_per_engine} engines of that size"
            if gpus_per_engine < total
            else "use a smaller tensor_parallel_size",
        )
    if trainer > node and trainer % node:
        raise ConfigError(
            f"{taken} and leave {trainer} for the trainer, which is no whole number of machines of {node}",
            "cluster.engine_num",
            f"change cluster.engine_num or cluster.tensor_parallel_size so that {node} or a multiple is left",
        )
    _data_parallel(trainer, sequence)


def _choose_engines(cluster: ClusterSpec, total: int, usual_rows: int) -> int:
    """Engines that take about half of the GPUs and leave the trainer a number it can use."""
    tensor, sequence, node = (
        cluster.tensor_parallel_size,
        cluster.ulysses_sequence_parallel_size,
        cluster.gpu_per_node,
    )
    fits = []
    for engines in range(1, total // tensor + 1):
        trainer = total - engines * tensor
        if trainer >= 1 and trainer % sequence == 0 and (trainer <= node or trainer % node == 0):
            uneven = usual_rows % (trainer // sequence) != 0
            fits.append((uneven, abs(trainer - total / 2), engines))
    if not fits:
        raise ConfigError(
            f"{total} GPUs cannot be split between engines of tensor_parallel_size={tensor} and a "
            "trainer with "
            f"ulysses_sequence_parallel_size={sequence}",
            "cluster",
            "use smaller parallel sizes or more GPUs",
        )
    return min(fits)[2]


def _data_parallel(trainer: int, sequence: int) -> int:
    if trainer % sequence:
        raise ConfigError(
            f"{trainer} trainer GPUs are not divisible by ulysses_sequence_parallel_size={sequence}",
            "cluster.ulysses_sequence_parallel_size",
            "use a size that divides the trainer's GPUs",
        )
    return trainer // sequence
