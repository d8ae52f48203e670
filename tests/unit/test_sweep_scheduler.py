"""The scheduler on a simulated clock: who may start, who waits, who is tried again."""

from __future__ import annotations

import errno
import heapq
import os
from pathlib import Path

import pytest
from fake_machines import FakeMachines, classify_by_code, run_to_end
from hypothesis import given, settings
from hypothesis import strategies as st

from chord_exp.errors import RunFailed
from chord_exp.sweep.scheduling.backend import Exit
from chord_exp.sweep.scheduling.queue import BACKFILL, STRICT
from chord_exp.sweep.scheduling.resources import Footprint, Node, ResourcePool
from chord_exp.sweep.scheduling.scheduler import GRACE, RECOUNT_SECONDS, STALL_SECONDS, Limits, Scheduler
from chord_exp.sweep.scheduling.trial import (
    FAILED,
    PRUNED,
    QUEUED,
    RUNNING,
    STARTING,
    STOPPED,
    STOPPING,
    SUCCEEDED,
    Trial,
)

EIGHT = [Node("a", 8, 64)]


def trial(number: int, gpus: int = 1, nodes: int = 1, state: str = QUEUED, attempt: int = 0) -> Trial:
    return Trial(number, "", Path(f"/sweep/{number}"), [], Footprint(gpus, 1.0, 0.0, nodes), {"": 1}, state, attempt)


def scheduler(backend: FakeMachines, limits: Limits | None = None) -> Scheduler:
    return Scheduler(backend, limits, classify=classify_by_code, save=lambda trial: None)


def fake_machines(nodes=EIGHT, seconds=lambda trial: 1.0, exit_of=lambda trial: Exit(0)) -> FakeMachines:
    return FakeMachines(nodes, seconds, exit_of)


def order_of(backend: FakeMachines) -> list[int]:
    return [number for number, _, _ in backend.starts]


footprints = st.tuples(st.sampled_from([0, 1, 2, 4, 8, 16]), st.floats(0.5, 30)).map(
    lambda drawn: (drawn[0], 2 if drawn[0] == 16 else 1, drawn[1])
)


@settings(max_examples=60)
@given(
    st.lists(footprints, min_size=1, max_size=40),
    st.sampled_from([STRICT, BACKFILL]),
    st.integers(0, 4),
    st.sampled_from([None, 16, 20]),
    st.sampled_from([None, 1, 3]),
)
def test_no_machine_is_overbooked_all_finish_and_none_starves(drawn, order, patience, max_gpus, max_concurrent):
    seconds = [length for _, _, length in drawn]
    trials = [trial(number, gpus, nodes) for number, (gpus, nodes, _) in enumerate(drawn)]
    backend = fake_machines([Node("a", 8, 64), Node("b", 8, 64)], lambda trial: seconds[trial.number])
    limits = Limits(max_gpus, max_concurrent, 0, order, patience)
    made = scheduler(backend, limits)

    def check() -> None:
        running = [one for one in trials if one.state in (STARTING, RUNNING)]
        assert sum(one.footprint.gpus for one in running) <= (max_gpus or 16)
        assert max_concurrent is None or len(running) <= max_concurrent
        assert all(free.gpus >= 0 and free.cpus >= 0 for free in made.pool._free.values())

    run_to_end(made, trials, check)
    assert all(one.state == SUCCEEDED and one.attempt == 1 for one in trials)
    begun = {number: at for number, _, at in backend.starts}
    over = {number: at + seconds[number] for number, at in begun.items()}
    started = order_of(backend)
    for one in trials:
        turn = max([started.index(earlier.number) for earlier in trials[: one.number]], default=-1)
        passed = [later for later in started[turn + 1 : started.index(one.number)] if later > one.number]
        assert order != STRICT or not passed
        if len(passed) > patience:
            # since it was waited for, nothing has begun that it would have to wait for as well
            last = passed[patience - 1] if patience else started[turn]
            since = started[: started.index(last) + 1] if patience or turn >= 0 else []
            assert begun[one.number] <= max([over[number] for number in since], default=0.0) + 1e-6


def test_half_of_what_is_needed_is_never_held():
    backend = fake_machines([Node("a", 4, 64)])
    trials = [trial(number, 4) for number in range(3)]
    run_to_end(scheduler(backend), trials)
    assert [at for _, _, at in backend.starts] == [0.0, 1.0, 2.0]


def test_strict_order_waits_and_backfill_does_not():
    trials = [(0, 8), (1, 8), (2, 1)]
    for order, expected in ((STRICT, [0, 1, 2]), (BACKFILL, [0, 2, 1])):
        backend = fake_machines([Node("a", 9, 64)])
        run_to_end(scheduler(backend, Limits(order=order)), [trial(number, gpus) for number, gpus in trials])
        assert order_of(backend) == expected


