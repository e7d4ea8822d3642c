"""The training-time test must be the recurrence that serving runs, for every start at once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hedgespec.models.eagle3.config import Eagle3Config
from hedgespec.models.eagle3.head import Eagle3Head
from hedgespec.models.rotary import RopeConfig
from hedgespec.training.teacher import Lesson
from hedgespec.training.ttt import rollout, ttt_loss

_DEPTHS = 5


class GrowingMemory:
    """Attention as a serving session does it: keys and values are appended, a query sees everything up to itself."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        outputs = []
        for q, k, v in zip(query, key, value, strict=True):
            self.keys.append(k)
            self.values.append(v)
            keys, values = torch.stack(self.keys, 1), torch.stack(self.values, 1)  # [num_kv_heads, seen, head_dim]
            group = q.shape[0] // k.shape[0]
            keys, values = keys.repeat_interleave(group, 0), values.repeat_interleave(group, 0)
            outputs.append(F.scaled_dot_product_attention(q[:, None], keys, values).flatten())
        return torch.stack(outputs)


@pytest.fixture
def head() -> Eagle3Head:
    torch.manual_seed(1)
    config = Eagle3Config(32, 32, 48, 4, 2, 8, 64, 40, 128, 1e-5, RopeConfig())
    head = Eagle3Head(config).double()
    torch.nn.init.normal_(head.embed_tokens.weight)
    head.draft_to_target = torch.randperm(64)[:40].sort().values
    return head


def test_training_rollout_equals_an_incremental_rollout_from_every_start(head: Eagle3Head) -> None:
    """State (row s, depth i) equals: prefill target features 0..s, then i steps on the head's own states."""
    length, batch = 14, 2
    tokens = torch.randint(0, 64, (batch, length))
    features = torch.randn(batch, length, 96, dtype=torch.float64)
    with torch.no_grad():
        starts = torch.tensor([0, 2, 3, 7])
        states = rollout(head, tokens, features, _DEPTHS, starts)
        for row in range(batch):
            for start in range(length - _DEPTHS):
                memory = GrowingMemory()
                seen = slice(0, start + 1)
                embeds = head.embed(tokens[row, 1 : start + 2])
                hidden = head.step(embeds, head.fuse(features[row, seen]), torch.arange(start + 1), memory)[-1:]
                for depth in range(_DEPTHS):
                    rows, expected = states[depth]
                    if start in rows.tolist():
                        torch.testing.assert_close(expected[row, rows.tolist().index(start)], hidden[0])
                    if depth + 1 < _DEPTHS:
                        token = tokens[row, start + depth + 2 : start + depth + 3]
                        hidden = head.step(head.embed(token), hidden, torch.tensor([start + depth + 1]), memory)


def test_perfect_head_reaches_the_entropy_of_the_renormalised_target(head: Eagle3Head) -> None:
    """The loss is a cross-entropy against the softmax over the draft vocabulary: never below that softmax's entropy."""
    draft_logits = torch.randn(1, 8, 40, dtype=torch.float64)
    best = head.draft_to_target[draft_logits.argmax(-1)]
    lesson = Lesson(
        torch.randint(0, 64, (1, 8)), torch.randn(1, 8, 96, dtype=torch.float64), *_taught(draft_logits, best)
    )
    wanted = draft_logits[:, 1:].log_softmax(-1)
    head.logits = lambda hidden_out: wanted[0]  # type: ignore[method-assign]
    loss, hits = ttt_loss(head, lesson, 1, 0.8, torch.arange(0))
    torch.testing.assert_close(loss.double(), -(wanted.exp() * wanted).sum(-1).mean(), rtol=1e-5, atol=1e-6)
    assert hits.tolist() == [1.0]


def test_positions_whose_best_token_cannot_be_drafted_give_no_gradient_and_count_as_misses(head: Eagle3Head) -> None:
    outside = next(i for i in range(64) if i not in head.draft_to_target.tolist())
    features, draft_logits = torch.randn(1, 12, 96, dtype=torch.float64), torch.zeros(1, 12, 40, dtype=torch.float64)
    lesson = Lesson(torch.randint(0, 64, (1, 12)), features, *_taught(draft_logits, torch.full((1, 12), outside)))
    loss, hits = ttt_loss(head, lesson, 3, 0.8, torch.arange(9))
    assert loss.item() == 0.0
    assert hits.tolist() == [0.0, 0.0, 0.0]


def test_positions_that_do_not_count_change_neither_loss_nor_hits(head: Eagle3Head) -> None:
    draft_logits = torch.randn(1, 12, 40, dtype=torch.float64)
    best = head.draft_to_target[draft_logits.argmax(-1)]
    probs, best, counts = _taught(draft_logits, best)
    token_ids, features = torch.randint(0, 64, (1, 12)), torch.randn(1, 12, 96, dtype=torch.float64)
    counts[:, 5:] = False
    expected = ttt_loss(head, Lesson(token_ids, features, probs, best, counts), 3, 0.8, torch.arange(4))
    other = probs.clone()
    other[:, 5:] = torch.randn(1, 7, 40, dtype=torch.float64).softmax(-1)
    changed_later = best.clone()
    changed_later[:, 5:] = head.draft_to_target[0]
    actual = ttt_loss(head, Lesson(token_ids, features, other, changed_later, counts), 3, 0.8, torch.arange(4))
    torch.testing.assert_close(actual, expected)


def _taught(draft_logits: Tensor, best: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the last three fields of a lesson in which every position counts."""
    return draft_logits.softmax(-1), best, torch.ones_like(best, dtype=torch.bool)
