"""The baseline of `bench.rpc`: bare gRPC streams that carry the bytes of our frames and do nothing else.

There is one write per message and one bidirectional stream per replica and session; one stream per replica for all sessions
was measured and is never faster without our framing. A round has the same messages as ours in the same order: a draft from
one drafter, a verify, then an observation to every drafter, whose replies (the scores) are awaited only before the next
observations are sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack

import grpc.aio
import numpy as np

from hedgespec.bench.rpc_replicas import ECHO_METHOD, NUM_DRAFT_TOKENS, SIZE_BYTES, FreeDrafter
from hedgespec.rpc.convert import rounds
from hedgespec.rpc.v1 import replica_pb2 as pb
from hedgespec.types import Observation, Scores, Verdict

SESSION_ID = "0123456789abcdef0123456789abcdef"
TOKENS_PER_ROUND = NUM_DRAFT_TOKENS + 1

_KINDS = {"draft": ["d0"], "drafted": ["d0"], "verify": [], "verdict": [], "observe": ["d0"], "score": ["d0"]}
"""The bodies of a round's messages -> the drafter ids that they name; the target needs none."""

Call = grpc.aio.StreamStreamCall[bytes, bytes]


class EchoStream:
    """One stream, on which replies come in the order of the requests. Make it inside the event loop."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._turn = asyncio.Lock()  # gRPC takes one write at a time
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._reader = asyncio.ensure_future(self._read())

    async def ask(self, message: bytes) -> None:
        """Send a message and wait for its reply."""
        reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        async with self._turn:
            self._waiting.append(reply)
            await self._call.write(message)
        await reply

    async def _read(self) -> None:
        while (await self._call.read()) is not grpc.aio.EOF:
            self._waiting.popleft().set_result(None)

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        self._call.cancel()


class Echo:
    """Runs rounds over bare streams.

    streams:      [num_sessions][1 + number of drafter replicas], the target first
    num_messages: observations that each drafter replica gets per round: for a group, one per drafter
    """

    def __init__(self, streams: list[list[EchoStream]], sizes: dict[str, tuple[int, int]], num_messages: int) -> None:
        self._streams = streams
        self._num_messages = num_messages
        self._messages = {
            name: reply.to_bytes(SIZE_BYTES, "little") + bytes(sent) for name, (sent, reply) in sizes.items()
        }

    @staticmethod
    async def connect(
        stack: AsyncExitStack,
        addresses: Sequence[str],
        num_sessions: int,
        sizes: dict[str, tuple[int, int]],
        num_messages: int = 1,
    ) -> Echo:
        """Open the streams; `stack` closes them."""
        channels = [await stack.enter_async_context(grpc.aio.insecure_channel(address)) for address in addresses]
        streams = [[EchoStream(c.stream_stream(ECHO_METHOD)()) for c in channels] for _ in range(num_sessions)]
        for stream in (stream for row in streams for stream in row):
            stack.push_async_callback(stream.close)
        return Echo(streams, sizes, num_messages)

    async def rounds(self, session: int, num_rounds: int) -> None:
        """Run the rounds of one session."""
        target, *drafters = self._streams[session]
        observing: list[asyncio.Task[None]] = []
        for round_index in range(num_rounds):
            await drafters[round_index % len(drafters)].ask(self._messages["draft"])
            await target.ask(self._messages["verify"])
            if observing:
                await asyncio.wait(observing)
            message = self._messages["observe"]
            observing = [
                asyncio.ensure_future(drafter.ask(message)) for drafter in drafters for _ in range(self._num_messages)
            ]
        await asyncio.gather(*observing)


def frame_sizes(num_sparse_ids: int, num_joined: int = 1) -> dict[str, tuple[int, int]]:
    """Return the bytes of our frames by kind, (request, reply), without the request's size word.

    num_joined: drafters of one replica that share an observation; their scores come back in one frame
    """
    tree = FreeDrafter("d0", num_sparse_ids).tree
    probs = np.full(TOKENS_PER_ROUND, 0.5, np.float32)
    token_ids = np.arange(TOKENS_PER_ROUND, dtype=np.int32)
    verdict = Verdict(np.arange(NUM_DRAFT_TOKENS, dtype=np.int32), token_ids, probs)
    items = {name: pb.Item(session_id=SESSION_ID, call_index=100, drafter_ids=ids) for name, ids in _KINDS.items()}
    items["draft"].draft.num_draft_tokens = NUM_DRAFT_TOKENS
    rounds.write_tree(items["drafted"].drafted.tree, tree)
    rounds.write_tree(items["verify"].verify.tree, tree)
    rounds.write_verdict(items["verdict"].verdict, verdict)
    items["observe"].drafter_ids[:] = [f"d{i}" for i in range(num_joined)]
    rounds.write_observation(items["observe"].observe, Observation(600, token_ids, probs))
    rounds.write_scores(items["score"].score, Scores(600, np.full((TOKENS_PER_ROUND, 1), 0.8, np.float32)))
    size = {name: len(pb.Frame(items=[item]).SerializeToString()) for name, item in items.items()}
    return {
        "draft": (size["draft"] - SIZE_BYTES, size["drafted"]),
        "verify": (size["verify"] - SIZE_BYTES, size["verdict"]),
        "observe": (size["observe"] - SIZE_BYTES, num_joined * size["score"]),
    }
