"""Measure a round without models: our wire and decode loop beside a bare gRPC echo of the same bytes and fan-out.

All run against the same processes in turns, so that other load on the machine affects them alike. A round is draft (one
drafter), verify (the target), observe (every drafter, which sends its scores back).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hedgespec.bench.rpc_echo import Echo, frame_sizes
from hedgespec.bench.rpc_replicas import FreeDrafter, FreeTarget, ReplicaAddress, replica_processes
from hedgespec.bench.rpc_rounds import loop_rounds, wire_rounds
from hedgespec.rpc.client import RemoteDrafter, RemoteTarget
from hedgespec.rpc.connection import ReplicaConnection

WARM_UP_ROUNDS = 20
MIN_ROUNDS_EACH = 40
"""Rounds of every session at least: with fewer, opening and the dense first scores would be most of the time."""


@dataclass(frozen=True, slots=True)
class RpcShape:
    """One case to measure.

    num_sparse_ids: ids per draft distribution, 0 for greedy
    is_grouped:     all drafters are in one process, behind one connection
    """

    num_drafters: int
    num_sparse_ids: int
    num_sessions: int
    is_grouped: bool = False


@dataclass(frozen=True, slots=True)
class RoundCost:
    """The cost of one way to run a round: milliseconds per round of wall time and of the router's CPU, one per repeat."""

    wall_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]

    @property
    def min_ms(self) -> float:
        """Shortest wall time."""
        return min(self.wall_ms)

    @property
    def median_ms(self) -> float:
        """Median wall time."""
        return float(np.median(self.wall_ms))

    @property
    def median_cpu_ms(self) -> float:
        """Median CPU time of the router's process."""
        return float(np.median(self.cpu_ms))

    def ratio_to(self, base: RoundCost) -> float:
        """Return the median over the repeats of the ratio within a repeat, in which the machine's state cancels."""
        return float(np.median(np.divide(self.wall_ms, base.wall_ms)))

    def as_json(self, echo: RoundCost) -> dict[str, Any]:
        """Return the times with the derived figures."""
        derived = {"min_ms": self.min_ms, "median_ms": self.median_ms, "median_cpu_ms": self.median_cpu_ms}
        return {**derived, "ratio_to_echo": self.ratio_to(echo), "wall_ms": self.wall_ms, "cpu_ms": self.cpu_ms}


@dataclass(frozen=True, slots=True)
class RpcCase:
    """The costs of one shape, by the way to run a round.

    echo:        bare gRPC echo with one message per drafter
    joined_echo: with one message for all drafters of a group, as our stream does; only with a group
    wire:        our stream alone, with every score awaited
    loop:        the whole decode loop with its learner, with every drafter scored in every round
    scheduled:   the loop with scores on the default schedule
    local:       the loop in one process, without transport
    """

    shape: RpcShape
    costs: dict[str, RoundCost]

    @property
    def loop_ratio(self) -> float:
        """Decode loop / echo."""
        return self.costs["loop"].ratio_to(self.costs["echo"])

    @property
    def loop_min_ratio(self) -> float:
        """Decode loop / echo, of the shortest times."""
        return self.costs["loop"].min_ms / self.costs["echo"].min_ms

    @property
    def rounds_per_s(self) -> float:
        """Rounds per second of the decode loop, of all sessions together."""
        return 1e3 / self.costs["loop"].median_ms

    def as_json(self) -> dict[str, Any]:
        """Return the costs with the derived figures."""
        derived = {key: getattr(self, key) for key in ("shape", "loop_ratio", "loop_min_ratio", "rounds_per_s")}
        return derived | {name: cost.as_json(self.costs["echo"]) for name, cost in self.costs.items()}


@dataclass(frozen=True, slots=True)
class RpcReport:
    """The costs of all shapes."""

    num_rounds: int
    num_repeats: int
    cases: tuple[RpcCase, ...]

    @property
    def worst_loop_ratio(self) -> float:
        """The largest ratio of the decode loop to the echo."""
        return max(case.loop_ratio for case in self.cases)

    def as_json(self) -> dict[str, Any]:
        """Return the report with its derived figures, so that a reader of the JSON does not have to compute them."""
        counts = {"num_rounds": self.num_rounds, "num_repeats": self.num_repeats}
        return {**counts, "worst_loop_ratio": self.worst_loop_ratio, "cases": self.cases}


