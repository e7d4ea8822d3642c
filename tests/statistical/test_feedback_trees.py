"""Trees: the `rounds` recursion on shadow-cursor scores counts the passes of real tree decoding.

Toy drafters whose trees are functions of the text before the round: per path a set of distinct children, tried in turn as
EAGLE does (accept x with its remaining probability, else remove it). Vocabulary and trees are random, seeds fixed.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from hedgespec.errors import ConfigError
from hedgespec.learning.estimators import RoundsCursor, advance
from hedgespec.learning.feedback import make_feedback
from hedgespec.types import DraftForm, DraftKind

VOCAB, DEPTH, NUM_TOKENS, NUM_ANSWERS = 5, 4, 24, 1500

Path = tuple[int, ...]


class TreeDrafter:
    """children(last id before the round, path): at most `width` distinct ids, sometimes none."""

    def __init__(self, seed: int, width: int) -> None:
        rng = np.random.default_rng(seed)
        self._children = cache(lambda last, path: tuple(rng.permutation(VOCAB)[: rng.integers(0, width + 1)].tolist()))

    def children(self, last: int, path: Path) -> Path:
        return self._children(last, path) if len(path) < DEPTH else ()


def decode(rng: np.random.Generator, target: np.ndarray, drafter: TreeDrafter) -> tuple[Path, int]:
    """Real tree decoding: (text, target passes). target: [last id, next id]."""
    text: list[int] = []
    passes = 0
    while len(text) < NUM_TOKENS:
        passes += 1
        root, path = (text[-1] if text else 0), ()
        is_inside = True
        while is_inside and len(text) < NUM_TOKENS:
            distribution = target[text[-1] if text else 0].copy()
            is_inside = False
            for child in drafter.children(root, path):
                if rng.random() < distribution[child]:
                    is_inside, path = True, (*path, child)
                    text.append(child)
                    break
                distribution[child] = 0.0
                distribution /= distribution.sum()
            if not is_inside:
                text.append(int(rng.choice(VOCAB, p=distribution)))
    return tuple(text), passes


def shadow_scores(text: Path, drafter: TreeDrafter) -> np.ndarray:
    """Return scores [num_tokens, depth] of a cursor that walks over the text and drafts anew where its last draft ended."""
    rows = np.zeros((len(text), DEPTH))
    root, path = 0, ()
    for position, token in enumerate(text):
        if token in drafter.children(root, path):
            rows[position, len(path)] = 1.0
            path = (*path, token)
        else:
            root, path = token, ()
    return rows


def sum_of_u(rows: np.ndarray) -> float:
    _, round_starts = advance(RoundsCursor.start(1, DEPTH), rows[None])
    assert set(np.unique(round_starts)) <= {0.0, 1.0}
    return float(round_starts[:-1].sum())


def test_sum_of_u_counts_the_passes_of_the_very_run_that_was_decoded() -> None:
    """The sum of u over a tree drafter's shadow scores on text that it decoded itself is its number of passes, answer
    by answer and without error: a child of the tree is the next token exactly when it was accepted. No false alarms."""
    rng = np.random.default_rng(20251125)
    target = rng.dirichlet(np.full(VOCAB, 0.4), size=VOCAB)
    drafter, counts = TreeDrafter(1, width=3), set()
    for _ in range(300):
        text, passes = decode(rng, target, drafter)
        assert sum_of_u(shadow_scores(text, drafter)) == passes
        counts.add(passes)
    assert len(counts) > 5


def test_another_drafters_text_gives_the_mean_passes() -> None:
    """The chosen drafter's text gives every other one its expected passes: mean sum of u on text of A equals the mean
    passes of B's own runs. Both means are normal; 4.5 standard errors are exceeded by chance once in 150,000 seeds."""
    rng = np.random.default_rng(7)
    target = rng.dirichlet(np.full(VOCAB, 0.4), size=VOCAB)
    chosen, other = TreeDrafter(2, width=2), TreeDrafter(3, width=3)
    scored, own = np.zeros(NUM_ANSWERS), np.zeros(NUM_ANSWERS)
    for answer in range(NUM_ANSWERS):
        text, passes_of_chosen = decode(rng, target, chosen)
        scored[answer] = sum_of_u(shadow_scores(text, other))
        own[answer] = decode(rng, target, other)[1]
    error = np.sqrt((scored.var() + own.var()) / NUM_ANSWERS)
    assert abs(scored.mean() - own.mean()) < 4.5 * error
    assert error < 0.02 * own.mean()


def test_entries_off_the_cursors_path_are_never_read() -> None:
    """The sum of u is the same to the last bit, whatever the entries off the cursor's path contain."""
    rng = np.random.default_rng(11)
    target = rng.dirichlet(np.full(VOCAB, 0.4), size=VOCAB)
    drafter = TreeDrafter(4, width=3)
    text, passes = decode(rng, target, drafter)
    rows = shadow_scores(text, drafter)
    root, path = 0, ()
    for position, token in enumerate(text):
        own, depth = rows[position].copy(), len(path)
        rows[position] = rng.random(DEPTH)
        if depth < DEPTH:
            rows[position, depth] = own[depth]
        if token in drafter.children(root, path):
            path = (*path, token)
        else:
            root, path = token, ()
    assert sum_of_u(rows) == passes


@pytest.mark.parametrize("kind", ["tree", "iid", "distinct"])
@pytest.mark.parametrize("objective", ["acceptance", "length", "length_product"])
def test_objectives_of_every_start_refuse_what_is_scored_at_some(objective: str, kind: DraftKind) -> None:
    """A mean over the starts that a drafter's own cursor visits compares drafters on different text: refused, with the
    way out. `rounds` takes every form."""
    with pytest.raises(ConfigError, match="time or rounds"):
        make_feedback(objective, 2, DEPTH, 8, draft_form=DraftForm(kind, 2))
    make_feedback("rounds", 2, DEPTH, 8, draft_form=DraftForm(kind, 2))


def test_a_mean_over_visited_starts_would_prefer_the_worse_drafter() -> None:
    """This is why they are refused. Drafter A foresees three of five tokens, in a row: 80 passes for 200 tokens, and a
    hit at half of the starts that it visits. Drafter B foresees every second one: 100 passes, and a hit at each of its
    starts."""
    foreseen = np.array([1, 1, 1, 0, 0] * 40)
    every_second = np.array([1, 0] * 100)
    passes, visited = [], []
    for hits in (foreseen, every_second):
        rows = np.zeros((200, 3))
        depth, starts = 0, []
        for position, hit in enumerate(hits):
            if depth == 0:
                starts.append(float(hit))
            if depth < 3 and hit:
                rows[position, depth] = 1.0
                depth += 1
            else:
                depth = 0
        passes.append(float(advance(RoundsCursor.start(1, 3), rows[None])[1][:-1].sum()))
        visited.append(float(np.mean(starts)))
    assert (passes, visited) == ([80.0, 100.0], [0.5, 1.0])
