"""Which GPUs there are: of a Ray cluster that runs, or of this machine."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from chord_exp.errors import ConfigError
from chord_exp.launch.cluster import private_ray


@dataclass(frozen=True)
class Machines:
    """What was found."""

    # GPUs of each machine
    gpus: tuple[int, ...]
    # of a Ray cluster that runs; False: of this machine, where none does
    of_ray: bool

    def __str__(self) -> str:
        where = "the Ray cluster" if self.of_ray else "this machine"
        return f"{where} has {' + '.join(map(str, self.gpus)) or 'no'} GPUs"


def visible_gpus() -> list[str]:
    """Return the names of the NVIDIA GPUs that processes of this machine may use."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name.strip()]
    numbers = (re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia*"))
    return sorted((match[1] for match in numbers if match), key=int)


def look() -> Machines:
    """Ask the Ray cluster of RAY_ADDRESS, or one that runs here, for its GPUs; without one, count this machine's.

    Raises:
        ConfigError: RAY_ADDRESS names a cluster that does not answer.
    """
    address, before = os.environ.get("RAY_ADDRESS"), dict(os.environ)
    private_ray.set_up_client(address or "localhost")
    if address and private_ray.is_loopback(host := private_ray.host_of(address)):
        # Ray would look for it at this machine's address in the network
        os.environ.update(private_ray.environment(host))
    try:
        found = private_ray.machines(address or "auto")
    except Exception as error:  # Ray raises many kinds
        if address:
            first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ConfigError(
                f"cluster=auto: no Ray cluster answers at RAY_ADDRESS={address} ({first})",
                "cluster",
                "start it, unset RAY_ADDRESS to take this machine, or name a cluster such as cluster=gpu_4",
            ) from error
        return Machines((len(visible_gpus()),), of_ray=False)
    finally:
        # the run itself is set up by whoever starts it
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
    return Machines(tuple(sorted((int(has.get("GPU", 0)) for has in found.values()), reverse=True)), of_ray=True)
