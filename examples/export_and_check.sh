#!/usr/bin/env bash
# A configuration for `trinity run` on a cluster without chord_exp: export it, check it, and see a wrong edit refused.
#   bash examples/export_and_check.sh
set -euo pipefail

python -m chord_exp action=export export_to=my_config.yaml cluster=gpu_8 model=qwen3_4b mu_schedule=seed_full \
    total_steps=500 loss=stock
python -m chord_exp.check --verl new my_config.yaml

echo "now with twice the rollouts a prompt, and nothing else changed:"
sed 's/repeat_times: 8$/repeat_times: 16/' my_config.yaml >my_wrong_config.yaml
if python -m chord_exp.check --verl new my_wrong_config.yaml; then
    echo "the check passed a wrong configuration" >&2
    exit 1
fi