def test_while_one_machine_is_kept_for_a_big_trial_the_others_go_on():
    # small trials end one by one on both machines: neither would ever be empty by itself
    big = 8
    backend = fake_machines([Node("a", 4, 64), Node("b", 4, 64)], lambda trial: 4.0 + trial.number % 3)
    run_to_end(
        scheduler(backend, Limits(patience=0)), [trial(number, 4 if number == big else 1) for number in range(40)]
    )
    begun = {number: at for number, _, at in backend.starts}
    assert begun[big] == 6.0, "when the last of the first eight ends"
    assert [number for number in range(big + 1, 40) if begun[number] < begun[big]], "the other machine was not idle"


def test_a_big_trial_is_not_starved_by_a_stream_of_small_ones():
    backend = fake_machines([Node("a", 4, 64)], lambda trial: 1.0 + trial.number / 100)
    trials = [trial(0, 1), trial(1, 4), *(trial(number, 1) for number in range(2, 40))]
    run_to_end(scheduler(backend, Limits(patience=5)), trials)
    assert order_of(backend).index(1) == 6


def test_whole_machines_are_given_whole_and_small_trials_fill_the_fullest():
    pool = ResourcePool([Node("a", 8, 64), Node("b", 8, 64)])
    assert pool.take(0, Footprint(2)) and pool.take(1, Footprint(2))
    assert pool.fits(Footprint(8)) and not pool.fits(Footprint(16, 2.0, 0.0, 2))
    pool.release(0)
    pool.release(1)
    assert pool.fits(Footprint(16, 2.0, 0.0, 2))


def test_a_machine_s_fault_is_tried_again_so_often_and_a_failure_never():
    faults = {0: [Exit(-9), Exit(0)], 1: [Exit(None, "node lost")] * 9, 2: [Exit(1)], 3: [Exit(2)]}
    backend = fake_machines(exit_of=lambda trial: faults[trial.number][trial.attempt - 1])
    trials = [trial(number) for number in range(4)]
    made = Scheduler(
        backend,
        Limits(retries=2),
        classify=lambda trial, left: classify_by_code(trial, Exit(None, "killed") if left.code == -9 else left),
        save=lambda trial: None,
    )
    run_to_end(made, trials)
    assert [one.state for one in trials] == [SUCCEEDED, FAILED, FAILED, FAILED]
    assert [one.attempt for one in trials] == [2, 3, 1, 1]
    assert trials[1].error == "node lost"


def test_a_fault_that_is_not_the_trial_s_does_not_use_up_its_retries():
    waits = [Exit(None, "no room", charge_retry=False)] * 5 + [Exit(0)]
    backend = fake_machines(exit_of=lambda trial: waits[trial.attempt - 1])
    (one,) = trials = [trial(0)]
    run_to_end(scheduler(backend, Limits(retries=0)), trials)
    assert one.state == SUCCEEDED and one.infra_failures == 0


def test_a_retried_trial_takes_its_old_place():
    backend = fake_machines(
        [Node("a", 1, 64)], exit_of=lambda trial: Exit(0 if trial.number or trial.attempt > 1 else None)
    )
    run_to_end(scheduler(backend), [trial(number) for number in range(3)])
    assert order_of(backend) == [0, 0, 1, 2]


def test_what_never_fits_is_refused_with_the_reason():
    with pytest.raises(RunFailed, match=r"takes 16 GPUs.*1 machine of 8 GPUs"):
        scheduler(fake_machines()).submit(trial(0, 16))
    with pytest.raises(RunFailed, match="max_gpus is 4"):
        scheduler(fake_machines(), Limits(max_gpus=4)).submit(trial(0, 8))


def test_ask_and_tell_with_pruning():
    backend = fake_machines([Node("a", 2, 64)], lambda trial: 100.0)
    made = scheduler(backend)
    first, second, third = (trial(number) for number in range(3))
    for one in (first, second, third):
        made.submit(one)
    running = [event.trial.number for event in made.poll() if event.after == RUNNING]
    assert running == [0, 1] and third.state == QUEUED and made.poll() == []
    made.stop(first, stops_as=PRUNED)
    made.poll()
    made.poll()
    assert first.state == PRUNED and third.state == RUNNING and second.state == RUNNING
    made.stop(second)
    made.stop(third, stops_as=PRUNED)
    made.poll()
    assert (second.state, third.state, made.idle) == (STOPPED, PRUNED, True)


