"""The local engine: Trinity's own loop, with transformers and torch in place of vLLM and verl, on a CPU or one GPU."""

from chord_exp.engine.vllm_stub import install

# before any module here imports Trinity's models
install()
