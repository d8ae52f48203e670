"""The forecast against PyTorch's memory tracker: the published table whole, and a few settings tracked anew."""

from __future__ import annotations

import pytest

from chord_exp.experiment.memory.architecture import to_config
from chord_exp.experiment.memory.terms import GIB
from chord_exp.experiment.memory.trainer import peak
from tools.check_memory.__main__ import BEGIN, END, MOST_OFF, PAGE, TOO_LOW, setup_of
from tools.check_memory.points import POINTS
from tools.check_memory.step import Point


def published() -> list[list[str]]:
    """The cells of the table in docs/memory.md."""
    table = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    return rows[2:]


def test_the_published_table_holds_every_setting_and_todays_forecast():
    rows = published()
    assert len(rows) == len(POINTS) >= 60
    for row, point in zip(rows, POINTS, strict=True):
        forecast = peak(setup_of(point))
        assert row[:4] == [point.model, str(point.layers), str(point.ranks), str(point.tokens)]
        assert row[6] == f"{forecast.size / GIB:.2f}" and row[8] == forecast.what


def test_every_published_forecast_is_within_its_bounds():
    # two digits are printed: half of the last one may be rounding
    for row in published():
        measured, forecast = float(row[5]), float(row[6])
        assert (1 - TOO_LOW) * measured - 0.01 <= forecast <= (1 + MOST_OFF) * measured + 0.01


@pytest.mark.parametrize(
    "point",
    [Point("Qwen3-0.6B", 1, 2, 1024), Point("Qwen3-0.6B", 2, 2, 2048, lora_rank=8, vocabulary=1024)],
    ids=["all weights", "adapters"],
)
def test_the_forecast_is_what_the_tracker_sees(point):
    from tools.check_memory import tracked

    setup = setup_of(point)
    measured, parts = tracked.measure(point, to_config(setup.architecture))
    assert measured == parts["Total"]
    assert (1 - TOO_LOW) * measured <= peak(setup).size <= (1 + MOST_OFF) * measured
