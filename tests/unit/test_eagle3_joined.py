"""Heads that compute together draft and score what each of them does alone, bit for bit or within rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hedgespec.config import DrafterConfig
from hedgespec.engine.served_heads import served_bank
from hedgespec.models.eagle3.head_drafters import HeadDrafter, load_eagle3_drafters
from tests.drafter_play import CASES, Play, assert_same
from tests.model_folders import HIDDEN_SIZE, VOCAB_SIZE, make_eagle3

NUM_HEADS = 3


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> list[DrafterConfig]:
    folders = [make_eagle3(tmp_path_factory.mktemp("head"), seed=seed) for seed in range(NUM_HEADS)]
    made = enumerate(map(str, folders))
    return [DrafterConfig(id=f"h{i}", kind="eagle3", model=folder, quantization="none") for i, folder in made]


@pytest.fixture(scope="module")
def embedding() -> torch.Tensor:
    return torch.randn((VOCAB_SIZE, HIDDEN_SIZE), generator=torch.Generator().manual_seed(1))


def load(configs: list[DrafterConfig], embedding: torch.Tensor, *, together: bool) -> dict[str, HeadDrafter]:
    if together:
        return load_eagle3_drafters(configs, embedding, HIDDEN_SIZE, served_bank)
    return {c.id: load_eagle3_drafters([c], embedding, HIDDEN_SIZE, served_bank)[c.id] for c in configs}


@pytest.mark.parametrize("case", CASES)
def test_drafts_and_scores_are_those_of_each_head_alone(
    configs: list[DrafterConfig], embedding: torch.Tensor, case: str
) -> None:
    results = []
    for together in (False, True):
        drafters = load(configs, embedding, together=together)
        assert all(drafter.batched_by == ("h0" if together else own) for own, drafter in drafters.items())
        results.append(Play(drafters, case, together=together).run())
    assert_same(*results)


def test_heads_of_other_shapes_compute_apart(
    configs: list[DrafterConfig], embedding: torch.Tensor, tmp_path: Path
) -> None:
    other = configs[0].model_copy(update={"id": "small", "model": str(make_eagle3(tmp_path, draft_vocab_size=32))})
    drafters = load_eagle3_drafters([*configs, other], embedding, HIDDEN_SIZE, served_bank)
    assert {d.drafter_id: d.batched_by for d in drafters.values()} == {
        "h0": "h0",
        "h1": "h0",
        "h2": "h0",
        "small": "small",
    }
