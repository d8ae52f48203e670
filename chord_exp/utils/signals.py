"""Stop requests: signals collected instead of died of."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collect_stop_signals() -> Iterator[list[int]]:
    """Collect the signals that ask to stop (Ctrl-C, SIGTERM, a closed terminal) in the order they come.

    One that this process ignores stays ignored, as `nohup` wants it; one that code other than Python's handles is left.
    """
    received: list[int] = []
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, lambda got, _: received.append(got))
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
