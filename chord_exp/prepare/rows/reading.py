"""A format bound to the columns that a row has: it reads the row, and knows which columns nobody uses.

Every column is read, or refused (it belongs to the question or the answer, and the format cannot keep it), or listed as
unused.
"""

from __future__ import annotations

from typing import Any

from chord_exp.prepare.answers.find import is_bare_answer
from chord_exp.prepare.rejects import Reject, clip
from chord_exp.prepare.rows import parts
from chord_exp.prepare.rows.choices import asked_with_options, index_of, options_of, right_letter
from chord_exp.prepare.rows.conversation import ASSISTANT, SYSTEM, USER, Conversation, Record
from chord_exp.prepare.rows.formats import FORMATS, QUERY_COLUMNS, REPLY_COLUMNS, Columns, Format

# turns only point at images and sounds that lie beside them
_MEDIA = frozenset(
    (
        *("image", "images", "image_path", "image_paths", "image_url", "image_urls", "decoded_image"),
        *("video", "videos", "audio", "audios"),
    )
)
# what a row would ask something else without; beside whole conversations the second ones are taken for copies
_LOST = _MEDIA | {"documents"}
_LOST_BESIDE_A_PAIR = _LOST | {"context", "passage", "article", "choices", "options", "messages"}
# a bare "42" in one of them is the truth of a prompt and no reply to imitate
_MAY_BE_BARE = frozenset(("answer", "target", "targets"))
_EMPTY: tuple[Any, ...] = (None, "", [], {})
# a folder holds few sets of columns; a hostile one must not fill the memory
_MOST_COLUMN_SETS = 10_000


