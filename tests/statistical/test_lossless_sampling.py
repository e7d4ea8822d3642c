"""Losslessness of `rejection` with its real noise: the tokens of many keyed sessions against the target's distribution.

What enumeration cannot see is whether the noise of drafting, accepting and recovering is as independent as it assumes.
The session keys are consecutive integers, the worst seeds that users choose. Chi-square at fixed keys; each passing
check would raise a false alarm for one choice of keys in 10,000.
"""

from collections import Counter
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

from hedgespec.models.tabular import TabularModel
from hedgespec.sampling.processing import process_logits
from hedgespec.speculative import chain_rejection, noise, proposal
from hedgespec.speculative.acceptance import accept
from hedgespec.speculative.noise import Purpose
from hedgespec.speculative.proposal import propose, truncate
from hedgespec.speculative.sparse_rows import concatenate
from hedgespec.speculative.verification import VerifyContext
from hedgespec.types import EMPTY_DRAFT, DraftTree, SamplingParams, SparseRows

FALSE_ALARM_RATE = 1e-4
NUM_SESSIONS = 4000
NUM_TOKENS = 3
PARAMS = SamplingParams(temperature=0.9, top_p=0.98)
TARGET = TabularModel(vocab_size=4, order=2, seed=21, sharpness=1.0)
DRAFTERS = (TARGET.related(0.6, 22), TabularModel(4, 2, seed=23), TabularModel(4, 1, seed=24, sharpness=40.0))

Text = tuple[int, ...]


@pytest.mark.parametrize(("length", "first_key"), [(0, 0), (1, 2**63), (2, 0), (3, 2**64 - 1000)])
def test_emitted_tokens_follow_the_targets_distribution_while_drafters_switch(length, first_key):
    """The drafter of a round depends on the text so far and on what was drafted and thrown away."""
    assert p_value(sample_texts(length, first_key)) > FALSE_ALARM_RATE


def test_recovering_from_the_target_instead_of_the_residual_is_caught(monkeypatch):
    """The test can fail: this mistake is the one that still looks right in a demo."""
    monkeypatch.setattr(chain_rejection, "residual", lambda probs, ids, distributions: probs.double())
    assert p_value(sample_texts(1, 0)) < 1e-12


def test_recovery_noise_that_repeats_the_accept_noise_is_caught(monkeypatch):
    def shared(seed: int, output_index: int, purpose: Purpose) -> float:
        return noise.uniform(seed, output_index, Purpose.ACCEPT)

    monkeypatch.setattr(chain_rejection, "uniform", shared)
    assert p_value(sample_texts(1, 0)) < 1e-12


def test_draft_noise_that_repeats_the_accept_noise_is_caught(monkeypatch):
    def shared(seed: int, output_index: int, purpose: Purpose, *, round_index: int) -> float:
        return noise.uniform(seed, output_index, Purpose.ACCEPT)

    monkeypatch.setattr(proposal, "uniform", shared)
    assert p_value(sample_texts(1, 0)) < 1e-12


def sample_texts(length: int, first_key: int) -> list[Text]:
    """The first tokens of every session, all sessions in lockstep."""
    texts: list[Text] = [()] * NUM_SESSIONS
    thrown_away = [0] * NUM_SESSIONS
    running, round_index = list(range(NUM_SESSIONS)), 0
    while running:
        trees, contexts, rows = [], [], []
        for session in running:
            text, key = texts[session], first_key + session
            tree = draft(text, (sum(text) + thrown_away[session]) % len(DRAFTERS), length, key, round_index)
            trees.append(tree)
            contexts.append(VerifyContext(PARAMS, key, len(text)))
            rows += [target_row((*text, *tree.token_ids[:n].tolist())) for n in range(tree.num_nodes + 1)]
        verdicts = accept(trees, torch.stack(rows), contexts)
        for session, tree, verdict in zip(running, trees, verdicts, strict=True):
            texts[session] += tuple(verdict.token_ids.tolist())
            thrown_away[session] = int(tree.token_ids[verdict.num_accepted :].sum())
        running = [session for session in running if len(texts[session]) < NUM_TOKENS]
        round_index += 1
    return [text[:NUM_TOKENS] for text in texts]


def draft(text: Text, drafter: int, length: int, key: int, round_index: int) -> DraftTree:
    if length == 0:
        return EMPTY_DRAFT
    tokens, rows = [], []
    for depth in range(length):
        row = draft_row(drafter, (*text, *tokens))
        tokens.append(propose(*row.row(0), "rejection", key, len(text) + depth, round_index))
        rows.append(row)
    return DraftTree.chain(np.array(tokens), concatenate(rows))


@cache
def draft_row(drafter: int, text: Text) -> SparseRows:
    return truncate(process_logits(torch.from_numpy(DRAFTERS[drafter].probs(text)).log()[None], PARAMS))


@cache
def target_row(text: Text) -> torch.Tensor:
    return torch.from_numpy(TARGET.probs(text)).log()


def p_value(texts: list[Text]) -> float:
    """Chi-square over all texts of NUM_TOKENS tokens; texts that the target excludes must not occur."""
    observed, distribution = Counter(texts), {}
    for text in product(range(TARGET.vocab_size), repeat=NUM_TOKENS):
        rows = torch.stack([target_row(text[:n]) for n in range(NUM_TOKENS)])
        probs = process_logits(rows, PARAMS)
        distribution[text] = float(np.prod([float(probs[n, token]) for n, token in enumerate(text)]))
    if any(distribution[text] == 0 for text in observed):
        return 0.0
    expected = np.array([distribution[text] * len(texts) for text in distribution])
    counts = np.array([observed[text] for text in distribution])
    rare = expected < 5
    if rare.any():
        expected = np.append(expected[~rare], expected[rare].sum())
        counts = np.append(counts[~rare], counts[rare].sum())
        expected, counts = expected[expected > 0], counts[expected > 0]
    return float(stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue)
