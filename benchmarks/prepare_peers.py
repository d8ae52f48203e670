"""The same preparation as people write it with pandas, with datasets.map and filter, and with Data-Juicer.

python benchmarks/prepare_peers.py pandas|datasets|data_juicer INPUT OUT
"""

from __future__ import annotations

import hashlib
import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

EXPERT_RATIO = 0.25


def normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split()).casefold()


def digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def side_of(prompt: str) -> str:
    return "sft" if int(digest(prompt)[:8], 16) < EXPERT_RATIO * (1 << 32) else "rl"


def with_pandas(source: Path, out: Path) -> None:
    import pandas as pd

    rows = pd.concat(pd.read_json(file, lines=True) for file in sorted(source.glob("*.jsonl")))
    rows["normal"] = rows["prompt"].map(normal)
    rows = rows.loc[~(rows["normal"] + "\x1f" + rows["response"].map(normal)).duplicated()]
    rows["side"] = rows["normal"].map(side_of)
    for side, part in rows.groupby("side"):
        part[["prompt", "response"]].to_json(out / f"{side}.jsonl", orient="records", lines=True, force_ascii=False)


def with_datasets(source: Path, out: Path) -> None:
    from datasets import load_dataset

    seen: set[str] = set()

    def mark(row: dict[str, Any]) -> dict[str, Any]:
        prompt = normal(row["prompt"])
        return {"digest": digest(prompt + "\x1f" + normal(row["response"])), "side": side_of(prompt)}

    def first(row: dict[str, Any]) -> bool:
        new = row["digest"] not in seen
        seen.add(row["digest"])
        return new

    files = [str(file) for file in sorted(source.glob("*.jsonl"))]
    rows = load_dataset("json", data_files=files, split="train", cache_dir=str(out / "cache"))
    # both cores for the map; who is first must be decided in one process
    rows = rows.map(mark, num_proc=2).filter(first)
    for side in ("sft", "rl"):
        part = rows.filter(lambda row, side=side: row["side"] == side, num_proc=2)
        part.select_columns(["prompt", "response"]).to_json(out / f"{side}.jsonl", force_ascii=False)


def with_data_juicer(source: Path, out: Path) -> None:
    from data_juicer.config import init_configs
    from data_juicer.core import DefaultExecutor

    merged = out / "merged.jsonl"
    with merged.open("w", encoding="utf-8") as target:
        for file in sorted(source.glob("*.jsonl")):
            for line in file.open(encoding="utf-8"):
                row = json.loads(line)
                target.write(json.dumps({"text": f"{row['prompt']}\n{row['response']}"}, ensure_ascii=False) + "\n")
    config = out / "config.yaml"
    config.write_text(
        f"project_name: bench\ndataset_path: {merged}\nexport_path: {out / 'out.jsonl'}\nnp: 2\n"
        "process:\n  - document_deduplicator:\n      lowercase: true\n"
    )
    DefaultExecutor(init_configs(["--config", str(config)])).run()


if __name__ == "__main__":
    contender, source, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    out.mkdir(parents=True)
    {"pandas": with_pandas, "datasets": with_datasets, "data_juicer": with_data_juicer}[contender](source, out)
