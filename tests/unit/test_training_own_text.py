"""The target's own text: prompts of different lengths in one batch, each continued as it would be alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hedgespec.training.own_text import TEMPERATURES, continue_prompts
from hedgespec.training.teacher import Teacher
from hedgespec.training.train_drafter import DrafterSettings, beginnings

_LENGTH = 20
_ROUNDING = 0.05
"""Logits that bfloat16 may order differently: they lie within about +-2.5 and have 8 bits."""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    folder = tmp_path_factory.mktemp("target")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=120, hidden_size=32, intermediate_size=48, num_hidden_layers=5, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return Teacher(folder)


def test_each_prompt_is_kept_and_continued_greedily_where_its_temperature_is_zero(teacher: Teacher) -> None:
    """Row i starts with prompt i, and at temperature 0 goes on with the likeliest token of the whole row before it."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 120, length) for length in (9, 3, 14, 5, 3, 11, 8, 4, 6, 12)]
    text = continue_prompts(teacher, prompts, _LENGTH, 0, lambda share: None)

    assert text.shape == (len(prompts), _LENGTH)
    num_strays = 0
    for row, (prompt, tokens) in enumerate(zip(prompts, text, strict=True)):
        assert tokens[: len(prompt)].tolist() == prompt.tolist()
        with torch.no_grad():
            logits = teacher.model(torch.from_numpy(tokens)[None]).logits[0, len(prompt) - 1 : -1]
        chosen = logits.gather(1, torch.from_numpy(tokens[len(prompt) :])[:, None]).squeeze(1)
        behind = logits.max(-1).values - chosen
        if TEMPERATURES[row % len(TEMPERATURES)] == 0:
            assert behind.max() < _ROUNDING
        else:
            num_strays += int((behind > _ROUNDING).sum())
    assert num_strays > 0, "rows above temperature 0 must not all be greedy"


def test_prompts_are_beginnings_of_windows_of_every_allowed_length() -> None:
    settings = DrafterSettings(min_prompt_length=2, max_prompt_length=5, num_own_windows=200)
    windows = np.arange(30 * 12).reshape(30, 12)
    prompts = beginnings(windows, settings)
    assert {len(prompt) for prompt in prompts} == {2, 3, 4, 5}
    assert {int(prompt[0]) for prompt in prompts} == set(windows[:, 0].tolist())
    for prompt in prompts:
        assert prompt.tolist() == windows[prompt[0] // 12, : len(prompt)].tolist()
