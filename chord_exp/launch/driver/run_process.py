"""The process of one run: `python -m chord_exp.launch.driver.run_process RUN_DIR`.

It reads the request and `trinity.yaml` from the run's folder, starts or joins Ray, runs the stages and writes how
they ended. It prints to `logs/run.log`; nobody watches its terminal.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import psutil

from chord_exp.engine import real_cpu, worker_setup
from chord_exp.errors import INTERRUPTED, RUN_FAILED, SUCCEEDED, ChordExpError, RunFailed
from chord_exp.launch import processes
from chord_exp.launch.cluster import private_ray
from chord_exp.launch.driver.keep_best import Keeper
from chord_exp.launch.forking import forkserver
from chord_exp.launch.processes import end_with_parent
from chord_exp.launch.run_request import ANSWERS, Outcome, RunRequest, announce
from chord_exp.run_files.checkpoints import hf_dir, latest_step, step_dir
from chord_exp.run_files.names import LOGS, METRICS, TRINITY_CONFIG

# of the logical cluster that a local run is checked for, nothing is asked of the private Ray but processes
LOCAL_CPUS = 64
# what takes seconds to import of the real stack; not verl's workers: they make Ray draw random numbers, after
# which a process is no longer fit to be forked
REAL_MODULES = (
    "vllm.v1.engine.async_llm",
    "trinity.common.models.vllm_model",
    "trinity.common.workflows.customized_math_workflows",
    "trinity.explorer.rollout_coordinator",
    "trinity.trainer.verl.losses",
    "verl.trainer.ppo.core_algos",
    "verl.workers.engine.fsdp.transformer_impl",
    "peft",
    "chord_exp.engine.actors",
)


def main(run_dir: Path, client: socket.socket | None = None) -> int:
    """Run the request of a folder.

    Args:
        client: of a run that a warm server forked, the connection to the process that stands in for it.

    Returns:
        The exit code.
    """
    request = RunRequest.load(run_dir)
    watcher = psutil.Process(request.watcher) if psutil.pid_exists(request.watcher) else None
    if client is None:
        end_with_parent()
    try:
        return _run(run_dir, request, client)
    except Exception as error:
        return _failed(run_dir, request, error)
    finally:
        if not processes.is_alive(watcher):  # it was killed, and cannot tidy up
            shutil.rmtree(request.ray_dir, ignore_errors=True)


def _run(run_dir: Path, request: RunRequest, client: socket.socket | None) -> int:
    real_cpu.install()
    announce(run_dir, "importing")
    if request.engine == "verl":
        return _drive(run_dir, request)
    if client is None:
        forkserver.set_up_environment()
        preload(request.engine)
    _import_model(run_dir)
    if not forkserver.can_serve():  # each worker then imports for itself
        return _drive(run_dir, request)
    return forkserver.serve(Path(request.ray_dir), partial(_drive, run_dir, request), client)


def preload(engine: str) -> None:
    """Import, once for all processes of a run without GPUs, what its actors will need.

    Args:
        engine: local or real_cpu.
    """
    if engine == "real_cpu":
        real_cpu.install()
        for module in REAL_MODULES:
            importlib.import_module(module)
        return
    from chord_exp.engine.vllm_stub import install

    install()
    import ray._private.runtime_env.agent.main
    import ray.dashboard.agent  # noqa: F401
    import trinity.buffer.reader.file_reader
    import trinity.common.workflows.customized_math_workflows
    import trinity.explorer.rollout_coordinator  # noqa: F401

    import chord_exp.engine.actors  # noqa: F401


def _import_model(run_dir: Path) -> None:
    """Import the code of the run's model; only for speed, as a model that cannot be read is reported by its actor."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from trinity.common.config import load_config

    model = load_config(str(run_dir / TRINITY_CONFIG)).model
    with suppress(OSError, ValueError):
        kind = type(AutoConfig.from_pretrained(model.model_path, trust_remote_code=model.trust_remote_code))
        if kind in AutoModelForCausalLM._model_mapping:
            AutoModelForCausalLM._model_mapping[kind]  # naming the class imports its module


def _drive(run_dir: Path, request: RunRequest) -> int:
    """Do the run in this process and write down how it ended."""
    end_with_parent()
    stop = threading.Event()
    _stop_on_signals(stop)
    try:
        outcome = (_run_stages if request.score_steps is None else _score)(run_dir, request, stop)
    except BaseException as error:
        return _failed(run_dir, request, error)
    outcome.save(run_dir)
    return INTERRUPTED if outcome.ended == "stopped" else SUCCEEDED


def _failed(run_dir: Path, request: RunRequest, error: BaseException) -> int:
    traceback.print_exc()
    Outcome("failed", error=_one_line(error, request), log=f"{LOGS}/run.log").save(run_dir)
    return RUN_FAILED


def _stop_on_signals(stop: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())


