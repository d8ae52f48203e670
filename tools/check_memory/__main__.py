"""Hold the forecast of a trainer GPU's memory against what a real update allocates.

    python -m tools.check_memory                 on this CPU, by FSDPMemTracker on fake tensors
    python -m tools.check_memory --write         the same, and write the table of docs/memory.md
    python -m tools.check_memory --gpu           on one GPU, by torch.cuda.max_memory_allocated
    torchrun --nproc-per-node 4 -m tools.check_memory --gpu     the points of four GPUs

Exit code 1 where a forecast is more than 5% off, or more than 2% too low.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from chord_exp.experiment.memory.architecture import KNOWN, to_config
from chord_exp.experiment.memory.terms import GIB
from chord_exp.experiment.memory.trainer import TrainerSetup, outside, peak
from tools.check_memory.points import POINTS
from tools.check_memory.step import FLASH, Point

PAGE = Path(__file__).parents[2] / "docs" / "memory.md"
BEGIN, END = "<!-- written by make check-memory -->", "<!-- end -->"
HEAD = f"| model | layers | GPUs | tokens | | peak, GiB | forecast | off by | phase |\n{'|---' * 9}|"
# largest share that a forecast may be off by, and too low
MOST_OFF, TOO_LOW = 0.05, 0.02
# of a card's memory, for a point to be tried on it
ROOM = 0.9


def setup_of(point: Point) -> TrainerSetup:
    """Return what the forecast is asked for a point."""
    model = KNOWN[point.model]
    return TrainerSetup(
        dataclasses.replace(model, layers=point.layers, vocabulary=point.vocabulary or model.vocabulary),
        gpus=point.ranks,
        tokens=point.tokens,
        sequence=point.sequence,
        offload_policy=point.offload_policy,
        lora_rank=point.lora_rank,
        flash=point.attention == FLASH,
    )


def row(point: Point, measured: int) -> tuple[str, bool]:
    """Return a line of the table, and whether the forecast is right."""
    forecast = peak(setup_of(point))
    off = forecast.size / measured - 1
    given = (
        "offload" if point.offload_policy else "",
        f"LoRA {point.lora_rank}" if point.lora_rank else "",
        f"SP={point.sequence}" if point.sequence > 1 else "",
        "" if point.attention == FLASH else "sdpa",
        f"V={point.vocabulary}" if point.vocabulary else "",
    )
    cells = (
        point.model,
        str(point.layers),
        str(point.ranks),
        str(point.tokens),
        ", ".join(word for word in given if word),
        f"{measured / GIB:.2f}",
        f"{forecast.size / GIB:.2f}",
        f"{off:+.1%}",
        forecast.what,
    )
    return f"| {' | '.join(cells)} |", -TOO_LOW <= off <= MOST_OFF


def lines(points: tuple[Point, ...], measure: Callable[[Point], int], say: bool) -> Iterator[tuple[str, bool]]:
    """Measure each point; yield the lines of the table as they come."""
    if say:
        print(HEAD, flush=True)
    for point in points:
        line, right = row(point, measure(point))
        if say:
            print(line if right else f"{line} wrong", flush=True)
        yield line, right


def on_cpu(point: Point) -> int:
    """Return the tracker's peak."""
    from tools.check_memory import tracked

    return tracked.measure(point, to_config(setup_of(point).architecture))[0]


def on_gpu(point: Point) -> int:
    """Return the allocator's peak."""
    from tools.check_memory import measured

    return measured.measure(point, to_config(setup_of(point).architecture))


def fits_here(point: Point) -> bool:
    """Return whether a point can be tried on the GPUs of this process group."""
    from importlib.util import find_spec

    import torch

    setup = setup_of(point)
    needed = peak(setup).size + sum(term.size for term in outside(setup))
    room = ROOM * torch.cuda.get_device_properties(0).total_memory
    has_attention = point.attention != FLASH or find_spec("flash_attn") is not None
    # verl's all-to-all is patched into a loaded model by its own engine
    return (
        point.ranks == int(os.environ.get("WORLD_SIZE", "1"))
        and needed < room
        and has_attention
        and point.sequence == 1
    )


def main() -> int:
    """Check all points; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="measure on the GPUs of this machine")
    parser.add_argument("--write", action="store_true", help="write the table into docs/memory.md")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    points = tuple(point for point in POINTS if fits_here(point)) if asked.gpu else POINTS
    say = os.environ.get("RANK", "0") == "0"
    found = list(lines(points, on_gpu if asked.gpu else on_cpu, say))
    wrong = sum(not right for _, right in found)
    if say:
        print(f"{len(found)} points, {wrong} wrong")
    if asked.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        table = "\n".join((HEAD, *(line for line, _ in found)))
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return int(wrong > 0 or not found)


if __name__ == "__main__":
    sys.exit(main())
