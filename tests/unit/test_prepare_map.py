"""Fields named by hand: `--map`."""

from __future__ import annotations

import pytest

from chord_exp.errors import DataError
from chord_exp.prepare.rejects import Reject
from chord_exp.prepare.rows.field_map import mapped_format, readings_of
from chord_exp.prepare.rows.turns import check_conversation

SYSTEM = {"role": "system", "content": "Be brief."}
QA = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
ROW = {"q": {"text": "1+1?", "sys": "Be brief."}, "a.b": 2, "final": "2", "turns": QA}


@pytest.mark.parametrize(
    ("mapping", "expected", "answered"),
    [
        ({"prompt": "q.text", "response": "a.b"}, QA, True),
        ({"prompt": "q.text", "response": "a.b", "system": "q.sys"}, [SYSTEM, *QA], True),
        ({"prompt": "q.text", "answer": "final"}, QA[:1], False),
        ({"messages": "turns", "system": "q.sys"}, [SYSTEM, *QA], True),
        ({"prompt": "chat_list", "answer": "final"}, QA[:1], False),
        ({"messages": "said"}, QA, True),
    ],
)
def test_fields_can_be_named_by_hand(mapping, expected, answered):
    said = [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]
    reading, record = readings_of(mapping)({**ROW, "chat_list": QA[:1], "said": said})
    conversation = reading.read(record)
    assert (check_conversation(conversation).messages, conversation.answered) == (expected, answered)
    assert conversation.answer == ("2" if "answer" in mapping else None)


@pytest.mark.parametrize("field", ["nowhere", "q.nowhere", "final.deeper"])
def test_a_row_without_a_named_field_is_rejected(field):
    with pytest.raises(Reject, match=field):
        readings_of({"prompt": field, "response": "final"})(ROW)[0].read(ROW)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"promt": "q", "response": "a"}, "promt"),
        ({"prompt": "q"}, "question and answer"),
        ({"response": "a"}, "question and answer"),
        ({}, "question and answer"),
        ({"messages": "turns", "response": "a"}, "both"),
    ],
)
def test_a_field_map_that_says_too_little_or_too_much_is_refused(mapping, message):
    with pytest.raises(DataError, match=message) as caught:
        mapped_format(mapping)
    assert caught.value.fix
