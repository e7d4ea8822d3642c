"""The cost of a round without models: our wire and decode loop against a bare gRPC echo of the same bytes and fan-out.

All of them run against the same processes, interleaved, so that whatever else the machine does hits them alike. A round is
draft (one drafter), verify (the target), observe (every drafter, with its scores back).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import numpy as np

from hedgespec.bench.rpc_echo import Echo, frame_sizes
from hedgespec.bench.rpc_replicas import FreeDrafter, FreeTarget, ReplicaAddress, replica_processes
from hedgespec.bench.rpc_rounds import loop_rounds, wire_rounds
from hedgespec.rpc.client import RemoteDrafter, RemoteTarget
from hedgespec.rpc.connection import ReplicaConnection

WARM_UP_ROUNDS = 20
MIN_ROUNDS_EACH = 40
"""Of a session, whatever their number: with fewer, opening and the dense first scores would be most of it."""


@dataclass(frozen=True, slots=True)
class RpcShape:
    """num_sparse_ids: ids per draft distribution, 0 for greedy. is_grouped: all drafters in one process, one connection."""

    num_drafters: int
    num_sparse_ids: int
    num_sessions: int
    is_grouped: bool = False


@dataclass(frozen=True, slots=True)
class RoundCost:
    """Of one way to run a round: wall time and CPU of the router's process, milliseconds per round, one per repeat."""

    wall_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]

    @property
    def min_ms(self) -> float:
        return min(self.wall_ms)

    @property
    def median_ms(self) -> float:
        return float(np.median(self.wall_ms))

    @property
    def median_cpu_ms(self) -> float:
        return float(np.median(self.cpu_ms))

    def ratio_to(self, base: RoundCost) -> float:
        """The median over the repeats of the ratio within one: what the machine does to both cancels."""
        return float(np.median(np.divide(self.wall_ms, base.wall_ms)))


@dataclass(frozen=True, slots=True)
class RpcCase:
    """echo: one message per drafter. joined_echo: of a group, one message for all of its drafters (ours does that).
    wire: our stream alone, every score awaited. loop: the whole decode loop with its learner, every drafter scored in every
    round. scheduled: with scores on the default schedule. local: the loop in one process, without any transport.
    """

    shape: RpcShape
    echo: RoundCost
    joined_echo: RoundCost | None
    wire: RoundCost
    loop: RoundCost
    scheduled: RoundCost
    local: RoundCost

    @property
    def loop_ratio(self) -> float:
        return self.loop.ratio_to(self.echo)

    @property
    def loop_min_ratio(self) -> float:
        return self.loop.min_ms / self.echo.min_ms

    @property
    def rounds_per_s(self) -> float:
        return 1e3 / self.loop.median_ms


@dataclass(frozen=True, slots=True)
class RpcReport:
    num_rounds: int
    num_repeats: int
    cases: tuple[RpcCase, ...]

    @property
    def worst_loop_ratio(self) -> float:
        return max(case.loop_ratio for case in self.cases)


def default_shapes(with_groups: bool) -> tuple[RpcShape, ...]:
    shapes = [RpcShape(k, ids, sessions) for ids in (0, 64) for k in (1, 4, 8) for sessions in (1, 8)]
    if with_groups:
        shapes += [RpcShape(k, ids, sessions, True) for ids in (0, 64) for k in (4, 8) for sessions in (1, 8)]
    return (*shapes, RpcShape(8, 0, 32), *([RpcShape(8, 0, 32, True)] if with_groups else []))


