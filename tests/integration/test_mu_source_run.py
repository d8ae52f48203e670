"""A mu that follows from what was logged, in a whole run that is stopped and gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import finish

from chord_exp.plugins.mu_source import gac_mu
from chord_exp.run_files import metrics

GAC = [
    "mu_source=gac_estimate",
    "gac_alpha=0.4",
    "gac_beta=0.5",
    "phi=power",
    "data.test_rows=4",
    "data.eval_interval=2",
]


def test_mu_can_be_worked_out_from_the_metrics_and_a_resumed_run_goes_on_with_the_same_averages(tmp_path: Path) -> None:
    run, output = finish(tmp_path / "run", "total_steps=2", *GAC)
    assert run.process.returncode == 0, output
    run, output = finish(tmp_path / "run", "total_steps=4", "resume=true", *GAC)
    assert run.process.returncode == 0, output
    mus, averages = run.series(metrics.MU), None
    assert sorted(mus) == [1, 2, 3, 4]
    for step in range(1, 5):
        assert mus[step] == pytest.approx(0.4 if averages is None else gac_mu(0.4, *averages), rel=1e-5)
        seen = {key: run.series(f"actor/gac/{key}")[step] for key in ("disagreement", "nll", "advantage")}
        squares = {key: run.series(f"actor/gac/{key}_square")[step] for key in ("nll", "advantage")}
        now = [seen["disagreement"], *(squares[key] - seen[key] ** 2 for key in ("nll", "advantage"))]
        averages = [0.5 * old + 0.5 * new for old, new in zip(averages or now, now, strict=True)]
    # the test set is asked at the steps of the evaluation set
    asked = {key: sorted(run.series(f"eval/{key}/accuracy/mean@1")) for key in ("eval", "test")}
    assert asked["test"] == asked["eval"] and {0, 2, 4} <= set(asked["test"])
