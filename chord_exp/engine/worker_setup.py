"""What every Ray worker of a run does first: the run names it to Ray as `worker_process_setup_hook`."""

from __future__ import annotations

import os

from chord_exp.engine import real_cpu, vllm_stub

HOOK = f"{__name__}.set_up"


def set_up() -> None:
    """Prepare this worker before it imports any actor."""
    import ray

    # vLLM's own processes are no Ray workers, yet look for Trinity's synchroniser: where two Rays run on a machine,
    # the wrong one would be found
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    vllm_stub.install()
    real_cpu.install()