class Reading:
    """A format for rows that have these columns.

    Args:
        known: the format.
        columns: the row's columns, in lower case unless the format names its own by hand.
    """

    def __init__(self, known: Format, columns: Columns) -> None:
        self.format, self.name = known, known.name
        names = frozenset(columns)

        def present(part: Columns) -> Columns:
            found = tuple(name for name in part if name in names or name.partition(".")[0] in names)
            return found or part[:1] if known.by_hand else found

        self._turns, self._prompt, self._below = present(known.turns), present(known.prompt), present(known.below)
        self._reply, self._calls, self._answer = present(known.reply), present(known.calls), present(known.answer)
        self._choices, self._key = present(known.choices), present(known.key)
        self._system, self._tools = present(known.system), present(known.tools)
        self._history, self._reasoning = present(known.history), present(known.reasoning)
        # of options in a column each, the second: the first may be a column of another kind
        self._filled = (*self._turns[:1], *(self._choices[1:2] or self._choices))
        self._objects = tuple(name.partition(".")[0] for name in self._answer if "." in name)
        parts_read = (
            *(self._turns, self._prompt, self._below, self._reply, self._calls, self._answer, self._key),
            *(self._system, self._tools, self._history, self._reasoning),
        )
        read = {name.partition(".")[0] for part in (*parts_read, self._choices) for name in part}
        read |= {name for part in (*parts_read, self._choices) for name in part}
        # what names the right option is no verdict on the answer
        self._verdict = tuple(name for name in known.verdict if name in names and name not in read)
        read |= set(self._verdict)
        self._alternatives = tuple(part for part in parts_read if len(part) > 1)
        self._unused = tuple(name for name in columns if name not in read)
        lost = _LOST if self._turns else _LOST_BESIDE_A_PAIR
        self._lost = tuple(name for name in self._unused if name in lost and not known.by_hand)
        pair = bool(self._reply) and not self._turns and not known.by_hand
        self._rivals = tuple(
            (name, mine[0])
            for rivals, mine in ((QUERY_COLUMNS, self._prompt), (REPLY_COLUMNS, self._reply))
            for name in self._unused
            if pair and name in rivals
        )
        self._may_be_bare = bool(self._reply) and self._reply[0] in _MAY_BE_BARE
        # a question and a reply and nothing else to look at: most rows are, and this is the hot path
        others = (
            *(self._turns, self._below, self._calls, self._answer, self._choices, self._system, self._tools),
            *(self._history, self._reasoning, self._verdict, self._lost, self._prompt[1:], self._reply[1:]),
        )
        self._is_pair = bool(self._reply) and not known.by_hand and not any(others) and not self._rivals

    def fits(self, record: Record) -> bool:
        """Return whether a row's values suit the format: turns and choices are filled, what has parts is an object."""
        for name in self._filled:
            if record[name] in _EMPTY:
                return False
        for name in self._objects:
            if not isinstance(record[name], dict):
                return False
        return self.format.when is None or self.format.when(record)

    def unused(self, record: Record) -> list[str]:
        """Return the columns of a row that hold something and are not read."""
        if not (self._unused or self._alternatives or self._verdict):
            return []
        found = [name for name in self._unused if record[name] not in _EMPTY]
        found += [n for n in self._verdict if record[n] not in _EMPTY and parts.verdict_of(record[n]) is None]
        for part in self._alternatives:
            filled = [name for name in part if record.get(name) not in _EMPTY]
            found += filled[1:]
        return found

    def read(self, record: Record, first_index: int = 0) -> Conversation:
        """Return the conversation that a row holds.

        Args:
            first_index: whether the row's file counts options from 0 or from 1.

        Raises:
            Reject: it cannot be used.
        """
        if self._is_pair:
            asked, said = record[self._prompt[0]], record[self._reply[0]]
            if asked.__class__ is str and said.__class__ is str and asked[:2] != "[{" and not self._is_bare(said):
                return Conversation([{"role": USER, "content": asked}, {"role": ASSISTANT, "content": said}])
        if self.format.refused:
            raise Reject(*self.format.refused)
        if self._lost or self._rivals:
            self._refuse_lost(record)
        choices: tuple[str, ...] = ()
        answer = self._value(record, self._answer) if self._answer else None
        if self._turns:
            column = self._turns[0]
            found = self._value(record, self._turns)
            if found is None and self.format.by_hand:
                raise _missing(column)
            messages, truth = parts.without_truth(parts.turns_of(found, column, self.format.tags))
            answered = truth is None
            answer = answer if answered else truth
        else:
            asked = self._asked(record)
            if self._key:
                labels, texts = options_of(record, self._choices)
                answer, choices = right_letter(self._value(record, self._key), labels, texts, first_index), tuple(texts)
                asked = asked_with_options(_text(asked, "the question of a multiple-choice row"), texts)
            said, answered, answer = self._said(record, answer)
            messages = [*asked, *said] if _is_messages(asked) else [{"role": USER, "content": asked}, *said]
        if self._history and (history := self._value(record, self._history)):
            messages = [*parts.history_of(history), *messages]
        if self._system:
            messages = self._after_system(record, messages)
        if self._reasoning and answered:
            _put_reasoning(self._value(record, self._reasoning), messages)
        if self._verdict and answered:
            self._refuse_bad(record)
        if not answered and answer is None:
            raise Reject("no_truth", f"{self._answer[0]!r} is empty" if self._answer else "")
        return Conversation(messages, answer, self._value(record, self._tools), choices, answered)

    def key_index(self, record: Record) -> tuple[int, int] | None:
        """Return the key and the number of options of a row whose key can only be an index; else None.

        Raises:
            Reject: the row has no options.
        """
        if not self._key or (index := index_of(self._value(record, self._key))) is None:
            return None
        labels, texts = options_of(record, self._choices)
        return None if str(index) in (*labels, *texts) else (index, len(texts))

    def _value(self, record: Record, part: Columns) -> Any:
        """What the first filled column of a part holds; None where none is."""
        value = None
        for name in part:
            value = lookup(record, name) if self.format.by_hand or "." in name else record.get(name)
            if value not in _EMPTY:
                return value
        return value

    def _asked(self, record: Record) -> Any:
        """The question: a text, or a list of messages."""
        asked = self._value(record, self._prompt)
        if asked is None and self.format.by_hand:
            raise _missing(self._prompt[0])
        if isinstance(asked, str) and asked.startswith("[{"):
            # a table's cell
            asked = parts.turns_of(asked, self._prompt[0], {}) if _is_json(asked) else asked
        elif _is_messages(asked):
            asked = parts.turns_of(asked, self._prompt[0], self.format.tags)
        if not self._below:
            return asked
        filled = [name for name in self._below if record.get(name) not in _EMPTY]
        if len(filled) > 1:
            raise Reject("field_lost", f"{filled[1]!r} beside {filled[0]!r}")
        if not filled:
            return asked
        asked, more = _text(asked, self._prompt[0]), _text(record[filled[0]], filled[0])
        return f"{asked}\n{more}" if asked.strip() else more

    def _said(self, record: Record, answer: Any) -> tuple[list[Any], bool, Any]:
        """The reply as turns, whether there is one, and the final answer."""
        if self._calls:
            calls = parts.calls_of(self._value(record, self._calls))
            return [{"role": ASSISTANT, "content": "", "tool_calls": calls}], True, answer
        if not self._reply:
            return [], False, answer
        reply = record.get(self._reply[0]) if len(self._reply) == 1 else self._value(record, self._reply)
        if self.format.by_hand and (reply := self._value(record, self._reply)) is None:
            raise _missing(self._reply[0])
        if self._reply[0] == "generations":
            reply = parts.right_generation(record, record["generations"]) or record.get("solution")
        reply = parts.reply_text(reply)
        if answer is not None and (reply is None or reply == ""):
            return [], False, answer
        if _is_messages(reply):
            return parts.turns_of(reply, self._reply[0], self.format.tags), True, answer
        if self._is_bare(reply) and not self._has_reasoning(record):
            return [], False, reply if answer is None else answer
        return [{"role": ASSISTANT, "content": reply}], True, answer

    def _is_bare(self, reply: Any) -> bool:
        return self._may_be_bare and is_bare_answer(reply)

    def _has_reasoning(self, record: Record) -> bool:
        return bool(self._reasoning) and parts.with_reasoning(self._value(record, self._reasoning), "") != ""

    def _after_system(self, record: Record, messages: list[Any]) -> list[Any]:
        system = self._value(record, self._system)
        if system is None:
            return messages
        own = messages[0] if messages and isinstance(messages[0], dict) else {}
        if own.get("role") in (SYSTEM, "developer"):
            if own.get("content") in (system, "", None) or not system:
                return messages if system in ("", own.get("content")) else [{**own, "content": system}, *messages[1:]]
            raise Reject("field_lost", f"{self._system[0]!r} beside another system turn")
        return [{"role": SYSTEM, "content": system}, *messages]

    def _refuse_lost(self, record: Record) -> None:
        for name in self._lost:
            if record[name] not in _EMPTY:
                raise Reject("field_lost", f"{name!r} beside {(self._turns or self._prompt)[0]!r}")
        for name, mine in self._rivals:
            # two questions, or two replies: which is the one is anyone's guess
            if record[name] not in _EMPTY and record[name] != record.get(mine):
                raise Reject("field_lost", f"{name!r} beside {self._prompt[0]!r} and {self._reply[0]!r}")

    def _refuse_bad(self, record: Record) -> None:
        """Refuse an answer that the row itself calls bad."""
        for name in self._verdict:
            if parts.verdict_of(record[name]) is False:
                raise Reject("bad_answer", f"{name!r} is {clip(repr(record[name]), 20)}")


