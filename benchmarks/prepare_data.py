"""Speed and memory of data preparation against its peers, on one generated data set, in one run.

    python benchmarks/prepare_data.py [--rows 1000000] [--only prepare,near,pandas,datasets,data_juicer]

Every contender reads the same JSON lines, drops exact duplicates of the normalised text, splits by prompt and writes
both sides; prepare also detects formats, finds answers, counts, hashes and makes its card. Each runs in a process of
its own; memory is the largest sum over all its processes of their proportional set sizes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
PEERS = Path(__file__).parent / "prepare_peers.py"
SAMPLE_SECONDS = 0.2
EXACT_SHARE, NEAR_SHARE = 0.04, 0.005

_ENGLISH = (
    "A farmer has {a} baskets with {b} apples in each, and sells {c} of them at the market in {town} on {day}. "
    "How many apples are left when the market closes? Explain each step of the way before the final answer."
)
_CHINESE = (
    "{town}的农场有{a}筐苹果,每筐{b}个,{day}在集市上卖掉了{c}个。"
    "请问集市结束时还剩下多少个苹果?请先写出每一步的推理,再给出最后的答案。"
)
_SOLVED = (
    "There are {a} times {b} apples, that is {ab}. On {day} {c} are sold in {town}, so {ab} minus {c} are left. "
    "We check the sum once more: {left} plus {c} is {ab}. So the final answer is \\boxed{{{left}}}."
)
_SOLVED_ZH = (
    "一共有{a}乘{b}即{ab}个苹果。{day}卖掉{c}个,所以剩下{ab}减{c}个。"
    "验算:{left}加{c}等于{ab}。最后的答案是\\boxed{{{left}}}。"
)
_FREE = "Apples keep best in a cool and dark place near {town}; on {day} it is worth turning them, {a} at a time. " * 2
_TOWNS = [
    f"{first}{second}" for first in ("North", "South", "New", "Old", "Great") for second in ("field", "ford", "ham")
]
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def generate(folder: Path, rows: int) -> int:
    """Write `rows` records in four files and return their bytes: 30% Chinese, 20% free text, some duplicates, exact and
    near."""
    words = random.Random(1)
    total = 0
    kept: list[str] = []
    per_file = -(-rows // 4)
    for part in range(4):
        with open(folder / f"part-{part}.jsonl", "w", encoding="utf-8") as file:
            for number in range(per_file):
                if kept and words.random() < EXACT_SHARE + NEAR_SHARE:
                    line = words.choice(kept)
                    if words.random() < NEAR_SHARE / (EXACT_SHARE + NEAR_SHARE):
                        line = line.replace("once more", "yet again").replace("验算", "再验算")
                else:
                    line = _record(words, part * per_file + number)
                    if len(kept) < 20_000:
                        kept.append(line)
                total += file.write(line)
    return total


def _record(words: random.Random, number: int) -> str:
    a, b = words.randint(2, 9999), words.randint(2, 9999)
    c = words.randint(1, a * b)
    values = {
        "a": a,
        "b": b,
        "c": c,
        "ab": a * b,
        "left": a * b - c,
        "town": words.choice(_TOWNS),
        "day": words.choice(_DAYS),
    }
    kind = words.random()
    question, answer = (_CHINESE, _SOLVED_ZH) if kind < 0.3 else (_ENGLISH, _FREE if kind > 0.8 else _SOLVED)
    row = {"prompt": question.format(**values), "response": answer.format(**values)}
    return json.dumps(row, ensure_ascii=False) + "\n"


def measure(command: list[str]) -> tuple[float, int, str]:
    """Seconds, peak bytes and output of a command."""
    began, peak = time.monotonic(), 0
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    tree = psutil.Process(child.pid)
    while child.poll() is None:
        peak = max(peak, _pss(tree))
        time.sleep(SAMPLE_SECONDS)
    seconds = time.monotonic() - began
    said = child.stdout.read() if child.stdout else ""
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{said}")
    return seconds, peak, said


def _pss(tree: psutil.Process) -> int:
    total = 0
    try:
        for process in [tree, *tree.children(recursive=True)]:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
    except psutil.Error:
        pass
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", default="prepare,near,pandas,datasets,data_juicer")
    parser.add_argument("--repeat", type=int, default=1)
    asked = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="chord-bench-"))
    try:
        _compare(place, asked.rows, asked.only.split(","), asked.repeat)
    finally:
        shutil.rmtree(place)


def _compare(place: Path, rows: int, contenders: list[str], repeat: int) -> None:
    data = place / "raw"
    data.mkdir()
    size = generate(data, rows)
    print(f"{rows:,} records, {size / rows:.0f} characters each on average")
    prepare = [sys.executable, "-m", "chord_exp.prepare", "--input-dir", str(data), "--out"]
    commands = {
        "prepare": [*prepare, str(place / "out" / "exact")],
        "near": [*prepare, str(place / "out" / "near"), "--near-dedup"],
        **{
            name: [sys.executable, str(PEERS), name, str(data), str(place / "out" / name)]
            for name in ("pandas", "datasets")
        },
        "data_juicer": [sys.executable, str(PEERS), "data_juicer", str(data), str(place / "out" / "data_juicer")],
    }
    fastest: dict[str, float] = {}
    for name in contenders:
        if name == "data_juicer" and importlib.util.find_spec("data_juicer") is None:
            print("data_juicer   not installed (pip install py-data-juicer in an environment of its own)")
            continue
        for _ in range(repeat):
            shutil.rmtree(place / "out", ignore_errors=True)
            seconds, peak, _ = measure(commands[name])
            fastest[name] = min(seconds, fastest.get(name, seconds))
            print(
                f"{name:<12} {rows / seconds:>9,.0f} records/s  {seconds:6.1f} s  peak {peak / 1e6:6.0f} MB", flush=True
            )
    for name, seconds in fastest.items():
        if name != "prepare" and "prepare" in fastest:
            print(f"prepare takes {fastest['prepare'] / seconds:.2f} times the time of {name}")


if __name__ == "__main__":
    main()
