"""Arithmetic problems in English and Chinese, drawn from templates.

Two disjoint families share one answer format, `3+4=7 \\boxed{7}`: the *sample* family is what `sft_data/`
holds and an experiment learns, the *base* family is what the tiny base model has already seen. They differ in
every sentence, so an experiment starts from a model that calculates but misreads most of the sample.
"""

# ruff: noqa: RUF001  (full-width punctuation is right in Chinese)

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

LARGEST_NUMBER = 19
"""Numbers in a problem are 2..19: a tiny model learns that table, and no English noun needs a singular."""


@dataclass(frozen=True)
class Template:
    """One way to put a calculation into words.

    Attributes:
        language: "en" or "zh".
        text: the question; may use {name}, {other}, {item}, its Chinese measure word {unit}, and the numbers.
        formula: sum or difference of the letters a and b, in the order in which the working shows them.
    """

    language: str
    text: str
    formula: str


@dataclass(frozen=True)
class Problem:
    """A question in a language, and its worked response, which ends in `\\boxed{N}`."""

    language: str
    prompt: str
    response: str


def _templates(language: str, *rows: tuple[str, str]) -> tuple[Template, ...]:
    """Templates of one language from (formula, text) rows."""
    return tuple(Template(language, text, formula) for formula, text in rows)


SAMPLE_TEMPLATES: tuple[Template, ...] = (
    *_templates(
        "en",
        ("a+b", "{name} has {a} {item} and buys {b} more. How many {item} does {name} have now?"),
        ("a+b", "There are {a} {item} in a box and {b} in a bag. How many {item} are there in all?"),
        ("a+b", "{name} ate {a} {item} and has {b} left. How many {item} were there at first?"),
        ("a+b", "{name} has {a} {item}, {b} fewer than {other}. How many {item} does {other} have?"),
        ("a-b", "{name} has {a} {item}, {b} more than {other}. How many {item} does {other} have?"),
        ("a-b", "{name} gave away {b} of {a} {item}. How many {item} are left?"),
        ("a-b", "{name} needs {a} {item} but has only {b}. How many {item} are missing?"),
    ),
    *_templates(
        "zh",
        ("a+b", "{name}有{a}{unit}{item}，又买了{b}{unit}，现在有多少{unit}{item}？"),
        ("a+b", "盒子里有{a}{unit}{item}，袋子里有{b}{unit}，合起来是多少{unit}？"),
        ("a+b", "{name}吃了{a}{unit}{item}，还剩{b}{unit}，原来有多少{unit}？"),
        ("a+b", "{name}有{a}{unit}{item}，比{other}少{b}{unit}，{other}有多少{unit}？"),
        ("a-b", "{name}有{a}{unit}{item}，比{other}多{b}{unit}，{other}有多少{unit}？"),
        ("a-b", "{name}送出{b}{unit}{item}，送之前有{a}{unit}，还剩多少{unit}？"),
        ("a-b", "{name}需要{a}{unit}{item}，现在只有{b}{unit}，还差多少{unit}？"),
    ),
)

