"""The plots of the guides, below docs/plots/, and the reports that they are of, below docs/reports/.

    python docs/make_plots.py my_runs

Runs of the local engine that are not yet in the folder are made first, about a minute each on two cores.
Needs Chromium.
"""

from __future__ import annotations

import math
import re
import subprocess
import sys
import tempfile
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

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PLOTS = DOCS / "plots"
CHROMIUM = "chromium"
PUBLISHED = DOCS / "published.yaml"
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
# the reports and their runs
REPORTS: Mapping[str, Sequence[str]] = {
    "healthy": ["mu"],
    "high_lr": ["high_lr"],
    "cut_off": ["cut_off"],
    "sick": ["mu", "high_lr", "cut_off"],
    "methods": ["mu", "phi", "grpo", "sft"],
    "fixed_mu": ["mu", "mu_high", "grpo", "sft"],
}
# plots that are parts of reports: the report, and titles of its charts
PICTURES: Mapping[str, tuple[str, Sequence[str]]] = {
    "healthy": ("methods", ("Rollout reward", "Held-out accuracy", "SFT loss", "Entropy")),
    "sick": ("sick", ("Rollout reward", "Spread of rewards in a group", "SFT loss", "Loss")),
    "fixed_mu": ("fixed_mu", ("Rollout reward", "Held-out accuracy")),
}
# of such a plot: its width, and the height of a row of two charts, pixels
PICTURE_WIDTH, ROW_HEIGHT = 1000, 350
STYLE = {"axes.grid": True, "grid.alpha": 0.3, "font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "chord_exp"}


def make_runs(folder: Path) -> None:
    """Run what is missing."""
    for name, words in RUNS.items():
        if not (folder / name / "run.json").exists():
            command = [sys.executable, "-m", "chord_exp", *words, f"name={name}", f"hydra.run.dir={folder / name}"]
            subprocess.run(command, check=True)


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


def write_report(folder: Path, name: str) -> Path:
    """Write one of REPORTS; its Markdown and CSV are left out."""
    page = DOCS / "reports" / f"{name}.html"
    if code := report([*(str(folder / run) for run in REPORTS[name]), "--out", str(page)]):
        raise SystemExit(code)
    for suffix in (".md", ".csv"):
        page.with_suffix(suffix).unlink()
    return page


def take_picture(page: Path, titles: Sequence[str], target: Path) -> None:
    """Write charts of a report as a picture: as they are drawn without scripts, two in a row."""
    text = page.read_text(encoding="utf-8")
    (style,) = re.findall(r"<style>.*?</style>", text, re.DOTALL)
    figures = re.findall(r"<figure><figcaption>.*?</figure>", text, re.DOTALL)
    drawn = {re.split("[<>]", figure)[4].strip(): figure for figure in figures}
    charts = "".join(drawn[title] for title in titles)
    size = f"{PICTURE_WIDTH},{ROW_HEIGHT * math.ceil(len(titles) / 2)}"
    with tempfile.TemporaryDirectory() as place:
        part = Path(place) / "part.html"
        part.write_text(f'<meta charset="utf-8">{style}<body><div class="charts">{charts}</div>', encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={size}"]
        flags += ["--blink-settings=preferredColorScheme=1", f"--user-data-dir={place}/profile"]
        subprocess.run([CHROMIUM, *flags, f"--screenshot={target}", part.as_uri()], check=True, capture_output=True)


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
    pages = {name: write_report(folder, name) for name in REPORTS}
    for name, (page, titles) in PICTURES.items():
        take_picture(pages[page], titles, PLOTS / f"{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
