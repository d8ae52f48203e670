"""Writes the data of the local study (docs/study.md): a task of two parts, of which the experts know one.

    python -m tools.study.make_data --out outputs/study/data

*Two numbers* (`rewarded.jsonl`): questions with a checkable answer and no expert. The tiny model answers some of them
already, in its own style, so that rewards have something to work with; half of the sentences it has seen, half it has
not. *Three numbers* (`experts.jsonl`): questions that take two calculations. The tiny model has never made two in one
answer, so that it hardly ever earns a reward there, and the experts' answers are written in another style than its own.
All prompts differ, half of them are Chinese, and the same seed gives the same bytes.
"""

# ruff: noqa: RUF001  (full-width punctuation is right in Chinese)

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.tiny.word_problems import (
    BASE_TEMPLATES,
    ITEMS,
    LARGEST_NUMBER,
    NAMES,
    SAMPLE_TEMPLATES,
    Problem,
    Template,
    draw_problem,
    evaluate,
)

SEED = 2604
REWARDED, EXPERTS = "rewarded.jsonl", "experts.jsonl"
ROWS = {REWARDED: 900, EXPERTS: 900}

THREE_NUMBERS: tuple[Template, ...] = (
    Template("en", "{name} has {a} {item}, buys {b} more and gives away {c}. How many are left?", "a+b-c"),
    Template("en", "Of {a} {item} in a box {b} are eaten and {c} added. How many are there now?", "a-b+c"),
    Template("en", "{name} has {a} {item}, {other} has {b} and Kim has {c}. How many are there in all?", "a+b+c"),
    Template("zh", "{name}有{a}{unit}{item}，又买了{b}{unit}，送出{c}{unit}，还剩多少{unit}？", "a+b-c"),
    Template("zh", "盒子里有{a}{unit}{item}，吃了{b}{unit}，又放进{c}{unit}，现在有多少{unit}？", "a-b+c"),
    Template("zh", "{name}有{a}{unit}{item}，{other}有{b}{unit}，小华有{c}{unit}，合起来是多少{unit}？", "a+b+c"),
)


def expert_response(language: str, formula: str, numbers: dict[str, int]) -> str:
    """The expert's answer: both calculations in words, where the tiny model writes one bare calculation.

    Args:
        formula: of the letters a, b and c, such as "a+b-c".
    """
    first = f"{numbers['a']}{formula[1]}{numbers['b']}"
    between = evaluate(first)
    second = f"{between}{formula[3]}{numbers['c']}"
    result = evaluate(second)
    if language == "zh":
        return f"先算{first}={between}，再算{second}={result}。答案是 \\boxed{{{result}}}"
    return f"First {first}={between}, then {second}={result}. The answer is \\boxed{{{result}}}"


def draw_three(rng: random.Random) -> Problem:
    """One question of three numbers; each of its two calculations is one that the tiny model knows by itself."""
    template = rng.choice(THREE_NUMBERS)
    while True:
        numbers = {letter: rng.randint(2, LARGEST_NUMBER) for letter in "abc"}
        between = evaluate(f"{numbers['a']}{template.formula[1]}{numbers['b']}")
        if 2 <= between <= LARGEST_NUMBER and evaluate(f"{between}{template.formula[3]}{numbers['c']}") >= 1:
            break
    unit, item = rng.choice(ITEMS[template.language])
    name, other = rng.sample(NAMES[template.language], 2)
    prompt = template.text.format(name=name, other=other, item=item, unit=unit, **numbers)
    return Problem(template.language, prompt, expert_response(template.language, template.formula, numbers))


def draw_two(rng: random.Random) -> Problem:
    """One question of two numbers, in a sentence that the tiny model has seen or one that it has not."""
    return draw_problem(rng.choice((BASE_TEMPLATES, SAMPLE_TEMPLATES)), rng)


def distinct(draw: Callable[[random.Random], Problem], count: int, rng: random.Random) -> Sequence[Problem]:
    """`count` questions, no prompt twice."""
    found: dict[str, Problem] = {}
    while len(found) < count:
        problem = draw(rng)
        found.setdefault(problem.prompt, problem)
    return list(found.values())


def answer_of(problem: Problem) -> str:
    """The number in the box."""
    return problem.response.rpartition("{")[2].rstrip("}")


def study_files(seed: int = SEED) -> dict[str, bytes]:
    """Content of every file, UTF-8, by name."""
    rng = random.Random(seed)
    rewarded = [
        {"prompt": problem.prompt, "ground_truth": answer_of(problem)}
        for problem in distinct(draw_two, ROWS[REWARDED], rng)
    ]
    experts = [
        {"prompt": problem.prompt, "response": problem.response} for problem in distinct(draw_three, ROWS[EXPERTS], rng)
    ]
    rows = {REWARDED: rewarded, EXPERTS: experts}
    return {
        name: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines).encode()
        for name, lines in rows.items()
    }


def write_data(out: Path, seed: int = SEED) -> None:
    """Write the files into the folder `out`, which is made when missing."""
    out.mkdir(parents=True, exist_ok=True)
    for name, content in study_files(seed).items():
        (out / name).write_bytes(content)


def main() -> None:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description="Write the data of the local study.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    write_data(arguments.out, arguments.seed)
    print(", ".join(f"{count} rows in {arguments.out / name}" for name, count in ROWS.items()))


if __name__ == "__main__":
    main()