BASE_TEMPLATES: tuple[Template, ...] = (
    *_templates(
        "en",
        ("a+b", "A bus carries {a} people. Then {b} people get on. How many people ride the bus?"),
        ("a+b", "{name} is {a} years old. How old will {name} be in {b} years?"),
        ("a-b", "A rope is {a} m long. We cut off {b} m. How long is the rope?"),
        ("a-b", "It was {a} degrees and got {b} degrees colder. How warm is it?"),
        ("a-b", "A trip takes {a} days. After {b} days, how many days remain?"),
        ("a+b", "A plant is {a} cm tall and grows {b} cm. How tall is it?"),
        ("a-b", "We drank {b} of {a} litres of water. How much water remains?"),
        ("a+b", "{name} sees {a} {item} and then {b} others. How many {item} is that?"),
        ("a+b", "A shop sells {a} {item} today and {b} tomorrow. What is the total?"),
        ("a-b", "{name} and {other} share {a} {item}. {name} takes {b}. How many does {other} get?"),
    ),
    *_templates(
        "zh",
        ("a+b", "车上坐着{a}人，上来{b}人，车上共几人？"),
        ("a+b", "{name}今年{a}岁，过{b}年是几岁？"),
        ("a-b", "绳子长{a}米，剪去{b}米，绳子长几米？"),
        ("a-b", "气温{a}度，下降{b}度，气温是几度？"),
        ("a-b", "路程要{a}天，走了{b}天，剩下几天？"),
        ("a+b", "小树高{a}厘米，长高{b}厘米，小树高几厘米？"),
        ("a-b", "用了{b}升水，用之前有{a}升，剩几升水？"),
        ("a+b", "{name}看见{a}{unit}{item}，后来再看见{b}{unit}，共计几{unit}？"),
        ("a+b", "商店上午卖{a}{unit}{item}，下午卖{b}{unit}，全天卖几{unit}？"),
        ("a-b", "{name}和{other}分{a}{unit}{item}，{name}拿{b}{unit}，{other}拿几{unit}？"),
    ),
)

NAMES = {
    "en": ("Tom", "Amy", "Ben", "Lucy", "Jack", "Emma", "Leo", "Nina"),
    "zh": ("小明", "小红", "小刚", "小丽", "王老师", "李华", "爷爷", "妹妹"),
}
ITEMS: dict[str, tuple[tuple[str, str], ...]] = {
    "en": (
        ("", "apples"),
        ("", "pears"),
        ("", "eggs"),
        ("", "cakes"),
        ("", "nuts"),
        ("", "sweets"),
        ("", "plums"),
        ("", "figs"),
    ),
    "zh": (
        ("个", "苹果"),
        ("个", "梨"),
        ("个", "鸡蛋"),
        ("块", "蛋糕"),
        ("颗", "花生"),
        ("颗", "糖果"),
        ("个", "橘子"),
        ("块", "饼干"),
    ),
}
"""Measure word (none in English) and noun, by language."""


def evaluate(formula: str) -> int:
    """Value of a sum or difference of whole numbers such as "3+4-2"; ValueError if it is anything else."""
    if not re.fullmatch(r"\d+([+-]\d+)*", formula):
        raise ValueError(f"not a sum or difference of whole numbers: {formula!r}")
    return sum(int(term) for term in re.findall(r"[+-]?\d+", formula))


def worked_response(formula: str) -> str:
    """The response to a calculation: "3+4" gives "3+4=7 \\boxed{7}"."""
    value = evaluate(formula)
    return f"{formula}={value} \\boxed{{{value}}}"


def draw_numbers(formula: str, rng: random.Random) -> dict[str, int]:
    """Numbers 2..LARGEST_NUMBER for the letters of `formula`, such that no running total falls below 1."""
    letters = re.findall(r"[a-z]", formula)
    while True:
        numbers = {letter: rng.randint(2, LARGEST_NUMBER) for letter in letters}
        totals = [evaluate(fill(formula[: 2 * n - 1], numbers)) for n in range(1, len(letters) + 1)]
        if min(totals) >= 1:
            return numbers


def fill(formula: str, numbers: dict[str, int]) -> str:
    """`formula` with its letters replaced by their numbers."""
    return re.sub(r"[a-z]", lambda letter: str(numbers[letter.group()]), formula)


def draw_problem(templates: Sequence[Template], rng: random.Random) -> Problem:
    """One problem of a template drawn evenly from `templates`."""
    template = rng.choice(templates)
    numbers = draw_numbers(template.formula, rng)
    unit, item = rng.choice(ITEMS[template.language])
    name, other = rng.sample(NAMES[template.language], 2)
    formula = fill(template.formula, numbers)
    prompt = template.text.format(name=name, other=other, item=item, unit=unit, **numbers)
    return Problem(template.language, prompt, worked_response(formula))
