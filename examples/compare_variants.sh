#!/usr/bin/env bash
# CHORD against its two ends, pure GRPO and pure SFT: same data, same steps, same seed; a table of held-out accuracy.
#   bash examples/compare_variants.sh [STEPS] [VARIANTS]
set -euo pipefail
steps=${1:-40} variants=${2:-mu,grpo,sft}

python -m chord_exp -m "variant=$variants" "total_steps=$steps" data.eval_rows=50 \
    mu_warmup_steps=0 "mu_decay_steps=$steps" hydra.sweep.dir=my_comparison
python - <<'PYTHON'
from pathlib import Path

from chord_exp.run_files import metrics

for folder in sorted(path.parent for path in Path("my_comparison").glob("*/metrics.jsonl")):
    held_out = metrics.series(metrics.read(folder / "metrics.jsonl"), "eval/eval/accuracy/mean@1")
    first, last = held_out[min(held_out)], held_out[max(held_out)]
    print(f"{folder.name:<12} held-out accuracy {first:.0%} -> {last:.0%}")
PYTHON
