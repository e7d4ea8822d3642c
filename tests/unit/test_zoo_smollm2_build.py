"""`build_heads` makes every head of a published target from nothing, and goes on where it was stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from hedgespec.errors import ConfigError
from hedgespec.models.eagle3.head import load_eagle3
from hedgespec.models.folder import read_embedding, read_output_matrix
from hedgespec.training.train_drafter import DrafterSettings
from hedgespec.zoo.acceptance_table import MARKER, kept_table, write_acceptance_table
from hedgespec.zoo.smollm2 import DOMAINS, GENERIC
from hedgespec.zoo.smollm2.build import build_heads
from hedgespec.zoo.smollm2.settings import HeadsSettings
from tests.chat_target import save_chat_target


def _tiny(out: Path) -> HeadsSettings:
    drafter = DrafterSettings(
        steps=2, sequences_per_step=2, sequence_length=32, num_depths=2, draft_vocab_size=40, intermediate_size=16
    )
    return HeadsSettings(out, num_windows=2, length=32, max_answer=6, num_questions=4, generic=drafter, expert=drafter)


def test_a_build_makes_every_head_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    target, settings = save_chat_target(tmp_path / "target"), _tiny(tmp_path / "heads")

    def stop_at_the_first_expert(stage: str, share: float, figures: str) -> None:
        if stage == f"head {DOMAINS[0]}":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_heads(target, settings, stop_at_the_first_expert)
    first = (settings.out / GENERIC / "model.safetensors").read_bytes()
    stages: list[str] = []
    build_heads(target, settings, lambda stage, share, figures: stages.append(stage))

    assert not any(stage.startswith("conversations") for stage in stages)
    assert (settings.out / GENERIC / "model.safetensors").read_bytes() == first
    weights = set()
    for name in (GENERIC, *DOMAINS):
        head = load_eagle3(
            settings.out / name, read_embedding(target), target_output=lambda: read_output_matrix(target)
        )
        assert (head.config.draft_vocab_size, head.config.intermediate_size) == (40, 16)
        weights.add(head.fc.weight.sum().item())
    assert len(weights) == 1 + len(DOMAINS)  # every head has learned something of its own

    card = settings.out / "README.md"
    assert "2 steps of 64 tokens" in card.read_text()
    write_acceptance_table("| a table |", settings.out)
    build_heads(target, settings, lambda stage, share, figures: None)
    assert kept_table(card) == "| a table |"
    card.write_text(card.read_text().replace(MARKER, "", 1))
    with pytest.raises(ConfigError, match="exactly twice"):
        write_acceptance_table("| a table |", settings.out)
