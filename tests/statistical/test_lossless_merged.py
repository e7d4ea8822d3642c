"""Losslessness of merged rounds with their real noise: the router's panel asks several drafters, a target verifies.

Enumeration takes the drafters' samples for independent (`test_lossless_trees.py`); whether they are is seen here. All
sessions are keyed by consecutive integers. Chi-square at fixed keys; each passing check would raise a false alarm for
one choice of keys in 10,000.
"""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from scipy import stats

from hedgespec.models.tabular import TabularDrafter, TabularModel, TabularTarget
from hedgespec.router import panel as panel_module
from hedgespec.router.drafting import draft_round
from hedgespec.router.events import NoEvents
from hedgespec.router.panel import DrafterPanel
from hedgespec.router.selection import Choice
from hedgespec.types import CHAIN, EMPTY_DRAFT, DraftForm, DraftKind, SamplingParams, SessionSpec

FALSE_ALARM_RATE = 1e-4
NUM_SESSIONS = 700
VOCAB = 4
NUM_TOKENS = 2
TARGET = TabularModel(VOCAB, order=0, seed=14, sharpness=1.5)
OTHER = TabularModel(VOCAB, order=0, seed=108, sharpness=1.2)
"""Distributions for which a second draft that repeats the first sample moves a token's probability from 0.89 to 0.77."""
PROMPT = np.array([1, 2], np.int32)


@pytest.mark.parametrize("form", [CHAIN, DraftForm("iid", 2), DraftForm("distinct", 2)], ids=lambda form: form.kind)
async def test_text_of_merged_rounds_follows_the_target(form: DraftForm) -> None:
    assert p_value(await sample_texts([OTHER, OTHER], form)) > FALSE_ALARM_RATE


@pytest.mark.parametrize("kind", ["tree", "iid", "distinct"])
async def test_text_of_one_drafter_follows_the_target_in_every_form(kind: DraftKind) -> None:
    """Siblings' draws and the noise of their acceptance are as independent as enumeration assumes."""
    assert p_value(await sample_texts([OTHER], DraftForm(kind, 2))) > FALSE_ALARM_RATE


async def test_text_follows_the_target_when_three_different_drafters_are_merged() -> None:
    assert (
        p_value(await sample_texts([OTHER, OTHER.related(0.8, 24), TARGET.related(0.5, 25)], CHAIN)) > FALSE_ALARM_RATE
    )


async def test_drafters_that_draw_with_the_same_noise_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each drafter needs a key of its own: with a shared one the second sample would be a function of the first."""
    monkeypatch.setattr(panel_module, "drafter_seed", lambda noise_seed, drafter_index: noise_seed)
    assert p_value(await sample_texts([OTHER, OTHER], CHAIN)) < 1e-12


async def test_under_coupled_and_greedy_all_drafters_keep_the_targets_key() -> None:
    """Guesses under these methods are hits because they use the same noise as the target."""
    for sampling in (SamplingParams(seed=3), SamplingParams(temperature=0.0)):
        spec = SessionSpec("s", PROMPT, np.zeros(0, np.int32), sampling, 3, NUM_TOKENS)
        panel = DrafterPanel([TabularDrafter(f"drafter-{n}", TARGET) for n in range(3)], None, NoEvents())
        await panel.open(spec, 1.0)
        trees = [await panel.draft(Choice(index, NUM_TOKENS), 0, 1.0) for index in range(3)]
        assert len({tuple(tree.token_ids.tolist()) for tree in trees}) == 1


async def sample_texts(models: list[TabularModel], form: DraftForm) -> Counter[tuple[int, ...]]:
    target = TabularTarget(TARGET)
    drafters = [TabularDrafter(f"drafter-{number}", model) for number, model in enumerate(models)]
    choices = [Choice(index, NUM_TOKENS, NUM_TOKENS * form.branching) for index in range(len(models))]
    texts: Counter[tuple[int, ...]] = Counter()
    for key in range(NUM_SESSIONS):
        spec = SessionSpec("s", PROMPT, np.zeros(0, np.int32), SamplingParams(), key, NUM_TOKENS, draft_form=form)
        panel = DrafterPanel(drafters, None, NoEvents())
        await panel.open(spec, 1.0)
        await target.open(spec)
        tree = await draft_round(panel, tuple(choices), 0, 1.0)
        text = (await target.verify("s", 0, tree)).token_ids.tolist()
        while len(text) < NUM_TOKENS:
            text += (await target.verify("s", len(text), EMPTY_DRAFT)).token_ids.tolist()
        texts[tuple(text[:NUM_TOKENS])] += 1
    return texts


def p_value(texts: Counter[tuple[int, ...]]) -> float:
    pairs = list(product(range(VOCAB), repeat=NUM_TOKENS))
    expected = np.array([TARGET.probs(PROMPT)[x] * TARGET.probs([*PROMPT, x])[y] for x, y in pairs]) * texts.total()
    observed = np.array([texts[pair] for pair in pairs])
    rare = expected < 5
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    return float(stats.chisquare(observed[expected > 0], expected[expected > 0]).pvalue)
