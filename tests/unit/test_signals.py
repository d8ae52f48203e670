"""Stop requests."""

from __future__ import annotations

import os
import signal

import pytest

from chord_exp.utils.signals import collect_stop_signals


@pytest.fixture
def hang_up_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


def test_signals_are_collected_and_then_handled_as_before():
    before = signal.getsignal(signal.SIGTERM)
    with collect_stop_signals() as received:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert received == [signal.SIGTERM, signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_that_nohup_has_ignored_stays_ignored(hang_up_ignored):
    with collect_stop_signals() as received:
        os.kill(os.getpid(), signal.SIGHUP)
    assert received == []
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
