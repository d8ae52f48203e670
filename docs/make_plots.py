"""The plots of the guides, below docs/plots/, and the report that they link to, below docs/reports/.

Schedules come from conf/, curves from real runs of the local engine.

    python docs/make_plots.py my_runs

Runs that are not yet in the folder are made first, about a minute each on two cores.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import yaml

from chord_exp.check.weights import Weights, stock_weights
from chord_exp.experiment.schedule import MuSchedule, values
from chord_exp.report.__main__ import main as report
from chord_exp.run_files import metrics

ROOT = Path(__file__).resolve().parents[1]
PLOTS = ROOT / "docs" / "plots"
# the reports and their runs
REPORTS: Mapping[str, Sequence[str]] = {"healthy": ["mu"]}
PUBLISHED = ROOT / "docs" / "published.yaml"
SCHEDULES = {"seed_full": 500, "paper_mu": 500, "upstream_example": 700, "seed_simple": 50}
# label of a curve and the words of its command line
RUNS: Mapping[str, Sequence[str]] = {
    "mu": [],
    "grpo": ["variant=grpo"],
    "sft": ["variant=sft"],
    "phi": ["variant=phi"],
    "mu_high": ["mu_schedule=constant", "mu_peak=0.95"],
    "high_lr": ["lr=0.03"],
    "cut_off": ["model.max_response_tokens=5"],
}
HEALTHY = {"mu": "CHORD-mu (default)", "phi": "CHORD-phi", "grpo": "GRPO alone", "sft": "SFT alone"}
SICK = {"mu": "healthy", "high_lr": "lr 100 times too high", "cut_off": "responses cut off (5 tokens)"}
FIXED = {"mu": "mu 0.6 -> 0.05", "mu_high": "mu = 0.95 throughout", "grpo": "mu = 0 (GRPO)", "sft": "mu = 1 (SFT)"}
REWARD, HELD_OUT = "rollout/accuracy/mean", "eval/eval/accuracy/mean@1"
ENTROPY = "actor/entropy"
SPREAD = "experience_pipeline/group_advantages/reward_std/mean"
STYLE = {"axes.grid": True, "grid.alpha": 0.3, "font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "chord_exp"}


def make_runs(folder: Path) -> None:
    """Run what is missing."""
    for name, words in RUNS.items():
        if not (folder / name / "run.json").exists():
            command = [sys.executable, "-m", "chord_exp", *words, f"name={name}", f"hydra.run.dir={folder / name}"]
            subprocess.run(command, check=True)


def write_report(folder: Path, name: str) -> None:
    """Write one of REPORTS; its Markdown and CSV are left out."""
    page = ROOT / "docs" / "reports" / f"{name}.html"
    if code := report([*(str(folder / run) for run in REPORTS[name]), "--out", str(page)]):
        raise SystemExit(code)
    for suffix in (".md", ".csv"):
        page.with_suffix(suffix).unlink()


def series(folder: Path, name: str, key: str, window: int = 1) -> tuple[list[int], list[float]]:
    """Steps and values of a metric, as a running mean over up to `window` steps."""
    found = sorted(metrics.series(metrics.read(folder / name / "metrics.jsonl"), key).items())
    steps, points = [step for step, _ in found], [value for _, value in found]
    means = [
        sum(points[max(0, i - window + 1) : i + 1]) / len(points[max(0, i - window + 1) : i + 1])
        for i in range(len(points))
    ]
    return steps, means


def draw(name: str, panels: int, fill: Callable[[Any], None], width: float = 3.4) -> None:
    """One row of panels, saved as SVG."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, panels, figsize=(width * panels, 2.8), squeeze=False)
        fill(axes[0])
        figure.tight_layout()
        figure.savefig(PLOTS / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


def draw_schedules(axes: Any) -> None:
    """mu over steps for the schedules of conf/mu_schedule."""
    for axis, names in ((axes[0], ("seed_full", "paper_mu", "upstream_example")), (axes[1], ("seed_simple",))):
        for name in names:
            options = yaml.safe_load((ROOT / "conf" / "mu_schedule" / f"{name}.yaml").read_text(encoding="utf-8"))
            schedule = MuSchedule(
                *(options[f"mu_{part}"] for part in ("warmup_steps", "decay_steps", "peak", "valley"))
            )
            axis.plot(range(1, SCHEDULES[name] + 1), values(schedule, SCHEDULES[name]), label=name)
        axis.set(xlabel="step", ylabel="mu", ylim=(0, 1))
        axis.legend(fontsize=8)


def draw_phi(axes: Any) -> None:
    """phi(p), and the pull phi(p)·(1 - p) on the logit of an expert token."""
    points = [index / 100 for index in range(101)]
    axes[0].plot(points, [1.0] * 101, label="CHORD-mu: 1")
    axes[0].plot(points, [p * (1 - p) for p in points], label="CHORD-phi: p(1-p)")
    axes[0].set(xlabel="p, probability of the expert token now", ylabel="weight of the token")
    axes[0].legend(fontsize=8)
    axes[1].plot(points, [1 - p for p in points], label="CHORD-mu: 1-p")
    axes[1].plot(points, [p * (1 - p) * (1 - p) for p in points], label="CHORD-phi: p(1-p)(1-p)")
    axes[1].set(xlabel="p, probability of the expert token now", ylabel="pull on its logit")
    axes[1].legend(fontsize=8)


def draw_factors(axes: Any) -> None:
    """The factors of `phi` at their default numbers, and the pull on the logit of an expert token."""
    points = [index / 200 for index in range(1, 201)]
    factors: Mapping[str, Callable[[float], float]] = {
        "none": lambda p: 1.0,
        "pq": lambda p: p * (1 - p),
        "power, alpha 1": lambda p: p,
        "focal, gamma 2": lambda p: (1 - p) ** 2,
        "luffy_shaping, gamma 0.1": lambda p: 0.1 * p / (p + 0.1) ** 2,
    }
    for name, factor in factors.items():
        axes[0].plot(points, [factor(p) for p in points], label=name)
        axes[1].plot(points, [factor(p) * (1 - p) for p in points], label=name)
    axes[0].set(xlabel="p, probability of the expert token now", ylabel="factor on -log p")
    axes[1].set(xlabel="p, probability of the expert token now", ylabel="pull on its logit")
    axes[1].legend(fontsize=7)


def published_weights(config: Mapping[str, Any]) -> Weights:
    """The factors on both sides of a published configuration (docs/published.yaml)."""
    usual, expert, ranks = config["usual"], config["expert"], config["ranks"]
    if swift := config.get("swift"):
        # each side's mean over the rows of a micro-batch, averaged over the accumulated ones and over the devices
        cuts = swift["accumulated"] * ranks
        return Weights(usual / (cuts * swift["rollouts_per_device"]), expert / (cuts * swift["expert_rows_per_device"]))
    return stock_weights(config["arguments"], usual, expert, ranks, verl_legacy=config["verl_legacy"])


def draw_effective_mu(axes: Any) -> None:
    """The mu that published configurations train with, by the mu that they write."""
    points = [index / 100 for index in range(101)]
    lines = ("-", (0, (1, 2)), "--", "-.")
    for config, line in zip(yaml.safe_load(PUBLISHED.read_text(encoding="utf-8")), lines, strict=True):
        weights, peak = published_weights(config), config["mu_peak"]
        (drawn,) = axes[0].plot(points, [weights.effective_mu(mu) for mu in points], ls=line, label=config["name"])
        axes[0].plot([peak], [weights.effective_mu(peak)], "o", color=drawn.get_color(), markersize=5)
    axes[0].set(xlabel="mu as written (dots: its peak)", ylabel="mu in effect", xlim=(0, 1), ylim=(0, 1))
    axes[0].legend(fontsize=7)


def draw_ratios(axes: Any) -> None:
    """What each of the two ratios divides."""
    data, batch = axes
    for axis, parts, title in (
        (
            data,
            ((0.25, "SFT rows", "tab:orange"), (0.75, "RL prompts", "tab:blue")),
            "expert_ratio 0.25: the data set, once",
        ),
        (
            batch,
            ((0.25, "64 expert rows", "tab:orange"), (0.75, "192 rollouts = 24 prompts x 8", "tab:blue")),
            "expert_data_ratio 0.25: every batch of 256",
        ),
    ):
        left = 0.0
        for share, label, colour in parts:
            axis.barh(0, share, left=left, color=colour, alpha=0.7)
            axis.text(left + share / 2, 0, label, ha="center", va="center", fontsize=8)
            left += share
        axis.set(title=title, yticks=[], xlim=(0, 1))
        axis.title.set_fontsize(9)
        axis.grid(False)


def curves(
    folder: Path, labels: Mapping[str, str], panels: Sequence[tuple[str, str, int, bool]]
) -> Callable[[Any], None]:
    """A drawer of one metric a panel: key, title, running mean over so many steps, logarithmic scale."""

    def fill(axes: Any) -> None:
        for axis, (key, title, window, logarithmic) in zip(axes, panels, strict=True):
            for number, (name, label) in enumerate(labels.items()):
                steps, points = series(folder, name, key, window)
                # an SFT run logs the entropy of expert rows, the others that of rollouts
                if points and not (name == "sft" and key == ENTROPY):
                    axis.plot(
                        steps,
                        points,
                        marker="o" if key == HELD_OUT else None,
                        markersize=4,
                        color=f"C{number}",
                        label=label,
                    )
            axis.set(xlabel="step", title=title)
            axis.title.set_fontsize(9)
            if logarithmic:
                axis.set_yscale("log")
        axes[1].legend(fontsize=7)

    return fill


def main(arguments: Sequence[str]) -> int:
    """Make all plots from a folder of runs."""
    if len(arguments) != 1:
        print("python docs/make_plots.py FOLDER_OF_RUNS", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    make_runs(folder)
    PLOTS.mkdir(exist_ok=True)
    draw("mu_schedules", 2, draw_schedules)
    draw("phi", 2, draw_phi)
    draw("phi_factors", 2, draw_factors)
    draw("effective_mu", 1, draw_effective_mu, width=4.6)
    draw("two_ratios", 2, draw_ratios, width=4.6)
    reward = (REWARD, "rollout reward (mean of 8 steps)", 8, False)
    held_out = (HELD_OUT, "held-out accuracy", 1, False)
    loss = ("actor/expert/sft_loss", "SFT loss on expert rows", 4, False)
    entropy = (ENTROPY, "entropy of rollouts", 4, False)
    draw("healthy", 4, curves(folder, HEALTHY, (reward, held_out, loss, entropy)), width=3)
    sft_loss = ("actor/expert/sft_loss", "SFT loss on expert rows", 1, True)
    spread = (SPREAD, "spread of rewards in a group", 4, False)
    draw("sick", 4, curves(folder, SICK, (reward, spread, sft_loss, ("actor/loss", "loss", 4, False))), width=3)
    draw("fixed_mu", 2, curves(folder, FIXED, (reward, held_out)))
    for name in REPORTS:
        write_report(folder, name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
