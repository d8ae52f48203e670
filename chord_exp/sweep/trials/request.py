"""From a composed experiment to a request for a trial, with everything that it will take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from chord_exp.actions import check_without_data, launch_spec
from chord_exp.config.composer import ComposedExperiment
from chord_exp.data_facts import prepare_data
from chord_exp.errors import ConfigError
from chord_exp.experiment.spec import DataFacts
from chord_exp.sweep.scheduling.trial import TrialRequest
from chord_exp.sweep.trials.footprint import footprint_of


class TrialRequests:
    """Makes requests of experiments; data that many share is prepared once."""

    def __init__(self, cpus: float | None = None, memory: float | None = None) -> None:
        """
        Args:
            cpus, memory: of every trial, in place of the estimates.
        """
        self._cpus, self._memory = cpus, memory
        self._facts: dict[str, DataFacts] = {}

    def make(self, experiment: ComposedExperiment, number: int, label: str) -> TrialRequest:
        """Prepare an experiment's data where needed, and ask for a trial of it.

        Args:
            number: place in the sweep, from 0.
            label: what sets the trial apart.

        Raises:
            ConfigError, DataError: it cannot be run.
        """
        spec = experiment.spec
        key = repr((spec.data, spec.model))
        if key not in self._facts:
            self._facts[key] = prepare_data(spec, before=partial(check_without_data, experiment))
        return TrialRequest(
            number=number,
            label=label,
            run_dir=experiment.run_dir,
            footprint=footprint_of(spec, self._cpus, self._memory),
            launch=launch_spec(experiment, self._facts[key], experiment.run_dir),
        )


def refuse_equal(requests: Iterable[TrialRequest]) -> None:
    """Refuse a sweep in which two trials differ in their words and not in what is run: one wins over the other.

    Raises:
        ConfigError: it is one.
    """
    seen: dict[str, TrialRequest] = {}
    for request in requests:
        # its folder is all that may set it apart
        run = replace(request.launch, overrides=[], keepsakes={}, warnings=[])
        first = seen.setdefault(repr(run).replace(str(request.run_dir.absolute()), ""), request)
        if first is request:
            continue
        words = [set(one.launch.overrides) for one in (first, request)]
        raise ConfigError(
            f"trials {first.run_dir.name} and {request.run_dir.name} would be the same run: "
            f"{' '.join(sorted(words[0] - words[1]))} and {' '.join(sorted(words[1] - words[0]))} change nothing "
            f"beside {' '.join(sorted(words[0] & words[1])) or 'the defaults'}",
            "sweep",
            "sweep what the others leave free; a value on the command line wins over what method= or mu_schedule= sets",
        )
