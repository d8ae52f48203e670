"""The shipped tiny model and tokenizer load as any Hugging Face model does and suit Trinity's use of them."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chord_exp.tiny
from tools.tiny import make_model
from tools.tiny.make_data import sample_pairs
from tools.tiny.tokenizer import MESSAGE_END, VOCABULARY_SIZE

MODEL = Path(chord_exp.tiny.__file__).parent / "model"
MAX_PROMPT_TOKENS, MAX_RESPONSE_TOKENS = 64, 24
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "3+4=?"},
    {"role": "assistant", "content": "3+4=7 \\boxed{7}"},
]


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def model():
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()


@settings(max_examples=200)
@given(text=st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=60))
def test_tokenizer_gives_back_any_text(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


@pytest.mark.parametrize(
    "text", ["", " a  b\n\n c ", "don 't , it 's .", "小明有3个苹果。", "👩‍👩‍👧 naïve ǅ \u200b\x00"]
)
def test_tokenizer_gives_back_awkward_text(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_every_digit_is_its_own_token(tokenizer):
    tokens = [tokenizer.decode([token]) for token in tokenizer.encode("17+205=222", add_special_tokens=False)]
    assert tokens == list("17+205=222")


def test_shipped_tokenizer_is_what_the_script_makes(tokenizer):
    made = make_model.make_tokenizer()
    assert made.get_vocab() == tokenizer.get_vocab()
    assert made.chat_template == tokenizer.chat_template
    texts = [text for pair in sample_pairs()[:200] for text in pair]
    assert [made.encode(text) for text in texts] == [tokenizer.encode(text) for text in texts]


def test_padding_and_end_tokens_are_set_and_differ(tokenizer, model):
    assert tokenizer.eos_token == MESSAGE_END
    assert tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id
    for config in (model.config, model.generation_config):
        assert config.eos_token_id == tokenizer.eos_token_id
        assert config.pad_token_id == tokenizer.pad_token_id


def test_chat_template_renders_every_role_and_the_generation_prompt(tokenizer):
    assert tokenizer.apply_chat_template(CHAT, tokenize=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n3+4=?<|im_end|>\n"
        "<|im_start|>assistant\n3+4=7 \\boxed{7}<|im_end|>"
    )
    assert tokenizer.apply_chat_template(CHAT[:2], tokenize=False, add_generation_prompt=True).endswith(
        "<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("enable_thinking", [True, False, None])
@pytest.mark.parametrize("turns", [CHAT, CHAT[1:], [*CHAT, CHAT[1], CHAT[2]]])
def test_prompt_tokens_are_a_prefix_of_the_conversation(tokenizer, turns, enable_thinking):
    def ids(messages, **options):
        return tokenizer.apply_chat_template(messages, return_dict=False, enable_thinking=enable_thinking, **options)

    prompt, whole = ids(turns[:-1], add_generation_prompt=True), ids(turns)
    assert whole[: len(prompt)] == prompt
    assert tokenizer.decode(whole[len(prompt) :]) == "3+4=7 \\boxed{7}<|im_end|>"


def test_trinity_masks_the_assistant_tokens_by_either_of_its_methods(tokenizer):
    from trinity.common.models import utils

    import chord_exp.engine  # noqa: F401  # provides the names of vLLM that Trinity imports

    turns = [*CHAT, CHAT[1], CHAT[2]]
    by_template = utils.tokenize_and_mask_messages_hf(tokenizer, turns)
    by_prefix = utils.tokenize_and_mask_messages_default(tokenizer, turns)
    tokens, mask = by_template["input_ids"][0], by_template["assistant_masks"][0]
    assert tokens.tolist() == by_prefix["input_ids"][0].tolist()
    assert mask.tolist() == by_prefix["assistant_masks"][0].tolist()
    reply = "3+4=7 \\boxed{7}<|im_end|>"
    assert tokenizer.decode(tokens[mask.bool()].tolist()) == reply + reply


def test_trinity_reads_an_expert_row_as_prompt_and_response(tokenizer):
    from trinity.buffer.schema.formatter import SFTFormatter
    from trinity.common.config import FormatConfig
    from trinity.common.constants import PromptType

    import chord_exp.engine  # noqa: F401  # provides the names of vLLM that Trinity imports

    layout = FormatConfig(prompt_type=PromptType.MESSAGES, messages_key="messages")
    reader = SFTFormatter(str(MODEL), layout)
    experience = reader.format({"messages": CHAT[1:]})
    response = experience.tokens[experience.prompt_length :].tolist()
    assert tokenizer.decode(response) == "3+4=7 \\boxed{7}<|im_end|>"


def test_every_sample_row_fits_the_token_limits(tokenizer):
    encoded = [make_model.encode_pair(tokenizer, pair) for pair in sample_pairs()]
    assert max(prompt_length for _, prompt_length in encoded) <= MAX_PROMPT_TOKENS
    assert max(len(ids) - prompt_length for ids, prompt_length in encoded) <= MAX_RESPONSE_TOKENS


def test_model_is_a_small_qwen3(model):
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert 500_000 <= sum(weight.numel() for weight in model.parameters()) <= 1_000_000
    assert model.config.vocab_size == VOCABULARY_SIZE
    assert sum(path.stat().st_size for path in MODEL.iterdir()) < 2_500_000


def test_base_model_calculates_and_knows_the_answer_format(tokenizer, model):
    replies = [reply(tokenizer, model, f"{a}+{b}=?") for a in (3, 8, 15) for b in (2, 9, 17)]
    right = [f"{a}+{b}={a + b} \\boxed{{{a + b}}}" for a in (3, 8, 15) for b in (2, 9, 17)]
    assert sum(map(str.__eq__, replies, right)) >= 8, replies


def test_base_model_misreads_most_sample_problems_but_not_all(tokenizer, model):
    problems = [pair for pair in sample_pairs() if "boxed" in pair[1]][:100]
    right = sum(answer(reply(tokenizer, model, prompt)) == answer(response) for prompt, response in problems)
    assert 5 <= right < 45


def test_pretraining_prompts_are_not_in_the_sample():
    sample = {prompt for prompt, _ in sample_pairs()}
    assert not sample & {prompt for prompt, _ in islice(make_model.base_pairs(make_model.SEED + 1), 5000)}


def test_few_pretraining_steps_write_a_model_that_loads(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make_model.pretrain(tmp_path, steps=2)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config.model_type == "qwen3"
    assert AutoTokenizer.from_pretrained(tmp_path).eos_token == MESSAGE_END


def reply(tokenizer, model, question: str) -> str:
    """The greedy response to one question, without the end token."""
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    out = model.generate(**prompt, do_sample=False, temperature=None, max_new_tokens=MAX_RESPONSE_TOKENS)
    return tokenizer.decode(out[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)


def answer(response: str) -> str | None:
    found = re.findall(r"\\boxed\{(\d+)\}", response)
    return found[-1] if found else None
