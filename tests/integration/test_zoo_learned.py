"""Learned selection on the zoo as it is shipped: every drafter drafts and scores to the end of the answer.

Answers go on without a drafter that fails (`tests/fault`), so nothing else would notice one that always does.
"""

from __future__ import annotations

from uuid import uuid4

import pytest

from hedgespec.assembly.local_service import local_service
from hedgespec.router.events import NoEvents
from hedgespec.types import GenerationRequest, SamplingParams
from tests.zoo_service import prompt_ids, zoo_args

pytestmark = pytest.mark.timeout(600)

SAMPLINGS = {
    "greedy": SamplingParams(temperature=0.0, max_tokens=96, ignore_eos=True),
    "coupled": SamplingParams(temperature=1.0, seed=3, max_tokens=96, ignore_eos=True),
    "rejection": SamplingParams(temperature=1.0, max_tokens=96, ignore_eos=True),
}
VARIANTS = {
    "shipped": {"max_draft_tokens": 5},
    "all drafters in every round": {"max_draft_tokens": 5, "score_dense_rounds": 1000, "wake_every_rounds": 0},
    "prompt scores": {"max_draft_tokens": 5, "prompt_scores": 32},
    "tree": {"max_draft_tokens": 4, "draft_form": "tree", "branching": 2, "num_nodes": 8},
    "merged": {"max_draft_tokens": 4, "merge_drafters": 3, "num_nodes": 9},
}


class Losses(NoEvents):
    def __init__(self) -> None:
        self.failures: list[tuple[str, str]] = []

    def draft_failed(self, drafter_id: str, reason: str) -> None:
        self.failures.append((drafter_id, reason))


@pytest.mark.parametrize("variant", VARIANTS)
async def test_no_drafter_is_lost_in_an_answer_without_faults(variant: str) -> None:
    args = zoo_args(**VARIANTS[variant])
    async with local_service(args) as local:
        for domain, (method, sampling) in zip(("python", "sql", "prose"), SAMPLINGS.items(), strict=True):
            losses = Losses()
            service = local.variant(args, losses)
            request = GenerationRequest(uuid4().hex, "default", prompt_ids(local, domain), sampling, uuid4().hex)
            async for _ in service.generate(request):
                pass
            await service.drain()
            assert losses.failures == [], method
