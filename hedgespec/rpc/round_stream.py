"""One `Rounds` stream on the replica reads items, lets the models work on them concurrently and writes replies when ready.

Items start in the order in which they arrive and none waits for an earlier one: an `observe` enters the engine's queue
before the `draft` behind it, but its scores may come later. So a model's methods must queue their work before their first
suspension; the engine's and the tabular ones do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import structlog

from hedgespec.errors import HedgeSpecError, RequestError, UnknownSession
from hedgespec.protocols import Drafter, Target
from hedgespec.rpc.convert import rounds, sessions
from hedgespec.rpc.faults import write_error
from hedgespec.rpc.frames import REPLY_OF, FrameWriter
from hedgespec.rpc.leases import Leases
from hedgespec.rpc.v1 import replica_pb2 as pb
from hedgespec.types import Observation

log = structlog.get_logger(__name__)

MAX_PENDING_ITEMS = 4096
"""A stream with this many unanswered items is not read any further: the sender feels back-pressure."""

_BODY_NUMBERS = {f.name: f.number for f in pb.Item.DESCRIPTOR.oneofs_by_name["body"].fields}

Fill = Callable[[Any], object]
"""Writes the message of a reply."""


@dataclass(slots=True)
class Served:
    """The models, leases and open sessions that all streams of one replica share.

    owners: (session id, drafter id) -> the stream that opened the session and its lease id
    """

    target: Target | None
    drafters: Mapping[str, Drafter]
    leases: Leases
    owners: dict[tuple[str, str], tuple[RoundStream, str]] = field(default_factory=dict)

    def the_target(self) -> Target:
        """Return the target. Raises RequestError on a drafter's replica."""
        if self.target is None:
            raise RequestError("This replica does not serve a target.")
        return self.target

    def drafter(self, drafter_id: str) -> Drafter:
        """Return a drafter. Raises RequestError if it is not served here."""
        drafter = self.drafters.get(drafter_id)
        if drafter is None:
            raise RequestError(f"This replica does not serve drafter {drafter_id!r}.")
        return drafter

    def model(self, drafter_id: str) -> Target | Drafter:
        """Return the drafter, or the target for an empty id. Raises RequestError."""
        return self.drafter(drafter_id) if drafter_id else self.the_target()


class RoundStream:
    """One router's stream: it owns the sessions that it opened, and their end is its end."""

    def __init__(self, served: Served, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        self._served = served
        self._context = context
        self._writer = FrameWriter(context.write)
        self._tasks: set[asyncio.Task[None]] = set()
        self._observed: tuple[pb.Item, Observation] | None = None  # parsed once for all drafters that an item names

    async def run(self) -> None:
        """Serve until the router half-closes or the stream breaks. Raises DecodeError."""
        # a task of its own, woken after all that are ready now: their replies leave together (measured: flushing from
        # whichever task finishes first costs twice the time per round at eight sessions)
        writing = asyncio.ensure_future(self._writer.run())
        read, parse, create_task = self._context.read, pb.Frame.FromString, asyncio.get_running_loop().create_task
        add, discard = self._tasks.add, self._tasks.discard
        try:
            while (data := await read()) is not grpc.aio.EOF:
                for item in parse(data).items:
                    for drafter_id in item.drafter_ids or ("",):
                        task = create_task(self._handle(item, drafter_id))
                        add(task)
                        task.add_done_callback(discard)
                while self._tasks and len(self._tasks) + self._writer.num_waiting >= MAX_PENDING_ITEMS:
                    await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def close(self) -> None:
        """Stop all work of this stream and free its sessions."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        own = [key for key, (stream, _) in self._served.owners.items() if stream is self]
        for session_id, drafter_id in own:
            try:
                await self._close_session(session_id, drafter_id)
            except Exception:
                log.exception("session_not_closed")

    async def _handle(self, item: pb.Item, drafter_id: str) -> None:
        """Answer one item for one model; a failure is answered with an `Error`."""
        body = item.WhichOneof("body") or ""
        fill: Fill
        try:
            match body:
                case "observe":
                    fill = await self._observe(item, drafter_id)
                case "draft":
                    fill = await self._draft(item, drafter_id)
                case "verify":
                    fill = await self._verify(item)
                case "open":
                    fill = await self._open(item, drafter_id)
                case "score_prompt":
                    fill = await self._score_prompt(item, drafter_id)
                case "close":
                    if self._owns(item.session_id, drafter_id):
                        await self._close_session(item.session_id, drafter_id)
                    return
                case _:
                    raise RequestError(f"A replica does not take {body or 'an item without a body'}.")
            self._writer.add(item.session_id, item.call_index, drafter_id, REPLY_OF[body], fill)
        except Exception as error:
            if not isinstance(error, HedgeSpecError):
                log.exception("model_failed", endpoint=body)
            cause, number = error, _BODY_NUMBERS.get(body, 0)
            self._writer.add(
                item.session_id, item.call_index, drafter_id, "error", lambda reply: write_error(reply, cause, number)
            )

    async def _open(self, item: pb.Item, drafter_id: str) -> Fill:
        model = self._served.model(drafter_id)
        spec = sessions.read_open(item.session_id, item.open)
        key, lease_id = (item.session_id, drafter_id), item.open.lease_id
        is_taken_over = key in self._served.owners
        self._served.owners[key] = (self, lease_id)
        self._served.leases.attach(lease_id)
        try:
            if is_taken_over:
                # a router that lost its stream comes back before this replica has noticed
                await model.close(item.session_id)
            opened = await model.open(spec)
        except Exception:
            self._release(key)
            raise
        return lambda reply: sessions.write_opened(reply, opened)

    async def _draft(self, item: pb.Item, drafter_id: str) -> Fill:
        drafter = self._drafter_of(item.session_id, drafter_id)
        request = rounds.read_draft_request(item.session_id, item.call_index, item.draft, drafter_id)
        started = time.perf_counter()
        tree = await drafter.draft(request)
        compute_s = time.perf_counter() - started
        return lambda reply: rounds.write_drafted(reply, tree, compute_s)

    async def _verify(self, item: pb.Item) -> Fill:
        target = self._served.the_target()
        self._require_owned(item.session_id, "")
        tree = rounds.read_tree(item.verify.tree, "")
        started = time.perf_counter()
        verdict = await target.verify(item.session_id, item.call_index, tree)
        compute_s = time.perf_counter() - started
        return lambda reply: rounds.write_verdict(reply, verdict, compute_s)

    async def _observe(self, item: pb.Item, drafter_id: str) -> Fill:
        drafter = self._drafter_of(item.session_id, drafter_id)
        if self._observed is None or self._observed[0] is not item:
            self._observed = item, rounds.read_observation(item.observe)
        scores = await drafter.observe(item.session_id, item.call_index, self._observed[1])
        return lambda reply: rounds.write_scores(reply, scores)

    async def _score_prompt(self, item: pb.Item, drafter_id: str) -> Fill:
        drafter = self._drafter_of(item.session_id, drafter_id)
        acceptance_prob = await drafter.score_prompt(
            item.session_id, sessions.read_prompt_top(item.score_prompt.prompt_top)
        )
        return lambda reply: sessions.write_prompt_scores(reply, acceptance_prob)

    async def _close_session(self, session_id: str, drafter_id: str) -> None:
        self._release((session_id, drafter_id))
        await self._served.model(drafter_id).close(session_id)

    def _release(self, key: tuple[str, str]) -> None:
        _, lease_id = self._served.owners.pop(key, (self, ""))
        self._served.leases.end(lease_id)

    def _owns(self, session_id: str, drafter_id: str) -> bool:
        owner = self._served.owners.get((session_id, drafter_id))
        return owner is not None and owner[0] is self

    def _drafter_of(self, session_id: str, drafter_id: str) -> Drafter:
        """Return the drafter of a session of this stream. Raises RequestError, UnknownSession."""
        drafter = self._served.drafter(drafter_id)
        self._require_owned(session_id, drafter_id)
        return drafter

    def _require_owned(self, session_id: str, drafter_id: str) -> None:
        """Raise UnknownSession for a session of another stream, as for one that does not exist."""
        if not self._owns(session_id, drafter_id):
            raise UnknownSession(f"Session {session_id[:64]!r} is not open on this stream.")
