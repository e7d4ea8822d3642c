"""The zoo through gRPC: the same text, the same drafts, the same scores as in one process."""

from __future__ import annotations

import pytest

from hedgespec.assembly.local_service import local_service
from hedgespec.types import SamplingParams
from tests.grpc_fleet import grpc_service
from tests.zoo_service import chunks_of, drafter_ids, prompt_ids, tokens_of, zoo_args

pytestmark = pytest.mark.timeout(600)


async def test_seeded_and_greedy_text_is_the_same_through_grpc_as_in_one_process():
    samplings = [
        SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True),
        SamplingParams(temperature=1.0, seed=3, max_tokens=40, ignore_eos=True),
    ]
    async with local_service(zoo_args()) as local, grpc_service(zoo_args()) as remote:
        for sampling, domain in zip(samplings, ("python", "sql"), strict=True):
            prompt = prompt_ids(local, domain)
            plain = await tokens_of(local, prompt, sampling, "none")
            for drafter in (*drafter_ids(), "random", None):
                assert await tokens_of(remote, prompt, sampling, drafter, 5) == plain, drafter


@pytest.mark.parametrize("drafter", ["generic", "sql"])
async def test_features_arrive_in_time_so_that_grpc_costs_no_acceptance(drafter: str):
    """A head that misses features drafts worse; through gRPC it needs exactly as many passes as in one process."""
    sampling = SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True)
    rounds = []
    for service in (local_service, grpc_service):
        async with service(zoo_args()) as running:
            last = (await chunks_of(running, prompt_ids(running, "sql"), sampling, drafter, 5))[-1]
            assert last.stats is not None
            rounds.append(last.stats.num_rounds)
    assert rounds[0] == rounds[1]
