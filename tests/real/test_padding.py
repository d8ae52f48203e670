"""verl's padding where flash-attn is not installed."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from chord_exp.plugins.verl_patches import pad_without_flash_attention


@pytest.mark.skipif(find_spec("flash_attn") is not None, reason="flash-attn does it")
def test_rows_are_padded_and_unpadded_without_flash_attention(monkeypatch):
    from verl.utils import attention_utils

    monkeypatch.setattr(attention_utils, "_get_attention_functions", attention_utils._get_attention_functions)
    pad_without_flash_attention()
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    rows = torch.arange(6.0).reshape(2, 3, 1) + 1
    packed, indices, *_ = attention_utils.unpad_input(rows, mask)
    assert packed[:, 0].tolist() == [2, 3, 4, 5, 6]
    assert (attention_utils.pad_input(packed, indices, 2, 3)[..., 0] == rows[..., 0] * mask).all()
