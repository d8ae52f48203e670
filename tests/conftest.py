"""For all tests: Trinity imports without vLLM, and no test is too slow."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from chord_exp.engine.vllm_stub import install

install()
# no example is too slow on a busy machine
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