def _one_line(error: BaseException, request: RunRequest) -> str:
    """Type and message of the error at the bottom of Ray's wrapping."""
    import ray

    if request.ray_address == "local" and isinstance(error, ray.exceptions.RayError) and (lost := private_ray.lost()):
        return f"Ray died: its {' and '.join(lost)} ended while the run was using it"
    cause: Any = error
    while getattr(cause, "cause", None) is not None:
        cause = cause.cause
    if isinstance(cause, ChordExpError):
        return str(cause)
    kind, text = type(cause).__name__, re.sub(r"\x1b\[[0-9;]*m", "", str(cause))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    died = re.search(r"class_name: (\w+)", text)
    if died:
        return f"{kind}: the {died[1]} process died"
    if "creation task" in text:  # what went wrong in a constructor stands last
        return lines[-1]
    return f"{kind}: {lines[0] if lines else ''}"


def _run_stages(run_dir: Path, request: RunRequest, stop: threading.Event) -> Outcome:
    from trinity.common.config import load_config

    from chord_exp.launch.driver.loop import benchmark, run_stage

    whole = load_config(str(run_dir / TRINITY_CONFIG))
    # a trial's file was written before its first attempt
    whole.continue_from_checkpoint = request.resume
    stages = list(whole) if whole.stages else [whole]
    shared = any(stage.mode == "colocate" for stage in stages)
    outcome, previous = Outcome("finished", 0), None
    for index, config in enumerate(stages):
        is_last = index + 1 == len(stages)
        job_dir = Path(config.get_checkpoint_job_dir())
        if previous is not None:
            config.model.model_path = str(previous)
        planned = config.trainer.total_steps
        done = _rewind(config, request, job_dir) if request.resume else 0
        if done < planned or is_last:
            bench = _as_bench(config)
            _check(config, request, run_dir)
            _connect(config, request, shared, stop)
            classes = _actor_classes(request)
            say = partial(_announce_stage, run_dir, index, len(stages))
            stage = config.name.partition("/")[2]
            keeper = Keeper(job_dir, run_dir / METRICS, stage, request.keep_newest, request.keep_best)
            result = run_stage(config, classes, stop, say, keeper.look)
            keeper.drop()
            _merge_adapters(config, request, job_dir, result.completed_steps)
            outcome = Outcome("stopped" if result.stopped else "finished", result.completed_steps, stage)
            if result.stopped or result.completed_steps < planned:
                return outcome
            if is_last and config.mode == "train" and bench.buffer.explorer_input.eval_tasksets:
                _check(bench, request, run_dir)
                _connect(bench, request, shared, stop)
                if benchmark(bench, classes, stop, say, result.completed_steps):
                    outcome = replace(outcome, ended="stopped")
        previous = hf_dir(job_dir, planned)
    return outcome


def _score(run_dir: Path, request: RunRequest, stop: threading.Event) -> Outcome:
    """Have the checkpoints that the request names answer, and write down what they say."""
    from trinity.common.config import load_config

    from chord_exp.launch.driver.loop import score

    config = load_config(str(run_dir / TRINITY_CONFIG))
    _check(config, request, run_dir)
    _connect(config, request, shared=False, stop=stop)
    with open(run_dir / ANSWERS, "wb") as stream:

        def write(item: dict[str, Any]) -> None:
            stream.write(orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE))

        stopped = score(
            config, _actor_classes(request), stop, partial(announce, run_dir), request.score_steps or [], write
        )
    return Outcome("stopped" if stopped else "finished")


def _rewind(config: Any, request: RunRequest, job_dir: Path) -> int:
    """Go back to the newest checkpoint and the data positions that belong to it; return its step."""
    from chord_exp.engine import checkpoint

    explores = config.mode != "train"
    if request.engine == "local":
        return checkpoint.rewind(job_dir, config.explorer.name, config.trainer.name, explores=explores)
    step = latest_step(job_dir)
    if explores and step:
        # verl keeps its own checkpoints; the explorer's position must not be ahead of them
        checkpoint.rewind_explorer(job_dir, config.explorer.name, step)
    return step


def _merge_adapters(config: Any, request: RunRequest, job_dir: Path, step: int) -> None:
    """Make the last checkpoint of a stage one that anyone loads; the local engine's are."""
    from chord_exp.engine import lora

    if request.engine != "local" and lora.adapter_of(config) is not None and step:
        model = config.model
        folder = step_dir(job_dir, step) / "actor"
        lora.merge_checkpoint(model.model_path, folder, trust_remote_code=model.trust_remote_code)


def _announce_stage(run_dir: Path, index: int, count: int, phase: str) -> None:
    announce(run_dir, phase if count == 1 else f"stage {index + 1} of {count}: {phase}")


def _check(config: Any, request: RunRequest, run_dir: Path) -> None:
    """Trinity's own check, then what only we know: where logs go and which namespace this attempt has."""
    config.ray_namespace = request.namespace
    config.check_and_update()
    config.log.save_dir = str(run_dir / LOGS)
    if request.engine == "local":
        # the check accepts only clusters with GPUs and so was given a logical one; the private Ray has none to give
        config.explorer.rollout_model.gpu_per_engine = 0


