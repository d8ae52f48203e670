"""Writes the data of the local study (docs/study.md): a task of two parts, of which the experts know one.

    python -m tools.study.make_data --out outputs/study/data

*Two numbers* (`rewarded.jsonl`): questions with a checkable answer and no expert. The tiny model answers some of them
already, in its own style, so that rewards have something to work with; half of the sentences it has seen, half it has
not. *A number in words* (`experts.jsonl`): questions with "a dozen" or "half a dozen" in place of one number. The tiny
model knows the calculation and not what these words stand for, so that it hardly ever earns a reward there; the
experts' answers say it, in another style than the model's own.

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
    draw_problem,
    evaluate,
)

SEED = 2604
REWARDED, EXPERTS = "rewarded.jsonl", "experts.jsonl"
ROWS = {REWARDED: 900, EXPERTS: 900}

WORDS: dict[str, dict[str, int]] = {"en": {"a dozen": 12, "half a dozen": 6}, "zh": {"一打": 12, "半打": 6}}
"""What the experts know: words for numbers, by language."""
IN_WORDS: tuple[tuple[str, str, str], ...] = (
    ("en", "+", "{name} has {a} {item} and gets {word} more. How many {item} does {name} have?"),
    ("en", "-", "Of {a} {item} that {name} has, {word} are sold. How many are left?"),
    ("zh", "+", "{name}有{a}{unit}{item}，又得到{word}，有多少{unit}{item}？"),
    ("zh", "-", "{name}的{a}{unit}{item}卖掉{word}，还剩多少{unit}？"),
)
"""Language, what to do with the two numbers, and the question."""


def expert_response(language: str, word: str, calculation: str) -> str:
    """The expert's answer, in words, where the tiny model writes one bare calculation such as "8+12"."""
    number, result = WORDS[language][word], evaluate(calculation)
    if language == "zh":
        return f"{word}={number}，{calculation}={result} \\boxed{{{result}}}"
    return f"{word}={number}, {calculation}={result} \\boxed{{{result}}}"


def draw_in_words(rng: random.Random) -> Problem:
    """One question with a number in words; its calculation is one that the tiny model knows."""
    language, sign, text = rng.choice(IN_WORDS)
    word = rng.choice(list(WORDS[language]))
    while True:
        number = rng.randint(2, LARGEST_NUMBER)
        calculation = f"{number}{sign}{WORDS[language][word]}"
        if evaluate(calculation) >= 1:
            break
    unit, item = rng.choice(ITEMS[language])
    prompt = text.format(name=rng.choice(NAMES[language]), item=item, unit=unit, word=word, a=number)
    return Problem(language, prompt, expert_response(language, word, calculation))


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
    asked = distinct(draw_two, ROWS[REWARDED], rng)
    rewarded = [{"prompt": problem.prompt, "ground_truth": answer_of(problem)} for problem in asked]
    answered = distinct(draw_in_words, ROWS[EXPERTS], rng)
    experts = [{"prompt": problem.prompt, "response": problem.response} for problem in answered]
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
