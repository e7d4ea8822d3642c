"""The sum of u of multi-drafts against decoding with them as it is really run: recursive rejection, written down naively."""

from __future__ import annotations

import numpy as np
import pytest

from hedgespec.learning.estimators import RoundsCursor, advance
from hedgespec.models.tabular import TabularDrafter, TabularModel
from hedgespec.types import DraftForm, DraftRequest, DraftTree, Observation, SamplingParams, SessionSpec, SparseRows

DEPTH, NUM_TOKENS, NUM_ANSWERS = 3, 12, 500
TARGET = TabularModel(vocab_size=4, order=1, seed=3, sharpness=1.2)
DRAFTER = TARGET.related(0.4, 8)
PROMPT = np.array([1], np.int32)


@pytest.mark.parametrize("kind", ["iid", "distinct"])
async def test_passes_with_a_multi_draft_match_the_sum_of_u(kind: str) -> None:
    """Mean passes of the drafter run alone equal the mean sum of u over the target's own text.

    The drafts depend on the start (their distributions flatten with depth). Fixed seeds; the difference of the two means is
    normal: 4.5 standard errors are exceeded by chance once in 150,000 seeds.
    """
    form = DraftForm(kind, 2)  # type: ignore[arg-type]
    rng = np.random.default_rng(20261125)
    passes = np.array([await decoded(rng, form, answer) for answer in range(NUM_ANSWERS)], float)
    sums = np.array([await scored(rng, form, 10_000 + answer) for answer in range(NUM_ANSWERS)])
    chain = np.array([await scored(rng, DraftForm(), 20_000 + answer) for answer in range(150)])
    error = np.sqrt(passes.var() / NUM_ANSWERS + sums.var() / NUM_ANSWERS)
    assert abs(passes.mean() - sums.mean()) < 4.5 * error
    assert sums.mean() < 0.95 * chain.mean(), "a second chain saves passes, and the scores see it"


def make_spec(form: DraftForm, answer: int) -> SessionSpec:
    return SessionSpec(
        f"s{answer}",
        PROMPT,
        np.zeros(0, np.int32),
        SamplingParams(temperature=1.0),
        noise_seed=answer,
        max_draft_tokens=DEPTH,
        num_target_top=4,
        score_depth="exact",
        draft_form=form,
    )


def make_drafter() -> TabularDrafter:
    return TabularDrafter("d", DRAFTER, depth_decay=0.8)


async def decoded(rng: np.random.Generator, form: DraftForm, answer: int) -> int:
    """Rounds until NUM_TOKENS tokens have been emitted."""
    drafter, spec = make_drafter(), make_spec(form, answer)
    await drafter.open(spec)
    text: list[int] = []
    rounds = 0
    while len(text) < NUM_TOKENS:
        tokens = verified(rng, await drafter.draft(DraftRequest(spec.session_id, rounds, DEPTH)), text)
        observation = Observation(len(text), np.array(tokens, np.int32), np.ones(len(tokens), np.float32), None, False)
        await drafter.observe(spec.session_id, rounds, observation)
        text, rounds = text + tokens, rounds + 1
    return rounds


def verified(rng: np.random.Generator, tree: DraftTree, text: list[int]) -> list[int]:
    """Try the children of each node in order; a rejected one's distribution is taken out of what is left of p."""
    node, tokens = -1, list[int]()
    while True:
        p = TARGET.probs([*PROMPT.tolist(), *text, *tokens])
        for child in np.flatnonzero(tree.parent == node).tolist():
            assert tree.draft_probs is not None
            q = np.zeros(len(p))
            ids, probs = tree.draft_probs.row(child)
            q[ids] = probs / probs.sum()
            token = int(tree.token_ids[child])
            if rng.random() * q[token] < p[token]:
                tokens.append(token)
                node = child
                break
            p = np.maximum(p - q, 0.0)
            p = p / p.sum()
        else:
            return [*tokens, int(rng.choice(len(p), p=p))]


async def scored(rng: np.random.Generator, form: DraftForm, answer: int) -> float:
    """The sum of u over a text that the target samples by itself, observed in pieces."""
    drafter, spec = make_drafter(), make_spec(form, answer)
    await drafter.open(spec)
    text: list[int] = []
    rows = []
    while len(text) < NUM_TOKENS:
        distributions, tokens = [], list[int]()
        for _ in range(int(rng.integers(1, 4))):
            distribution = TARGET.probs([*PROMPT.tolist(), *text, *tokens])
            distributions.append(distribution)
            tokens.append(int(rng.choice(len(distribution), p=distribution)))
        probs = np.array(
            [distribution[token] for distribution, token in zip(distributions, tokens, strict=True)], np.float32
        )
        offsets = 4 * np.arange(len(tokens) + 1, dtype=np.int32)
        ids = np.tile(np.arange(4, dtype=np.int32), len(tokens))
        top = SparseRows(offsets, ids, np.concatenate(distributions).astype(np.float32))
        scores = await drafter.observe(
            spec.session_id, 0, Observation(len(text), np.array(tokens, np.int32), probs, top)
        )
        assert scores is not None
        rows.append(scores.acceptance)
        text += tokens
    acceptance = np.concatenate(rows)[None, :NUM_TOKENS].astype(np.float64)
    acceptance = np.broadcast_to(acceptance, (1, NUM_TOKENS, DEPTH))
    return float(advance(RoundsCursor.start(1, DEPTH), acceptance)[1][:-1].sum())
