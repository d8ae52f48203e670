"""Why runs fail: the signs that each cause leaves in an error or a log, and the override that helps.

One list for the line at the end of a run, for `python -m chord_exp.doctor RUN_DIR` and for reports.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from chord_exp.run_files.names import LOGS
from chord_exp.run_files.record import RESUME_IT, RunError

# of the end of a run's log, and of each log that is searched, bytes
LOG_END, SEARCHED = 65536, 2 << 20
# lines of a traceback above its error, in which it says what was being done
TRACEBACK = 60
# logs of earlier attempts are run.1.log, trainer.1.log
_EARLIER = re.compile(r"\.\d+\.log$")
# of a process that prints for itself, as vLLM's do: below logs/ray/SESSION/
_PRINTED = ("worker-*.err", "worker-*.out")

_GPU_MEMORY = r"CUDA out of memory|torch(\.cuda)?\.OutOfMemoryError|CUDA error: out of memory"
_THEN_RESUME = f"then {RESUME_IT}"


@dataclass(frozen=True)
class Cause:
    """One way to fail."""

    # short; unique
    name: str
    # pattern that a line of it matches
    sign: str
    what: str
    # the override or command that helps
    remedy: str
    # pattern of some line of the traceback above: what was being done; empty for whatever it was
    during: str = ""
    # so general that it counts in the error that ended a run only, not wherever a log has it
    of_the_end: bool = False
    # a fault of the machine, not of the experiment: the same run may well succeed elsewhere or later
    of_machine: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """A cause and where it was seen."""

    cause: Cause
    # below the run's folder
    file: str
    # the first is 1
    line: int
    text: str


# the particular before the general: of several that fit, the first is the cause
CAUSES: tuple[Cause, ...] = (
    Cause(
        "shared_memory",
        # torch says of a full /dev/shm, too, that no space is left on the device
        r"[Bb]us error|insufficient shared memory|shared memory\(shm\)|/dev/shm.*(too small|No space)",
        "the shared memory of the container is too small",
        "docker run --shm-size=16g",
    ),
    Cause(
        "disk_full",
        # torch names no disk: its archive ended before its last byte
        r"No space left on device|Errno 28\b|OutOfDiskError|inline_container\.cc.*unexpected pos",
        "the disk of the run's folder is full",
        f"free some space or lower cluster.max_checkpoints_to_keep, {_THEN_RESUME}",
        of_machine=True,
    ),
    Cause(
        "not_finite",
        r"NonFiniteLoss|\bis not finite at step\b",
        "the loss or its gradient overflowed; the weights were left as they were",
        f"look for damaged expert rows and rewards, {_THEN_RESUME}, or start a new run with a lower lr or mu_peak",
    ),
    Cause(
        "host_memory",
        r"running low on memory|exceeds the memory usage threshold|ray\.exceptions\.OutOfMemoryError"
        r"|memory usage exceeds the threshold|Cannot allocate memory",
        "the machine's own memory (not the GPU's) ran out, and Ray ended a process",
        f"run less beside it (hydra.launcher.n_jobs), or set cluster.param_offload=false "
        f"cluster.optimizer_offload=false cluster.offload_policy=false, {_THEN_RESUME}",
        of_machine=True,
    ),
    Cause(
        "weight_sync_memory",
        _GPU_MEMORY,
        "the GPU's memory ran out while new weights were handed to the engines",
        f"cluster.sync_method=memory hands them over through main memory; or lower cluster.gpu_memory_utilization by "
        f"0.1, {_THEN_RESUME}",
        during=r"sync_weight|upload_state_dict|get_per_tensor_param|full_tensor|weight_transfer|update_weights"
        r"|receive_weights|sync_model_weights",
    ),
    Cause(
        "engine_memory",
        _GPU_MEMORY,
        "the GPU's memory ran out while the inference engine started",
        "lower cluster.gpu_memory_utilization by 0.1, or shard it: cluster.tensor_parallel_size=2",
        during=r"load_model|profile_run|capture_model|init_device|determine_available_memory|initialize_kv_cache"
        r"|vLLMRolloutModel\.prepare",
    ),
    Cause(
        "trainer_memory",
        _GPU_MEMORY,
        "the GPU's memory ran out in the trainer's update",
        f"lower cluster.max_token_len_per_gpu, or set cluster.offload_policy=true (action=plan says what helps), "
        f"{_THEN_RESUME}; model.lora.rank=32 in a new run takes far less",
        during=r"update_actor|train_batch|train_step|forward_backward|compute_log_prob|optimizer_step|\bbackward\b"
        r"|clip_grad",
    ),
    Cause(
        "engine_memory_taken",
        r"(Free memory on device|Available memory on node) .* is less than desired [CG]PU memory utilization",
        "another process holds part of the GPU's memory that the inference engine was to have",
        "nvidia-smi shows it: end it, or lower cluster.gpu_memory_utilization",
        of_machine=True,
    ),
    Cause(
        "engine_cache",
        r"No available memory for the cache blocks|KV cache is needed, which is larger than"
        r"|larger than the maximum number of tokens that can be stored in KV cache",
        "the inference engine has no room left to keep one row of full length in its cache",
        "raise cluster.gpu_memory_utilization, or shorten rows (model.max_response_tokens, model.max_prompt_tokens), "
        "or set cluster.tensor_parallel_size=2",
    ),
    Cause(
        "window_too_long",
        r"User-specified max_model_len .* is greater than the derived max_model_len",
        "rows are longer than the model's own window",
        "lower model.max_prompt_tokens and model.max_response_tokens, which make up model.max_model_len",
    ),
    Cause(
        "gpu_memory",
        rf"{_GPU_MEMORY}|\bMemoryError\b|\bOutOfMemoryError\b",
        "the memory did not suffice",
        f"lower cluster.max_token_len_per_gpu, {_THEN_RESUME}, or start a new run with a smaller "
        "batch_size or model.max_response_tokens",
    ),
    Cause(
        "nccl_timeout",
        r"Watchdog caught collective operation timeout|ncclRemoteError|ncclSystemError|ncclUnhandledCudaError"
        r"|ncclInternalError|NCCL error",
        "GPUs waited in vain for each other (NCCL): one of them died before, or their connection does not work",
        "look for an earlier error in the other logs; if there is none, hydra.job.env_set.NCCL_DEBUG=INFO shows the "
        "connection, hydra.job.env_set.NCCL_P2P_DISABLE=1 avoids a broken one, and cluster.sync_method=memory needs "
        "none between engines and trainer",
        of_machine=True,
    ),
    Cause(
        "gloo_timeout",
        r"\[.*gloo/transport.*\].*(Timed out|Connection closed|timeout)|Gloo connectFullMesh failed"
        r"|Timed out waiting \d+ms for|Timed out after \d+ seconds waiting for clients",
        "processes of the trainer waited in vain for each other (gloo): one of them died before",
        f"look for an earlier error in the other logs, {_THEN_RESUME}",
        of_machine=True,
    ),
    Cause(
        "data_unreadable",
        r"DatasetGenerationError|DatasetNotFoundError|DataFilesNotFoundError|EmptyDatasetError|JSONDecodeError"
        r"|FileNotFoundError: .*/(sft|rl|eval)\b|Couldn't find any data file|ArrowInvalid",
        "the prepared data cannot be read: it was changed, moved or damaged after it had been prepared",
        "prepare it again: python -m chord_exp.prepare, or leave data.out out; data.check=true looks at every row",
    ),
    Cause(
        "rollouts_failed",
        r"only \d+ of the \d+ rollouts of step \d+ succeeded",
        "the workflow or its reward raised an error",
        f"{LOGS}/explorer_runner_*.log has it; mend data.workflow or data.reward, {_THEN_RESUME}",
        of_the_end=True,
    ),
    Cause(
        "expert_rows_exhausted",
        r"No more samples to train",
        "the expert rows (or the rollouts) ran out before the planned steps were made",
        "lower total_steps or set data.epochs; in a hand-written file raise auxiliary_buffers.*.total_epochs "
        "(python -m chord_exp.check FILE says to what)",
    ),
    Cause(
        "port_taken",
        r"Address already in use|EADDRINUSE|Errno 98\b",
        "a port that the run wanted is held by another process",
        "start it again: free ports are looked for anew; if a Ray of an earlier run still lives, end it",
        of_machine=True,
    ),
    Cause(
        "stale_actor",
        r"ActorAlreadyExistsError|[Aa]ctor.* (with )?(the )?name .*(is already taken|already exists)"
        r"|name .* \(namespace=.*\) is already taken",
        "actors of an earlier run with the same name still live on this Ray cluster",
        "end the earlier run (ray list actors shows it), or give this one another name=",
    ),
    Cause(
        "ray_auth",
        r"ray\.exceptions\.AuthenticationError|AuthenticationError:|InvalidAuthToken|Unauthenticated",
        "the Ray cluster asks for a token that this process does not have",
        "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN as on the cluster, or RAY_AUTH_MODE=disabled on both",
    ),
    Cause(
        "ray_not_there",
        r"no Ray cluster answers|Could not find any running Ray instance|[Ff]ailed to connect to (the )?Ray\b"
        r"|Ray cluster at .* cannot be reached",
        "no Ray cluster answers at the address that the run was given",
        "start one with `ray start --head`, or set cluster.ray_address=local for a private one",
    ),
    Cause(
        "ray_version",
        r"Version mismatch: The cluster was started with",
        "the Ray cluster runs another version of Ray or Python",
        "install the versions of the lock file on every machine (make setup-gpu) and start Ray from that environment",
    ),
    Cause(
        "too_few_gpus",
        r"the run needs \d+ GPUs and the Ray cluster has|Total available GPUs .* is less than total desired GPUs",
        "the Ray cluster has fewer GPUs than the run asks for, or others hold them",
        "choose a smaller cluster (cluster=gpu_2), or wait until `ray status` shows them free",
    ),
    Cause(
        "model_not_there",
        r"is not a local folder and is not a valid model identifier|We couldn't connect to 'https://huggingface\.co'"
        r"|LocalEntryNotFoundError|GatedRepoError|RepositoryNotFoundError",
        "the model cannot be fetched from the hub",
        "download it where there is a network (`hf download OWNER/NAME --local-dir my_model`) and set "
        "model.path=my_model; HF_ENDPOINT names a mirror, HF_TOKEN a login",
    ),
    Cause(
        "flash_attention_missing",
        r"No module named 'flash_attn'|FlashAttention2 has been toggled on, but it cannot be used",
        "flash-attn is not installed, and the run asks for it",
        "cluster.attention=sdpa (without sequence parallelism, with loss=exact), or install flash-attn",
    ),
    Cause(
        "driver_too_old",
        r"NVIDIA driver on your system is too old|CUDA driver version is insufficient"
        r"|no kernel image is available for execution",
        "the GPU's driver is older than the CUDA that torch was built for",
        "python -m chord_exp.doctor shows both: update the driver, or install a torch for its CUDA",
    ),
    Cause(
        "open_files",
        r"Too many open files|Errno 24\b",
        "the process may not open more files",
        "ulimit -n 65536 in the shell that starts the run, and before `ray start`",
        of_machine=True,
    ),
    Cause(
        "socket_path",
        r"AF_UNIX path length cannot exceed|AF_UNIX path too long",
        "the folder for Ray's sockets has too long a path",
        "TMPDIR=/tmp before the command, or `ray start --temp-dir=/tmp/ray`",
    ),
    Cause(
        "engine_failed",
        r"Engine core initialization failed|EngineCore failed to start|EngineDeadError|EngineCore encountered",
        "the inference engine (vLLM) did not start, or died",
        f"the first error above it in {LOGS}/explorer.log says why",
    ),
    Cause(
        "ray_died",
        r"^Ray died|raylet|\bGCS\b|ray\.exceptions|RaySystemError",
        "Ray went away while the run was using it",
        f"look at {LOGS}/run.log, {_THEN_RESUME}",
        of_the_end=True,
        of_machine=True,
    ),
    Cause(
        "trainer_died",
        r"Trainer.*died|died.*Trainer|create_colocated_worker_cls",
        "the trainer's process was killed or crashed",
        f"look at {LOGS}/trainer.log, {_THEN_RESUME}",
        of_the_end=True,
        of_machine=True,
    ),
    Cause(
        "engine_died",
        r"RolloutModel process died|workflow_runner.*ActorDiedError",
        "the inference engine's process was killed or crashed",
        f"look at {LOGS}/explorer_rollout_model_*.log, and whether memory ran out (dmesg), {_THEN_RESUME}",
        of_machine=True,
    ),
    Cause(
        "explorer_died",
        r"Explorer.*died|died.*Explorer",
        "the explorer's process was killed or crashed",
        f"look at {LOGS}/explorer.log, {_THEN_RESUME}",
        of_the_end=True,
        of_machine=True,
    ),
    Cause(
        "killed",
        r"process died \(.*\) without a word",
        "it was killed from outside, perhaps by the system for want of memory",
        f"look at {LOGS}/run.log, {_THEN_RESUME}",
        of_the_end=True,
        of_machine=True,
    ),
    Cause(
        "process_died",
        r"ActorDied|ActorUnavailable|RayActorError|WorkerCrashed|NodeDied|process died",
        "a process of the run was killed or crashed",
        f"look at {LOGS}/, {_THEN_RESUME}",
        of_the_end=True,
        of_machine=True,
    ),
    Cause(
        "timeout",
        r"Timeout",
        "something was waited for in vain",
        f"look at {LOGS}/explorer.log and {LOGS}/trainer.log for the first error",
        of_the_end=True,
    ),
)
_IN_LOGS = tuple(cause for cause in CAUSES if not cause.of_the_end)
_ANY = re.compile("|".join(f"(?:{cause.sign})" for cause in _IN_LOGS))


def explain(error: str, seen: Sequence[Diagnosis] = ()) -> RunError:
    """Return cause and remedy of the error line that ended a run, where known.

    Args:
        seen: what the logs say (`diagnose`): asked where the line itself is too general.
    """
    cause = _of_line(error)
    for other in seen:
        if cause is None or cause.of_the_end or (other.cause.during and re.search(other.cause.sign, error)):
            cause = other.cause
            break
    if cause is None:
        return RunError(error, f"see the traceback in {LOGS}/run.log")
    return RunError(error, cause.what, cause.remedy)


def is_machine_fault(error: RunError) -> bool:
    """Return whether the same run may well succeed when it is started again."""
    cause = next((one for one in CAUSES if one.what == error.cause), None) or _of_line(error.what)
    return cause is not None and cause.of_machine


def diagnose(run_dir: Path) -> list[Diagnosis]:
    """Return what the logs of a run's last attempt say went wrong, each cause once, the particular first."""
    found: dict[str, Diagnosis] = {}
    for file in logs_of_attempt(run_dir) + _printed(run_dir):
        for one in in_log(_lines(file), str(file.relative_to(run_dir))):
            found.setdefault(one.cause.name, one)
    return [found[cause.name] for cause in CAUSES if cause.name in found]


