"""A smaller LM as a drafter: drafts and scores are what its own forward says, however it is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from hedgespec.models.causal_lm.folder import load_causal_lm
from hedgespec.models.causal_lm.lm_drafter import LmDrafter, lm_drafter
from hedgespec.models.drafter_model import Usage
from hedgespec.models.lean.lean_network import accelerate
from hedgespec.types import DraftForm, DraftRequest, Observation, SamplingParams, ScoreRequest
from tests.engine_sessions import GREEDY, make_spec, random_ids, scores_of
from tests.model_folders import make_llama

PROMPT = random_ids(12, seed=1)
TEXT = random_ids(40, seed=2)
DEPTH = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("small"), num_hidden_layers=2, max_position_embeddings=48)


@pytest.fixture
def drafter(folder: Path) -> LmDrafter:
    return lm_drafter("small", accelerate(load_causal_lm(folder, "cpu", "drafter small")), 4, 2048)


@pytest.fixture(scope="module")
def probs(folder: Path) -> np.ndarray:
    """The model's distribution of every token of TEXT: [40, vocab]."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.inference_mode():
        logits = model(torch.from_numpy(np.concatenate([PROMPT, TEXT])[None].astype(np.int64))).logits[0]
    return logits[len(PROMPT) - 1 : -1].softmax(-1).numpy()


def observation(start: int, end: int, wants_scores: bool = True) -> Observation:
    return Observation(start, TEXT[start:end], np.full(end - start, 0.05, np.float32), None, wants_scores)


def draft(drafter: LmDrafter, num_tokens: int = DEPTH) -> list[int]:
    return drafter.draft([DraftRequest("a", 0, num_tokens)])[0].token_ids.tolist()


def test_a_greedy_draft_starts_with_its_most_probable_token(drafter: LmDrafter, probs: np.ndarray) -> None:
    drafter.open(make_spec(PROMPT, max_draft_tokens=DEPTH))
    for start, end in ((0, 3), (3, 4), (4, 9)):
        assert draft(drafter)[0] == probs[start].argmax()
        drafter.observe("a", observation(start, end))
    assert len(draft(drafter)) == DEPTH


def test_scores_are_the_ratio_at_the_realised_token(drafter: LmDrafter, probs: np.ndarray) -> None:
    drafter.open(make_spec(PROMPT, sampling=SamplingParams(temperature=1.0), max_draft_tokens=DEPTH))
    for start, end in ((0, 3), (3, 4), (4, 20)):
        drafter.observe("a", observation(start, end))
        scores = scores_of(drafter, [ScoreRequest("a", observation(start, end))])[0]
        realised = probs[np.arange(start, end), TEXT[start:end]]
        is_kept = realised > 0.02  # far above what truncation may drop
        expected = np.minimum(1.0, realised / 0.05)
        assert scores.acceptance.shape == (end - start, 1)
        np.testing.assert_allclose(scores.acceptance[is_kept, 0], expected[is_kept], rtol=0.02)


def test_catching_up_late_equals_catching_up_at_once(folder: Path) -> None:
    model = accelerate(load_causal_lm(folder, "cpu", "drafter small"))
    eager, lazy = (lm_drafter(name, model, 4, 2048) for name in ("eager", "lazy"))
    for drafter in (eager, lazy):
        drafter.open(make_spec(PROMPT, max_draft_tokens=DEPTH))
    for start, end in ((0, 3), (3, 4), (4, 9)):
        for drafter in (eager, lazy):
            drafter.observe("a", observation(start, end, wants_scores=drafter is eager))
        scores_of(eager, [ScoreRequest("a", observation(start, end))])
        draft(eager)
    assert draft(eager) == draft(lazy)


@pytest.mark.parametrize("num_emitted", [0, 5])
def test_a_tree_equals_plain_forwards_of_every_path(drafter: LmDrafter, folder: Path, num_emitted: int) -> None:
    """EAGLE's rule by brute force: the whole text and path run again for every node."""
    model, branching, num_nodes = AutoModelForCausalLM.from_pretrained(folder), 3, 25
    text = np.concatenate([PROMPT, TEXT[:num_emitted]])
    nodes: dict[tuple[int, ...], float] = {}
    beams: dict[tuple[int, ...], float] = {(): 0.0}
    for _ in range(DEPTH):
        new = {}
        for path, score in beams.items():
            ids = torch.tensor([[*text.tolist(), *path]])
            with torch.inference_mode():
                best = model(ids).logits[0, -1].double().log_softmax(-1).topk(branching)
            new |= {(*path, t): score + w for t, w in zip(best.indices.tolist(), best.values.tolist(), strict=True)}
        nodes |= new
        beams = dict(sorted(new.items(), key=lambda item: -item[1])[:branching])
    expected = sorted(nodes, key=lambda path: -nodes[path])[:num_nodes]
    drafter.open(make_spec(text, max_draft_tokens=DEPTH, draft_form=DraftForm("tree", branching)))
    tree = drafter.draft([DraftRequest("a", 0, DEPTH, num_nodes)])[0]
    found: list[tuple[int, ...]] = []
    for token, parent in zip(tree.token_ids.tolist(), tree.parent.tolist(), strict=True):
        found.append((*(found[parent] if parent >= 0 else ()), token))
    assert found == expected
    assert len({path[:-1] for path in expected if len(path) == DEPTH}) > 1, "several branches go on to the end"


def test_a_context_shorter_than_the_targets_ends_its_drafts_but_not_the_session(drafter: LmDrafter) -> None:
    drafter.open(make_spec(PROMPT, max_draft_tokens=DEPTH))
    drafter.observe("a", observation(0, 40))
    assert draft(drafter) == []
    acceptance = scores_of(drafter, [ScoreRequest("a", observation(0, 40))])[0].acceptance
    assert acceptance.shape == (40, 1)
    assert not acceptance[37:].any()


def test_close_frees_memory(drafter: LmDrafter) -> None:
    drafter.open(make_spec(PROMPT, sampling=GREEDY))
    draft(drafter)
    assert drafter.usage().num_cached_tokens == len(PROMPT)
    drafter.close("a")
    assert drafter.usage() == Usage()
