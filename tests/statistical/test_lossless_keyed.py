"""`coupled` and `greedy` are functions of the target alone: token for token, whichever drafter proposes and whatever dies.

These comparisons are exact and raise no false alarms; the two chi-square tests at the end say theirs.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from hedgespec.models.tabular import TabularDrafter, TabularModel, TabularTarget
from hedgespec.sampling.processing import process_logits
from hedgespec.sampling.token_counts import TokenCounts
from hedgespec.speculative.noise import gumbel_argmax, gumbels
from hedgespec.types import EMPTY_DRAFT, DraftRequest, Observation, SamplingParams, SessionSpec

VOCAB = 7
NUM_TOKENS = 40
MAX_DRAFT_TOKENS = 5
TARGET = TabularModel(VOCAB, order=2, seed=31, sharpness=1.5)
PROMPT = np.array([3, 1], np.int32)

PARAMS = {
    "plain": SamplingParams(seed=9),
    "top_p": SamplingParams(seed=9, temperature=0.8, top_p=0.7),
    "penalties": SamplingParams(seed=9, presence_penalty=0.9, repetition_penalty=1.3, logit_bias=((0, -1.0),)),
    "greedy": SamplingParams(temperature=0.0),
    "greedy with penalties": SamplingParams(temperature=0.0, frequency_penalty=0.4, repetition_penalty=1.2),
}


def pool() -> list[TabularDrafter]:
    models = [TARGET, TARGET.related(0.8, 41), TARGET.related(0.3, 42), TabularModel(VOCAB, 1, 43, 30.0)]
    drafters = [TabularDrafter(f"drafter-{number}", model) for number, model in enumerate(models)]
    return [*drafters, TabularDrafter("start-dependent", TARGET, depth_decay=0.6)]


def plain_decoding(params: SamplingParams, noise_seed: int) -> list[int]:
    """The definition, without any speculation: argmax of log p + noise (of p at temperature 0), one token at a time."""
    text: list[int] = []
    for index in range(NUM_TOKENS):
        logits = torch.from_numpy(np.log(TARGET.probs([*PROMPT, *text])))[None]
        probs = process_logits(logits, params, TokenCounts(PROMPT, text))[0].numpy()
        with np.errstate(divide="ignore"):
            scores = np.log(probs) + (0 if params.temperature == 0 else gumbels(noise_seed, index, np.arange(VOCAB)))
        text.append(int(scores.argmax()))
    return text


async def decode(params: SamplingParams, noise_seed: int, choices: np.random.Generator, mode: str) -> list[int]:
    """mode: `0`..`4` pins a drafter, `none`, `switching` at random in each round, `failures` also loses targets."""
    target, drafters = TabularTarget(TARGET), pool()
    nothing = np.zeros(0, np.int32)
    spec = SessionSpec("s", PROMPT, nothing, params, noise_seed, MAX_DRAFT_TOKENS)
    for model in (target, *drafters):
        await model.open(spec)
    text: list[int] = []
    round_index = 0
    while len(text) < NUM_TOKENS:
        tree = EMPTY_DRAFT
        if mode != "none":
            drafter = drafters[int(mode)] if mode.isdigit() else drafters[choices.integers(len(drafters))]
            tree = await drafter.draft(DraftRequest("s", round_index, int(choices.integers(MAX_DRAFT_TOKENS + 1))))
        if mode == "failures" and choices.random() < 0.4:
            await target.verify("s", round_index, tree)  # this verdict is lost together with its replica
            target, tree = TabularTarget(TARGET), EMPTY_DRAFT
            await target.open(replace(spec, emitted_ids=np.array(text, np.int32)))
        verdict = await target.verify("s", round_index, tree)
        observation = Observation(len(text), verdict.token_ids, verdict.target_probs, wants_scores=False)
        for drafter in drafters:
            await drafter.observe("s", round_index, observation)
        text += verdict.token_ids.tolist()
        round_index += 1
    return text[:NUM_TOKENS]


@pytest.mark.parametrize("mode", ["none", "0", "1", "2", "3", "4", "switching", "failures"])
@pytest.mark.parametrize("name", PARAMS)
async def test_text_equals_plain_decoding_token_for_token(name, mode):
    """The texts are equal for any drafter and length, with switching in every round and after failures, for three noise
    seeds."""
    choices = np.random.default_rng(7)
    for noise_seed in (0, 2**64 - 1, 123456789):
        params = PARAMS[name]
        assert await decode(params, noise_seed, choices, mode) == plain_decoding(params, noise_seed)


async def test_drafts_are_really_used():
    """The equality above would be empty if nothing were ever accepted: the target drafting for itself always is."""
    for name in ("plain", "greedy"):
        params = replace(PARAMS[name], top_k=3)
        target, drafter = TabularTarget(TARGET), TabularDrafter("same", TARGET)
        spec = SessionSpec("s", PROMPT, np.zeros(0, np.int32), params, 5, MAX_DRAFT_TOKENS)
        await target.open(spec)
        await drafter.open(spec)
        verdict = await target.verify("s", 0, await drafter.draft(DraftRequest("s", 0, MAX_DRAFT_TOKENS)))
        assert verdict.num_accepted == MAX_DRAFT_TOKENS


def test_keyed_samples_over_consecutive_seeds_follow_the_target():
    """Chi-square over 10,000 seeds; false alarm for one choice of seeds in 10,000."""
    probs = TARGET.probs(PROMPT)
    ids = np.arange(VOCAB, dtype=np.int32)
    counts = np.bincount([gumbel_argmax(ids, probs, seed, 0) for seed in range(10_000)], minlength=VOCAB)
    assert stats.chisquare(counts, probs * counts.sum()).pvalue > 1e-4


def test_keyed_samples_of_neighbouring_positions_are_independent():
    """Pairs (position 4, position 5) over 10,000 seeds against the product distribution; false alarm 1 in 10,000."""
    first, second = TARGET.probs([0]), TARGET.probs([1])
    ids = np.arange(VOCAB, dtype=np.int32)
    counts = np.zeros((VOCAB, VOCAB))
    for seed in range(10_000):
        counts[gumbel_argmax(ids, first, seed, 4), gumbel_argmax(ids, second, seed, 5)] += 1
    expected = np.outer(first, second) * counts.sum()
    common = expected >= 5
    observed = np.append(counts[common], counts[~common].sum())
    assert stats.chisquare(observed, np.append(expected[common], expected[~common].sum())).pvalue > 1e-4
