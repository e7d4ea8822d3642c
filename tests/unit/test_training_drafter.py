"""A head can be trained for any causal LM folder, stopped, resumed, and loaded as a published EAGLE-3 folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hedgespec.errors import ConfigError
from hedgespec.models.eagle3.head import load_eagle3
from hedgespec.models.folder import read_embedding
from hedgespec.training.train_drafter import DrafterSettings, train_drafter
from hedgespec.zoo.tokenizer import save_tokenizer, train_tokenizer

_TEXT = "the quick brown fox jumps over the lazy dog, and then it sleeps. " * 40
_SETTINGS = DrafterSettings(
    steps=6,
    sequences_per_step=2,
    sequence_length=24,
    num_depths=3,
    draft_vocab_size=64,
    min_prompt_length=4,
    max_prompt_length=10,
    num_own_windows=4,
)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("target")
    tokenizer = train_tokenizer([_TEXT], 300)
    save_tokenizer(tokenizer, folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=5, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, eos_token_id=1, bos_token_id=0, pad_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "text").mkdir()
    for number in range(3):
        (tmp_path / "text" / f"{number}.txt").write_text(_TEXT)
    return tmp_path / "text"


def _silent(stage: str, share: float, figures: str) -> None:
    pass


def test_trained_head_loads_as_a_published_folder(target: Path, text: Path, tmp_path: Path) -> None:
    train_drafter(target, text, tmp_path / "head", _SETTINGS, resume=False, progress=_silent)
    head = load_eagle3(tmp_path / "head", read_embedding(target))
    assert head.config.draft_vocab_size == 64
    assert sorted(p.name for p in (tmp_path / "head").iterdir()) == ["config.json", "model.safetensors"]


def test_stopped_training_resumes_to_the_same_head(target: Path, text: Path, tmp_path: Path) -> None:
    settings = replace(_SETTINGS, checkpoint_every_s=0.0)
    whole = train_drafter(target, text, tmp_path / "whole", settings, resume=False, progress=_silent)

    def stop_half_way(stage: str, share: float, figures: str) -> None:
        if stage == "head" and share >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_drafter(target, text, tmp_path / "parts", settings, resume=False, progress=stop_half_way)
    parts = train_drafter(target, text, tmp_path / "parts", settings, resume=True, progress=_silent)
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], weight)


def test_missing_text_and_changed_settings_are_refused(target: Path, text: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        train_drafter(target, tmp_path / "nowhere", tmp_path / "head", _SETTINGS, resume=False, progress=_silent)
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "a.txt").write_text("fox")
    with pytest.raises(ConfigError, match="tokens"):
        train_drafter(target, tmp_path / "short", tmp_path / "head", _SETTINGS, resume=False, progress=_silent)
