"""Every form of speculation at once through real gRPC: trees, merging, prompt scores, backlogs and naps travel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import numpy as np
import pytest

from hedgespec.assembly.local_service import LocalFleet
from hedgespec.assembly.model_sources import load_tokenizer
from hedgespec.config import AppArgs
from hedgespec.models.tabular import TabularDrafter, TabularModel, TabularTarget
from hedgespec.router.events import NoEvents
from hedgespec.router.service import GenerationService
from hedgespec.rpc.client import RemoteDrafter, RemoteTarget
from hedgespec.rpc.connection import ReplicaConnection
from hedgespec.rpc.server import ReplicaServicer, start_server
from hedgespec.store.memory_store import MemoryStore
from hedgespec.store.preferences import Preferences
from hedgespec.types import DecodeStats, GenerationRequest, SamplingParams, SparseRows

ARGS = AppArgs.model_validate(
    {
        "target": {"model": "tabular:7"},
        "drafters": [{"id": d, "kind": "tabular", "model": "tabular:1"} for d in ("near", "mid", "far")],
        "learner": {"objective": "rounds"},
        "speculation": {
            "draft_form": "tree",
            "branching": 2,
            "num_nodes": 12,
            "merge_drafters": 2,
            "prompt_scores": 6,
            "warm_wait_fraction": 1.0,
            "score_dense_rounds": 1,
            "score_every": 3,
            "wake_every_rounds": 5,
            "draft_deadline_s": 60.0,
            "score_timeout_rounds": 10_000,
        },
    }
)


class Counting(TabularDrafter):
    """A drafter that counts the requests it gets."""

    def __init__(self, drafter_id: str, model: TabularModel) -> None:
        super().__init__(drafter_id, model)
        self.num_prompts = 0

    async def score_prompt(self, session_id: str, prompt_top: SparseRows) -> np.ndarray:
        self.num_prompts += 1
        assert prompt_top.num_rows == 6
        return await super().score_prompt(session_id, prompt_top)


@asynccontextmanager
async def remote_service(drafters: list[Counting], target: TabularTarget) -> AsyncIterator[GenerationService]:
    async with AsyncExitStack() as stack:
        servers = [await start_server(ReplicaServicer(target))]
        servers += [await start_server(ReplicaServicer(None, {d.drafter_id: d})) for d in drafters]
        for server in servers:
            stack.push_async_callback(server.stop)
        connections = [await stack.enter_async_context(ReplicaConnection(server.address)) for server in servers]
        remote = {d.drafter_id: RemoteDrafter(c, d.drafter_id) for d, c in zip(drafters, connections[1:], strict=True)}
        fleet = LocalFleet(RemoteTarget(connections[0]), remote, 8, 30.0)
        preferences = Preferences(MemoryStore(), ARGS.store)
        service = GenerationService(ARGS, fleet, load_tokenizer(ARGS.target), preferences, NoEvents(), "tabular:7")
        yield service
        await service.drain()
        await preferences.close()


async def answer(service: GenerationService, drafter: str | None, sampling: SamplingParams) -> tuple[str, DecodeStats]:
    prompt = load_tokenizer(ARGS.target).encode("the cat sat on the mat")
    request = GenerationRequest(uuid4().hex, "acme", prompt, sampling, drafter=drafter)
    chunks = [chunk async for chunk in service.generate(request)]
    await service.drain()
    assert chunks[-1].stats is not None
    return "".join(chunk.text for chunk in chunks), chunks[-1].stats


@pytest.mark.parametrize("seed", [None, 3], ids=["greedy", "seeded"])
async def test_the_text_is_the_targets_and_everything_that_was_asked_for_travels(seed: int | None) -> None:
    base = TabularModel(vocab_size=32, order=2, seed=7)
    drafters = [
        Counting(name, base.related(closeness, seed=index))
        for index, (name, closeness) in enumerate({"near": 0.9, "mid": 0.5, "far": 0.1}.items())
    ]
    sampling = SamplingParams(temperature=0.0 if seed is None else 1.0, seed=seed, max_tokens=40)
    async with remote_service(drafters, TabularTarget(base)) as service:
        plain, _ = await answer(service, "none", sampling)
        text, stats = await answer(service, None, sampling)
    assert text == plain
    assert [drafter.num_prompts for drafter in drafters] == [1, 1, 1]
    assert stats.num_drafted > 5 * stats.num_drafts, "trees of two drafters, wider than a chain"
    assert stats.num_accepted > 0
    assert len([name for name, rounds in stats.rounds_by_drafter.items() if rounds]) >= 2
    assert "near" in stats.expected_passes
