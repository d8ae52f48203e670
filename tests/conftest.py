"""For all tests: Trinity imports without vLLM, no test is too slow, and Ctrl-C means something."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

from chord_exp.engine.vllm_stub import install

install()
# no example is too slow on a busy machine
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # of a shell that started the tests in the background; what they press Ctrl-C on would ignore it, too, and wait
    signal.signal(signal.SIGINT, signal.default_int_handler)
