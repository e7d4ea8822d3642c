"""Prefix reuse through router and gRPC: the router learns how much was saved, and tenants do not share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hedgespec.types import GenerationRequest, SamplingParams
from tests.grpc_fleet import grpc_service
from tests.zoo_service import prompt_ids, zoo_args

pytestmark = pytest.mark.timeout(600)


async def test_the_second_answer_of_a_tenant_reuses_the_prompt_and_says_the_same():
    """All whole blocks of the prompt but the last id's row are reused, for the tenant that asked before and for no other."""
    args = zoo_args()
    args = args.model_copy(update={"drafters": tuple(d for d in args.drafters if d.id in ("generic", "ngram"))})
    sampling = SamplingParams(temperature=0.0, max_tokens=30, ignore_eos=True)
    texts, cached = [], []
    async with grpc_service(args) as remote:
        prompt = prompt_ids(remote, "sql")
        assert len(prompt) > 32
        request = GenerationRequest("first", "alice", prompt, sampling, drafter="generic")
        for request_id, tenant in (("first", "alice"), ("second", "alice"), ("third", "bob")):
            own = replace(request, request_id=request_id, tenant=tenant)
            chunks = [chunk async for chunk in remote.service.generate(own)]
            stats = chunks[-1].stats
            assert stats is not None
            texts.append([token for chunk in chunks for token in chunk.token_ids])
            cached.append(stats.num_cached_tokens)
    assert cached == [0, 32 * ((len(prompt) - 1) // 32), 0]
    assert texts[0] == texts[1] == texts[2]
