"""Replica processes for `bench.rpc`: models that cost nothing, and beside them a bare echo on the same gRPC server."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import grpc
import grpc.aio
import numpy as np
import uvloop
from numpy.typing import NDArray

from hedgespec.rpc.server import start_server
from hedgespec.rpc.servicer import ReplicaServicer
from hedgespec.types import DraftTree, Observation, Opened, Scores, SessionSpec, SparseRows, Verdict

NUM_DRAFT_TOKENS = 5
ECHO_SERVICE = "hedgespec.bench.Echo"
ECHO_METHOD = f"/{ECHO_SERVICE}/Echo"
SIZE_BYTES = 4
"""An echo request starts with the size of the reply it wants."""

START_TIMEOUT_S = 180.0


# what free models answer with: a fresh array would cost a replica more than its part of the wire does
NODES = np.arange(64, dtype=np.int32)
TARGET_PROBS = np.full(64, 0.5, np.float32)
ACCEPTANCE = np.full((1024, 1), 0.8, np.float32)


class FreeTarget:
    """Accepts every draft token at once."""

    async def open(self, spec: SessionSpec) -> Opened:
        return Opened()

    async def verify(self, session_id: str, round_index: int, tree: DraftTree) -> Verdict:
        num_nodes = tree.num_nodes
        return Verdict(NODES[:num_nodes], NODES[: num_nodes + 1], TARGET_PROBS[: num_nodes + 1])

    async def close(self, session_id: str) -> None:
        return


class FreeDrafter:
    """num_sparse_ids: entries of each draft distribution; 0 sends none, as for greedy answers."""

    feature_sink = ""
    digest = ""

    def __init__(self, drafter_id: str, num_sparse_ids: int) -> None:
        self.drafter_id = drafter_id
        token_ids = np.arange(NUM_DRAFT_TOKENS, dtype=np.int32)
        rows = None
        if num_sparse_ids:
            offsets = np.arange(NUM_DRAFT_TOKENS + 1, dtype=np.int32) * num_sparse_ids
            ids = np.tile(np.arange(num_sparse_ids, dtype=np.int32), NUM_DRAFT_TOKENS)
            rows = SparseRows(offsets, ids, np.full(len(ids), 1.0 / num_sparse_ids, np.float32))
        self.tree = DraftTree.chain(token_ids, rows, drafter_id)

    async def open(self, spec: SessionSpec) -> Opened:
        return Opened()

    async def draft(self, session_id: str, round_index: int, num_draft_tokens: int, num_nodes: int = 0) -> DraftTree:
        return self.tree

    async def observe(self, session_id: str, round_index: int, observation: Observation) -> Scores | None:
        if not observation.wants_scores:
            return None
        start = observation.start if observation.score_from is None else observation.score_from
        end = observation.start + len(observation.token_ids)
        return Scores(start, ACCEPTANCE[: end - start])

    async def score_prompt(self, session_id: str, prompt_top: SparseRows) -> NDArray[np.float32]:
        return ACCEPTANCE[: prompt_top.num_rows, 0]

    async def close(self, session_id: str) -> None:
        return


@contextmanager
def replica_processes(num_drafters: int, num_sparse_ids: int) -> Iterator[list[tuple[str, str]]]:
    """Yield (address, echo address) of one target and num_drafters drafters (d0, d1, ...), each a process of its own."""
    # never fork: a process that has used gRPC must not be copied
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        for index in range(num_drafters + 1):
            ours, theirs = context.Pipe()
            process = context.Process(target=_run_replica, args=(theirs, index - 1, num_sparse_ids), daemon=True)
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


def _run_replica(pipe: Connection, index: int, num_sparse_ids: int) -> None:
    uvloop.run(_serve(pipe, index, num_sparse_ids))


async def _serve(pipe: Connection, index: int, num_sparse_ids: int) -> None:
    """Serve until the parent closes its end of the pipe. index: -1 is the target."""
    drafter_id = f"d{index}"
    if index < 0:
        servicer = ReplicaServicer(FreeTarget())
    else:
        servicer = ReplicaServicer(None, {drafter_id: FreeDrafter(drafter_id, num_sparse_ids)})
    server = await start_server(servicer)
    echo_server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(_echo)
    echo_server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(ECHO_SERVICE, {"Echo": handler}),))
    echo_port = echo_server.add_insecure_port("127.0.0.1:0")
    await echo_server.start()
    pipe.send((server.address, f"127.0.0.1:{echo_port}"))
    parent_gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(pipe.fileno(), parent_gone.set)
    await parent_gone.wait()
    await echo_server.stop(0)
    await server.stop()


async def _echo(_: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
    while (data := await context.read()) is not grpc.aio.EOF:
        await context.write(bytes(int.from_bytes(data[:SIZE_BYTES], "little")))
