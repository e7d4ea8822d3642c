"""The first test to run: one request through the whole system with exact tabular models, in well under a second."""

from __future__ import annotations

from uuid import uuid4

import pytest

from hedgespec.assembly.local_service import LocalService, local_service
from hedgespec.config import AppArgs
from hedgespec.types import GenerationChunk, GenerationRequest, SamplingParams

ARGS = AppArgs.model_validate(
    {
        "target": {"model": "tabular:7"},
        "drafters": [
            {"id": "near", "kind": "tabular", "model": "tabular:1,closeness=0.95"},
            {"id": "far", "kind": "tabular", "model": "tabular:2,closeness=0.1"},
            {"id": "ngram", "kind": "ngram"},
        ],
    }
)


async def answer(local: LocalService, drafter: str | None = None, **sampling: object) -> list[GenerationChunk]:
    request = GenerationRequest(
        request_id=uuid4().hex,
        tenant="acme",
        prompt_ids=local.tokenizer.encode("the cat"),
        sampling=SamplingParams(**{"max_tokens": 60, **sampling}),
        drafter=drafter,
    )
    return [chunk async for chunk in local.service.generate(request)]


def text_of(chunks: list[GenerationChunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {"temperature": 1.0, "seed": 11}])
async def test_same_text_with_every_drafter_with_none_with_switching_and_learned(sampling):
    async with local_service(ARGS) as local:
        plain = text_of(await answer(local, "none", **sampling))
        assert len(plain) == 60
        for drafter in (None, "random", "near", "far", "ngram"):
            assert text_of(await answer(local, drafter, **sampling)) == plain


async def test_last_chunk_accounts_for_every_token_and_round():
    async with local_service(ARGS) as local:
        chunks = await answer(local, temperature=0.0)
        stats = chunks[-1].stats
        assert stats is not None
        assert [c.finish_reason for c in chunks] == [None] * (len(chunks) - 1) + ["length"]
        assert sum(len(c.token_ids) for c in chunks) == stats.num_emitted == 60
        assert stats.num_emitted == stats.num_rounds + stats.num_accepted
        assert sum(stats.rounds_by_drafter.values()) == stats.num_drafts <= stats.num_rounds
        assert sum(stats.weights.values()) == pytest.approx(1.0)


async def test_stop_string_ends_the_answer_before_it_and_trims_usage():
    async with local_service(ARGS) as local:
        whole = text_of(await answer(local, temperature=0.0))
        stop = whole[20:23]
        chunks = await answer(local, temperature=0.0, stop=(stop,))
        assert text_of(chunks) == whole[: whole.index(stop)]
        stats = chunks[-1].stats
        assert stats is not None
        assert chunks[-1].finish_reason == "stop"
        assert stats.num_emitted == whole.index(stop) + len(stop)


async def test_next_answer_of_the_same_tenant_starts_with_the_learned_preference():
    async with local_service(ARGS) as local:
        for _ in range(3):
            last = (await answer(local, temperature=0.0))[-1]
            await local.service.drain()
        assert last.stats is not None
        passes = last.stats.expected_passes
        assert passes["near"] == min(passes.values())
        first = (await answer(local, temperature=0.0, max_tokens=2))[-1].stats
        assert first is not None
        assert first.weights["near"] > 0.5