async def bench_rpc(
    shapes: Sequence[RpcShape],
    num_rounds: int = 100,
    num_repeats: int = 5,
    on_case: Callable[[RpcCase], None] = lambda case: None,
) -> RpcReport:
    """Measure every shape. num_rounds: per repeat and way, shared by the sessions, at least MIN_ROUNDS_EACH each.

    on_case: called as the cases end.
    """
    cases = {}
    for fleet in dict.fromkeys((shape.num_sparse_ids, shape.is_grouped) for shape in shapes):
        chosen = [shape for shape in shapes if (shape.num_sparse_ids, shape.is_grouped) == fleet]
        num_sparse_ids, is_grouped = fleet
        with replica_processes(max(s.num_drafters for s in chosen), num_sparse_ids, is_grouped) as addresses:
            for shape in chosen:
                used = addresses if is_grouped else addresses[: shape.num_drafters + 1]
                cases[shape] = await _measure(used, shape, num_rounds, num_repeats)
                on_case(cases[shape])
    return RpcReport(num_rounds, num_repeats, tuple(cases[shape] for shape in shapes))


async def _measure(addresses: Sequence[ReplicaAddress], shape: RpcShape, num_rounds: int, num_repeats: int) -> RpcCase:
    async with AsyncExitStack() as stack:
        ways = {**await _echoes(stack, addresses, shape), **await _ours(stack, addresses, shape)}
        rounds_each = max(MIN_ROUNDS_EACH, num_rounds // shape.num_sessions)
        timings: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for way in ways.values():
            await _timed(way, shape.num_sessions, WARM_UP_ROUNDS)
        for _ in range(num_repeats):
            for name, way in ways.items():
                timings[name].append(await _timed(way, shape.num_sessions, rounds_each))
    costs = {name: RoundCost(*map(tuple, zip(*pairs, strict=True))) for name, pairs in timings.items()}
    return RpcCase(
        shape, costs["echo"], costs.get("joined echo"), costs["wire"], costs["loop"], costs["scheduled"], costs["local"]
    )


Way = Callable[[int, int], Awaitable[None]]
"""(session, number of rounds) -> runs them."""


async def _echoes(stack: AsyncExitStack, addresses: Sequence[ReplicaAddress], shape: RpcShape) -> dict[str, Way]:
    urls = [address.echo for address in addresses]
    num_messages = shape.num_drafters if shape.is_grouped else 1
    echo = await Echo.connect(stack, urls, shape.num_sessions, frame_sizes(shape.num_sparse_ids), num_messages)
    if not shape.is_grouped:
        return {"echo": echo.rounds}
    sizes = frame_sizes(shape.num_sparse_ids, shape.num_drafters)
    joined = await Echo.connect(stack, urls, shape.num_sessions, sizes)
    return {"echo": echo.rounds, "joined echo": joined.rounds}


async def _ours(stack: AsyncExitStack, addresses: Sequence[ReplicaAddress], shape: RpcShape) -> dict[str, Way]:
    connections = [await stack.enter_async_context(ReplicaConnection(address.rounds)) for address in addresses]
    target, ids = RemoteTarget(connections[0]), [f"d{i}" for i in range(shape.num_drafters)]
    homes = [connections[1]] * len(ids) if shape.is_grouped else connections[1:]
    drafters = [RemoteDrafter(connection, name) for connection, name in zip(homes, ids, strict=True)]
    local_target, local_drafters = FreeTarget(), [FreeDrafter(name, shape.num_sparse_ids) for name in ids]
    num_ids = shape.num_sparse_ids
    return {
        "wire": lambda session, rounds: wire_rounds(target, drafters, session, rounds, num_ids),
        "loop": lambda session, rounds: loop_rounds(target, drafters, session, rounds, num_ids),
        "scheduled": lambda session, rounds: loop_rounds(
            target, drafters, session, rounds, num_ids, is_scheduled=True, is_grouped=shape.is_grouped
        ),
        "local": lambda session, rounds: loop_rounds(local_target, local_drafters, session, rounds, num_ids),
    }


async def _timed(way: Way, num_sessions: int, num_rounds: int) -> tuple[float, float]:
    """-> (wall, CPU) milliseconds per round of the whole group of sessions."""
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(way(session, num_rounds) for session in range(num_sessions)))
    total = num_sessions * num_rounds
    return 1e3 * (time.perf_counter() - wall) / total, 1e3 * (time.process_time() - cpu) / total
