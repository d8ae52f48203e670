#!/usr/bin/env bash
# Your own folder, from raw files to a trained model: look at the split, look at the plan, train, read the record.
#   bash examples/own_data.sh [DATA_FOLDER] [STEPS]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
data=${1:-$root/sft_data} steps=${2:-20}

python -m chord_exp.prepare --input-dir "$data" --expert-ratio 0.25 --eval-rows 50 --out my_prepared
settings=(data=prepared data.out=my_prepared "total_steps=$steps" mu_schedule=constant mu_peak=0.3)
python -m chord_exp action=plan "${settings[@]}"
python -m chord_exp "${settings[@]}" name=own_data hydra.run.dir=my_run
python - <<'PYTHON'
import json

record = json.load(open("my_run/run.json"))
print(f"{record['status']}: {record['completed_steps']} of {record['planned_steps']} steps")
PYTHON
