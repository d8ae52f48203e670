"""The real vLLM and verl on a machine without a GPU, where Ray only believes in some.

Both are written for CUDA devices and NCCL. `places` lists each place upstream that stands in the way, with what is read
in its stead while that module is imported; no installed file is changed. `install` must have run in every process of a
run before those modules are imported: in Ray's workers by its `worker_process_setup_hook`, in vLLM's own processes by
its entry point group `vllm.general_plugins`, in the driver by a call. It does nothing unless the run asked for it.
"""

from __future__ import annotations

import os
from importlib import metadata

from chord_exp.errors import ConfigError

# set in the environment of a run with cluster.engine=real_cpu, and so of every process below it
SWITCH = "CHORD_EXP_REAL_CPU"
SETUP = "make setup-real makes .venv-real; then .venv-real/bin/python -m chord_exp cluster=real_cpu"
ENVIRONMENT = {
    SWITCH: "1",
    # half a minute of an engine's start, for kernels that a rehearsal hardly uses
    "TORCHDYNAMO_DISABLE": "1",
    # each engine would bind itself to the same cores
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    # GiB
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # Ray would hide GPUs from processes that ask for none; there are none to hide
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # gloo looks the host's name up otherwise, and may find an address that leads nowhere
    "GLOO_SOCKET_IFNAME": "lo",
}


def missing() -> str | None:
    """What of the real stack this environment lacks, or None. Imports nothing heavy."""
    from chord_exp.engine.real_cpu.places import TESTED

    for package, tested in TESTED.items():
        try:
            installed = metadata.version(package).partition("+")[0]
        except metadata.PackageNotFoundError:
            return f"{package} is not installed"
        if installed != tested:
            return f"{package} is {installed} and cluster.engine=real_cpu was made for {tested}"
    return None


def require() -> None:
    """Refuse to go on without the real stack.

    Raises:
        ConfigError: a package is missing or of another version; names the command that installs it.
    """
    problem = missing()
    if problem:
        raise ConfigError(f"the real stack is not in this environment: {problem}", "cluster.engine", SETUP)


def install() -> None:
    """Prepare this process, if the run asked for it; safe to call again.

    Raises:
        ConfigError: the packages are not those that the places were seen in.
    """
    if os.environ.get(SWITCH) != "1":
        return
    require()
    from chord_exp.engine.real_cpu import rewrite

    rewrite.install()


def install_in_vllm() -> None:
    """Prepare a process of vLLM's own, which has imported torch before it asks; it shards no parameters."""
    if os.environ.get(SWITCH) == "1":
        from chord_exp.engine.real_cpu import rewrite

        rewrite.install(too_late=("vllm.", "trinity."))
