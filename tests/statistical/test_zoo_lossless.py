"""Losslessness on the real zoo: a transformers checkpoint, trained EAGLE-3 heads, the n-gram drafter, float32."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio
import torch
from numpy.typing import NDArray
from scipy import stats
from transformers import AutoModelForCausalLM, PreTrainedModel

from hedgespec import zoo
from hedgespec.assembly.local_service import LocalService, local_service
from hedgespec.types import SamplingParams
from tests.zoo_service import MAX_DRAFT_TOKENS, drafter_ids, prompt_ids, tokens_of, zoo_args

NUM_TOKENS = 40
NEAR_TIE = 1e-4
"""Two ways to compute the same logits in float32 may order ids differently that are this close."""

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def reference() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(zoo.target_folder(), dtype=torch.float32, local_files_only=True).eval()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local() -> AsyncIterator[LocalService]:
    async with local_service(zoo_args()) as service:
        yield service


def reference_greedy(model: PreTrainedModel, prompt: NDArray[np.int32]) -> list[int]:
    ids = torch.as_tensor(prompt, dtype=torch.long)[None]
    with torch.inference_mode():
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NUM_TOKENS, eos_token_id=None
        )
    return output[0, len(prompt) :].tolist()


def target_probs(model: PreTrainedModel, prompt: NDArray[np.int32], tokens: list[int]) -> NDArray[np.float64]:
    """Return the target's distribution of each token given the realised ones before it: [num_tokens, vocab]."""
    ids = torch.as_tensor([*prompt.tolist(), *tokens], dtype=torch.long)[None]
    with torch.inference_mode():
        logits = model(ids).logits[0, len(prompt) - 1 : -1]
    return torch.softmax(logits.double(), dim=-1).numpy()


def check_same(model: PreTrainedModel, prompt: NDArray[np.int32], ours: list[int], expected: list[int]) -> int:
    """Return the number of near-ties (0 or 1); any other difference fails."""
    if ours == expected:
        return 0
    at = next(i for i, (a, b) in enumerate(zip(ours, expected, strict=True)) if a != b)
    logs = np.log(target_probs(model, prompt, expected)[at])
    gap = float(np.diff(np.sort(logs)[-2:])[0])
    assert gap < NEAR_TIE, f"token {at} differs although the two best logits are {gap:.1e} apart"
    return 1


@pytest.mark.parametrize("drafter", [*drafter_ids(), "random"])
async def test_greedy_text_is_that_of_transformers_for_every_drafter_and_draft_length(
    local: LocalService, reference: PreTrainedModel, drafter: str
):
    num_near_ties = 0
    sampling = SamplingParams(temperature=0.0, max_tokens=NUM_TOKENS, ignore_eos=True)
    for length in range(1, MAX_DRAFT_TOKENS + 1):
        domain = zoo.DOMAINS[length % len(zoo.DOMAINS)]
        prompt = prompt_ids(local, domain, length)
        ours = await tokens_of(local, prompt, sampling, drafter, length)
        num_near_ties += check_same(reference, prompt, ours, reference_greedy(reference, prompt))
    assert num_near_ties <= 1


async def test_seeded_text_is_the_same_with_every_drafter_with_none_and_with_switching(local: LocalService):
    for index, parameters in enumerate(
        [{"temperature": 1.0}, {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "frequency_penalty": 0.3}]
    ):
        sampling = SamplingParams(seed=index + 5, max_tokens=NUM_TOKENS, ignore_eos=True, **parameters)
        prompt = prompt_ids(local, zoo.DOMAINS[index], index)
        plain = await tokens_of(local, prompt, sampling, "none")
        for drafter in [*drafter_ids(), "random", None]:
            assert await tokens_of(local, prompt, sampling, drafter, 5) == plain, drafter


def uniform_ranks(probs: NDArray[np.float64], tokens: list[int], rng: np.random.Generator) -> list[float]:
    """Randomised probability integral transform, ids ordered by falling probability: uniform on (0, 1) and independent
    if and only if the tokens really follow the distribution."""
    ranks = []
    for row, token in zip(probs, tokens, strict=True):
        above = row[row > row[token]].sum()
        tied = row[row == row[token]].sum()
        ranks.append(float(above + rng.random() * tied))
    return ranks


async def test_sampled_text_follows_the_target_at_temperature_one(local: LocalService, reference: PreTrainedModel):
    """Rejection sampling with learned and with random selection; Kolmogorov-Smirnov on about 1,600 tokens.

    False-alarm rate 1e-4 (seeds of the sampler are random, so this is a rate per run).
    """
    rng = np.random.default_rng(0)
    ranks: list[float] = []
    wrong: list[float] = []
    sampling = SamplingParams(temperature=1.0, max_tokens=NUM_TOKENS, ignore_eos=True)
    for index in range(7):
        for domain in zoo.DOMAINS:
            prompt = prompt_ids(local, domain, index)
            tokens = await tokens_of(local, prompt, sampling, "random" if index % 2 else None, 5)
            probs = target_probs(reference, prompt, tokens)
            ranks += uniform_ranks(probs, tokens, rng)
            sharper = probs**1.25
            wrong += uniform_ranks(sharper / sharper.sum(axis=1, keepdims=True), tokens, rng)
    assert stats.kstest(ranks, "uniform").pvalue > 1e-4
    assert stats.kstest(wrong, "uniform").pvalue < 1e-4, "the test would not notice a temperature of 0.8"
