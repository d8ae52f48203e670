"""For all tests: Trinity's models can be imported without vLLM."""

from chord_exp.engine.vllm_standin import install

install()
