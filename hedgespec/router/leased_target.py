"""The target that an answer has leased, with a deadline on every call; one that misses it counts as lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeVar

from hedgespec.config import SpeculationConfig
from hedgespec.errors import HedgeSpecError, ReplicaLost
from hedgespec.protocols import Target
from hedgespec.types import DraftTree, Opened, SessionSpec, Verdict

T = TypeVar("T")


class LeasedTarget:
    """One session on one target replica. Every call raises ReplicaLost when the replica is gone or too slow."""

    def __init__(self, target: Target, session_id: str, config: SpeculationConfig) -> None:
        self.replica = target.replica
        self._target = target
        self._session_id = session_id
        self._config = config

    async def open(self, spec: SessionSpec) -> Opened:
        """Prefill the prompt and what has been emitted so far."""
        return await self._within(self._target.open(spec), self._config.open_deadline_s, "open the session")

    def send(self, round_index: int, tree: DraftTree) -> asyncio.Future[Verdict]:
        """Send a draft to be verified; `verdict` waits for the answer."""
        return asyncio.ensure_future(self._target.verify(self._session_id, round_index, tree))

    async def verdict(self, verifying: asyncio.Future[Verdict], tree: DraftTree) -> Verdict:
        """Wait for what `send` returned for this tree. Raises InvalidDraft when the target refuses the draft."""
        verdict = await self._within(verifying, self._config.verify_deadline_s, "verify a draft")
        if verdict.num_accepted and int(verdict.accepted_nodes.max()) >= tree.num_nodes:
            raise ReplicaLost(f"The target accepted a node that is not in the draft of {tree.num_nodes} nodes.")
        return verdict

    async def close(self) -> None:
        """Free the session; a target that is gone has freed it already."""
        with suppress(HedgeSpecError):
            await asyncio.shield(self._target.close(self._session_id))

    async def _within(self, work: Awaitable[T], deadline_s: float, what: str) -> T:
        try:
            async with asyncio.timeout(deadline_s):
                return await work
        except TimeoutError as error:
            raise ReplicaLost(f"The target did not {what} within {deadline_s:g} s.") from error
