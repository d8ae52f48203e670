"""What to tell the user of a finished reading: why the data cannot be split, or what deserves a look although
it can."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chord_exp.errors import DataError
from chord_exp.prepare.answers.scoring import SIMILARITY_WARNING
from chord_exp.prepare.rejects import ANSWER_FAILED, CONFLICTING, MULTI_TURN, NOT_VERIFIABLE, SHARED_PROMPT
from chord_exp.prepare.report.tally import Tally
from chord_exp.prepare.split.groups import MAX_EVAL_SHARE
from chord_exp.trinity_config.rows import FAILED_ANSWERS_FILE, REJECTS_FILE
from chord_exp.utils.split_settings import ALL, BLEU, CHRF, SplitSettings

_RATIO_TOLERANCE = 0.02
_ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar", ".xz", ".bz2", ".gz", ".zst", ".xlsx", ".xls", ".ods", ".feather")
_LIKE_DATA = (*_ARCHIVES, ".orc", ".avro", ".db", ".sqlite", ".pkl", ".npy", ".lance", ".yaml", ".yml", ".xml", ".txt")


@dataclass(frozen=True)
class Facts:
    """What the warnings are drawn from; ratios and counts as in the manifest.

    Args:
        unboxed_experts: of the `experts` (rows of the SFT side whose answer stands in a box where it is rolled out),
            those whose own text the reward would score 0.
        sft_only: rows kept out of RL, by reason.
        unread_eval_rows: rows of the evaluation data of which no prompt could be read.
        free_text: how free text is scored.
    """

    asked_ratio: float
    reached_ratio: float
    unboxed_experts: int
    experts: int
    eval_asked: int
    eval_rows: int
    test_asked: int
    test_rows: int
    skipped: list[str]
    sft_only: Counter[str]
    tally: Tally
    unread_eval_rows: int
    free_text: str


def refuse_unusable(
    source: Path,
    tally: Tally,
    usable: int,
    free: int,
    experts: int,
    reasons: Mapping[str, int],
    settings: SplitSettings,
) -> None:
    """Refuse data that would leave a side empty.

    Args:
        usable: rows that were read without a fault.
        free: those of them that may go to any side.
        experts: those of them that have a response to imitate.
        reasons: why the others stay on the SFT side.

    Raises:
        DataError: why, and what to change.
    """
    read, key = tally.total("read"), settings.key
    if read == 0:
        raise DataError("the input files hold no row", where=str(source), fix="put rows in them, one JSON object each")
    if usable == 0:
        raise DataError(
            f"none of the {read:,} rows can be used: {counted(tally.rejects)}; the first: "
            + "; ".join(list(tally.examples.values())[:3]),
            where=str(source),
            fix="write rows with the fields prompt and response, messages, question and answer, or input and output; "
            f"or name your own fields with {key('map')}",
        )
    if free and not experts and settings.eval_rows != ALL:
        raise DataError(
            f"the {free:,} prompts with a verifiable answer have no response to imitate: the SFT side is empty",
            where=str(source),
            fix="add rows whose response is more than the final answer: a solution that ends in \\boxed{…}, the "
            "explanation of a choice",
        )
    if free:
        return
    if set(reasons) == {NOT_VERIFIABLE}:
        raise DataError(
            f"all {sum(reasons.values()):,} usable rows are free text, which no rule can score: the RL side is empty",
            where=str(source),
            fix="add rows that end in \\boxed{…}, '#### 42' or 'the answer is 42'; CHORD needs both kinds "
            "(or choose how to score free text with " + f"{key('free_text')})",
        )
    if reasons.get(ANSWER_FAILED):
        fix = f"look at some of the answers; without {key('answer_check')} such rows may be rolled out"
    elif set(reasons) == {MULTI_TURN}:
        fix = "conversations of several turns are imitated, not rolled out: add rows with one question each"
    else:
        fix = "add rows with one question each, prompts of their own and a verifiable answer"
    raise DataError(f"no row can go to the RL side: {counted(reasons)}", where=str(source), fix=fix)


def collect_warnings(facts: Facts) -> list[str]:
    """Readable lines, the gravest first."""
    lines = []
    rejected = facts.tally.total("rejected")
    if rejected:
        total = facts.tally.total("read")
        lines.append(f"{rejected:,} of {total:,} rows rejected ({counted(facts.tally.rejects)}): see {REJECTS_FILE}")
    for name, file in facts.tally.files.items():
        lines += [f"{name}: {note}" for note in file.notes]
    if facts.unboxed_experts:
        lines.append(
            f"{facts.unboxed_experts:,} of {facts.experts:,} verifiable expert rows do not end in the "
            "\\boxed{…} form that the reward reads: SFT and RL teach different forms"
        )
    if facts.eval_asked == ALL:
        if facts.sft_only:
            lines.append(f"{facts.sft_only.total():,} rows are not asked: {counted(facts.sft_only)}")
    elif abs(facts.reached_ratio - facts.asked_ratio) > _RATIO_TOLERANCE:
        lines.append(
            f"expert_ratio {facts.asked_ratio:g} was asked, {facts.reached_ratio:.3f} reached: "
            "few or uneven prompt groups"
        )
    held_out = (("held-out", facts.eval_rows, facts.eval_asked), ("test", facts.test_rows, facts.test_asked))
    for what, got, asked in held_out:
        if got < asked:
            lines.append(f"{got:,} of {asked:,} {what} prompts: at most {MAX_EVAL_SHARE:.0%} of the verifiable ones")
    if facts.unread_eval_rows:
        lines.append(
            f"{facts.unread_eval_rows:,} rows of the evaluation data have no prompt that can be read: "
            "training rows were not compared with them"
        )
    if facts.free_text in (CHRF, BLEU):
        lines.append(SIMILARITY_WARNING.format(name=facts.free_text))
    if facts.sft_only[ANSWER_FAILED]:
        lines.append(
            f"{facts.sft_only[ANSWER_FAILED]:,} rows stay on the SFT side: the reward does not score their own answer, "
            f"see {FAILED_ANSWERS_FILE}"
        )
    if facts.sft_only[CONFLICTING]:
        lines.append(f"{facts.sft_only[CONFLICTING]:,} rows stay on the SFT side: same prompt, different answers")
    if facts.sft_only[SHARED_PROMPT]:
        lines.append(
            f"{facts.sft_only[SHARED_PROMPT]:,} rows stay on the SFT side: their prompt also stands in an SFT-only row"
        )
    if facts.skipped:
        # what may well hold data comes first
        names = sorted(facts.skipped, key=lambda name: (not name.lower().endswith(_LIKE_DATA), name))
        more = ", …" if len(names) > 3 else ""
        lines.append(f"{len(names)} files not read, of no known kind: {', '.join(names[:3])}{more}")
    return lines


def counted(counts: Mapping[str, int]) -> str:
    """ "3 invalid_json, 1 not_utf8", the most frequent first."""
    return ", ".join(
        f"{count:,} {name}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )
