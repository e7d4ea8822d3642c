"""A drafter's replica may send anything: the target decides, the text stays the target's own, nothing crashes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import grpc
import grpc.aio
import numpy as np
import pytest

from hedgespec.assembly.local_service import LocalFleet
from hedgespec.config import SpeculationConfig
from hedgespec.learning.step_times import AnswerTimes, StepTimes
from hedgespec.models.tabular import TabularModel, TabularTarget
from hedgespec.router.decode_loop import DecodeLoop
from hedgespec.router.events import NoEvents
from hedgespec.router.panel import DrafterPanel
from hedgespec.router.selection import FixedSelection
from hedgespec.rpc.channel import SERVICE
from hedgespec.rpc.client import RemoteDrafter
from hedgespec.rpc.connection import ReplicaConnection
from hedgespec.rpc.v1 import replica_pb2 as pb
from hedgespec.types import SamplingParams, SessionSpec

MODEL = TabularModel(vocab_size=12, seed=3)
NUM_TOKENS = 40
Lie = Callable[[pb.Item], list[pb.Item]]


@asynccontextmanager
async def lying_replica(lie: Lie) -> AsyncIterator[str]:
    """A server that answers `open` and `observe` decently and every `draft` with a lie."""

    async def rounds(_: object, context: grpc.aio.ServicerContext) -> None:
        await context.send_initial_metadata(())
        while (data := await context.read()) is not grpc.aio.EOF:
            frame = pb.Frame()
            for item in pb.Frame.FromString(data).items:
                reply = pb.Item(session_id=item.session_id, call_index=item.call_index, drafter_ids=item.drafter_ids)
                match item.WhichOneof("body"):
                    case "open":
                        reply.opened.SetInParent()
                        frame.items.append(reply)
                    case "observe":
                        reply.score.depth = 0
                        frame.items.append(reply)
                    case "draft":
                        frame.items.extend(lie(reply))
            await context.write(frame.SerializeToString())

    server = grpc.aio.server()
    handlers = {"Rounds": grpc.stream_stream_rpc_method_handler(rounds)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


def draft(reply: pb.Item, **fields: object) -> list[pb.Item]:
    reply.drafted.tree.CopyFrom(pb.DraftTree(**fields))  # type: ignore[arg-type]
    return [reply]


def other_requests_reply(reply: pb.Item) -> list[pb.Item]:
    reply.session_id = "another session"
    return draft(reply, token_ids=[1, 2])


def other_rounds_reply(reply: pb.Item) -> list[pb.Item]:
    reply.call_index += 1
    return draft(reply, token_ids=[1, 2])


def repeated_reply(reply: pb.Item) -> list[pb.Item]:
    return draft(reply, token_ids=[1, 2]) * 3


def wrong_kind(reply: pb.Item) -> list[pb.Item]:
    reply.verdict.token_ids.append(3)
    return [reply]


def error_without_a_kind(reply: pb.Item) -> list[pb.Item]:
    reply.error.in_reply_to = pb.Item.DRAFT_FIELD_NUMBER
    return [reply]


LIES: dict[str, Lie] = {
    "wrong ids": lambda reply: draft(reply, token_ids=[11, 0, 7, 3]),
    "ids above the vocabulary": lambda reply: draft(reply, token_ids=[1, 2**31 - 1]),
    "negative ids": lambda reply: draft(reply, token_ids=[-5]),
    "more than asked for": lambda reply: draft(reply, token_ids=[1] * 200),
    "far too long": lambda reply: draft(reply, token_ids=[1] * 5000),
    "a cycle of parents": lambda reply: draft(reply, token_ids=[1, 2], parent=[1, 0]),
    "nothing": lambda reply: draft(reply),
    "silence": lambda reply: [],
    "another request's reply": other_requests_reply,
    "another round's reply": other_rounds_reply,
    "the same reply three times": repeated_reply,
    "another kind of reply": wrong_kind,
    "an error without a kind": error_without_a_kind,
}


async def decode(fleet: LocalFleet, panel: DrafterPanel, spec: SessionSpec, drafter: int | None) -> list[int]:
    config = SpeculationConfig(max_draft_tokens=4, draft_deadline_s=0.2)
    selection = FixedSelection(drafter)
    times = AnswerTimes(StepTimes(), [d.drafter_id for d in panel.drafters if d is not None])
    loop = DecodeLoop(spec, fleet, panel, selection, None, config, frozenset(), NoEvents(), times)
    ids: list[int] = []
    async with aclosing(loop.rounds()) as reports:
        async for report in reports:
            ids.extend(report.token_ids.tolist())
    await panel.close()
    return ids


@pytest.mark.parametrize("name", LIES)
@pytest.mark.parametrize("seed", [None, 5], ids=["greedy", "seeded"])
async def test_the_text_is_the_targets_own_whatever_the_drafter_sends(name: str, seed: int | None) -> None:
    """Each lie costs speculation at most: the ids equal those of plain decoding."""
    sampling = SamplingParams(
        temperature=0.0 if seed is None else 1.0, seed=seed, max_tokens=NUM_TOKENS, ignore_eos=True
    )
    spec = SessionSpec("s", np.array([1, 2], np.int32), np.zeros(0, np.int32), sampling, seed or 0, 4)
    fleet = LocalFleet(TabularTarget(MODEL), {}, 4, 1.0)
    alone = await decode(fleet, DrafterPanel([], None, NoEvents()), spec, None)
    async with lying_replica(LIES[name]) as address, ReplicaConnection(address) as connection:
        panel = DrafterPanel([RemoteDrafter(connection, "liar")], None, NoEvents())
        assert await decode(fleet, panel, spec, 0) == alone
    assert len(alone) == NUM_TOKENS
