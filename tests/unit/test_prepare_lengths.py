"""Counting tokens with a model folder that is not as it should be: one readable line."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from command_line import SMALL, refused
from prepare_samples import pair, prepare, write_lines

import chord_exp
from chord_exp.errors import ConfigError
from chord_exp.prepare.report.token_lengths import Chat, RowLimit, TokenCounter, longest

pytest.importorskip("transformers")
TINY = Path(chord_exp.__file__).parent / "tiny" / "model"
CODE = """from transformers import PretrainedConfig, PreTrainedTokenizerFast
class Own(PreTrainedTokenizerFast):
    pass
class OwnConfig(PretrainedConfig):
    model_type = "own"
"""


@pytest.fixture
def prepared(tmp_path):
    (tmp_path / "prepared" / "rl").mkdir(parents=True)
    (tmp_path / "prepared" / "rl" / "train.jsonl").write_text(json.dumps({"prompt": "1 + 1?", "answer": "2"}))
    return tmp_path / "prepared"


@pytest.fixture
def model(tmp_path):
    """A copy of the tiny model's tokenizer, to be spoilt."""
    shutil.copytree(TINY, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path / "model"


def measure(prepared: Path, model: Path, system_prompt: str = "", trust_remote_code: bool = False):
    return longest(prepared, Chat(str(model), system_prompt, None, trust_remote_code), 1, 1)


def change(file: Path, **values) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **values}), encoding="utf-8")


def set_template(model: Path, text: str | None) -> None:
    (model / "chat_template.jinja").unlink(missing_ok=True)
    change(model / "tokenizer_config.json", chat_template=text)


def test_a_good_folder_is_measured(prepared, model):
    assert measure(prepared, model).prompt_max > 0


def test_what_was_counted_is_read_again_and_counted_again_where_something_else_decides(prepared, model, monkeypatch):
    chat = Chat(str(model))
    first = longest(prepared, chat, 1, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenCounter, "__init__", lambda *_: pytest.fail("a tokenizer was loaded"))
        assert longest(prepared, chat, 1, 1) == first
        # counted, for it passes its limit: an answer to any other limit
        assert longest(prepared, chat, 900, 900) == first
    loaded = []
    init = TokenCounter.__init__
    monkeypatch.setattr(TokenCounter, "__init__", lambda self, chat: loaded.append(chat) or init(self, chat))
    others = [Chat(str(model), "Think."), Chat(str(model), "", False)]
    change(model / "tokenizer_config.json", chat_template="{{ messages[0].content }} and more")
    for other in (*others, chat):
        longest(prepared, other, 1, 1)
        longest(prepared, other, 1, 1)
    assert loaded == [*others, chat]


def test_a_bound_is_counted_again_for_a_limit_below_it(prepared, model):
    chat = Chat(str(model))
    (prepared / "rl" / "train.jsonl").write_text(json.dumps({"prompt": "小明有三个苹果"}))
    bound = longest(prepared, chat, 900, 900).prompt_max
    counted = longest(prepared, chat, bound - 1, 900).prompt_max
    assert counted < bound and longest(prepared, chat, 900, 900).prompt_max == counted


def test_lengths_of_a_folder_that_cannot_be_written_are_counted(prepared, model):
    (prepared / "token_lengths").write_text("in the way")
    assert longest(prepared, Chat(str(model)), 1, 1).prompt_max > 0


def test_rows_over_the_window_are_left_out_and_counted_when_that_is_asked(tmp_path, model):
    long = {"prompt": "How many?", "response": "one " * 300 + "\\boxed{1}"}
    write_lines(tmp_path / "raw" / "a.jsonl", [pair(n) for n in range(12)] + [long])
    limit = RowLimit(Chat(str(model)), 200)
    made = prepare(tmp_path / "raw", None, root=tmp_path, drop_long=True, row_limit=limit)
    assert made.content["rejects"] == {"over_window": 1} and "1 over_window" in made.warnings[0]
    kept = prepare(tmp_path / "raw", None, root=tmp_path, row_limit=limit)
    assert kept.content["rejects"] == {}
    longer = RowLimit(limit.chat, 4000)
    others = [kept, prepare(tmp_path / "raw", None, root=tmp_path, drop_long=True, row_limit=longer)]
    assert others[1].content["rejects"] == {} and len({one.digest for one in [made, *others]}) == 3
    with pytest.raises(ConfigError, match="without a limit"):
        prepare(tmp_path / "raw", None, root=tmp_path, drop_long=True)


@pytest.mark.parametrize("broken", ["", "{not json", "{}"], ids=["empty", "no JSON", "no tokenizer"])
def test_a_damaged_tokenizer_is_refused_with_the_place_and_the_remedy(prepared, model, broken):
    (model / "tokenizer.json").write_text(broken)
    with pytest.raises(ConfigError, match=r"no tokenizer loads from .*\[model\.path\] -> give a folder"):
        measure(prepared, model)


def test_an_empty_folder_is_refused_before_a_run(place, started, capsys):
    (place / "hollow").mkdir()
    line = refused(capsys, [*SMALL, "model.path=./hollow", "model.name=hollow"])
    assert "no tokenizer loads from" in line and "[model.path]" in line and started.calls == []


def test_a_tokenizer_without_a_chat_template_is_refused(prepared, model):
    set_template(model, None)
    with pytest.raises(ConfigError, match=r"no chat template \[model\.path\] -> use an instruction-tuned model"):
        measure(prepared, model)


def test_a_chat_template_that_takes_no_system_prompt_is_refused_with_its_own_words(prepared, model):
    set_template(
        model,
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}{{ messages }}",
    )
    with pytest.raises(ConfigError, match=r"system, user: no system here .*data\.system_prompt"):
        measure(prepared, model, system_prompt="Think.")
    assert measure(prepared, model).prompt_max > 0


def test_a_tokenizer_with_code_of_its_own_runs_only_when_trusted(prepared, model, tmp_path, monkeypatch):
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    (model / "own.py").write_text(CODE)
    change(model / "config.json", model_type="own", auto_map={"AutoConfig": "own.OwnConfig"})
    change(model / "tokenizer_config.json", tokenizer_class="Own", auto_map={"AutoTokenizer": [None, "own.Own"]})
    with pytest.raises(ConfigError, match=r"set model\.trust_remote_code=true"):
        measure(prepared, model)
    assert measure(prepared, model, trust_remote_code=True).prompt_max > 0