def logs_of_attempt(run_dir: Path) -> list[Path]:
    """Return the logs of a run's last attempt, Trinity's and its own; those of attempt N end in .N.log."""
    return sorted(file for file in (run_dir / LOGS).glob("*.log") if not _EARLIER.search(file.name))


def _printed(run_dir: Path) -> list[Path]:
    """What the processes of the last attempt printed, below a folder for each Ray."""
    session = max((run_dir / LOGS / "ray").glob("session_*"), default=None)
    return [] if session is None else [file for kind in _PRINTED for file in sorted(session.glob(kind))]


def in_log(lines: Iterable[tuple[int, str]], file: str) -> Iterator[Diagnosis]:
    """Yield what the numbered lines of one log say, in their order."""
    above: deque[str] = deque(maxlen=TRACEBACK)
    for number, text in lines:
        if _ANY.search(text):
            cause = next((one for one in _IN_LOGS if re.search(one.sign, text) and _was(one.during, above)), None)
            if cause is not None:
                yield Diagnosis(cause, file, number, text.strip())
        above.append(text)


def _was(during: str, above: Iterable[str]) -> bool:
    return not during or any(re.search(during, line) for line in above)


def _of_line(error: str) -> Cause | None:
    return next((cause for cause in CAUSES if not cause.during and re.search(cause.sign, error)), None)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a log; of a very long one those at its end."""
    try:
        with open(file, "rb") as stream:
            before = stream.read(max(0, file.stat().st_size - SEARCHED)).count(b"\n")
            for number, line in enumerate(stream, start=before + 1):
                yield number, line.decode(errors="replace")
    except OSError:
        return


def end_of_log(run_dir: Path) -> list[str]:
    """Return the last lines of a run's log that are not blank; none where there is no log."""
    try:
        with open(run_dir / LOGS / "run.log", "rb") as stream:
            stream.seek(max(0, (run_dir / LOGS / "run.log").stat().st_size - LOG_END))
            text = stream.read().decode(errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()]
