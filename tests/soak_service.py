"""A service whose every resource can be counted, over tabular or tiny real models, in one process or through gRPC.

Some calls fail on purpose: every 37th verify loses the target, every 23rd draft the drafter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers

from hedgespec.assembly.local_service import LocalFleet
from hedgespec.config import AppArgs
from hedgespec.errors import ReplicaLost
from hedgespec.models.tabular import TabularDrafter, TabularModel, TabularTarget
from hedgespec.protocols import Drafter, FeatureTransport, Target
from hedgespec.router.events import NoEvents
from hedgespec.router.service import GenerationService
from hedgespec.rpc.client import RemoteDrafter, RemoteTarget
from hedgespec.rpc.connection import ReplicaConnection
from hedgespec.rpc.feature_push import GrpcFeatureTransport
from hedgespec.rpc.server import ReplicaServicer, start_server
from hedgespec.store.memory_store import MemoryStore
from hedgespec.store.preferences import Preferences
from hedgespec.tokenization import Tokenizer
from hedgespec.types import (
    DraftRequest,
    DraftTree,
    FeatureBlock,
    Observation,
    Opened,
    Scores,
    SessionSpec,
    SparseRows,
    Verdict,
)
from tests.model_folders import VOCAB_SIZE, make_eagle3, make_llama

NUM_SLOTS = 8
HEADS = ("head", "other")
Held = Callable[[], dict[str, int]]


@dataclass(frozen=True)
class SoakService:
    """held: what is in use now, by name; all zero when nothing is running."""

    service: GenerationService
    drafter_ids: tuple[str, ...]
    vocab_size: int
    held: Held


class FailingTarget:
    replica = ""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._num_verifies = 0

    async def open(self, spec: SessionSpec) -> Opened:
        return await self._target.open(spec)

    async def verify(self, session_id: str, round_index: int, tree: DraftTree) -> Verdict:
        self._num_verifies += 1
        if self._num_verifies % 37 == 0:
            raise ReplicaLost("lost on purpose")
        return await self._target.verify(session_id, round_index, tree)

    async def close(self, session_id: str) -> None:
        await self._target.close(session_id)


class FailingDrafter:
    replica = ""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self._num_drafts = 0
        self.drafter_id = drafter.drafter_id
        self.digest = drafter.digest
        self.feature_sink = drafter.feature_sink

    async def open(self, spec: SessionSpec) -> Opened:
        return await self._drafter.open(spec)

    async def draft(self, request: DraftRequest) -> DraftTree:
        self._num_drafts += 1
        if self._num_drafts % 23 == 0:
            raise ReplicaLost("lost on purpose")
        return await self._drafter.draft(request)

    async def observe(self, session_id: str, call_index: int, observation: Observation) -> Scores | None:
        return await self._drafter.observe(session_id, call_index, observation)

    async def score_prompt(self, session_id: str, prompt_top: SparseRows) -> np.ndarray:
        return await self._drafter.score_prompt(session_id, prompt_top)

    async def close(self, session_id: str) -> None:
        await self._drafter.close(session_id)

    def push(self, block: FeatureBlock) -> None:
        self._drafter.push(block)  # type: ignore[attr-defined]  # only those with a feature sink are pushed to


@asynccontextmanager
async def tabular_service(is_remote: bool) -> AsyncIterator[SoakService]:
    model = TabularModel(vocab_size=VOCAB_SIZE, order=1, seed=3)
    target = TabularTarget(model)
    drafters = {d: TabularDrafter(d, model.related(c, 1)) for d, c in (("near", 0.9), ("mid", 0.5), ("far", 0.1))}
    models = [target, *drafters.values()]

    def held() -> dict[str, int]:
        return {f"sessions of model {index}": len(m._sessions) for index, m in enumerate(models)}

    async with AsyncExitStack() as stack:
        yield await _serve(stack, target, drafters, held, is_remote)


@asynccontextmanager
async def tiny_service(folder: Path, is_remote: bool) -> AsyncIterator[SoakService]:
    """A llama, two EAGLE-3 heads that live on its features, a smaller llama and the n-gram drafter, on engines."""
    from hedgespec.config import DrafterConfig, TargetConfig
    from hedgespec.engine.drafter_engine import DrafterRunner
    from hedgespec.engine.engine import Engine
    from hedgespec.engine.factory import build_target, load_drafters
    from hedgespec.engine.local import LocalDrafter, LocalFeatureTransport
    from hedgespec.models.drafting.network_drafter import NetworkDrafter

    config = TargetConfig(model=str(make_llama(folder / "target")), max_sessions=NUM_SLOTS)
    kinds = (
        *(DrafterConfig(id=h, kind="eagle3", model=str(make_eagle3(folder / h, seed))) for seed, h in enumerate(HEADS)),
        DrafterConfig(
            id="small", kind="causal_lm", model=str(make_llama(folder / "small", seed=1, num_hidden_layers=1))
        ),
        DrafterConfig(id="ngram", kind="ngram"),
    )
    transport: FeatureTransport = GrpcFeatureTransport() if is_remote else LocalFeatureTransport()
    target = build_target(config, transport)
    models = load_drafters(kinds, config)
    engine = Engine(DrafterRunner(models), "drafters")
    engine.start()
    drafters = {drafter_id: LocalDrafter(engine, model) for drafter_id, model in models.items()}
    if isinstance(transport, LocalFeatureTransport):
        for name in HEADS:
            transport.register(name, drafters[name])
    heads = [model for model in models.values() if isinstance(model, NetworkDrafter) and model.uses_features]
    buffers = [head.features for head in heads if head.features is not None]
    assert {head.batched_by for head in heads} == {HEADS[0]}, "they compute together"

    def held() -> dict[str, int]:
        counts = {
            "feature rows": sum(buffer.num_rows for buffer in buffers),
            "sessions with features": sum(buffer.num_sessions for buffer in buffers),
        }
        for name, model in {"target": target, **models}.items():
            usage = model.usage()
            counts[f"sessions of {name}"] = usage.num_sessions
            counts[f"cached tokens of {name}"] = usage.num_cached_tokens
            counts[f"reserved tokens of {name}"] = usage.num_reserved_tokens
        return counts

    async with AsyncExitStack() as stack:
        if isinstance(transport, GrpcFeatureTransport):
            stack.push_async_callback(transport.close)
        stack.push_async_callback(asyncio.to_thread, target.stop)
        stack.push_async_callback(asyncio.to_thread, engine.stop)
        yield await _serve(stack, target, drafters, held, is_remote)


async def _serve(
    stack: AsyncExitStack, target: Target, drafters: Mapping[str, Drafter], held_by_models: Held, is_remote: bool
) -> SoakService:
    servicers: list[ReplicaServicer] = []
    connections: list[ReplicaConnection] = []

    async def connect(servicer: ReplicaServicer) -> tuple[ReplicaConnection, str]:
        server = await start_server(servicer)
        stack.push_async_callback(server.stop)
        connection = await stack.enter_async_context(ReplicaConnection(server.address))
        servicers.append(servicer)
        connections.append(connection)
        return connection, server.address

    if is_remote:
        target = RemoteTarget((await connect(ReplicaServicer(target)))[0])
        remote: dict[str, Drafter] = {}
        for drafter_id, drafter in drafters.items():
            connection, address = await connect(ReplicaServicer(None, {drafter_id: drafter}))
            remote[drafter_id] = RemoteDrafter(connection, drafter_id, address if drafter.feature_sink else "")
        drafters = remote
    failing = {drafter_id: FailingDrafter(drafter) for drafter_id, drafter in drafters.items()}
    fleet = LocalFleet(FailingTarget(target), failing, NUM_SLOTS, 30.0)
    args = AppArgs.model_validate(
        {
            "target": {"model": "tabular:3"},
            "drafters": [{"id": d, "kind": "tabular", "model": "tabular:1"} for d in drafters],
            "speculation": {"prompt_scores": 4, "max_draft_tokens": 4},
            "store": {"url": "memory://"},
        }
    )
    preferences = Preferences(MemoryStore(), args.store)
    service = GenerationService(args, fleet, _letters(), preferences, NoEvents(), "soak")
    stack.push_async_callback(preferences.close)

    def held() -> dict[str, int]:
        return {
            **held_by_models(),
            "leased slots": NUM_SLOTS - fleet._slots._value,
            "answers that settle": len(service._finishing),
            "sessions of servers": sum(servicer.num_sessions for servicer in servicers),
            "replies awaited": sum(len(connection._waiters) for connection in connections),
        }

    return SoakService(service, tuple(drafters), VOCAB_SIZE, held)


def _letters() -> Tokenizer:
    """One printable character per id."""
    letters = {"Ġ": 0, **{chr(code): code - 32 for code in range(33, 127)}}
    letters["Ċ"] = len(letters)
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=letters, merges=[], unk_token="Ġ"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    return Tokenizer.of(backend, eos_token_ids=(), max_model_len=512, vocab_size=VOCAB_SIZE)
