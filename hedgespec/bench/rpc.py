"""The cost of a round without models: our wire and decode loop against a bare gRPC echo of the same bytes and fan-out.

All three run against the same processes, interleaved, so that whatever else the machine does hits them alike. A round is
draft (one drafter), verify (the target), observe (every drafter, with its scores back).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc.aio
import numpy as np

from hedgespec.assembly.local_fleet import LocalFleet
from hedgespec.bench.rpc_replicas import ECHO_METHOD, NUM_DRAFT_TOKENS, SIZE_BYTES, FreeDrafter, replica_processes
from hedgespec.config import SpeculationConfig
from hedgespec.learners.registry import make_learner
from hedgespec.protocols import Drafter, Target
from hedgespec.router.decode_loop import DecodeLoop
from hedgespec.router.events import NoEvents
from hedgespec.router.learning import AnswerLearner
from hedgespec.router.panel import DrafterPanel
from hedgespec.router.selection import LearnedSelection
from hedgespec.rpc import convert
from hedgespec.rpc.client import RemoteDrafter, RemoteTarget
from hedgespec.rpc.connection import ReplicaConnection
from hedgespec.rpc.v1 import replica_pb2 as pb
from hedgespec.speculative.feedback import make_feedback
from hedgespec.types import Observation, SamplingParams, Scores, SessionSpec, Verdict

SESSION_ID = "0123456789abcdef0123456789abcdef"
TOKENS_PER_ROUND = NUM_DRAFT_TOKENS + 1
WARM_UP_ROUNDS = 20
_PROMPT = np.arange(32, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class RoundCost:
    """Of one way to run a round: wall time and router CPU, milliseconds per round; one entry per repeat in `all_ms`."""

    min_ms: float
    median_ms: float
    cpu_ms: float
    all_ms: tuple[float, ...]

    @staticmethod
    def of(timings: Sequence[tuple[float, float]]) -> RoundCost:
        """timings: (wall, CPU) seconds per round, one pair per repeat."""
        walls = tuple(1e3 * wall for wall, _ in timings)
        return RoundCost(
            min(walls), float(np.median(walls)), 1e3 * float(np.median([cpu for _, cpu in timings])), walls
        )


@dataclass(frozen=True, slots=True)
class RpcCase:
    """wire: our stream alone, every score awaited. loop: the whole decode loop with its learner.

    Ratios are to the bare echo of the same repeat: their median over the repeats, and the ratio of the two minima.
    """

    num_drafters: int
    num_sparse_ids: int
    num_sessions: int
    echo: RoundCost
    wire: RoundCost
    loop: RoundCost

    @property
    def wire_ratio(self) -> float:
        return _median_ratio(self.wire, self.echo)

    @property
    def loop_ratio(self) -> float:
        return _median_ratio(self.loop, self.echo)

    @property
    def loop_min_ratio(self) -> float:
        return self.loop.min_ms / self.echo.min_ms


@dataclass(frozen=True, slots=True)
class RpcReport:
    num_rounds: int
    num_repeats: int
    cases: tuple[RpcCase, ...]

    @property
    def worst_loop_ratio(self) -> float:
        return max(case.loop_ratio for case in self.cases)


async def bench_rpc(
    num_drafters: Sequence[int] = (1, 4, 8),
    num_sparse_ids: Sequence[int] = (0, 64),
    num_sessions: Sequence[int] = (1, 8),
    num_rounds: int = 100,
    num_repeats: int = 5,
    on_case: Callable[[RpcCase], None] = lambda case: None,
) -> RpcReport:
    """Measure every combination. num_sparse_ids: ids per draft distribution, 0 for greedy. on_case: called as they end."""
    cases = []
    for sparse in num_sparse_ids:
        with replica_processes(max(num_drafters), sparse) as addresses:
            for drafters in num_drafters:
                for sessions in num_sessions:
                    case = await _measure(addresses[: drafters + 1], sparse, sessions, num_rounds, num_repeats)
                    cases.append(case)
                    on_case(case)
    return RpcReport(num_rounds, num_repeats, tuple(cases))


async def _measure(
    addresses: Sequence[tuple[str, str]], num_sparse_ids: int, num_sessions: int, num_rounds: int, num_repeats: int
) -> RpcCase:
    async with AsyncExitStack() as stack:
        echo = await Echo.connect(stack, [address for _, address in addresses], num_sparse_ids, num_sessions)
        connections = [await stack.enter_async_context(ReplicaConnection(address)) for address, _ in addresses]
        target = RemoteTarget(connections[0])
        drafters = [RemoteDrafter(connection, f"d{i}") for i, connection in enumerate(connections[1:])]

        async def wire(session: int, rounds: int) -> None:
            await _wire_rounds(target, drafters, session, rounds, num_sparse_ids)

        async def loop(session: int, rounds: int) -> None:
            await _loop_rounds(target, drafters, session, rounds, num_sparse_ids)

        ways: dict[str, Callable[[int, int], Awaitable[None]]] = {"echo": echo.rounds, "wire": wire, "loop": loop}
        timings: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for way in ways.values():
            await _timed(way, num_sessions, WARM_UP_ROUNDS)
        for _ in range(num_repeats):
            for name, way in ways.items():
                timings[name].append(await _timed(way, num_sessions, num_rounds))
        costs = {name: RoundCost.of(pairs) for name, pairs in timings.items()}
        return RpcCase(len(drafters), num_sparse_ids, num_sessions, costs["echo"], costs["wire"], costs["loop"])


async def _timed(way: Callable[[int, int], Awaitable[None]], num_sessions: int, num_rounds: int) -> tuple[float, float]:
    """-> (wall, CPU) seconds per round of the whole group of sessions."""
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(way(session, num_rounds) for session in range(num_sessions)))
    total = num_sessions * num_rounds
    return (time.perf_counter() - wall) / total, (time.process_time() - cpu) / total


async def _wire_rounds(
    target: Target, drafters: Sequence[Drafter], session: int, num_rounds: int, num_sparse_ids: int
) -> None:
    spec = _spec(session, num_rounds, num_sparse_ids)
    await asyncio.gather(target.open(spec), *(drafter.open(spec) for drafter in drafters))
    start = 0
    for round_index in range(num_rounds):
        chosen = drafters[round_index % len(drafters)]
        tree = await chosen.draft(spec.session_id, round_index, NUM_DRAFT_TOKENS)
        verdict = await target.verify(spec.session_id, round_index, tree)
        observation = Observation(start, verdict.token_ids, verdict.target_probs)
        start += len(verdict.token_ids)
        await asyncio.gather(*(drafter.observe(spec.session_id, round_index, observation) for drafter in drafters))
    await asyncio.gather(target.close(spec.session_id), *(drafter.close(spec.session_id) for drafter in drafters))


async def _loop_rounds(
    target: Target, drafters: Sequence[Drafter], session: int, num_rounds: int, num_sparse_ids: int
) -> None:
    config = SpeculationConfig(max_draft_tokens=NUM_DRAFT_TOKENS)
    count = len(drafters)
    feedback = make_feedback("rounds", count, NUM_DRAFT_TOKENS, config.score_timeout_rounds)
    learner = AnswerLearner(make_learner("normalhedge"), np.full(count, 1.0 / count), feedback)
    fleet = LocalFleet(target, {drafter.drafter_id: drafter for drafter in drafters}, 1, 1.0)
    panel = DrafterPanel(drafters, learner, NoEvents())
    spec = _spec(session, num_rounds, num_sparse_ids)
    selection = LearnedSelection(learner, session)
    loop = DecodeLoop(spec, fleet, panel, selection, learner, config, frozenset(), NoEvents())
    async for _ in loop.rounds():
        pass
    await panel.close()


def _spec(session: int, num_rounds: int, num_sparse_ids: int) -> SessionSpec:
    sampling = SamplingParams(
        temperature=1.0 if num_sparse_ids else 0.0, max_tokens=num_rounds * TOKENS_PER_ROUND, ignore_eos=True
    )
    session_id = f"{SESSION_ID[:-4]}{session:04d}"
    return SessionSpec(session_id, _PROMPT, np.zeros(0, np.int32), sampling, session, NUM_DRAFT_TOKENS)


class Echo:
    """Bare streams that carry as many bytes each way as our frames do: one per replica and session, nothing on top."""

    def __init__(self, streams: list[list[grpc.aio.StreamStreamCall[bytes, bytes]]], sizes: dict[str, tuple[int, int]]):
        self._streams = streams
        self._messages = {
            name: reply.to_bytes(SIZE_BYTES, "little") + bytes(sent) for name, (sent, reply) in sizes.items()
        }

    @staticmethod
    async def connect(stack: AsyncExitStack, addresses: Sequence[str], num_sparse_ids: int, num_sessions: int) -> Echo:
        channels = [await stack.enter_async_context(grpc.aio.insecure_channel(address)) for address in addresses]
        streams = [[channel.stream_stream(ECHO_METHOD)() for channel in channels] for _ in range(num_sessions)]
        for calls in streams:
            for call in calls:
                stack.callback(call.cancel)
        return Echo(streams, frame_sizes(num_sparse_ids))

    async def rounds(self, session: int, num_rounds: int) -> None:
        target, *drafters = self._streams[session]
        for round_index in range(num_rounds):
            await self._ask(drafters[round_index % len(drafters)], "draft")
            await self._ask(target, "verify")
            await asyncio.gather(*(self._ask(drafter, "observe") for drafter in drafters))

    async def _ask(self, call: grpc.aio.StreamStreamCall[bytes, bytes], name: str) -> None:
        await call.write(self._messages[name])
        await call.read()


def frame_sizes(num_sparse_ids: int) -> dict[str, tuple[int, int]]:
    """Bytes of our frames, (request, reply) of each kind; the request's size word is not counted."""
    tree = FreeDrafter("d0", num_sparse_ids).tree
    probs = np.full(TOKENS_PER_ROUND, 0.5, np.float32)
    token_ids = np.arange(TOKENS_PER_ROUND, dtype=np.int32)
    verdict = Verdict(np.arange(NUM_DRAFT_TOKENS, dtype=np.int32), token_ids, probs)
    items = {name: pb.Item(session_id=SESSION_ID, round_id=100, drafter_ids=["d0"]) for name in _KINDS}
    items["draft"].draft.num_draft_tokens = NUM_DRAFT_TOKENS
    convert.write_tree(items["drafted"].drafted.tree, tree)
    convert.write_tree(items["verify"].verify.tree, tree)
    convert.write_verdict(items["verdict"].verdict, verdict)
    convert.write_observation(items["observe"].observe, Observation(600, token_ids, probs))
    convert.write_scores(items["score"].score, Scores(600, np.full((TOKENS_PER_ROUND, 1), 0.8, np.float32)))
    size = {name: len(pb.Frame(items=[item]).SerializeToString()) for name, item in items.items()}
    return {
        "draft": (size["draft"] - SIZE_BYTES, size["drafted"]),
        "verify": (size["verify"] - SIZE_BYTES, size["verdict"]),
        "observe": (size["observe"] - SIZE_BYTES, size["score"]),
    }


_KINDS = ("draft", "drafted", "verify", "verdict", "observe", "score")


def _median_ratio(ours: RoundCost, base: RoundCost) -> float:
    return float(np.median([a / b for a, b in zip(ours.all_ms, base.all_ms, strict=True)]))
