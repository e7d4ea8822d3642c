"""`build_zoo` makes a complete weights folder from nothing, and goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hedgespec.models.eagle3.head import load_eagle3
from hedgespec.models.folder import read_embedding
from hedgespec.training.train_drafter import DrafterSettings
from hedgespec.zoo import DOMAINS, DRAFTERS
from hedgespec.zoo.build import build_zoo
from hedgespec.zoo.settings import ZooSettings
from hedgespec.zoo.train_target import TargetSettings


def _tiny(out: Path) -> ZooSettings:
    target = TargetSettings(
        hidden_size=32, num_layers=5, num_heads=2, num_kv_heads=1, intermediate_size=32, vocab_size=400, steps=3,
        tokens_per_step=64, lengths=((0.0, 32), (0.5, 64)),
    )  # fmt: skip
    drafter = DrafterSettings(
        steps=2, sequences_per_step=2, sequence_length=24, num_depths=2, draft_vocab_size=200, intermediate_size=16,
        min_prompt_length=4, max_prompt_length=12, num_own_windows=3,
    )  # fmt: skip
    return ZooSettings(out, train_bytes=120_000, num_prompts=3, held_out_bytes=4_000, target=target, drafter=drafter)


def test_a_build_makes_every_part_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    settings = _tiny(tmp_path)

    def stop_at_the_second_head(stage: str, share: float, figures: str) -> None:
        if stage == "head python":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_zoo(settings, stop_at_the_second_head)
    first = (tmp_path / "generic" / "model.safetensors").read_bytes()
    stages: list[str] = []
    build_zoo(settings, lambda stage, share, figures: stages.append(stage))

    assert "target" not in stages
    assert (tmp_path / "generic" / "model.safetensors").read_bytes() == first
    embedding = read_embedding(tmp_path / "target")
    for name in DRAFTERS:
        config = load_eagle3(tmp_path / name, embedding).config
        assert (config.draft_vocab_size, config.intermediate_size) == (200, 16)
    prompts = json.loads((tmp_path / "prompts.json").read_text())
    assert {split: sorted(by_domain) for split, by_domain in prompts.items()} == {
        "test": sorted(DOMAINS),
        "validation": sorted(DOMAINS),
    }
    assert "3 steps" in (tmp_path / "README.md").read_text()