_readings: dict[Columns, tuple[Columns | None, tuple[Reading, ...]]] = {}


def find_reading(record: Record) -> tuple[Reading, Record]:
    """Return the first format that a row has, and the row with its columns in lower case.

    Raises:
        Reject: none does; the detail lists the row's columns.
    """
    columns = tuple(record)
    known = _readings.get(columns)
    if known is None:
        known = _bind(columns)
        if len(_readings) < _MOST_COLUMN_SETS:
            _readings[columns] = known
    renamed, readings = known
    if renamed is not None:
        record = dict(zip(renamed, record.values(), strict=True))
    for reading in readings:
        if reading.fits(record):
            return reading, record
    shown = ", ".join(clip(str(name), 30) for name in columns[:8]) or "no fields"
    if readings:
        shown += f"; it looks like {readings[0].name}, and its values are empty or of another type"
    raise Reject("unknown_format", shown)


class HandReadings:
    """The readings of a format whose columns were named by hand.

    Args:
        known: the format.
    """

    def __init__(self, known: Format) -> None:
        self._known = known
        self._readings: dict[Columns, Reading] = {}

    def find(self, record: Record) -> tuple[Reading, Record]:
        """Return the reading for a row's columns, and the row as it is."""
        columns = tuple(record)
        reading = self._readings.get(columns)
        if reading is None:
            reading = Reading(self._known, columns)
            if len(self._readings) < _MOST_COLUMN_SETS:
                self._readings[columns] = reading
        return reading, record


def _bind(columns: Columns) -> tuple[Columns | None, tuple[Reading, ...]]:
    """The columns in lower case, where that changes them, and every format that they may have."""
    renamed = lowered(columns)
    names = frozenset(renamed)
    readings = tuple(
        Reading(known, renamed)
        for known in FORMATS
        if all(any(name.partition(".")[0] in names for name in part) for part in known.needed)
    )
    return (renamed if renamed != columns else None), readings


def lowered(columns: Columns) -> Columns:
    """Return names in lower case and without space around them, but for those that would then be the same."""
    plain = [name.strip().lower() for name in columns]
    return tuple(
        short if name == short or (plain.count(short) == 1 and short not in columns) else name
        for name, short in zip(columns, plain, strict=True)
    )


def lookup(record: Any, path: str) -> Any:
    """Return the value at a path; None where there is none. A field whose own name holds the dots comes first."""
    if isinstance(record, dict) and path in record:
        return record[path]
    for name in path.split("."):
        if not isinstance(record, dict):
            return None
        record = record.get(name)
    return record


def _missing(path: str) -> Reject:
    return Reject("missing_field", f"{path!r}, which the field map or dataset_info.json names")


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise Reject("not_text", what)
    return value


def _is_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _is_json(text: str) -> bool:
    try:
        parts.turns_of(text, "", {})
    except Reject:
        return False
    return True


def _put_reasoning(reasoning: Any, messages: list[Any]) -> None:
    last = messages[-1] if messages else None
    if isinstance(last, dict) and isinstance(last.get("content"), str):
        messages[-1] = {**last, "content": parts.with_reasoning(reasoning, last["content"])}