def default_shapes(with_groups: bool) -> tuple[RpcShape, ...]:
    """Return the shapes of `hedgespec bench rpc`."""
    shapes = [RpcShape(k, ids, sessions) for ids in (0, 64) for k in (1, 4, 8) for sessions in (1, 8)]
    if with_groups:
        shapes += [RpcShape(k, ids, sessions, True) for ids in (0, 64) for k in (4, 8) for sessions in (1, 8)]
    return (*shapes, RpcShape(8, 0, 32), *([RpcShape(8, 0, 32, True)] if with_groups else []))


async def bench_rpc(
    shapes: Sequence[RpcShape],
    num_rounds: int = 100,
    num_repeats: int = 5,
    advance: Callable[[], None] = lambda: None,
) -> RpcReport:
    """Measure every shape.

    num_rounds: per repeat and way, shared by the sessions, at least MIN_ROUNDS_EACH for each
    advance:    called after every shape
    """
    cases = {}
    for fleet in dict.fromkeys((shape.num_sparse_ids, shape.is_grouped) for shape in shapes):
        chosen = [shape for shape in shapes if (shape.num_sparse_ids, shape.is_grouped) == fleet]
        num_sparse_ids, is_grouped = fleet
        with replica_processes(max(s.num_drafters for s in chosen), num_sparse_ids, is_grouped) as addresses:
            for shape in chosen:
                used = addresses if is_grouped else addresses[: shape.num_drafters + 1]
                cases[shape] = await _measure(used, shape, num_rounds, num_repeats)
                advance()
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
    return RpcCase(shape, {name: RoundCost(*map(tuple, zip(*pairs, strict=True))) for name, pairs in timings.items()})


Way = Callable[[int, int], Awaitable[None]]
"""A function that runs the rounds of one session: (session, number of rounds)."""


async def _echoes(stack: AsyncExitStack, addresses: Sequence[ReplicaAddress], shape: RpcShape) -> dict[str, Way]:
    urls = [address.echo for address in addresses]
    num_messages = shape.num_drafters if shape.is_grouped else 1
    echo = await Echo.connect(stack, urls, shape.num_sessions, frame_sizes(shape.num_sparse_ids), num_messages)
    if not shape.is_grouped:
        return {"echo": echo.rounds}
    sizes = frame_sizes(shape.num_sparse_ids, shape.num_drafters)
    joined = await Echo.connect(stack, urls, shape.num_sessions, sizes)
    return {"echo": echo.rounds, "joined_echo": joined.rounds}


async def _ours(stack: AsyncExitStack, addresses: Sequence[ReplicaAddress], shape: RpcShape) -> dict[str, Way]:
    connections = [await stack.enter_async_context(ReplicaConnection(address.rounds)) for address in addresses]
    target, num_ids = RemoteTarget(connections[0]), shape.num_sparse_ids
    ids = [f"d{i}" for i in range(shape.num_drafters)]
    homes = [connections[1]] * len(ids) if shape.is_grouped else connections[1:]
    drafters = [RemoteDrafter(connection, name) for connection, name in zip(homes, ids, strict=True)]
    return {
        "wire": partial(wire_rounds, target, drafters, num_ids),
        "loop": partial(loop_rounds, target, drafters, num_ids),
        "scheduled": partial(loop_rounds, target, drafters, num_ids, is_scheduled=True, is_grouped=shape.is_grouped),
        "local": partial(loop_rounds, FreeTarget(), [FreeDrafter(name, num_ids) for name in ids], num_ids),
    }


async def _timed(way: Way, num_sessions: int, num_rounds: int) -> tuple[float, float]:
    """Run all sessions and return (wall, CPU) milliseconds per round."""
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(way(session, num_rounds) for session in range(num_sessions)))
    total = num_sessions * num_rounds
    return 1e3 * (time.perf_counter() - wall) / total, 1e3 * (time.process_time() - cpu) / total
