"""Replica processes for `bench.rpc`: models that cost nothing, and a bare echo in the same process."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import grpc
import grpc.aio
import numpy as np
import uvloop
from numpy.typing import NDArray

from hedgespec.rpc.server import ReplicaServicer, start_server
from hedgespec.types import DraftRequest, DraftTree, Observation, Opened, Scores, SessionSpec, SparseRows, Verdict

NUM_DRAFT_TOKENS = 5
ECHO_SERVICE = "hedgespec.bench.Echo"
ECHO_METHOD = f"/{ECHO_SERVICE}/Echo"
SIZE_BYTES = 4
"""Length of the word at the start of an echo request that has the size of the wanted reply."""

START_TIMEOUT_S = 180.0

# the answers of the free models; making new arrays would cost a replica more than its part of the wire
NODES = np.arange(64, dtype=np.int32)
TARGET_PROBS = np.full(64, 0.5, np.float32)
ACCEPTANCE = np.repeat(np.linspace(0.9, 0.2, 16, dtype=np.float32), 1024).reshape(16, 1024, 1)
"""[num_drafters, num_positions, 1]; drafters differ, so that the learner has something to compute."""


class FreeTarget:
    """A target that accepts every draft token and computes nothing."""

    replica = ""

    async def open(self, spec: SessionSpec) -> Opened:
        return Opened()

    async def verify(self, session_id: str, round_index: int, tree: DraftTree) -> Verdict:
        num_nodes = tree.num_nodes
        return Verdict(NODES[:num_nodes], NODES[: num_nodes + 1], TARGET_PROBS[: num_nodes + 1])

    async def close(self, session_id: str) -> None:
        return


class FreeDrafter:
    """A drafter that always proposes the same chain and computes nothing.

    drafter_id: d0, d1, ...; num_sparse_ids: entries of each draft distribution, 0 for none, as for greedy answers
    """

    replica = ""
    feature_sink = ""
    digest = ""

    def __init__(self, drafter_id: str, num_sparse_ids: int) -> None:
        self.drafter_id = drafter_id
        self._acceptance: NDArray[np.float32] = ACCEPTANCE[int(drafter_id[1:])]
        token_ids = np.arange(NUM_DRAFT_TOKENS, dtype=np.int32)
        rows = None
        if num_sparse_ids:
            offsets = np.arange(NUM_DRAFT_TOKENS + 1, dtype=np.int32) * num_sparse_ids
            ids = np.tile(np.arange(num_sparse_ids, dtype=np.int32), NUM_DRAFT_TOKENS)
            rows = SparseRows(offsets, ids, np.full(len(ids), 1.0 / num_sparse_ids, np.float32))
        self.tree = DraftTree.chain(token_ids, rows, drafter_id)

    async def open(self, spec: SessionSpec) -> Opened:
        return Opened()

    async def draft(self, request: DraftRequest) -> DraftTree:
        return self.tree

    async def observe(self, session_id: str, call_index: int, observation: Observation) -> Scores | None:
        if not observation.wants_scores:
            return None
        start = observation.start if observation.score_from is None else observation.score_from
        end = observation.start + len(observation.token_ids)
        return Scores(start, self._acceptance[: end - start])

    async def score_prompt(self, session_id: str, prompt_top: SparseRows) -> NDArray[np.float32]:
        return self._acceptance[: prompt_top.num_rows, 0]

    async def close(self, session_id: str) -> None:
        return


@dataclass(frozen=True, slots=True)
class ReplicaAddress:
    """The addresses of one replica process, HOST:PORT. rounds: our service; echo: the bare echo."""

    rounds: str
    echo: str


@contextmanager
def replica_processes(
    num_drafters: int, num_sparse_ids: int, is_grouped: bool = False
) -> Iterator[list[ReplicaAddress]]:
    """Start a target and drafters d0, d1, ..., each in a process or all drafters in one; yield the addresses."""
    ids = [f"d{i}" for i in range(num_drafters)]
    replicas: list[list[str]] = [[], ids] if is_grouped else [[], *([name] for name in ids)]
    # never fork: a process that has used gRPC must not be copied
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        for drafter_ids in replicas:
            ours, theirs = context.Pipe()
            process = context.Process(target=_run_replica, args=(theirs, drafter_ids, num_sparse_ids), daemon=True)
            process.start()
            pipes.append(ours)
            processes.append(process)
        addresses = []
        for pipe in pipes:
            if not pipe.poll(START_TIMEOUT_S):
                raise TimeoutError(f"A benchmark replica did not start within {START_TIMEOUT_S:g} s.")
            addresses.append(pipe.recv())
        yield addresses
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join(5.0)
            if process.is_alive():
                process.kill()


def _run_replica(pipe: Connection, drafter_ids: Sequence[str], num_sparse_ids: int) -> None:
    uvloop.run(_serve(pipe, drafter_ids, num_sparse_ids))


async def _serve(pipe: Connection, drafter_ids: Sequence[str], num_sparse_ids: int) -> None:
    """Serve until the parent closes its end of the pipe. drafter_ids: none for the target."""
    drafters = {name: FreeDrafter(name, num_sparse_ids) for name in drafter_ids}
    servicer = ReplicaServicer(None if drafters else FreeTarget(), drafters)
    server = await start_server(servicer)
    echo_server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(_echo)
    echo_server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(ECHO_SERVICE, {"Echo": handler}),))
    echo_port = echo_server.add_insecure_port("127.0.0.1:0")
    await echo_server.start()
    pipe.send(ReplicaAddress(server.address, f"127.0.0.1:{echo_port}"))
    parent_gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(pipe.fileno(), parent_gone.set)
    await parent_gone.wait()
    await echo_server.stop(0)
    await server.stop()


async def _echo(_: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
    while (data := await context.read()) is not grpc.aio.EOF:
        await context.write(bytes(int.from_bytes(data[:SIZE_BYTES], "little")))