def _as_bench(config: Any) -> Any:
    """The config of an evaluation alone, for a stage that trains without an explorer."""
    bench = deepcopy(config)
    bench.mode = "bench"
    # training has written there, and this reads what it wrote
    bench.continue_from_checkpoint = True
    return bench


def _actor_classes(request: RunRequest) -> Any:
    from chord_exp.engine import actors
    from chord_exp.launch.driver.loop import ActorClasses

    if request.engine == "local":
        return ActorClasses(actors.LocalExplorer, actors.LocalTrainer)
    return ActorClasses(actors.StrictExplorer, actors.StrictTrainer)


def _connect(config: Any, request: RunRequest, shared: bool, stop: threading.Event) -> None:
    """Start a private Ray on loopback, or join the cluster that the request names, with no GPU taken by us.

    Args:
        shared: in some stage, engine and trainer share one GPU.
        stop: see `_stop_on_signals`.
    """
    import ray

    if ray.is_initialized():
        if request.engine == "local":
            return
        # verl's placement groups last as long as the connection: a next stage would find their GPUs taken
        ray.shutdown()
    _start_or_join(config, request, shared)
    # connecting to Ray replaces the handler of SIGTERM by one that exits at once
    _stop_on_signals(stop)


def _start_or_join(config: Any, request: RunRequest, shared: bool) -> None:
    import ray

    # engine and trainer that share a GPU each ask for a whole one
    needed = 2 if shared else config.cluster.node_num * config.cluster.gpu_per_node
    cpus = _cpus(config)
    set_up: dict[str, Any] = {"worker_process_setup_hook": worker_setup.HOOK}
    if request.ray_address != "local":
        ours = real_cpu.ENVIRONMENT if request.engine == "real_cpu" else {}
        set_up["env_vars"] = {**config.get_envs(), **ours}
        try:
            private_ray.reach(request.ray_address)
            ray.init(address=request.ray_address, namespace=request.namespace, runtime_env=set_up, log_to_driver=False)
        except OSError as error:
            raise RunFailed(
                f"no Ray cluster answers at cluster.ray_address={request.ray_address}",
                "cluster.ray_address",
                "start one with `ray start --head`, or set it to local for a private one",
            ) from error
        _need(needed, cpus, shared)
        return
    # a private Ray inherits this process's environment
    os.environ.update(config.get_envs())
    if request.engine == "real_cpu":
        # Ray would not believe in more GPUs than it lists
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    # Ray finds out how many GPUs there are, unless two processes share one, or there are none
    counted = {"local": 0, "real_cpu": needed, "verl": needed if shared else None}[request.engine]
    own_cpus = os.cpu_count() or 1 if request.engine == "verl" else LOCAL_CPUS
    # placement groups would wait for cores in vain, and cores are only counted
    options: dict[str, Any] = {"num_gpus": counted, "num_cpus": max(own_cpus, cpus)}
    room = _object_store_bytes(config.model.model_path)
    with forkserver.workers_forked() as python, private_ray.sharing_gpus(shared):
        if request.engine != "local":  # there workers are forked from a process that is set up already
            options["runtime_env"] = set_up | ({"py_executable": python} if python else {})
        private_ray.start(Path(request.ray_dir), namespace=request.namespace, object_store_memory=room, **options)
    if request.engine != "local":
        _need(needed, cpus, shared)


def _cpus(config: Any) -> int:
    """CPU cores that a stage's actors ask Ray for: Trinity and verl run as many threads as they like."""
    rollout, cluster = config.explorer.rollout_model, config.cluster
    engines = 0 if config.mode == "train" else rollout.engine_num * rollout.nnodes
    return (
        private_ray.CPUS_PER_ENGINE * engines
        + private_ray.CPUS_PER_TRAINER_GPU * cluster.trainer_gpu_num
        + private_ray.CPUS_TO_PLACE
    )


def _need(needed: int, cpus: int, shared: bool) -> None:
    """Refuse to wait for what the cluster does not have: placement groups of Trinity and verl would wait forever."""
    import ray

    resources = ray.cluster_resources()
    there = resources.get("GPU", 0)
    if resources.get("CPU", 0) < cpus:
        raise RunFailed(
            f"the run's actors ask for {cpus} CPU cores and the Ray cluster has {resources.get('CPU', 0):g}",
            "cluster",
            f"Ray only counts them: start it with `ray start --head --num-cpus={cpus}`",
        )
    if there < needed:
        raise RunFailed(
            f"the run needs {needed} GPUs and the Ray cluster has {there:g}",
            "cluster",
            f"engine and trainer each ask Ray for a GPU: start it with `{private_ray.SHARING_COMMAND}`, or leave "
            "cluster.ray_address=local"
            if shared
            else "choose a smaller cluster, or cluster=local to rehearse without GPUs",
        )


def _object_store_bytes(model_path: str) -> int:
    """Room for the weights under way (in float32) and for experiences, within half of the shared memory."""
    weights = sum(file.stat().st_size for file in Path(model_path).glob("*.safetensors"))
    wanted = 256 * 2**20 + 6 * weights
    return max(100 * 2**20, min(wanted, shutil.disk_usage("/dev/shm").free // 2))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