def test_a_successor_finds_what_runs_finishes_the_rest_and_repeats_nothing():
    backend = fake_machines([Node("a", 1, 64)])
    trials = [trial(number) for number in range(4)]
    first = scheduler(backend)
    for one in trials:
        first.submit(one)
    first.poll()
    backend.wait(1)
    first.poll()
    assert [one.state for one in trials] == [SUCCEEDED, RUNNING, QUEUED, QUEUED]
    lost = trial(9, state=STARTING, attempt=1)
    successor = scheduler(backend)
    successor.adopt([*trials, lost])
    run_to_end(successor, [])
    assert all(one.state == SUCCEEDED for one in [*trials, lost])
    assert order_of(backend) == [0, 1, 2, 3, 9] and lost.attempt == 2 and lost.infra_failures == 0


def test_what_other_sweeps_hold_or_wait_for_is_left_to_them():
    backend = fake_machines()
    backend.external_footprints = [Footprint(6)]
    made = scheduler(backend)
    small, big = trial(1, 2), trial(0, 4)
    for one in (big, small):
        made.submit(one)
    made.poll()
    assert (big.state, small.state) == (QUEUED, RUNNING)
    backend.external_footprints = []
    backend._clock += 10
    made.poll()
    assert big.state == RUNNING


def test_trials_whose_machine_is_gone_for_good_fail_and_say_so():
    backend = fake_machines([Node("a", 8, 64), Node("b", 1, 8)])
    made = scheduler(backend)
    big = trial(0, 8)
    made.submit(big)
    backend._nodes = [Node("b", 1, 8)]
    backend._clock += 10
    made.poll()
    assert big.state == QUEUED
    backend._clock += STALL_SECONDS + 1
    made.poll()
    assert big.state == FAILED and "its machines are gone" in big.error


def test_a_trial_whose_machine_is_lost_after_hours_waits_for_it_to_come_back():
    backend = fake_machines(
        seconds=lambda trial: 2 * STALL_SECONDS, exit_of=lambda trial: Exit(None if trial.attempt == 1 else 0)
    )
    made = scheduler(backend)
    one = trial(0)
    made.submit(one)
    made.poll()
    backend._nodes = []
    backend.wait(1)  # to its end
    made.poll()
    assert one.state == QUEUED
    backend._clock += STALL_SECONDS - 1
    made.poll()
    assert one.state == QUEUED, "not before it has waited so long itself"
    backend._nodes = EIGHT
    backend._clock += RECOUNT_SECONDS
    made.poll()
    backend.wait(1)
    made.poll()
    assert (one.state, one.attempt) == (SUCCEEDED, 2)


def test_a_trial_that_has_run_before_and_whose_machine_stays_away_fails_and_says_so():
    backend = fake_machines(seconds=lambda trial: 2 * STALL_SECONDS, exit_of=lambda trial: Exit(None))
    made = scheduler(backend)
    one = trial(0)
    made.submit(one)
    made.poll()
    backend._nodes = []
    backend.wait(1)
    made.poll()
    assert one.state == QUEUED
    backend._clock += STALL_SECONDS + 1
    made.poll()
    assert one.state == FAILED and "its machines are gone" in one.error and made.idle


class FakeFailingStarts(FakeMachines):
    """No process can be started before a time."""

    until = 0.0

    def __init__(self, *given) -> None:
        super().__init__(*given)
        # starts that failed: trial, time
        self.refused: list[tuple[int, float]] = []

    def cannot_start(self) -> bool:
        return self.now() < self.until

    def start(self, trial: Trial) -> str:
        if self.cannot_start():
            self.refused.append((trial.number, self.now()))
            raise RunFailed("cannot start a process: Resource temporarily unavailable")
        return super().start(trial)


outages = st.lists(st.tuples(st.floats(0, 200), st.floats(1, 60)), max_size=4)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 4, 8]), st.floats(0.5, 90)), min_size=1, max_size=12),
    outages,
    outages,
    st.sets(st.tuples(st.integers(0, 11), st.integers(1, 3))),
)
def test_whatever_comes_and_goes_each_trial_ends_and_none_for_a_lost_machine(drawn, lost, failing, faults):
    """Machines that go away for a while, starts that fail for a while, attempts that end by a fault."""

    class FakeRough(FakeFailingStarts):
        def nodes(self) -> list[Node]:
            away = any(at <= self.now() < at + length for at, length in lost)
            return [Node("a", 8, 64)] if away else [Node("a", 8, 64), Node("b", 8, 64)]

        def cannot_start(self) -> bool:
            return any(at <= self.now() < at + length for at, length in failing)

    backend = FakeRough(
        [],
        lambda trial: drawn[trial.number][1],
        lambda trial: Exit(None if (trial.number, trial.attempt) in faults else 0),
    )
    trials = [trial(number, gpus) for number, (gpus, _) in enumerate(drawn)]
    made = scheduler(backend, Limits(retries=2))

    def check() -> None:
        running = [one for one in trials if one.state == RUNNING]
        assert len(running) == len(made.active) and sum(one.footprint.gpus for one in running) <= 16
        assert made.queued + len(running) + sum(one.state in (SUCCEEDED, FAILED) for one in trials) == len(trials)

    run_to_end(made, trials, check)
    for one in trials:
        assert one.attempt <= 3 and one.infra_failures <= 3
        assert (one.state == SUCCEEDED) == (one.infra_failures < one.attempt)
        assert "machines are gone" not in one.error
    for moment in {at for _, at in backend.refused}:
        assert sum(at == moment for _, at in backend.refused) == 1, "one try at a time"


