"""The data card: a manifest as a page in Markdown with two plots, for people who were not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chord_exp.prepare.rejects import REASONS
from chord_exp.trinity_config.rows import CARD_FILE, EVAL, LENGTHS_PLOT, RL, ROWS_PLOT, SFT, TEST

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_COLOURS = {SFT: "#3b6fb6", RL: "#d9822b", EVAL: "#5f9e4f", TEST: "#8a6fb0"}
_NAMES = {SFT: "expert rows (SFT)", RL: "rollout prompts (RL)", EVAL: "held-out prompts", TEST: "test prompts"}
_BINS = 48


def write_card(folder: Path, content: Mapping[str, Any], lengths: Mapping[str, Array]) -> None:
    """Write the card and its plots.

    Args:
        folder: of the output.
        content: the manifest.
        lengths: of each side, bytes of each row: prompt and response together; shape (rows of the side,).
    """
    _plot_rows(folder / ROWS_PLOT, content)
    _plot_lengths(folder / LENGTHS_PLOT, lengths)
    (folder / CARD_FILE).write_text(card_text(content), encoding="utf-8")


def card_text(content: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    rows, ratios = content["rows"], content["ratios"]
    asked = content["arguments"]
    parts = [
        "# Data card",
        f"Made by chord_exp {content['version']} from {counted_files(content)} with {rows['read']:,} rows. "
        "`manifest.json` holds all numbers, `rejects.jsonl` every row that could not be used.",
        _table(
            ("side", "rows", "what"),
            [
                (SFT, rows[SFT], "expert conversations, imitated"),
                (RL, rows[RL], "prompts with a checkable answer, rolled out"),
                (EVAL, rows[EVAL], "prompts held out of both"),
                *([(TEST, rows[TEST], "prompts held out besides, that nothing is chosen by")] if rows[TEST] else []),
            ],
        ),
        f"![where the rows went]({ROWS_PLOT})",
        "## The two ratios",
        f"`expert_ratio`: {ratios['expert_ratio_asked']:g} asked, {ratios['expert_ratio_reached']:.4f} reached. "
        + ratios["note"],
        "## Lengths",
        f"![lengths]({LENGTHS_PLOT})",
        _lengths_table(content),
        "## What it is made of",
        _counts("source", content["sources"]),
        _counts("format", content["formats"]),
        _counts("kind of answer", content["kinds"]),
        _counts("language, by script", content["languages"]),
        "## Columns that nobody reads",
        _counts("column", content["unused_columns"]) if content["unused_columns"] else "None: every column is read.",
        "Numbers such as a score or a difficulty choose no rows, unless the field map names the least one.",
        "## What was left out, and what stays on the SFT side",
        _table(
            ("why", "rows"),
            [
                ("exact duplicate", rows["duplicates"]["exact"]),
                ("near duplicate", rows["duplicates"]["near"]),
                ("prompt already rolled out or held out", rows["duplicates"]["same_prompt"]),
                *((f"rejected: {REASONS.get(name, name)}", count) for name, count in content["rejects"].items()),
                *((f"SFT only: {name.replace('_', ' ')}", count) for name, count in content["sft_only"].items()),
            ],
        ),
        "## Personal data",
        _personal(content["personal_data"]),
        "## Warnings",
        "\n".join(f"- {_escaped(warning)}" for warning in content["warnings"]) or "None.",
        "## How to make it again",
        _table(("argument", "value"), [(name, repr(value)) for name, value in asked.items()]),
        _table(
            ("input", "rows", "SHA-256"), [(file["path"], file["read"], file["sha256"]) for file in content["inputs"]]
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def counted_files(content: Mapping[str, Any]) -> str:
    """How many input files, in words."""
    count = len(content["inputs"])
    return f"{count:,} file{'' if count == 1 else 's'}"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    def cell(value: Any) -> str:
        return f"{value:,}" if isinstance(value, int) else _escaped(str(value))

    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(cell, row)) + " |" for row in rows if row[-1] != 0])


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    for character in "\\|<>*_`[]":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def _counts(what: str, counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return _table((what, "rows"), ordered)


def _lengths_table(content: Mapping[str, Any]) -> str:
    rows = []
    for side, kinds in content["lengths"].items():
        for name, values in kinds.items():
            if not name.endswith("_chars"):
                rows.append((side, name.replace("_", ", "), *values.values()))
    return _table(("side", "of what, unit", "median", "90%", "99%", "longest"), rows)


def _personal(looked: Mapping[str, Any]) -> str:
    seen = f"{looked['rows']:,} rows were looked at; nothing was removed."
    if not looked["found"]:
        return f"Nothing that looks like an e-mail address, a phone number or a key. {seen}"
    found = [
        (name, f"{entry['rows']:,}", f"{entry['side']}, line {entry['first_line']:,}")
        for name, entry in looked["found"].items()
    ]
    return seen + "\n\n" + _table(("looks like", "rows", "first seen in"), found)


def _figure(height: float) -> tuple[Any, Any]:
    # the object interface: pyplot would pick a window system and keep state
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    import matplotlib

    # equal inputs give equal files: no date, and ids that do not change
    with matplotlib.rc_context({"svg.hashsalt": "chord_exp", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _plot_rows(path: Path, content: Mapping[str, Any]) -> None:
    rows = content["rows"]
    bars = [(_NAMES[side], rows[side], _COLOURS[side]) for side in (SFT, RL, EVAL, TEST)]
    bars += [(f"duplicates, {name.replace('_', ' ')}", count, "#999999") for name, count in rows["duplicates"].items()]
    bars += [("rejected", rows["rejected"], "#b04a4a")]
    bars = [bar for bar in bars if bar[1]][::-1]
    figure, axes = _figure(0.6 + 0.34 * len(bars))
    names, counts, colours = zip(*bars, strict=True)
    drawn = axes.barh(names, counts, color=colours)
    axes.bar_label(drawn, [f"{count:,}" for count in counts], padding=3)
    axes.set_xlim(0, 1.15 * max(counts))
    axes.set_title(f"{rows['read']:,} rows read: where they went", loc="left", fontsize=11)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    _save(figure, path)


def _plot_lengths(path: Path, lengths: Mapping[str, Array]) -> None:
    import numpy as np
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure, axes = _figure(2.8)
    longest = max(int(values.max()) for values in lengths.values())
    shortest = min(int(values.min()) for values in lengths.values())
    # room on both sides, so that rows of one length make a bar and not a line
    bins = np.geomspace(max(1, 0.7 * shortest), max(2, 1.4 * longest), _BINS)
    for side, values in lengths.items():
        axes.hist(np.maximum(values, 1), bins, histtype="step", color=_COLOURS[side], label=_NAMES[side], linewidth=1.5)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("prompt and response together, UTF-8 bytes")
    axes.set_ylabel("rows")
    axes.legend(frameon=False)
    axes.set_title("Lengths", loc="left", fontsize=11)
    _save(figure, path)
