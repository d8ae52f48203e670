"""Charts as static SVG that needs no script: it is there on a phone, in print and in a mail.

A chart's paths are in the units of its data (steps and values, four digits), and one transform brings them into the
picture, which is stretched to its place; lines and dots keep their width. So the small script that shows values under
the pointer reads them from the paths themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

# of the picture before it is stretched
WIDTH, HEIGHT = 1000, 400
COLOURS = 8
# values further out than this many times what nearly all values are go over the edge
OUTLIER_RATIO = 3.0
OUTLIER_QUANTILE = 0.98


@dataclass(frozen=True)
class Line:
    """One curve, or a cloud of dots."""

    label: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    # of the palette; beyond its end the colours come again, dashed
    colour: int
    # CSS: "raw" thin, "mean" thick, "plan" dashed, "dots"
    kind: str = "mean"
    # where the points stand in metrics.jsonl
    lines: Sequence[int] | np.ndarray | None = None
    # number of the group of runs that it belongs to
    group: int | None = None
    # place in the page's list of clocks
    clock: int = 0


@dataclass(frozen=True)
class Band:
    """What lies between two curves."""

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray
    colour: int
    group: int | None = None
    clock: int = 0


@dataclass(frozen=True)
class Chart:
    """One picture with its title; says in words what it cannot show."""

    title: str
    note: str = ""
    share: bool = False
    # from step to step: may be smoothed further
    noisy: bool = False
    # least height of the value axis, so that noise about a constant is seen to be none
    span: float = 0.0
    lines: list[Line] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    # steps at which a stage ends
    marks: list[int] = field(default_factory=list)
    legend: bool = True


def colour_class(colour: int, prefix: str = "c") -> str:
    """Return the CSS classes of a colour."""
    return f"{prefix}{colour % COLOURS}" + (f" d{colour // COLOURS % 3}" if colour >= COLOURS else "")


def number(value: float) -> str:
    """Return a value in four digits, as short as it goes."""
    text = f"{value:.4g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        return f"{mantissa}e{int(exponent)}"
    return text.removeprefix("0") if text.startswith("0.") else text.replace("-0.", "-.", 1)


def unit_of(size: float) -> float:
    """Return the power of ten that values are written in: pictures are drawn in single precision."""
    return 1.0 if 1e-2 <= size <= 1e5 else 10.0 ** math.floor(math.log10(size))


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Return round values between two ends, `about` many."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    power = 10 ** math.floor(math.log10(raw))
    step = min((size * power for size in (1, 2, 2.5, 5, 10)), key=lambda size: abs(size - raw))
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_text(value: float, share: bool) -> str:
    """Return a value at an axis."""
    if share:
        return f"{100 * value:.4g}%"
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"


def value_range(chart: Chart) -> tuple[float, float, float | None]:
    """Return lower and upper end of the value axis, and the highest value where it goes over the edge."""
    values = np.concatenate([np.asarray(line.y, dtype=float) for line in chart.lines])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0, None
    low, high = float(values.min()), float(values.max())
    usual = float(np.quantile(values, OUTLIER_QUANTILE))
    over = None
    if len(values) >= 50 and low >= 0 and usual > 0 and high > OUTLIER_RATIO * usual:
        over, high = high, 1.2 * usual
    if chart.share or (low >= 0 and low < 0.5 * high):
        low = 0.0
    # rounding is no change
    flat = high - low <= 1e-9 * max(abs(low), abs(high))
    margin = max((0.1 * abs(high) or 0.5) if flat and not chart.span else 0.06 * (high - low), chart.span - high + low)
    return (low - margin if low else 0.0), high + margin, over


def draw(chart: Chart) -> str:
    """Return the chart as HTML; the empty string where there is nothing to draw."""
    drawn = [line for line in chart.lines if np.isfinite(np.asarray(line.y, dtype=float)).any()]
    if not drawn:
        return ""
    low, high, over = value_range(chart)
    left = min(float(np.min(line.x)) for line in drawn)
    right = max(float(np.max(line.x)) for line in drawn)
    if right == left:
        left, right = left - 1, right + 1
    unit = unit_of(high - low)
    across, up = WIDTH / (right - left), HEIGHT / (high - low) * unit
    transform = f"matrix({across:.8g} 0 0 {-up:.8g} {-left * across:.8g} {HEIGHT + low / unit * up:.8g})"
    note = chart.note
    if over is not None:
        note += f"{'; ' if note else ''}values up to {tick_text(over, chart.share)} go over the edge"
    marks = " ".join(map(str, chart.marks))
    share, noisy = " data-share" if chart.share else "", " data-noisy" if chart.noisy else ""
    # thin lines below thick ones
    drawn.sort(key=lambda line: ("raw", "dots", "mean", "plan").index(line.kind))
    names = dict.fromkeys(
        (line.label, line.colour, "plan" if line.kind == "plan" else "") for line in drawn if line.label
    )
    legend = "".join(
        f'<span class="{colour_class(colour, "k")} {kind}">{escape(label)}</span>' for label, colour, kind in names
    )
    return (
        f"<figure><figcaption>{escape(chart.title)}"
        f"{f' <small>{escape(note)}</small>' if note else ''}</figcaption>"
        f'<div class="plot"><div class="ys">{_ticks(low, high, "bottom", chart.share)}</div>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(chart.title)}: {escape(_in_words(drawn, chart.share))}"'
        f' data-y="{low:.6g} {high:.6g}" data-unit="{unit:g}" data-marks="{marks}"{share}{noisy}>'
        f"<title>{escape(chart.title)}: {escape(_in_words(drawn, chart.share))}</title>"
        f'<g transform="{transform}">'
        f"{_grid(low, high, left, right, unit)}"
        f"{''.join(_mark(at, low / unit, high / unit) for at in chart.marks)}"
        f"{''.join(_band(band, unit) for band in chart.bands)}"
        f"{''.join(_line(line, unit) for line in drawn)}</g></svg>"
        f'<div class="xs">{_ticks(left, right, "left", whole=True)}</div></div>'
        f'<div class="canvas"></div><div class="out" aria-live="off"></div>'
        f"{f'<div class=legend>{legend}</div>' if chart.legend and len(names) > 1 else ''}</figure>"
    )


def _ticks(low: float, high: float, side: str, share: bool = False, whole: bool = False) -> str:
    found = [tick for tick in ticks(low, high, 5 if whole else 4) if not whole or float(tick).is_integer()]
    return "".join(
        f'<span style="{side}:{100 * (tick - low) / (high - low):.4g}%">{tick_text(tick, share)}</span>'
        for tick in found
    )


def _grid(low: float, high: float, left: float, right: float, unit: float) -> str:
    rules = "".join(f"M{number(left)} {number(tick / unit)}H{number(right)}" for tick in ticks(low, high))
    return f'<path class="grid" d="{rules}"/>'


def _mark(at: int, low: float, high: float) -> str:
    return f'<path class="stage" d="M{at} {number(low)}V{number(high)}"/>'


def _band(band: Band, unit: float) -> str:
    there = [
        (x, low / unit, high / unit)
        for x, low, high in zip(band.x, band.low, band.high, strict=True)
        if math.isfinite(low)
    ]
    edge = [f"{number(x)} {number(high)}" for x, _, high in there]
    edge += [f"{number(x)} {number(low)}" for x, low, _ in reversed(there)]
    own = f' data-x="{band.clock}"' + ("" if band.group is None else f' data-g="{band.group}"')
    return f'<path class="band {colour_class(band.colour)}"{own} d="M{"L".join(edge)}Z"/>' if edge else ""


def _line(line: Line, unit: float) -> str:
    numbers = ""
    if line.lines is not None:
        numbers = f' data-n="{" ".join(map(str, line.lines))}"'
    named = line.label and (line.kind in ("mean", "plan") or line.lines is not None)
    name = f' data-l="{escape(line.label)}"' if named else ""
    name += f' data-x="{line.clock}"'
    if line.group is not None:
        name += f' data-g="{line.group}"'
    classes = f"{line.kind} {colour_class(line.colour)}"
    drawing = path(line.x, np.asarray(line.y, dtype=float) / unit, line.kind == "dots")
    return f'<path class="{classes}"{name}{numbers} d="{drawing}"/>'


def path(x: Iterable[float], y: Iterable[float], dots: bool = False) -> str:
    """Return the drawing commands of a curve, broken where a value is no number, or of dots."""
    parts, pen = [], "M"
    for at, value in zip(x, y, strict=True):
        if not math.isfinite(value):
            parts.append("")
            pen = "M"
            continue
        parts.append(f"{pen}{at:.10g} {number(value)}{'h0' if dots else ''}")
        pen = "M" if dots else "L"
    return "".join(parts)


def _in_words(lines: Sequence[Line], share: bool) -> str:
    telling = [line for line in lines if line.kind in ("mean", "dots")] or list(lines)
    said = []
    for line in telling[:6]:
        values = np.asarray(line.y, dtype=float)
        values = values[np.isfinite(values)]
        if len(values):
            said.append(f"{line.label} from {tick_text(values[0], share)} to {tick_text(values[-1], share)}")
    return "; ".join(said)


@dataclass(frozen=True)
class Estimate:
    """A row of dots with an interval."""

    label: str
    dots: Sequence[float]
    value: float
    low: float
    high: float
    colour: int


def draw_estimates(title: str, note: str, rows: Sequence[Estimate], share: bool) -> str:
    """Return one row a group: every seed a dot, the mean a bar, its interval a line."""
    values = [value for row in rows for value in (*row.dots, row.low, row.high)]
    if not values:
        return ""
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    low, high = low - margin, high + margin
    across = WIDTH / (high - low)
    transform = f"matrix({across:.8g} 0 0 1 {-low * across:.8g} 0)"
    drawn = []
    for row in rows:
        dots = path(row.dots, [16] * len(row.dots), dots=True)
        words = (
            f"{row.label}: {tick_text(row.value, share)}, {tick_text(row.low, share)} to {tick_text(row.high, share)}"
        )
        drawn.append(
            f"<div>{escape(row.label)}</div>"
            f'<svg viewBox="0 0 {WIDTH} 22" preserveAspectRatio="none" role="img" aria-label="{words}">'
            f'<title>{words}</title><g class="{colour_class(row.colour)}" transform="{transform}">'
            f'<path class="interval" d="M{number(row.low)} 6H{number(row.high)}"/><path class="dots" d="{dots}"/>'
            f'<path class="middle" d="M{number(row.value)} 1V11"/></g></svg>'
        )
    return (
        f"<figure class=wide><figcaption>{escape(title)} <small>{escape(note)}</small></figcaption>"
        f'<div class="rows">{"".join(drawn)}<div></div><div class="xs">{_ticks(low, high, "left", share)}</div></div>'
        "</figure>"
    )


def draw_parallel(axes: Sequence[tuple[str, Sequence[str]]], rows: Sequence[tuple[Sequence[float], int, str]]) -> str:
    """Return parallel coordinates: an axis a setting, a line a group.

    Args:
        axes: name, and the texts along it from bottom to top.
        rows: heights in [0, 1] on every axis, colour, label.
    """
    step = 1 / max(1, len(axes) - 1)
    lines = "".join(
        f'<path class="mean {colour_class(colour)}" data-g="{colour}" d="'
        f'{path([index * step for index in range(len(axes))], heights)}"><title>{escape(label)}</title></path>'
        for heights, colour, label in rows
    )
    rules = "".join(f"M{number(index * step)} 0V1" for index in range(len(axes)))
    names = ""
    for index, (name, texts) in enumerate(axes):
        # those at the edges grow inwards
        at = f'class="{"first" if index == 0 else "last" if index == len(axes) - 1 else ""}" style="left:{{:.4g}}%'
        at = at.format(100 * index * step)
        names += f'<b {at}">{escape(name)}</b>'
        for place, text in enumerate(texts):
            names += f'<span {at};bottom:{100 * place / max(1, len(texts) - 1):.4g}%">{escape(text)}</span>'
    return (
        "<figure class=wide><figcaption>Settings and score <small>a line a group; the last axis is the score</small>"
        f'</figcaption><div class="parallel"><svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="parallel coordinates"><g transform="matrix({WIDTH} 0 0 -{HEIGHT} 0 {HEIGHT})">'
        f'<path class="grid" d="{rules}"/>{lines}</g></svg>{names}</div></figure>'
    )
