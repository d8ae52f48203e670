"""Writes the sample data set `sft_data/`: 2,000 rows in the four formats that `chord_exp.prepare` reads.

    python -m tools.tiny.make_data --out sft_data

Most rows are word problems whose response ends in `\\boxed{N}`, which a rule can score; a few are free-text
questions, which only the SFT side can use. Half of the rows are English, half Chinese; all prompts differ.
The same seed gives the same bytes.
"""

# ruff: noqa: RUF001  (full-width punctuation is right in Chinese)

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from tools.tiny.word_problems import SAMPLE_TEMPLATES, Problem, draw_problem

SEED = 20250811
PROBLEMS = 1940

FREE_TEXT: tuple[tuple[str, str, str, str], ...] = (
    ("a spoon", "eating soup", "勺子", "喝汤"),
    ("a knife", "cutting bread", "刀", "切面包"),
    ("a cup", "drinking tea", "杯子", "喝茶"),
    ("a pen", "writing letters", "笔", "写信"),
    ("a brush", "painting walls", "刷子", "刷墙"),
    ("a lamp", "lighting a room", "灯", "照亮房间"),
    ("a clock", "telling the time", "钟", "看时间"),
    ("a map", "finding the way", "地图", "认路"),
    ("a broom", "sweeping floors", "扫帚", "扫地"),
    ("a key", "opening a door", "钥匙", "开门"),
    ("a boat", "crossing a river", "船", "过河"),
    ("a bell", "calling people", "铃", "叫人"),
    ("a bed", "sleeping at night", "床", "睡觉"),
    ("a coat", "keeping warm", "外套", "保暖"),
    ("a towel", "drying hands", "毛巾", "擦手"),
    ("a needle", "sewing cloth", "针", "缝衣服"),
    ("a hammer", "driving nails", "锤子", "钉钉子"),
    ("a ladder", "climbing up", "梯子", "爬高"),
    ("a net", "catching fish", "渔网", "捕鱼"),
    ("a kite", "playing in the wind", "风筝", "在风里玩"),
    ("a drum", "keeping the beat", "鼓", "打拍子"),
    ("a camera", "taking pictures", "相机", "拍照"),
    ("a bridge", "crossing water", "桥", "过水"),
    ("a tent", "camping outside", "帐篷", "露营"),
    ("a scale", "weighing things", "秤", "称重"),
    ("a mirror", "seeing oneself", "镜子", "照自己"),
    ("a comb", "tidying hair", "梳子", "梳头"),
    ("a stamp", "sending a letter", "邮票", "寄信"),
    ("a basket", "carrying fruit", "篮子", "装水果"),
    ("a wheel", "moving a cart", "轮子", "推车"),
)
"""Thing and use, in English and in Chinese: two free-text rows each."""

Row = dict[str, object]
Format = Callable[[str, str], Row]

FORMATS: dict[str, Format] = {
    "prompt_response.json": lambda query, reply: {"prompt": query, "response": reply},
    "messages.jsonl": lambda query, reply: {
        "messages": [{"role": "user", "content": query}, {"role": "assistant", "content": reply}]
    },
    "question_answer.json": lambda query, reply: {"question": query, "answer": reply},
    "input_output.jsonl": lambda query, reply: {"input": query, "output": reply},
}
"""File name and row format; a .json file holds one array, a .jsonl file one object a line."""


def sample_problems(count: int, seed: int) -> list[Problem]:
    """`count` word problems of the sample family, no prompt twice."""
    rng = random.Random(seed)
    by_prompt: dict[str, Problem] = {}
    while len(by_prompt) < count:
        problem = draw_problem(SAMPLE_TEMPLATES, rng)
        by_prompt.setdefault(problem.prompt, problem)
    return list(by_prompt.values())


def free_text_pairs() -> Iterator[tuple[str, str]]:
    """Questions with a short answer in words, which no rule can score."""
    for thing, use, thing_zh, use_zh in FREE_TEXT:
        yield f"What is {thing} for?", f"It is for {use}."
        yield f"{thing_zh}有什么用？", f"用来{use_zh}。"


def sample_pairs(seed: int = SEED) -> list[tuple[str, str]]:
    """Every (prompt, response) of the sample, in the order in which the files are filled."""
    pairs = [(problem.prompt, problem.response) for problem in sample_problems(PROBLEMS, seed)]
    pairs.extend(free_text_pairs())
    random.Random(seed + 1).shuffle(pairs)
    return pairs


def sample_files(seed: int = SEED) -> dict[str, bytes]:
    """Content of every file of the sample, UTF-8, keyed by file name; rows go round the formats in turn."""
    pairs = sample_pairs(seed)
    files: dict[str, bytes] = {}
    for index, (name, row_of) in enumerate(FORMATS.items()):
        lines = [json.dumps(row_of(*pair), ensure_ascii=False) for pair in pairs[index :: len(FORMATS)]]
        text = "[\n" + ",\n".join(lines) + "\n]\n" if name.endswith(".json") else "\n".join(lines) + "\n"
        files[name] = text.encode()
    return files


def write_sample(out: Path, seed: int = SEED) -> None:
    """Writes the sample's files into the folder `out`, which is made when missing."""
    out.mkdir(parents=True, exist_ok=True)
    for name, content in sample_files(seed).items():
        (out / name).write_bytes(content)


def main() -> None:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description="Write the sample data set.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    write_sample(arguments.out, arguments.seed)
    print(f"{PROBLEMS} word problems and {2 * len(FREE_TEXT)} free-text questions in {arguments.out}")


if __name__ == "__main__":
    main()
