"""The plots of docs/study.md from the study's raw numbers.

python -m tools.study.plots docs/study/numbers.csv --out docs/study
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from chord_exp.utils.statistics import bootstrap
from tools.study.run import COMPARE, EQUAL_FLOPS, MEASURE

METHODS = {
    "sft": "SFT",
    "grpo": "GRPO",
    "sft_then_grpo": "SFT then GRPO, tuned",
    "chord_mu": "CHORD-mu",
    "chord_phi": "CHORD-phi",
    "fixed_mu": "mu 0.1",
}
STYLE = {"axes.grid": True, "grid.alpha": 0.3, "font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "chord_exp"}
Line = Mapping[str, str]


def build_parser() -> argparse.ArgumentParser:
    """The options of this script."""
    parser = argparse.ArgumentParser(description="Draw the plots of the local study.")
    parser.add_argument("numbers", type=Path, help="CSV file of tools.study.numbers")
    parser.add_argument("--out", type=Path, required=True, help="folder of the plots")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this script."""
    asked = build_parser().parse_args(arguments)
    with open(asked.numbers, newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9, 2.9), sharex=True, sharey=True)
        dots(axes[0], [line for line in lines if line["sweep"] == COMPARE], "at equal steps")
        dots(axes[1], equal_flops(lines), "at equal FLOPs")
        save(figure, asked.out / "scores.svg")
        figure, axes = plt.subplots(1, 2, figsize=(9, 2.9))
        parts(axes[0], [line for line in lines if line["sweep"] == COMPARE])
        entropy(axes[1], [line for line in lines if line["sweep"] == COMPARE])
        save(figure, asked.out / "parts.svg")


def equal_flops(lines: Sequence[Line]) -> list[Line]:
    """The runs at equal floating-point operations, and the method whose they are."""
    return [
        line
        for line in lines
        if line["sweep"] == EQUAL_FLOPS or (line["sweep"] == COMPARE and line["method"] == MEASURE)
    ]


def of(lines: Sequence[Line], method: str, column: str) -> list[float]:
    """A column of a method's runs, by seed."""
    chosen = [line for line in lines if line["method"] == method and line[column]]
    return [float(line[column]) for line in sorted(chosen, key=lambda line: int(line["seed"]))]


def dots(axis: Any, lines: Sequence[Line], title: str) -> None:
    """Test accuracy of each method: a dot a seed, the mean and its 95% bootstrap interval."""
    for place, (method, name) in enumerate(METHODS.items()):
        values = of(lines, method, "tested")
        if not values:
            continue
        axis.plot(values, [place + 0.15] * len(values), "o", color=f"C{place}", alpha=0.5, markersize=4)
        found = bootstrap(values)
        axis.plot([found.low, found.high], [place - 0.15] * 2, color=f"C{place}", linewidth=2.5, label=name)
        axis.plot([found.value], [place - 0.15], "|", color=f"C{place}", markersize=10, markeredgewidth=2)
    axis.set(title=title, xlabel="accuracy on the test set")
    methods_down(axis)


def parts(axis: Any, lines: Sequence[Line]) -> None:
    """What each method can do in each part of the task, after the last step."""
    for place, method in enumerate(METHODS):
        for column, marker in (("two_numbers", "o"), ("in_words", "s")):
            values = of(lines, method, column)
            if values:
                axis.plot(values, [place] * len(values), marker, color=f"C{place}", alpha=0.5, markersize=5)
    axis.plot([], [], "o", color="grey", label="two numbers (no experts)")
    axis.plot([], [], "s", color="grey", label="a number in words")
    axis.set(title="each part, after the last step", xlabel="accuracy on the test set")
    axis.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    methods_down(axis)


def entropy(axis: Any, lines: Sequence[Line]) -> None:
    """Entropy that is left."""
    for place, method in enumerate(METHODS):
        values = of(lines, method, "entropy")
        if values:
            axis.plot(values, [place] * len(values), "o", color=f"C{place}", alpha=0.6, markersize=5)
    axis.set(title="entropy of rollouts, last ten steps", xlabel="nats a token")
    methods_down(axis)


def methods_down(axis: Any) -> None:
    """The methods from the top down, each on its line, those without a value too."""
    axis.set(yticks=range(len(METHODS)), yticklabels=METHODS.values(), ylim=(len(METHODS) - 0.5, -0.5))
    axis.title.set_fontsize(9)


def save(figure: Any, path: Path) -> None:
    """Write a figure as SVG, the same for the same numbers."""
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