def test_a_trial_that_is_submitted_after_a_long_pause_waits_for_its_machine_too():
    backend = fake_machines()
    made = scheduler(backend)
    backend._clock += STALL_SECONDS + 1
    made.poll()
    one = trial(0)
    made.submit(one)
    backend._nodes = []
    backend._clock += RECOUNT_SECONDS
    made.poll()
    assert one.state == QUEUED


@pytest.mark.parametrize("seconds", [1.0, 25.0])
def test_a_machine_that_cannot_start_a_process_for_a_while_costs_no_trial(seconds):
    backend = FakeFailingStarts(EIGHT, lambda trial: 1.0)
    backend.until = seconds
    trials = [trial(number) for number in range(5)]
    run_to_end(scheduler(backend, Limits(retries=2)), trials)
    assert [one.state for one in trials] == [SUCCEEDED] * 5
    times = [at for _, at in backend.refused]
    assert len(set(times)) == len(times) > 0, "one try at a time: the others would fail as well"


def test_a_start_that_always_fails_ends_each_trial_after_its_retries():
    backend = FakeFailingStarts(EIGHT, lambda trial: 1.0)
    backend.until = float("inf")
    trials = [trial(number) for number in range(2)]
    run_to_end(scheduler(backend, Limits(retries=1)), trials)
    assert [one.state for one in trials] == [FAILED] * 2 and [one.attempt for one in trials] == [2, 2]
    assert "temporarily unavailable" in trials[0].error


def test_machines_are_counted_again_while_nothing_waits():
    # who asks for trials one by one, when they fit, has nothing in the queue meanwhile
    backend = fake_machines()
    backend.external_footprints = [Footprint(8)]
    made = scheduler(backend)
    made.poll()
    assert not made.pool.fits(Footprint(1))
    backend.external_footprints = []
    backend._clock += RECOUNT_SECONDS
    made.poll()
    assert made.pool.fits(Footprint(8))
    backend._nodes = [*EIGHT, Node("b", 8, 64)]
    backend._clock += RECOUNT_SECONDS
    made.poll()
    assert made.pool.fits(Footprint(16, 2.0, 0.0, 2))


def test_a_trial_that_was_being_stopped_gets_a_deadline_from_the_successor():
    class FakeDeaf(FakeMachines):
        """Its trials end only by force."""

        deadlines: dict[int, float]

        def attach(self, trial: Trial) -> bool:
            return True

        def stop(self, trial: Trial, grace: float) -> None:
            self.deadlines[trial.number] = self.now() + grace
            heapq.heappush(self._ends, (self.deadlines[trial.number], trial.number, trial.attempt))
            self._running[trial.number, trial.attempt] = Exit(130)

    backend = FakeDeaf(EIGHT, lambda trial: 1.0)
    backend.deadlines = {}
    stopping, running = trial(0, state=STOPPING, attempt=1), trial(1, state=RUNNING, attempt=1)
    stopping.stops_as = PRUNED
    made = scheduler(backend)
    made.adopt([stopping, running])
    assert backend.deadlines == {0: GRACE}
    backend.wait(1)
    made.poll()
    assert stopping.state == PRUNED


def test_a_state_that_cannot_be_saved_ends_the_sweep_in_words_and_starts_nothing():
    def full(trial: Trial) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    backend = fake_machines()
    made = Scheduler(backend, classify=classify_by_code, save=full)
    made.submit(trial(0))
    with pytest.raises(RunFailed, match=r"state of trial 0: No space left on device \[/sweep/0/trial.json\]"):
        made.poll()
    assert not backend.starts


def test_every_state_is_saved_before_the_trial_is_started():
    saved: list[tuple[int, str]] = []

    class FakeStrict(FakeMachines):
        def start(self, trial: Trial) -> str:
            assert saved[-1] == (trial.number, STARTING)
            return super().start(trial)

    backend = FakeStrict(EIGHT, lambda trial: 1.0)
    made = Scheduler(backend, classify=classify_by_code, save=lambda trial: saved.append((trial.number, trial.state)))
    run_to_end(made, [trial(0)])
    assert [state for _, state in saved] == [STARTING, RUNNING, SUCCEEDED]
